"""Counters, and how others read them."""

from __future__ import annotations

import asyncio
import json
import logging
import sys

import pytest

from drakit.driver.exposition import serve_metrics
from drakit.driver.logs import JSONFormatter
from drakit.driver.metrics import Metrics
from drakit.errors import UsageError

pytestmark = pytest.mark.anyio


def test_text() -> None:
    metrics = Metrics("lamp.example.com")
    metrics.observe("dra_driver_prepare_seconds", 0.002)
    metrics.observe("dra_driver_prepare_seconds", 100.0)
    metrics.add("dra_driver_errors_total", "prepare")
    metrics.add("dra_driver_errors_total", "publish", 2)
    metrics.set("dra_driver_prepared_claims", 3)
    lines = metrics.text().splitlines()
    assert 'dra_driver_prepare_seconds_bucket{driver="lamp.example.com",le="0.001"} 0' in lines
    assert 'dra_driver_prepare_seconds_bucket{driver="lamp.example.com",le="30"} 1' in lines
    assert 'dra_driver_prepare_seconds_bucket{driver="lamp.example.com",le="+Inf"} 2' in lines
    assert 'dra_driver_prepare_seconds_count{driver="lamp.example.com"} 2' in lines
    assert 'dra_driver_errors_total{driver="lamp.example.com",operation="publish"} 2' in lines
    assert 'dra_driver_prepared_claims{driver="lamp.example.com"} 3' in lines
    assert "# TYPE dra_driver_prepare_seconds histogram" in lines
    assert metrics.value("dra_driver_prepare_seconds") == 2


async def ask(port: int, request: bytes) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.decode()


async def test_http() -> None:
    healthy = [True]
    ports: asyncio.Queue[int] = asyncio.Queue()
    task = asyncio.create_task(
        serve_metrics(Metrics("d"), lambda: healthy[0], "127.0.0.1", 0, ports.put_nowait)
    )
    port = await ports.get()
    assert "# HELP dra_driver_errors_total" in await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert (await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")).startswith("HTTP/1.1 200 OK")
    healthy[0] = False
    assert (await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")).startswith("HTTP/1.1 503")
    assert (await ask(port, b"GET / HTTP/1.1\r\n\r\n")).startswith("HTTP/1.1 404")
    assert (await ask(port, b"nonsense\r\n\r\n")).startswith("HTTP/1.1 400")
    with pytest.raises(UsageError, match=f"cannot serve metrics on 127.0.0.1:{port}"):
        await serve_metrics(Metrics("d"), lambda: True, "127.0.0.1", port)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_log_lines_for_programs() -> None:
    record = logging.makeLogRecord({"name": "n", "levelno": 20, "levelname": "INFO", "msg": "prepared %s"})
    record.args, record.created = ("c",), 0.5
    record.claim, record.seconds = "default/c", 0.25
    assert json.loads(JSONFormatter().format(record)) == {
        "time": "1970-01-01T00:00:00.500+00:00",
        "level": "INFO",
        "logger": "n",
        "message": "prepared c",
        "claim": "default/c",
        "seconds": 0.25,
    }
    try:
        raise ValueError("no")
    except ValueError:
        record.exc_info = sys.exc_info()
    assert "ValueError: no" in json.loads(JSONFormatter().format(record))["traceback"]

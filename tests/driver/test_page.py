"""The driver of README.md and docs/driver-sdk.md is a driver."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from drakit.driver import run
from tests.driver.make import NODE, Kubelet, LampDriver, cluster, until

pytestmark = pytest.mark.anyio

README = Path(__file__).resolve().parents[2] / "README.md"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "driver-sdk.md"


async def test_the_driver_on_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    assert len(blocks[0].splitlines()) < 25
    assert blocks[0] in README.read_text()
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    async with cluster(tmp_path) as lab, lab.running(names["LampDriver"](NODE)):
        (item,) = await lab.slices("lamp.example.com")
        assert item["spec"]["devices"][1]["attributes"]["color"] == {"string": "green"}
        async with Kubelet.meet(lab, "lamp.example.com") as kubelet:
            claim = await lab.claim("c", "lamp-1")
            assert (await kubelet.prepare(claim))["c"].error == ""
            assert await kubelet.unprepare(claim) == {"c": ""}
    assert capsys.readouterr().out == "claim default/c gave back ['lamp-1']\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_peace(tmp_path: Path, number: signal.Signals) -> None:
    async with cluster(tmp_path) as lab:
        driver = LampDriver()
        folders = lab.plugins, lab.registry, lab.cdi
        running = asyncio.create_task(run(driver, lab.client, NODE, *folders))
        socket = lab.registry / f"{driver.name}-reg.sock"
        await until(socket.exists)
        async with Kubelet.meet(lab, driver.name) as kubelet:
            assert (await kubelet.prepare(await lab.claim("c", "lamp-1")))["c"].error == ""
            os.kill(os.getpid(), number)
            await running
        assert not socket.exists()
        assert len(await lab.slices(driver.name)) == 1
        assert len(list(lab.cdi.iterdir())) == 1

"""How fast the API server is, beside doing the same against SQLite alone.

    python -m bench api

create, get, patch and list of pods over HTTPS (eight clients at once) and in process, then 1,000 watchers
of one collection that all see 100 changes.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
import ssl
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from drakit.apiserver.app import API, User
from drakit.apiserver.http import serve
from drakit.apiserver.tls import certificates
from drakit.client.api import PODS, Client
from drakit.cluster.garbage import collect_rarely
from drakit.profile import profile_for
from drakit.store import Store

ADMIN = User("admin", ("system:masters",))
HEADERS = {"Authorization": "Bearer secret"}
PATH = "/api/v1/namespaces/default/pods"
CLIENTS = 8
COUNT = 2000
WATCHERS = 1000
EVENTS = 100
LISTED = 5000


def pod(name: str) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": "registry.example.com/team/app:1.2.3",
        "command": ["/bin/app", "--serve"],
        "env": [{"name": "MODE", "value": "production"}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "claims": [{"name": "gpu"}]},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "bench"}},
        "spec": {
            "containers": [container],
            "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "gpu"}],
        },
    }


async def timed(what: str, count: int, work: Callable[[int], Awaitable[Any]], workers: int) -> None:
    """Run `work(0..count-1)` with `workers` at a time and print the rate."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    cpu, start = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(workers)))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(f"  {what:<34} {count / seconds:>9,.0f} /s   {cpu / count * 1e6:>6,.0f} us CPU each", flush=True)


def sqlite_alone(folder: Path) -> None:
    """The same bytes through one table, one transaction a write: what the disk and SQLite cost."""
    body = json.dumps(pod("bench")).encode()
    database = sqlite3.connect(folder / "alone.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute("CREATE TABLE objects (key TEXT PRIMARY KEY, value BLOB)")
    print("SQLite alone (WAL, one transaction a write)")
    statements = {
        "create": ("INSERT INTO objects VALUES (?, ?)", lambda n: (f"p{n}", body)),
        "get": ("SELECT value FROM objects WHERE key = ?", lambda n: (f"p{n}",)),
        "update": ("UPDATE objects SET value = ? WHERE key = ?", lambda n: (body, f"p{n}")),
    }
    for name, (statement, values) in statements.items():
        start = time.perf_counter()
        for number in range(COUNT):
            database.execute(statement, values(number)).fetchall()
        print(f"  {name:<34} {COUNT / (time.perf_counter() - start):>9,.0f} /s")
    database.close()


async def in_process(api: API) -> None:
    client = Client(api.transport(ADMIN))
    print("in process")
    await timed("create", COUNT, lambda n: client.create(PODS, pod(f"in-{n}")), CLIENTS)
    await timed("get", COUNT, lambda n: client.get(PODS, f"in-{n}", "default"), CLIENTS)
    patch = {"metadata": {"labels": {"seen": "yes"}}}
    await timed("patch", COUNT, lambda n: client.patch(PODS, f"in-{n}", patch, "default"), CLIENTS)
    await timed("delete", COUNT, lambda n: client.delete(PODS, f"in-{n}", "default"), CLIENTS)


async def over_http(session: aiohttp.ClientSession) -> None:
    async def send(method: str, path: str, body: Any = None, kind: str = "application/json") -> int:
        data = json.dumps(body) if body is not None else None
        async with session.request(method, path, data=data, headers={"Content-Type": kind}) as response:
            read = await response.read()
            assert response.status < 300, read
            return len(read)

    print(f"over HTTPS, {CLIENTS} clients (their own CPU included)")
    await timed("create", COUNT, lambda n: send("POST", PATH, pod(f"out-{n}")), CLIENTS)
    await timed("get", COUNT, lambda n: send("GET", f"{PATH}/out-{n}"), CLIENTS)
    patch, kind = {"metadata": {"labels": {"seen": "yes"}}}, "application/merge-patch+json"
    await timed("patch", COUNT, lambda n: send("PATCH", f"{PATH}/out-{n}", patch, kind), CLIENTS)
    missing = LISTED - COUNT
    await timed("create", missing, lambda n: send("POST", PATH, pod(f"more-{n}")), CLIENTS)
    start = time.perf_counter()
    size = await send("GET", PATH)
    print(f"  list of {LISTED:,}: {(time.perf_counter() - start) * 1000:,.0f} ms, {size / 1e6:.1f} MB")


async def watchers(session: aiohttp.ClientSession, api: API) -> None:
    """Every watcher reads until it saw the last change."""
    done = f"change-{EVENTS - 1}".encode()

    async def watch(started: asyncio.Queue[None]) -> None:
        query = {"watch": "true", "resourceVersion": str(api.store.revision)}
        async with session.get("/api/v1/namespaces/default/configmaps", params=query) as response:
            started.put_nowait(None)
            tail = b""
            async for chunk in response.content.iter_any():
                if done in tail + chunk:
                    return
                tail = chunk[-len(done) :]

    started: asyncio.Queue[None] = asyncio.Queue()
    tasks = [asyncio.create_task(watch(started)) for _ in range(WATCHERS)]
    for _ in tasks:
        await started.get()
    path = "/api/v1/namespaces/default/configmaps"
    cpu, start = time.process_time(), time.perf_counter()
    for number in range(EVENTS):
        body = {"metadata": {"name": f"change-{number}"}, "data": {"text": "x" * 500}}
        async with session.post(path, json=body) as response:
            assert response.status == 201
    await asyncio.gather(*tasks)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    total = WATCHERS * EVENTS
    print(f"{WATCHERS:,} watchers x {EVENTS} changes: {seconds:.2f} s, {total / seconds:,.0f} events/s,")
    print(f"  {cpu / total * 1e6:.1f} us CPU an event, the watchers' own reading included")


async def measure() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sqlite_alone(folder)
        collect_rarely()
        api = API.open(Store(folder / "state.db"), profile_for(), tokens={"secret": ADMIN})
        await api.start()
        await in_process(api)
        files = certificates(folder / "pki")
        server = await serve(api, "127.0.0.1", 0, certfile=files.certificate, keyfile=files.key)
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=files.ca), limit=0)
        base = f"https://127.0.0.1:{server.port}"
        async with aiohttp.ClientSession(base, connector=connector, headers=HEADERS) as session:
            await over_http(session)
            await watchers(session, api)
        await server.stop()
        await api.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process, clients included: {peak:,.0f} MB")


def main() -> None:
    uvloop.run(measure())


if __name__ == "__main__":
    sys.exit(main())

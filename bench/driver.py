"""The driver SDK: prepare and unprepare, publishing, and a driver at rest.

The unit is a call over the same gRPC that does nothing, and at rest a process that serves such calls. In the
first figures the API server is in this process, so its work is in them as well; a driver at rest is a
process of its own. CPU time is the best of several rounds.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from drakit.apiserver.app import API, User
from drakit.client.api import NODES, RESOURCE_CLAIMS, Client
from drakit.conformance.lab import Lab, Options
from drakit.driver import Claim, Device, Driver, Plugin, PreparedDevice, device
from drakit.pluginapi import dra, wire
from drakit.profile import profile_for
from drakit.store import Store

NODE, CALLS, DEVICES, CHANGES, ROUNDS, REST_SECONDS = "node-1", 100, 128, 10, 5, 10
FOLDERS = ("--plugins-dir={plugins_dir}", "--registry-dir={registry_dir}", "--cdi-dir={cdi_dir}")
DRIVER = (sys.executable, "-m", "drakit", "driver", "run", "gpu", "--node-name={node_name}", *FOLDERS)
ECHO = """
import asyncio, sys, grpc.aio
async def main():
    server = grpc.aio.server()
    echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Echo", {"Echo": echo}),))
    server.add_insecure_port("unix:" + sys.argv[1])
    await server.start()
    await server.wait_for_termination()
asyncio.run(main())
"""


class Lamps(Driver):
    name = "lamp.example.com"

    def __init__(self) -> None:
        super().__init__(NODE)
        self.lamps = [device(f"lamp-{index}", {"index": index}) for index in range(DEVICES)]

    def devices(self) -> Sequence[Device]:
        return self.lamps

    async def prepare(self, claim: Claim) -> list[PreparedDevice]:
        return [lamp.prepared(env={"LAMP": lamp.name}) for lamp in claim.devices]


class Nothing:
    async def prepare(self, claims: Sequence[dra.Claim]) -> Mapping[str, dra.PrepareResult]:
        return {}

    async def unprepare(self, claims: Sequence[dra.Claim]) -> Mapping[str, str]:
        return {}


async def unit(folder: Path) -> float:
    """Milliseconds of CPU of one call that does nothing, both ends of it."""
    server = await wire.serve(folder / "nothing.sock", dra.dra_handlers(Nothing()))
    channel = wire.connect(folder / "nothing.sock")
    stub = dra.DRAStub(channel)
    await stub.prepare([])
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            await stub.prepare([])
        best = min(best, (time.process_time() - began) / CALLS * 1e3)
    await channel.close()
    await server.stop(0)
    return best


async def allocated(client: Client, name: str, lamp: str) -> dra.Claim:
    claim = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"devices": {"requests": [{"name": "lamp", "exactly": {"deviceClassName": "lamps"}}]}},
    }
    made = await client.create(RESOURCE_CLAIMS, claim)
    result = {"request": "lamp", "driver": Lamps.name, "pool": NODE, "device": lamp}
    status = {"allocation": {"devices": {"results": [result]}}}
    await client.update(RESOURCE_CLAIMS, {**made, "status": status}, subresource="status")
    return dra.Claim("default", made["metadata"]["uid"], name)


async def cycles(client: Client, folder: Path) -> float:
    """Milliseconds of CPU to prepare and unprepare one claim."""
    claims = [await allocated(client, f"c{i}", f"lamp-{i % DEVICES}") for i in range(CALLS)]
    channel = wire.connect(folder / Lamps.name / "dra.sock")
    stub = dra.DRAStub(channel)
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for claim in claims:
            assert (await stub.prepare([claim]))[claim.uid].error == ""
            assert (await stub.unprepare([claim]))[claim.uid] == ""
        best = min(best, (time.process_time() - began) / CALLS * 1e3)
    await channel.close()
    return best


async def at_rest(command: Sequence[str]) -> tuple[float, float]:
    """Milliseconds of CPU a second, and MiB, of a process that nobody calls."""
    lab = Lab(Options(command=tuple(command)))
    await lab.start()
    try:
        process = lab.process = await lab.new_process("")
        if command is DRIVER:
            await lab.until(lambda: lab.kubelet.count, "the driver does not register")
        await asyncio.sleep(3)
        before = cpu(process.pid)
        await asyncio.sleep(REST_SECONDS)
        return (cpu(process.pid) - before) / REST_SECONDS * 1e3, process.usage().memory / 2**20
    finally:
        await lab.stop()


def cpu(pid: int) -> float:
    """Seconds of CPU that all threads of a process have had."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((tasks / name / "schedstat").read_text().split()[0]) for name in os.listdir(tasks)) / 1e9


async def changes(driver: Lamps, plugin: Plugin) -> tuple[float, float]:
    """Milliseconds of CPU until a changed device is on the API server, and writes a change."""
    before = plugin.metrics.value("dra_driver_slice_writes_total", "update")
    best = float("inf")
    for number in range(ROUNDS):
        began = time.process_time()
        for change in range(CHANGES):
            index = 1000 + number * CHANGES + change
            driver.lamps = [*driver.lamps[:-1], device(f"lamp-{DEVICES - 1}", {"index": index})]
            driver.changed()
            while plugin.publisher.published.is_set():
                await asyncio.sleep(0)
            await plugin.publisher.published.wait()
        best = min(best, (time.process_time() - began) / CHANGES * 1e3)
    writes = plugin.metrics.value("dra_driver_slice_writes_total", "update") - before
    return best, writes / CHANGES / ROUNDS


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "registry").mkdir()
        api = API.open(Store(None), profile_for())
        await api.start()
        client = Client(api.transport(User("admin", ("system:masters",))))
        await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
        nothing = await unit(folder)
        driver = Lamps()
        plugin = Plugin(driver, client, NODE, folder, folder / "registry", folder / "cdi")
        began = time.perf_counter()
        task = asyncio.create_task(plugin.run())
        await plugin.publisher.published.wait()
        start = (time.perf_counter() - began) * 1e3
        await plugin.ready.wait()
        print(f"call that does nothing          {nothing:6.2f} ms CPU")
        cycle = await cycles(client, folder)
        print(f"prepare and unprepare           {cycle:6.2f} ms CPU, {cycle - 2 * nothing:.2f} beyond gRPC")
        print(f"start, and publish {DEVICES} devices  {start:6.2f} ms")
        change, writes = await changes(driver, plugin)
        print(f"change one of {DEVICES} devices       {change:6.2f} ms CPU, {writes:g} writes")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await api.close()
    with tempfile.TemporaryDirectory() as name:
        idle, memory = await at_rest((sys.executable, "-c", ECHO, f"{name}/echo.sock"))
        print(f"gRPC server alone, at rest      {idle:6.2f} ms CPU a second, {memory:.0f} MiB")
    idle, memory = await at_rest(DRIVER)
    print(f"dra driver run gpu, at rest     {idle:6.2f} ms CPU a second, {memory:.0f} MiB")


if __name__ == "__main__":
    asyncio.run(main())

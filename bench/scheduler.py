"""Pods per second through the scheduler, and where the time goes.

    python -m bench.scheduler [--pods 1000] [--nodes 100] [--devices 10] [--templates] [--file]

One process, as in `dra up`: the API server (in memory, or with --file on SQLite), the scheduler and, with
--templates, the controller that makes claims. Counted from the first pod created to the last one bound.
Beside it stands the price of the same writes by a client that decides nothing.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import types
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Coroutine, Generator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import click

from drakit.apiserver.app import API, User
from drakit.client.api import (
    DEVICE_CLASSES,
    EVENTS,
    NODES,
    PODS,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    Client,
)
from drakit.cluster.garbage import collect_rarely
from drakit.model.resource import FINALIZER
from drakit.profile import profile_for
from drakit.scheduler import Scheduler
from drakit.store import Store
from drakit.transport import Document, Request, Response, Transport

NS = "default"
DRIVER = "gpu.example.com"
ADMIN = User("system:admin", ("system:masters", "system:authenticated"))
WRITERS = 16
PATIENCE = 20


class Meter:
    """A transport that counts requests and the time the API server works on them, by kind."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.count: Counter[str] = Counter()

    async def send(self, request: Request) -> Response:
        kind = _kind(request)
        self.count[kind] += 1
        return await self._stepped(kind, self._inner.send(request))

    @types.coroutine
    def _stepped(self, kind: str, work: Coroutine[Any, Any, Response]) -> Generator[Any, Any, Response]:
        """Run `work` as if awaited, timing the steps and not the waits between them."""
        value, error = None, None
        while True:
            started = perf_counter()
            try:
                waits_for = work.send(value) if error is None else work.throw(error)
            except StopIteration as done:
                response: Response = done.value
                return response
            finally:
                self.seconds[kind] += perf_counter() - started
            error = None
            try:
                value = yield waits_for
            except BaseException as thrown:
                error = thrown

    def watch(self, request: Request) -> AsyncIterator[Document]:
        return self._inner.watch(request)

    async def close(self) -> None:
        await self._inner.close()


def _kind(request: Request) -> str:
    if request.method == "GET":
        return "reads"
    last = request.path.rpartition("/")[2]
    if last == "binding":
        return "bindings"
    if last == "events" or "/events/" in request.path:
        return "events"
    return "claims" if "/resourceclaims" in request.path else "pods"


def _documents(nodes: int, devices: int) -> list[tuple[Any, Document]]:
    selector = {"cel": {"expression": f'device.driver == "{DRIVER}"'}}
    rows: list[tuple[Any, Document]] = [
        (DEVICE_CLASSES, {"metadata": {"name": "gpu"}, "spec": {"selectors": [selector]}})
    ]
    amounts = {"cpu": "64", "memory": "256Gi", "pods": "250"}
    for index in range(nodes):
        name = f"node-{index:04}"
        status = {"allocatable": amounts, "capacity": amounts}
        rows.append((NODES, {"metadata": {"name": name}, "status": status}))
        published = [
            {
                "name": f"gpu-{number}",
                "attributes": {"index": {"int": number}, "model": {"string": "LATEST-GPU-MODEL"}},
                "capacity": {"memory": {"value": "80Gi"}},
            }
            for number in range(devices)
        ]
        pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
        spec = {"driver": DRIVER, "nodeName": name, "pool": pool, "devices": published}
        rows.append((RESOURCE_SLICES, {"metadata": {"name": f"{name}-{DRIVER}"}, "spec": spec}))
    return rows


def _claim_spec() -> Document:
    return {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]}}


def _pod(name: str, use_template: bool) -> Document:
    source = {"resourceClaimTemplateName": "gpu"} if use_template else {"resourceClaimName": name}
    resources = {"requests": {"cpu": "100m", "memory": "64Mi"}, "claims": [{"name": "gpu"}]}
    container = {"name": "main", "image": "registry.k8s.io/pause:3.10", "resources": resources}
    spec = {"containers": [container], "resourceClaims": [{"name": "gpu", **source}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NS}, "spec": spec}


class World:
    """An API server with nodes, slices and a class."""

    def __init__(self, nodes: int, devices: int, path: Path | None) -> None:
        self.profile = profile_for()
        self.api = API.open(Store(path), self.profile)
        self.client = Client(self.api.transport(ADMIN))
        self._documents = _documents(nodes, devices)

    async def __aenter__(self) -> World:
        await self.api.start()
        for resource, document in self._documents:
            typed = {"apiVersion": resource.api_version, "kind": resource.kind, **document}
            made = await self.client.create(resource, typed)
            if status := document.get("status"):
                await self.client.update(resource, {**made, "status": status}, subresource="status")
        template = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaimTemplate",
            "metadata": {"name": "gpu", "namespace": NS},
            "spec": {"spec": _claim_spec()},
        }
        await self.client.create(RESOURCE_CLAIM_TEMPLATES, template)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.api.close()

    async def make_claims(self, names: list[str]) -> list[Document]:
        document = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "spec": _claim_spec()}
        return [
            await self.client.create(
                RESOURCE_CLAIMS, {**document, "metadata": {"name": name, "namespace": NS}}
            )
            for name in names
        ]


async def _scheduled(world: World, names: list[str], use_templates: bool) -> None:
    """Create the pods and wait until all are bound; print what it took."""
    meter = Meter(world.api.transport(ADMIN))
    scheduler = Scheduler(Client(meter), world.profile)
    tasks = [asyncio.create_task(scheduler.run())]
    if use_templates:
        from drakit.controllers import Controllers

        controllers = Controllers(Client(world.api.transport(ADMIN)), world.profile)
        tasks.append(asyncio.create_task(controllers.run()))
        await controllers.ready.wait()
    else:
        await world.make_claims(names)
    await scheduler.ready.wait()
    gc.collect()
    started, cpu = perf_counter(), process_time()
    creating = asyncio.create_task(_create(world.client, names, use_templates))
    bound, since = 0, started
    while (now_bound := scheduler.metrics.scheduled) < len(names):
        if now_bound > bound:
            bound, since = now_bound, perf_counter()
        elif perf_counter() - since > PATIENCE:
            raise click.ClickException(
                f"no progress for {PATIENCE} s: {bound} of {len(names)} pods are bound"
            )
        await asyncio.sleep(0.02)
    await creating
    seconds, cpu = perf_counter() - started, process_time() - cpu
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    _report(scheduler, meter, len(names), seconds, cpu)


async def _create(client: Client, names: list[str], use_templates: bool) -> None:
    todo = iter(names)

    async def work() -> None:
        for name in todo:
            await client.create(PODS, _pod(name, use_templates))

    await asyncio.gather(*(work() for _ in range(WRITERS)))


def _report(scheduler: Scheduler, meter: Meter, pods: int, seconds: float, cpu: float) -> None:
    metrics = scheduler.metrics
    click.echo(f"scheduler: {pods} pods in {seconds:.2f} s: {pods / seconds:.0f} pods/s ({cpu:.2f} s CPU)")
    rows = [
        ("deciding", metrics.decide_seconds - metrics.allocate_seconds, metrics.attempts),
        ("  allocator", metrics.allocate_seconds, metrics.allocations_tried),
        ("informer handlers", metrics.informer_seconds, 0),
        *((f"API: {kind}", meter.seconds[kind], meter.count[kind]) for kind in sorted(meter.seconds)),
    ]
    known = sum(row[1] for row in rows)
    rows.append(("pod creation, controllers, watches, commits, loop", seconds - known, 0))
    for name, spent, count in rows:
        counted = f"{count:8d} times" if count else ""
        click.echo(f"  {name:50s} {spent:7.3f} s {100 * spent / seconds:5.1f} %{counted}")
    click.echo(
        f"  nodes looked at per pod {metrics.nodes_looked_at / pods:.1f}, "
        f"unschedulable {metrics.unschedulable}, conflicts {metrics.conflicts}"
    )


async def _only_writes(world: World, names: list[str], nodes: int, devices: int) -> None:
    """The same objects and writes without anybody who decides."""
    client = world.client
    claims = iter(list(enumerate(await world.make_claims(names))))
    gc.collect()
    started, cpu = perf_counter(), process_time()

    async def work() -> None:
        for index, claim in claims:
            name, node = claim["metadata"]["name"], f"node-{index % nodes:04}"
            pod = await client.create(PODS, _pod(name, False))
            claim = {**claim, "metadata": {**claim["metadata"], "finalizers": [FINALIZER]}}
            claim = await client.update(RESOURCE_CLAIMS, claim)
            result = {
                "request": "gpu",
                "driver": DRIVER,
                "pool": node,
                "device": f"gpu-{index // nodes % devices}",
            }
            field = {"key": "metadata.name", "operator": "In", "values": [node]}
            allocation = {
                "devices": {"results": [result]},
                "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [field]}]},
            }
            consumer = {"resource": "pods", "name": name, "uid": pod["metadata"]["uid"]}
            status = {"allocation": allocation, "reservedFor": [consumer]}
            await client.update(RESOURCE_CLAIMS, {**claim, "status": status}, subresource="status")
            target = {"apiVersion": "v1", "kind": "Node", "name": node}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
            await client.create(PODS, binding, NS, name=name, subresource="binding")
            about = {"apiVersion": "v1", "kind": "Pod", "name": name, "namespace": NS}
            event = {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{name}.1", "namespace": NS},
                "involvedObject": about,
                "reason": "Scheduled",
                "type": "Normal",
                "message": "assigned",
            }
            await client.create(EVENTS, event)

    await asyncio.gather(*(work() for _ in range(WRITERS)))
    seconds, cpu = perf_counter() - started, process_time() - cpu
    rate = f"{len(names)} pods in {seconds:.2f} s: {len(names) / seconds:.0f} pods/s"
    click.echo(f"the same writes alone: {rate} ({cpu:.2f} s CPU)")


async def _main(pods: int, nodes: int, devices: int, use_templates: bool, folder: Path | None) -> None:
    names = [f"pod-{index:05}" for index in range(pods)]
    collect_rarely()
    async with World(nodes, devices, folder and folder / "scheduler.db") as world:
        await _scheduled(world, names, use_templates)
    async with World(nodes, devices, folder and folder / "writes.db") as world:
        await _only_writes(world, names, nodes, devices)


@click.command()
@click.option("--pods", default=1000, show_default=True)
@click.option("--nodes", default=100, show_default=True)
@click.option("--devices", default=10, show_default=True, help="Devices of each node.")
@click.option("--templates", is_flag=True, help="Claims from a template, made by the controllers.")
@click.option("--file", "on_disk", is_flag=True, help="Keep the store in an SQLite file.")
def main(pods: int, nodes: int, devices: int, templates: bool, on_disk: bool) -> None:
    if pods > nodes * devices:
        raise click.UsageError(f"{pods} pods need {pods} devices, {nodes} x {devices} are too few")
    if not on_disk:
        asyncio.run(_main(pods, nodes, devices, templates, None))
        return
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_main(pods, nodes, devices, templates, Path(folder)))


if __name__ == "__main__":
    main()

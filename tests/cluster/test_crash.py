"""kill -9 of the API server right before and right after every write: nothing is lost, held twice or left.

Each path is walked undisturbed first. Then, for every step that its writes make, it is walked again and the
server dies at that step: once with the request at hand and nothing written, once with the write on disk and
nobody told of it. The path must come to its end by itself, leave nothing anywhere, and no revision in between
may show what must never be. With DRAKIT_EVERYTHING the server dies once more when the step comes again.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drakit.client import kubeconfig as kubeconfigs
from drakit.client.kubeconfig import Config
from tests.cluster import paths
from tests.cluster.history import History
from tests.cluster.mortal import DRIVER
from tests.cluster.nursery import Nursery
from tests.cluster.rooms import LEASE, NODE, USERS, Rooms, driver_alone
from tests.cluster.walk import Server, World

pytestmark = pytest.mark.anyio

Path_ = Callable[[World], Awaitable[None]]
Turn = tuple[str, int]
"""A step, and how many times it has come in its path by then."""
Fate = tuple[str, int, str]
Fates = Callable[[str, Sequence[Turn]], Iterator[Fate]]
EVERYTHING = bool(os.environ.get("DRAKIT_EVERYTHING"))
GENERATED = "resourceclaims for lamp"

_TAKEN = ["claims named", "bound", "Running"]
STEPS: Mapping[str, Sequence[str]] = {
    "own_claim": [
        *(f"pods own: {change}" for change in ("created", *_TAKEN, "to be deleted", "Failed", "deleted")),
        *(f"{GENERATED}: {change}" for change in ("created", "finalizer", "allocated", "devices lit")),
        *(f"{GENERATED}: {change}" for change in ("deallocated", "no finalizer", "deleted")),
    ],
    "shared_claim": [
        *(
            f"pods {name}: {change}"
            for name in ("first", "second")
            for change in ("created", "bound", "Running")
        ),
        *(
            f"pods {name}: {change}"
            for name in ("first", "second")
            for change in ("to be deleted", "deleted")
        ),
        *(
            f"resourceclaims shared: {change}"
            for change in ("created", "finalizer", "allocated", "devices lit")
        ),
        *(f"resourceclaims shared: {change}" for change in ("reserved", "reserved", "to be deleted")),
        *(f"resourceclaims shared: {change}" for change in ("deallocated", "deleted")),
    ],
    "job": [
        *(f"pods job: {change}" for change in ("created", *_TAKEN, "Succeeded", "no finalizer", "deleted")),
        *(f"{GENERATED}: {change}" for change in ("created", "finalizer", "allocated")),
        *(f"{GENERATED}: {change}" for change in ("deallocated", "no finalizer", "deleted")),
        *(f"jobs job: {change}" for change in ("created", "changed", "changed", "complete", "deleted")),
    ],
    "publishing": [
        *(f"resourceslices 00000-{DRIVER}-{NODE}: {change}" for change in ("changed", "deleted", "created")),
        *(f"resourceslices 00001-{DRIVER}-{NODE}: {change}" for change in ("created", "changed", "deleted")),
    ],
    "leadership": [
        f"leases {LEASE}: {change}" for change in ("created", "renewed", "given back", "taken", "deleted")
    ],
}
"""Steps that each path has for certain; a walk may have more."""

WALKED = {"pods", "resourceclaims", "jobs"}
PATHS = (paths.own_claim, paths.shared_claim, paths.job)
_OF_NODES = ("changed", "Running", "Failed", "Succeeded", "deleted")
"""What an agent writes about pods, having done something."""
_SAME = ("changed", *_TAKEN, "Failed", "finalizer", "allocated", "devices lit")
"""What the same rooms do in the same way for every pod and its claim."""


def all_fates(name: str, steps: Sequence[Turn]) -> Iterator[Fate]:
    for step, times in steps:
        yield step, times, "before"
        yield step, times, "after"


def fates_of_all(name: str, steps: Sequence[Turn]) -> Iterator[Fate]:
    """Where all die, files are all that is left. To die before a write is then the same as to die after the
    one before it, except where the node has done something in between."""
    for index, (step, times) in enumerate(steps):
        is_of_node = step.startswith("pods") and step.endswith(_OF_NODES)
        if is_of_node or step.endswith("devices lit") or index == 0:
            yield step, times, "before"
        yield step, times, "after"


def fates_of_one(name: str, steps: Sequence[Turn]) -> Iterator[Fate]:
    """What is the same for every pod is walked with the first path alone."""
    for step, times in steps:
        is_same = step.endswith(_SAME) and not step.startswith("jobs") and step != "pods second: bound"
        if name == "own_claim" or not is_same:
            yield step, times, "before"
            yield step, times, "after"


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


async def test_everything_dies_with_the_server(nursery: Nursery, tmp_path: Path) -> None:
    async def one(path: Path_) -> None:
        folder = tmp_path / path.__name__
        folder.mkdir()
        server = Server(nursery, "whole_cluster", folder)
        await server.start()
        config = kubeconfigs.load(str(folder / "kubeconfig"), None)
        async with _using(server, config, folder / "nodes" / "node-0") as world:
            await paths.furnish(world)
            await walk(world, path.__name__, path, WALKED, fates_of_all)

    async with asyncio.TaskGroup() as group:
        for path in PATHS:
            group.create_task(one(path))


async def test_the_server_dies_alone(nursery: Nursery, tmp_path: Path) -> None:
    """The rooms live on and find it again. Beside the paths a driver publishes, schedulers want a lease."""

    async def one(path: Path_) -> None:
        async with (
            _alone(nursery, tmp_path / path.__name__) as world,
            Rooms(world.config, world.paths).at_work(),
        ):
            await paths.furnish(world)
            await walk(world, path.__name__, path, WALKED, fates_of_one)

    async def publish() -> None:
        async with (
            _alone(nursery, tmp_path / "p") as world,
            driver_alone(world.config, world.paths) as driver,
        ):
            path = functools.partial(paths.publishing, driver=driver)
            await walk(world, "publishing", path, {"resourceslices"})

    async def lead() -> None:
        async with _alone(nursery, tmp_path / "l") as world:
            await walk(world, "leadership", paths.leadership, {"leases"})

    async with asyncio.TaskGroup() as group:
        for walking in (*map(one, PATHS), publish(), lead()):
            group.create_task(walking)


@asynccontextmanager
async def _alone(nursery: Nursery, folder: Path) -> AsyncIterator[World]:
    folder.mkdir()
    server = Server(nursery, "api_server", folder, port=0, users=USERS)
    await server.start()
    server.arguments["port"] = server.port
    config = Config(server=f"http://127.0.0.1:{server.port}", token="admin")
    async with _using(server, config, folder / "node") as world:
        yield world


@asynccontextmanager
async def _using(server: Server, config: Config, root: Path) -> AsyncIterator[World]:
    try:
        async with World(server, config, root) as world:
            yield world
            await world.check()
    finally:
        await server.stop()
    assert server.on_disk() == server.live


async def walk(world: World, name: str, path: Path_, collections: set[str], fates: Fates = all_fates) -> None:
    """Kill the server before or after steps of `path` in `collections` as `fates` says, one death a walk."""
    server, history = world.server, History()
    await path(world)
    start = len(server.steps)
    await path(world)
    names = [step.name for step in server.steps[start:] if step.name.partition(" ")[0] in collections]
    steps, certain = _turns(names), set(_turns(STEPS[name]))
    assert certain <= set(steps), f"{name} has no {sorted(certain - set(steps))}"
    judged = 0
    for step, times, moment in (all_fates if EVERYTHING else fates)(name, steps):
        deaths = len(server.deaths)
        server.arm(step, times, moment, again=EVERYTHING)
        await path(world)
        is_dead = await server.until_back(deaths)
        assert is_dead or (step, times) not in certain, f"{name} did not come to {step} ({times})"
        history.go_on(server.steps[judged:])
        judged = len(server.steps)
    print(f"{name}: {len(steps)} steps, {len(server.deaths)} deaths")


def _turns(names: Sequence[str]) -> list[Turn]:
    return [(name, names[: index + 1].count(name)) for index, name in enumerate(names)]

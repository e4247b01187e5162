"""An informer against the real API server: whatever is lost on the way, the copy ends up right."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from drakit.apiserver.app import API, User
from drakit.client.api import CONFIG_MAPS, Client
from drakit.client.informer import Informer, key_of
from drakit.errors import ServiceUnavailable
from drakit.profile import profile_for
from drakit.store import Store
from drakit.transport import Document, Request, Response, Transport
from tests.client.fake_clock import FakeClock, settle

pytestmark = pytest.mark.anyio


class Flaky:
    """A transport that fails and cuts watches as it pleases `rng`."""

    def __init__(self, transport: Transport, rng: random.Random) -> None:
        self._transport = transport
        self._rng = rng
        self.is_calm = False
        self.lists = 0

    async def send(self, request: Request) -> Response:
        if not self.is_calm and self._rng.random() < 0.2:
            raise ServiceUnavailable("not now")
        self.lists += 1
        return await self._transport.send(request)

    async def watch(self, request: Request) -> AsyncIterator[Document]:
        async for event in self._transport.watch(request):
            if not self.is_calm and self._rng.random() < 0.1:
                return
            yield event

    async def close(self) -> None:
        await self._transport.close()


class Mirror:
    """A copy made of nothing but what handlers are told. It complains about what makes no sense."""

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}

    def __call__(self, old: Document | None, new: Document | None) -> None:
        key = key_of(new or old or {})
        if old is None:
            assert key not in self.documents
        elif new is not None:
            assert self.documents[key] is old
            assert old["metadata"]["uid"] == new["metadata"]["uid"]
            assert int(old["metadata"]["resourceVersion"]) < int(new["metadata"]["resourceVersion"])
        if new is None:
            del self.documents[key]
        else:
            self.documents[key] = new


async def change(client: Client, rng: random.Random, names: set[str]) -> None:
    name = f"c{rng.randrange(12)}"
    if name not in names:
        meta = {"name": name, "namespace": "default"}
        await client.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
        names.add(name)
    elif rng.random() < 0.5:
        await client.delete(CONFIG_MAPS, name, "default")
        names.discard(name)
    else:
        await client.patch(CONFIG_MAPS, name, {"data": {"x": str(rng.random())}}, "default")


@pytest.mark.parametrize("history", [3, 10_000])
@pytest.mark.parametrize("seed", range(6))
async def test_the_copy_ends_up_right(seed: int, history: int) -> None:
    rng, clock = random.Random(seed), FakeClock()
    api = API.open(Store(history_changes=history), profile_for())
    await api.start()
    transport = api.transport(User("admin", ("system:masters",)))
    client, flaky = Client(transport), Flaky(transport, rng)
    informer = Informer(Client(flaky), CONFIG_MAPS, "default", clock=clock)
    mirror = Mirror()
    informer.add_handler(mirror)
    informer.add_index("parity", lambda document: [str(len(document.get("data") or {}))])
    following = asyncio.create_task(informer.run())
    names: set[str] = set()
    for _ in range(150):
        await change(client, rng, names)
        if rng.random() < 0.3:
            await settle(rng.choice([1, 5, 20]))
        if rng.random() < 0.1:
            await clock.advance(rng.choice([0.1, 1, 10]))
        assert {key_of(d): d for d in informer.items()} == mirror.documents
    flaky.is_calm = True
    await clock.advance(30)
    listed = {key_of(d): d for d in (await client.list(CONFIG_MAPS, "default")).items}
    assert {k: d["metadata"]["resourceVersion"] for k, d in mirror.documents.items()} == {
        k: d["metadata"]["resourceVersion"] for k, d in listed.items()
    }
    indexed = informer.by_index("parity", "0") + informer.by_index("parity", "1")
    assert {key_of(d) for d in indexed} == set(listed)
    assert flaky.lists == 1 or history == 3, "only lost history means listing again"
    following.cancel()
    await asyncio.wait([following])
    await api.close()

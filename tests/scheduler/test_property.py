"""Whatever happens around it, the scheduler never gives a device twice and never leaves a pod without a word.

Random clusters live through random events: pods with claims of their own or shared, nodes and slices that
come and go, deletions, lost and refused writes, restarts. The real API server and controllers take part.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from drakit.client.api import NODES, PODS, RESOURCE_CLAIMS, Client
from drakit.client.informer import Informer
from drakit.controllers import Controllers
from drakit.errors import APIError, Conflict, ServiceUnavailable
from drakit.transport import Document, Request
from tests.scheduler.cluster import ADMIN, NS, Cluster, cluster
from tests.scheduler.make import claim as claim_document
from tests.scheduler.make import device_class, node, pod, request, resource_slice

SEEDS = 30
STEPS = 18
EXTENDED = "example.com/gpu"


class Ledger:
    """Who holds which device, by the claims as they are written; a device held twice is remembered."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._held: dict[tuple[str, str, str], str] = {}

    def changed(self, old: Document | None, new: Document | None) -> None:
        document = new or old or {}
        name = document["metadata"]["name"]
        self._held = {device: holder for device, holder in self._held.items() if holder != name}
        allocation = ((new or {}).get("status") or {}).get("allocation") or {}
        for row in (allocation.get("devices") or {}).get("results") or ():
            device = (row["driver"], row["pool"], row["device"])
            if device in self._held:
                self.faults.append(f"{device} is held by {self._held[device]} and {name}")
            self._held[device] = name


class Story:
    """Random events for a cluster, all of them drawn from `rng`."""

    def __init__(self, it: Cluster, rng: random.Random) -> None:
        self.it = it
        self.rng = rng
        self.count = 0
        self.log: list[str] = []

    async def step(self) -> None:
        events: list[Callable[[], Awaitable[None]]] = [
            self.new_pod,
            self.new_pod,
            self.new_pod,
            self.pod_with_old_claim,
            self.pod_with_extended_resource,
            self.delete_pod,
            self.delete_pod,
            self.delete_claim,
            self.toggle_slice,
            self.toggle_node,
            self.toggle_class,
            self.cordon,
            self.pod_apart,
            self.lose_a_write,
            self.restart,
            self.wait,
        ]
        event = self.rng.choice(events)
        self.log.append(event.__name__)
        try:
            await event()
        except APIError as error:
            self.log.append(f"  {error}")
        await self.it.settle(self.rng.choice([0, 0, 0.5]))

    async def new_pod(self) -> None:
        for _ in range(self.rng.randint(1, 4)):
            self.count += 1
            names = [f"c{self.count}-{i}" for i in range(self.rng.choice([1, 1, 1, 2]))]
            for name in names:
                if self.rng.random() < 0.9:
                    await self.it.put(claim_document(name, request(count=self.rng.choice([1, 1, 2]))))
            await self.it.put(pod(f"p{self.count}", claims=names, requests={"cpu": "500m"}))

    async def pod_with_old_claim(self) -> None:
        claims = await self.it.claims()
        if claims:
            self.count += 1
            await self.it.put(pod(f"p{self.count}", claims=[self.rng.choice(claims)["metadata"]["name"]]))

    async def pod_with_extended_resource(self) -> None:
        for _ in range(self.rng.randint(1, 3)):
            self.count += 1
            wanted = {EXTENDED: str(self.rng.choice([1, 1, 2]))}
            await self.it.put(pod(f"p{self.count}", requests=wanted))

    async def delete_pod(self) -> None:
        pods = (await self.it.client.list(PODS, NS)).items
        if pods:
            await self.it.delete("Pod", self.rng.choice(pods)["metadata"]["name"])

    async def delete_claim(self) -> None:
        claims = await self.it.claims()
        if claims:
            await self.it.delete("ResourceClaim", self.rng.choice(claims)["metadata"]["name"])

    async def toggle_slice(self) -> None:
        name = f"n{self.rng.randrange(3)}"
        if await self.it.find("ResourceSlice", f"gpu.example.com-{name}"):
            await self.it.delete("ResourceSlice", f"gpu.example.com-{name}")
        else:
            await self.it.put(resource_slice(name, 3))

    async def toggle_node(self) -> None:
        name = f"n{self.rng.randrange(3)}"
        if await self.it.find("Node", name):
            await self.it.delete("Node", name)
        else:
            await self.it.put(node(name))

    async def toggle_class(self) -> None:
        if await self.it.find("DeviceClass", "gpu"):
            await self.it.delete("DeviceClass", "gpu")
        else:
            await self.it.put(device_class(extended=EXTENDED))

    async def cordon(self) -> None:
        name = f"n{self.rng.randrange(3)}"
        change = {"spec": {"unschedulable": self.rng.random() < 0.5}}
        await self.it.client.patch(NODES, name, change)

    async def pod_apart(self) -> None:
        """Pods that want to be alone on their node."""
        self.count += 1
        rule = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"apart": "yes"}}}
        hard = {"requiredDuringSchedulingIgnoredDuringExecution": [rule]}
        asking = pod(f"p{self.count}", affinity={"podAntiAffinity": hard})
        asking["metadata"]["labels"] = {"apart": "yes"}
        await self.it.put(asking)

    async def lose_a_write(self) -> None:
        is_after = self.rng.random() < 0.5
        kind = self.rng.choice([Conflict, ServiceUnavailable]) if not is_after else ServiceUnavailable
        left = self.rng.randint(1, 3)

        def fail(sent: Request) -> None:
            nonlocal left
            if left and not sent.path.endswith("events"):
                left -= 1
                raise kind("lost on the way")

        setattr(self.it.wire, "after" if is_after else "before", fail)

    async def restart(self) -> None:
        await self.it.stop()
        await self.it.start()

    async def wait(self) -> None:
        await self.it.settle(self.rng.choice([1.0, 12.0]))


async def live(seed: int) -> None:
    rng = random.Random(seed)
    start: list[Document] = [device_class(extended=EXTENDED)]
    for index in range(3):
        start += [node(f"n{index}"), resource_slice(f"n{index}", 3)]
    async with cluster(*start) as it:
        ledger = Ledger()
        claims = Informer(it.client, RESOURCE_CLAIMS, clock=it.clock)
        claims.add_handler(ledger.changed)
        controllers = Controllers(Client(it.api.transport(ADMIN)), it.profile, clock=it.clock)
        tasks = [asyncio.create_task(claims.run()), asyncio.create_task(controllers.run())]
        try:
            story = Story(it, rng)
            for _ in range(STEPS):
                await story.step()
                assert ledger.faults == [], story.log
            it.wire.before = it.wire.after = None
            for _ in range(20):
                await it.settle(2)
            assert ledger.faults == [], story.log
            await everybody_knows(it, story)
            await nobody_was_forgotten(it, story)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def nobody_was_forgotten(it: Cluster, story: Story) -> None:
    """A scheduler that looks at everything anew finds no node for a pod that the old one had left."""
    before = await waiting(it)
    await it.stop()
    await it.start()
    for _ in range(10):
        await it.settle(2)
    assert await waiting(it) == before, story.log


async def waiting(it: Cluster) -> set[str]:
    pods = (await it.client.list(PODS, NS)).items
    return {p["metadata"]["name"] for p in pods if not p["spec"].get("nodeName")}


async def everybody_knows(it: Cluster, story: Story) -> None:
    """Every pod is bound, with its claims allocated and reserved for it where it is, or has a reason."""
    claims = {row["metadata"]["name"]: row for row in await it.claims()}
    special = [n for n in claims if "-extended-resources-" in n]
    assert len(special) == len({n.partition("-extended-resources-")[0] for n in special}), story.log
    for found in (await it.client.list(PODS, NS)).items:
        name, where = found["metadata"]["name"], found["spec"].get("nodeName")
        if where is None:
            condition = await it.condition(name)
            assert (condition.get("status"), bool(condition.get("message"))) == ("False", True), story.log
            assert await it.events(name), story.log
            continue
        names = [row["resourceClaimName"] for row in found["spec"].get("resourceClaims") or ()]
        if EXTENDED in found["spec"]["containers"][0]["resources"].get("requests", {}):
            names.append(found["status"]["extendedResourceClaimStatus"]["resourceClaimName"])
        for claim_name in names:
            status = claims[claim_name]["status"]
            assert found["metadata"]["uid"] in [r["uid"] for r in status["reservedFor"]], (name, story.log)
            (term,) = status["allocation"]["nodeSelector"]["nodeSelectorTerms"]
            assert term["matchFields"][0]["values"] == [where], (name, story.log)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_device_is_given_twice_and_every_pod_is_bound_or_told_why(seed: int) -> None:
    asyncio.run(live(seed))


def test_the_ledger_sees_a_device_that_is_held_twice() -> None:
    ledger = Ledger()
    row = {"driver": "d", "pool": "p", "device": "x"}
    for name in ("a", "b"):
        status = {"allocation": {"devices": {"results": [row]}}}
        ledger.changed(None, {"metadata": {"name": name}, "status": status})
    assert ledger.faults == ["('d', 'p', 'x') is held by a and b"]

"""What the driver publishes, and that it keeps it so."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from drakit.client.api import RESOURCE_SLICES
from drakit.conformance.check import Evidence, Failed, Skipped, check
from drakit.conformance.lab import Change, Lab
from drakit.errors import NotFound
from drakit.model.validation.slice import MAX_ENTRIES
from drakit.transport import Document

FIELDS = "ResourceSlice API, resource.k8s.io/v1"
POOL = FIELDS + " (spec.pool)"
STRAY = "conformance-stray"


def pools(slices: Iterable[Document]) -> dict[str, list[Document]]:
    """The slices of each pool that are at its newest generation."""
    found: dict[str, list[Document]] = {}
    for item in slices:
        found.setdefault(item["spec"]["pool"]["name"], []).append(item)
    return {
        name: [item for item in items if _generation(item) == max(map(_generation, items))]
        for name, items in found.items()
    }


def content(slices: Iterable[Document]) -> dict[str, list[Any]]:
    """What is published, whatever slices it is divided into: devices and counters of each pool."""
    found: dict[str, list[Any]] = {}
    for name, items in pools(slices).items():
        parts = [
            part
            for item in items
            for part in (*(item["spec"].get("devices") or ()), *(item["spec"].get("sharedCounters") or ()))
        ]
        found[name] = sorted(({**part, "taints": _taints(part)} for part in parts), key=lambda p: p["name"])
    return found


def is_complete(slices: Iterable[Document]) -> bool:
    """Whether there is a pool, and each has as many slices as it says."""
    found = pools(slices)
    return bool(found) and all(
        len(items) == item["spec"]["pool"]["resourceSliceCount"] for items in found.values() for item in items
    )


async def current(lab: Lab) -> dict[str, list[Any]]:
    """`content` once all pools are complete: a driver that was just started may not be so far."""
    await lab.until(lambda: is_complete(lab.slices()), "the driver's pools are not complete")
    return content(lab.slices())


def _generation(item: Document) -> int:
    return int(item["spec"]["pool"].get("generation") or 0)


def _taints(part: Document) -> list[Document]:
    """Taints without their times, which the API server may set anew."""
    return [
        {key: value for key, value in taint.items() if key != "timeAdded"}
        for taint in part.get("taints") or ()
    ]


@check("slices-published", source="KEP-4381, publishing devices", needs=("registration",))
async def published(lab: Lab) -> str:
    """The driver publishes ResourceSlices under its name."""

    def problem() -> str:
        refused = [refusal.message for refusal in lab.control.front.refusals]
        return f"there is no ResourceSlice with driver {lab.driver}" + "".join(f"; {r}" for r in refused[-1:])

    await lab.until(lab.slices, problem)
    await asyncio.sleep(lab.options.rest)
    slices = lab.slices()
    devices = sum(len(item["spec"].get("devices") or ()) for item in slices)
    return f"{devices} devices in {len(slices)} slices of {len(pools(slices))} pools"


@check("slices-valid", source=FIELDS + " and its validation", needs=("slices-published",))
async def valid(lab: Lab) -> Evidence:
    """The API server takes what the driver writes at once, limits included, and no name is there twice in a
    pool."""
    for refusal in lab.control.front.refusals:
        if refusal.use.resource == RESOURCE_SLICES.plural and refusal.code in (400, 413, 415, 422):
            raise Failed(f"{refusal.use.verb} was refused: {refusal.message}")
    for pool, items in pools(lab.slices()).items():
        for field, what in (("devices", "device"), ("sharedCounters", "counter set")):
            names = Counter(part["name"] for item in items for part in item["spec"].get(field) or ())
            twice = [name for name, count in names.items() if count > 1]
            if twice:
                raise Failed(f"pool {pool}: {what} {', '.join(twice)} is there more than once")
        _check_counters(pool, items)
    loose = [item["metadata"]["name"] for item in lab.slices() if not _belongs_to_node(lab, item)]
    text = f"slice {', '.join(loose)} is not owned by its node: it stays when the node is removed"
    return Evidence("no write was refused", (text,) if loose else ())


def _check_counters(pool: str, items: list[Document]) -> None:
    sets = {part["name"]: part for item in items for part in item["spec"].get("sharedCounters") or ()}
    for item in items:
        for device in item["spec"].get("devices") or ():
            for use in device.get("consumesCounters") or ():
                known = sets.get(use["counterSet"], {}).get("counters") or {}
                missing = [name for name in use.get("counters") or () if name not in known]
                if use["counterSet"] not in sets or missing:
                    what = ", ".join(f"{use['counterSet']}/{name}" for name in missing) or use["counterSet"]
                    raise Failed(f"pool {pool}: device {device['name']} consumes counter {what}: not there")


def _belongs_to_node(lab: Lab, item: Document) -> bool:
    if item["spec"].get("nodeName") != lab.options.node_name:
        return True
    owners = item["metadata"].get("ownerReferences") or ()
    return any(owner["kind"] == "Node" and owner["name"] == lab.options.node_name for owner in owners)


@check("slices-complete", source=POOL, needs=("slices-published",))
async def complete(lab: Lab) -> str:
    """Each pool has as many slices of its newest generation as it says, and none of an older one."""

    def problem() -> str:
        texts = []
        for pool, items in pools(lab.slices()).items():
            counts = sorted({item["spec"]["pool"]["resourceSliceCount"] for item in items})
            texts.append(f"pool {pool} has {len(items)} slices and says {', '.join(map(str, counts))}")
        return "; ".join(texts)

    await lab.until(lambda: is_complete(lab.slices()), problem)
    old = [item["metadata"]["name"] for items in [lab.slices()] for item in _outdated(items)]
    if old:
        raise Failed(f"slices of an older generation stay: {', '.join(old)}")
    return ", ".join(f"{pool}: {len(items)}" for pool, items in pools(lab.slices()).items())


def _outdated(slices: list[Document]) -> list[Document]:
    current = [item["metadata"]["name"] for items in pools(slices).values() for item in items]
    return [item for item in slices if item["metadata"]["name"] not in current]


@check("slices-quiet", source="API load: what did not change is not written", needs=("slices-published",))
async def quiet(lab: Lab) -> str:
    """A driver at rest writes nothing."""
    before = _writes(lab)
    await asyncio.sleep(lab.options.rest)
    if _writes(lab) > before:
        raise Failed(f"{_writes(lab) - before} writes of slices within {lab.options.rest:g} s at rest")
    return f"no writes within {lab.options.rest:g} s"


def _writes(lab: Lab) -> int:
    return lab.control.front.count(RESOURCE_SLICES.plural, "create", "update", "patch", "delete")


@check(
    "slices-repaired",
    source="kubelet deletes slices of drivers it does not know; the helper's resourceslice controller",
    needs=("slices-complete",),
)
async def repaired_when_deleted(lab: Lab) -> str:
    """A slice that somebody deleted comes back."""
    before = await current(lab)
    await delete_one(lab)
    await lab.until(
        lambda: is_complete(lab.slices()) and content(lab.slices()) == before,
        "a deleted slice does not come back as it was",
        lab.options.repair,
    )
    return "published again"


async def delete_one(lab: Lab) -> None:
    """Delete the driver's first slice, and return when everybody could know."""
    name = lab.slices()[0]["metadata"]["name"]
    uid = lab.slices()[0]["metadata"]["uid"]
    await lab.control.client.delete(RESOURCE_SLICES, name, uid=uid)
    await lab.until(
        lambda: all(item["metadata"]["uid"] != uid for item in lab.slices()), f"slice {name} stays"
    )


@check("slices-restored", source="the helper's resourceslice controller", needs=("slices-complete",))
async def repaired_when_changed(lab: Lab) -> str:
    """A slice that somebody changed is put right."""
    before = await current(lab)
    changed = next((item for item in lab.slices() if item["spec"].get("devices")), None)
    if changed is None:
        raise Skipped("the driver has no devices here")
    spec = {**changed["spec"], "devices": [_spoiled(d) for d in changed["spec"]["devices"]]}
    written = await lab.control.client.update(RESOURCE_SLICES, {**changed, "spec": spec})
    await seen(lab, written)
    try:
        await lab.until(
            lambda: is_complete(lab.slices()) and content(lab.slices()) == before,
            "a slice that was changed by somebody else is not put right",
            lab.options.repair,
        )
    except Failed:
        await lab.control.client.patch(
            RESOURCE_SLICES, changed["metadata"]["name"], {"spec": changed["spec"]}
        )
        raise
    return "put right"


async def seen(lab: Lab, document: Document) -> None:
    """Return when `document` has come by among the changes of slices, which may be over again by then."""
    version = document["metadata"]["resourceVersion"]
    await lab.until(
        lambda: any(
            change.new is not None and change.new["metadata"]["resourceVersion"] == version
            for change in lab.changes
        ),
        "the suite does not see its own change",
    )


def _spoiled(device: Document) -> Document:
    """`device` with an attribute that the driver never gave it, and still valid."""
    attributes = dict(device.get("attributes") or {})
    if len(attributes) + len(device.get("capacity") or {}) >= MAX_ENTRIES and attributes:
        attributes.popitem()
    return {**device, "attributes": {**attributes, "conformance.drakit/changed": {"bool": True}}}


@check("slices-stray", source="the helper's resourceslice controller", needs=("slices-complete",))
async def strays_removed(lab: Lab) -> str:
    """A slice of the driver on its node in a pool that it does not have (any more) is removed."""
    node = lab.options.node_name
    if all(item["spec"].get("nodeName") != node for item in lab.slices()):
        raise Skipped("the driver's slices are not of its node")
    stray = await lab.control.client.create(RESOURCE_SLICES, _strange(lab.driver, node))
    uid = stray["metadata"]["uid"]
    await seen(lab, stray)
    try:
        await lab.until(
            lambda: all(item["metadata"]["uid"] != uid for item in lab.slices()),
            "a slice of a pool that the driver has not stays",
            lab.options.repair,
        )
    finally:
        with contextlib.suppress(NotFound):
            await lab.control.client.delete(RESOURCE_SLICES, STRAY)
    return "removed"


def _strange(driver: str, node: str) -> Document:
    """A slice that nobody published."""
    spec = {
        "driver": driver,
        "nodeName": node,
        "pool": {"name": STRAY, "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "stray"}],
    }
    return {
        "apiVersion": RESOURCE_SLICES.api_version,
        "kind": RESOURCE_SLICES.kind,
        "metadata": {"name": STRAY},
        "spec": spec,
    }


@check(
    "slices-foreign",
    source="the validating admission policies of drivers: slices of one's own node only",
    needs=("slices-complete",),
)
async def foreign_left_alone(lab: Lab) -> str:
    """The driver's slices of other nodes, and other drivers' slices of its node, are left alone."""
    client, node = lab.control.client, lab.options.node_name
    for driver, where in ((lab.driver, f"not-{node}"), ("other.example.com", node)):
        made = await client.create(RESOURCE_SLICES, _strange(driver, where))
        await seen(lab, made)
        await asyncio.sleep(lab.options.rest)
        try:
            now = await client.get(RESOURCE_SLICES, STRAY)
        except NotFound:
            raise Failed(f"a slice of driver {driver} on node {where} was deleted") from None
        await client.delete(RESOURCE_SLICES, STRAY)
        await lab.until(
            lambda: lab.control.slices.get(STRAY) is None, "the suite does not see its own deletion"
        )
        if now["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]:
            raise Failed(f"a slice of driver {driver} on node {where} was changed")
    return "two of them were"


@check("slices-changed", source=POOL, needs=("slices-complete", "driver-restart"))
async def changed(lab: Lab) -> str:
    """When the driver has other devices, whoever looks sees the devices before or those after, and never a
    mixture: a change of more than one slice makes a new generation."""
    if not lab.options.changed:
        raise Skipped("only with --changed: the command that starts the driver with other devices")
    before = await current(lab)
    mark, first = len(lab.changes), lab.slices()
    assert lab.process is not None
    await lab.process.terminate(lab.options.timeout)
    await lab.run_driver(lab.options.changed)
    await lab.until(
        lambda: is_complete(lab.slices()) and content(lab.slices()) != before,
        "with --changed the driver publishes the same devices",
        lab.options.repair,
    )
    await asyncio.sleep(lab.options.rest)
    after = await current(lab)
    now = {item["metadata"]["name"]: item for item in first}
    mixed = 0
    for change in lab.changes[mark:]:
        document = change.new or change.old or {}
        if document["spec"]["driver"] == lab.driver:
            now.pop(document["metadata"]["name"], None)
            if change.new is not None:
                now[document["metadata"]["name"]] = document
            mixed += is_complete(now.values()) and content(now.values()) not in (before, after)
    await lab.restart_driver()
    await lab.until(
        lambda: is_complete(lab.slices()) and content(lab.slices()) == before,
        "started as before, the driver does not publish what it did before",
        lab.options.repair,
    )
    if mixed:
        raise Failed(f"{mixed} times the pool looked complete with devices of neither before nor after")
    return f"{len(lab.changes) - mark} writes, no mixture"


@check("slices-generation", source=POOL, needs=("slices-published",))
async def generations(lab: Lab) -> str:
    """Through all of its changes so far, the generation of a pool never went back while there was a slice of
    it, and slices of one generation agreed on how many they are."""
    newest = newest_generations(lab.changes, lab.driver)
    return f"{len(lab.changes)} changes; now " + ", ".join(f"{p}: {g}" for p, g in sorted(newest.items()))


def newest_generations(changes: Iterable[Change], driver: str) -> dict[str, int]:
    """Where the pools of `driver` are after `changes`. Raises Failed where one went wrong."""
    now: dict[str, Document] = {}
    newest: dict[str, int] = {}
    for change in changes:
        if change.new is None:
            gone = now.pop((change.old or {})["metadata"]["name"], None)
            if gone is not None and not _of_pool(now, gone["spec"]["pool"]["name"]):
                del newest[gone["spec"]["pool"]["name"]]  # nobody can tell any more how far it was
            continue
        pool = change.new["spec"]["pool"]["name"]
        if change.new["spec"]["driver"] != driver or pool == STRAY:
            continue
        now[change.new["metadata"]["name"]] = change.new
        generation = _generation(change.new)
        if generation < newest.get(pool, 0):
            raise Failed(f"pool {pool} went from generation {newest[pool]} back to {generation}")
        newest[pool] = generation
        counts = {
            item["spec"]["pool"]["resourceSliceCount"]
            for item in _of_pool(now, pool)
            if _generation(item) == generation
        }
        if len(counts) > 1:
            shown = ", ".join(map(str, sorted(counts)))
            raise Failed(f"pool {pool}, generation {generation}: its slices say that they are {shown}")
    return newest


def _of_pool(slices: Mapping[str, Document], pool: str) -> list[Document]:
    return [item for item in slices.values() if item["spec"]["pool"]["name"] == pool]


CHECKS = (
    published,
    valid,
    complete,
    quiet,
    repaired_when_deleted,
    repaired_when_changed,
    strays_removed,
    foreign_left_alone,
)

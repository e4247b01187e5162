"""`dra allocate`: scenarios as JSON lines in, what the allocator makes of them as JSON lines out."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import IO, Any

import click
import msgspec

from drakit.allocator import STEP_LIMIT, Allocator, Candidate, FellShort, Refusal, State, Trace
from drakit.allocator.device import DeviceID
from drakit.cli import lines
from drakit.cli.gate import gates_option, read_gates
from drakit.errors import AllocationError, UsageError
from drakit.model.meta import Node
from drakit.model.resource import (
    AllocationResult,
    DeviceAllocationResult,
    DeviceClass,
    DeviceRequestAllocationResult,
    DeviceTaintRule,
    ResourceClaim,
    ResourceSlice,
)
from drakit.profile import DEFAULT_VERSION, Gate, Profile, profile_for

_FEATURES: Mapping[str, tuple[Gate, ...]] = {
    "adminAccess": (Gate.ADMIN_ACCESS,),
    "prioritizedList": (Gate.PRIORITIZED_LIST,),
    "partitionableDevices": (Gate.PARTITIONABLE_DEVICES,),
    "deviceTaints": (Gate.DEVICE_TAINTS, Gate.DEVICE_TAINT_RULES),
    "consumableCapacity": (Gate.CONSUMABLE_CAPACITY,),
    "deviceBindingAndStatus": (Gate.DEVICE_BINDING_CONDITIONS, Gate.DEVICE_STATUS),
    "listTypeAttributes": (Gate.LIST_ATTRIBUTES,),
}
"""The features of a scenario and the gates they stand for."""

_NO_SHARE = "00000000-0000-0000-0000-000000000000"


class Held(msgspec.Struct):
    """A device in use. `share_id` of a share, `capacity` what all shares together consume."""

    driver: str
    pool: str
    device: str
    share_id: str | None = msgspec.field(default=None, name="shareID")
    capacity: dict[str, str | int] = {}

    def row(self, share: str | None, capacity: Mapping[str, str | int]) -> DeviceRequestAllocationResult:
        return DeviceRequestAllocationResult(
            request="held",
            driver=self.driver,
            pool=self.pool,
            device=self.device,
            share_id=share,
            consumed_capacity={name: str(value) for name, value in capacity.items()},
        )


class Scenario(msgspec.Struct, rename="camel", kw_only=True):
    """One line. With `nodes` the claims are tried on each node, from the same state."""

    name: str = ""
    features: str | dict[str, bool] | None = None
    node: Node | None = None
    nodes: list[Node] | None = None
    device_classes: list[DeviceClass] | None = None
    resource_slices: list[ResourceSlice] | None = None
    device_taint_rules: list[DeviceTaintRule] | None = None
    claims_to_allocate: list[ResourceClaim] | None = None
    allocated_devices: list[Held] | None = None
    allocated_shared_device_ids: list[Held] | None = msgspec.field(
        default=None, name="allocatedSharedDeviceIDs"
    )
    aggregated_capacity: list[Held] | None = None
    allocated_claims: list[ResourceClaim] | None = None

    def profile(self, default: Profile) -> Profile:
        """The gates the scenario asks for: those of `default`, none, all, or the ones it lists."""
        features = self.features
        if features is None or features == "default":
            return default
        if isinstance(features, str):
            if features in ("none", "all"):
                return profile_for(default.version, {"all": features == "all"})
            raise UsageError(f"scenario {self.name}: features {features!r}: use default, none, all or a map")
        gates: dict[str, bool] = {gate.value: False for row in _FEATURES.values() for gate in row}
        for name, is_on in features.items():
            if name not in _FEATURES:
                raise UsageError(f"scenario {self.name}: unknown feature {name!r}: {', '.join(_FEATURES)}")
            gates |= {gate.value: is_on for gate in _FEATURES[name]}
        known = profile_for(default.version, {"all": True}).gates
        return profile_for(default.version, {g: on for g, on in gates.items() if Gate(g) in known})

    def state(self, profile: Profile) -> State:
        """The cluster of the scenario."""
        state = State(profile)
        for device_class in self.device_classes or ():
            state.apply_class(device_class)
        names: set[str] = set()
        for index, published in enumerate(self.resource_slices or ()):
            name = published.metadata.name
            if name in names:
                # Slices that share a name are told apart, in the order given.
                metadata = msgspec.structs.replace(published.metadata, name=f"{name}~{index:06d}")
                published = msgspec.structs.replace(published, metadata=metadata)
            names.add(name)
            state.apply_slice(published)
        for rule in self.device_taint_rules or ():
            state.apply_taint_rule(rule)
        for index, row in enumerate(self._held()):
            held = AllocationResult(devices=DeviceAllocationResult(results=[row]))
            state.take(f"held-{index}", held, f"scenario/held-{index}")
        for claim in self.allocated_claims or ():
            if claim.status.allocation is not None:
                state.take(
                    claim.metadata.uid or claim.metadata.key, claim.status.allocation, claim.metadata.key
                )
        return state

    def _held(self) -> Iterator[DeviceRequestAllocationResult]:
        for held in self.allocated_devices or ():
            yield held.row(None, {})
        shares = {(h.driver, h.pool, h.device): h for h in self.allocated_shared_device_ids or ()}
        for index, held in enumerate(self.aggregated_capacity or ()):
            share = shares.pop((held.driver, held.pool, held.device), held)
            yield held.row(share.share_id or f"aggregated-{index}", held.capacity)
        for index, held in enumerate(shares.values()):
            yield held.row(held.share_id or f"share-{index}", {})


class _Events(Trace):
    """A trace as rows of JSON."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def turned_away(self, candidate: Candidate, device: DeviceID, refusal: Refusal) -> None:
        self._add(candidate, device, _told(refusal))

    def passed(self, candidate: Candidate, device: DeviceID) -> None:
        self._add(candidate, device, {"check": "passed"})

    def fell_short(self, candidate: Candidate, event: FellShort) -> None:
        self._add(candidate, None, _told(event))

    def _add(self, candidate: Candidate, device: DeviceID | None, said: dict[str, Any]) -> None:
        row: dict[str, Any] = {"claim": candidate.claim, "request": candidate.request}
        if device is not None:
            row["device"] = "/".join(device).rstrip("/")
        self.rows.append(row | said)


def _told(event: Refusal | FellShort) -> dict[str, Any]:
    """Only what the event sets."""
    row: dict[str, Any] = msgspec.to_builtins(event)
    return {key: value for key, value in row.items() if value or key in ("wanted", "possible")}


def run(
    scenario: Scenario,
    default: Profile,
    *,
    fixed_share_ids: bool = False,
    step_limit: int = STEP_LIMIT,
    explain: bool = False,
) -> Iterator[dict[str, Any]]:
    """What comes of the scenario: one row, or one a node where it has `nodes`."""
    state = scenario.state(scenario.profile(default))
    share_id = (lambda: _NO_SHARE) if fixed_share_ids else (lambda: str(uuid.uuid4()))
    claims = scenario.claims_to_allocate or []
    nodes = scenario.nodes if scenario.nodes is not None else [scenario.node or Node()]
    for node in nodes:
        row: dict[str, Any] = {"name": scenario.name}
        if scenario.nodes is not None:
            row["node"] = node.metadata.name
        events = _Events() if explain else None
        started = time.perf_counter()
        allocator = Allocator(claims, state, share_id=share_id, step_limit=step_limit, trace=events)
        try:
            results = allocator.allocate(node)
        except AllocationError as error:
            row |= {"outcome": "error", "error": str(error)}
        else:
            row["outcome"] = "none" if results is None else "allocated"
            if results is not None:
                row["results"] = msgspec.to_builtins(results)
        row["steps"] = allocator.steps
        row["seconds"] = round(time.perf_counter() - started, 6)
        if events is not None:
            row["explain"] = events.rows
        yield row


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--profile", "version", default=DEFAULT_VERSION, show_default=True, help="Kubernetes version.")
@gates_option
@click.option("--fixed-share-ids", is_flag=True, help="Print zeros for the random ids of shares.")
@click.option("--explain", is_flag=True, help="Add what became of every device to each row.")
@click.option(
    "--step-limit",
    type=click.IntRange(min=1),
    default=STEP_LIMIT,
    show_default=True,
    help="Choices to try on a node.",
)
def command(
    file: IO[bytes],
    version: str,
    gates: tuple[str, ...],
    fixed_share_ids: bool,
    explain: bool,
    step_limit: int,
) -> None:
    """Allocate the claims of each scenario in FILE (JSON lines; - for stdin), without a cluster."""
    default = profile_for(version, read_gates(gates))
    for _, document in lines.read(file):
        for row in _rows(document, default, fixed_share_ids, step_limit, explain):
            lines.write(row)


def _rows(
    document: Any, default: Profile, fixed_share_ids: bool, step_limit: int, explain: bool
) -> Iterator[dict[str, Any]]:
    """The rows of one line; one that says what is wrong for a line that is no scenario."""
    try:
        scenario = msgspec.convert(document, Scenario)
        yield from run(
            scenario, default, fixed_share_ids=fixed_share_ids, step_limit=step_limit, explain=explain
        )
    except (msgspec.ValidationError, UsageError) as error:
        name = document.get("name", "") if isinstance(document, dict) else ""
        yield {"name": name, "outcome": "error", "error": str(error), "steps": 0, "seconds": 0.0}

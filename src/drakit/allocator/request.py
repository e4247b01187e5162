"""Requests as the search takes them: every alternative of a prioritized list is a demand of its own.

Reading a claim finds what no node can help (unknown class, feature that is off, unknown kinds of request);
the errors are kept with the demand they belong to, because Kubernetes reports the first one in the order
in which it looks, and between two requests it may look at a node's pools.

Source: structured/internal/*/allocator_*.go (validateDeviceRequest) of Kubernetes 1.37.
"""

from __future__ import annotations

from collections.abc import Mapping

from drakit import cel
from drakit.allocator.device import digest
from drakit.errors import CELError
from drakit.model.resource import (
    DerivedAttribute,
    DeviceClass,
    DeviceConstraint,
    DeviceRequest,
    DeviceSubRequest,
    DeviceToleration,
    ExactDeviceRequest,
)
from drakit.profile import Gate, Profile


class Expression:
    """One CEL selector of a class or a request, as `source` and `index` name it in messages."""

    __slots__ = ("_program", "index", "is_class", "text")

    def __init__(self, is_class: bool, index: int, text: str) -> None:
        self.is_class = is_class
        self.index = index
        self.text = text
        self._program: cel.Selector | CELError | None = None

    def selector(self, profile: Profile) -> cel.Selector:
        """The compiled expression; raises CELError, the same each time."""
        if self._program is None:
            try:
                self._program = cel.compile(self.text, profile.version, profile=profile)
            except CELError as error:
                self._program = error
        if isinstance(self._program, CELError):
            raise self._program
        return self._program


class Demand:
    """One alternative: `count` devices of a class, or all of them. `error` says why it cannot be asked."""

    def __init__(
        self, index: int, claim: int, request: str, name: str, asked: ExactDeviceRequest | DeviceSubRequest
    ):
        self.index = index
        self.claim = claim
        self.name = name
        """As messages call it: the request, or the subrequest alone."""
        self.full_name = name if request == name else f"{request}/{name}"
        self.request = request
        self.asked = asked
        self.count = asked.count
        self.is_all = asked.allocation_mode == "All"
        self.is_admin = isinstance(asked, ExactDeviceRequest) and bool(asked.admin_access)
        self.tolerations: list[DeviceToleration] = asked.tolerations
        self.capacity: Mapping[str, str | int | float] = asked.capacity.requests if asked.capacity else {}
        self.derived: list[DerivedAttribute] = asked.derived_attributes
        self.device_class: DeviceClass | None = None
        self.expressions: list[Expression] = []
        self.constraints: list[int] = []
        """Indexes into the plan's constraints that apply to it."""
        self.wants = digest(
            (
                asked.device_class_name,
                asked.selectors,
                asked.tolerations,
                asked.capacity,
                asked.derived_attributes,
            )
        )
        """Equal for demands that judge every device alike."""
        self.error = ""


class Asked:
    """One request: the alternatives in the order of preference, and what is wrong before looking at them."""

    def __init__(self, claim: int, name: str, alternatives: list[Demand], is_list: bool, error: str) -> None:
        self.claim = claim
        self.name = name
        self.alternatives = alternatives
        self.is_list = is_list
        self.error = error


def read_request(
    claim_index: int,
    request: DeviceRequest,
    first: int,
    classes: Mapping[str, DeviceClass],
    profile: Profile,
) -> Asked:
    """`request` with its demands numbered from `first`. Errors go on behind `claim NAMESPACE/NAME`."""
    if request.first_available:
        alternatives = [
            Demand(first + i, claim_index, request.name, sub.name, sub)
            for i, sub in enumerate(request.first_available)
        ]
        # A subrequest may be called like its request; it still is `request/sub`.
        for demand in alternatives:
            demand.full_name = f"{request.name}/{demand.name}"
    else:
        exactly = request.exactly or ExactDeviceRequest()
        alternatives = [Demand(first, claim_index, request.name, request.name, exactly)]
    error = _gate_error(request, profile)
    for demand in alternatives:
        demand.error = _resolve(demand, classes, profile)
    return Asked(claim_index, request.name, alternatives, bool(request.first_available), error)


def _gate_error(request: DeviceRequest, profile: Profile) -> str:
    if request.first_available and not profile.is_on(Gate.PRIORITIZED_LIST):
        off = "has subrequests, but the DRAPrioritizedList feature is disabled"
        return f", request {request.name}: {off}"
    if not profile.is_on(Gate.CONSUMABLE_CAPACITY):
        off = "has capacity requests, but the DRAConsumableCapacity feature is disabled"
        if request.exactly is not None and request.exactly.capacity is not None:
            return f", request {request.name}: {off}"
        for sub in request.first_available:
            if sub.capacity is not None:
                return f", subrequest {sub.name}: {off}"
    return ""


def _resolve(demand: Demand, classes: Mapping[str, DeviceClass], profile: Profile) -> str:
    """Fill in class and selectors; what is wrong, or ""."""
    asked = demand.asked
    where = f", request {demand.name}"
    if demand.derived and not profile.is_on(Gate.DERIVED_ATTRIBUTES):
        return f"{where}: cannot handle request with derived attributes, the feature is disabled"
    for index, selector in enumerate(asked.selectors):
        if selector.cel is None:
            return f"{where}, selector #{index}: CEL expression empty (unsupported selector type?)"
    asks_admin = isinstance(asked, ExactDeviceRequest) and asked.admin_access is not None
    if asks_admin and not profile.is_on(Gate.ADMIN_ACCESS):
        return f"{where}: admin access is requested, but the feature is disabled"
    name = asked.device_class_name
    if not name:
        return f"{where}: missing device class name (unsupported request type?)"
    found = classes.get(name)
    if found is None:
        missing = f'deviceclass.resource.k8s.io "{name}" not found'
        return f"{where}: could not retrieve device class {name}: {missing}"
    demand.device_class = found
    if asked.allocation_mode not in ("ExactCount", "All"):
        return f"{where}: unsupported count mode {asked.allocation_mode}"
    for index, selector in enumerate(found.spec.selectors):
        demand.expressions.append(Expression(True, index, selector.cel.expression if selector.cel else ""))
    for index, selector in enumerate(asked.selectors):
        if selector.cel is not None:
            demand.expressions.append(Expression(False, index, selector.cel.expression))
    return ""


def applies(constraint: DeviceConstraint, demand: Demand) -> bool:
    """Whether the constraint concerns what the demand is given. One that names no requests concerns all."""
    return (
        not constraint.requests
        or demand.request in constraint.requests
        or demand.full_name in constraint.requests
    )

"""Parts of resource.k8s.io as Kubernetes prints its internal structs in an "Invalid value".

Go prints the field names of the internal types, every field, null for what is absent. Each table below
is one struct in declaration order: Go name, JSON name, and what the field holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Field = tuple[str, str, Any]
"""Go name, JSON name, and: None (as it is), 0 or "" (printed when absent), or a struct's table."""

_SELECTOR: Sequence[Field] = (("CEL", "cel", (("Expression", "expression", ""),)),)
_TOLERATION: Sequence[Field] = (
    ("Key", "key", ""),
    ("Operator", "operator", ""),
    ("Value", "value", ""),
    ("Effect", "effect", ""),
    ("TolerationSeconds", "tolerationSeconds", None),
)
_CAPACITY: Sequence[Field] = (("Requests", "requests", None),)
_DERIVED: Sequence[Field] = (("Name", "name", ""), ("Expression", "expression", ""))
_EXACT: Sequence[Field] = (
    ("DeviceClassName", "deviceClassName", ""),
    ("Selectors", "selectors", _SELECTOR),
    ("AllocationMode", "allocationMode", ""),
    ("Count", "count", 0),
    ("AdminAccess", "adminAccess", None),
    ("Tolerations", "tolerations", _TOLERATION),
    ("Capacity", "capacity", _CAPACITY),
)
_SUBREQUEST: Sequence[Field] = (
    ("Name", "name", ""),
    *(field for field in _EXACT if field[0] != "AdminAccess"),
)
_OPAQUE: Sequence[Field] = (("Driver", "driver", ""), ("Parameters", "parameters", None))
_CONSTRAINT: Sequence[Field] = (
    ("Requests", "requests", None),
    ("MatchAttribute", "matchAttribute", None),
    ("DistinctAttribute", "distinctAttribute", None),
)
_CONFIG: Sequence[Field] = (("Requests", "requests", None), ("Opaque", "opaque", _OPAQUE))
_RESULT: Sequence[Field] = (
    ("Request", "request", ""),
    ("Driver", "driver", ""),
    ("Pool", "pool", ""),
    ("Device", "device", ""),
    ("AdminAccess", "adminAccess", None),
    ("Tolerations", "tolerations", _TOLERATION),
    ("BindingConditions", "bindingConditions", None),
    ("BindingFailureConditions", "bindingFailureConditions", None),
    ("ShareID", "shareID", None),
    ("ConsumedCapacity", "consumedCapacity", None),
)
_REQUIREMENT: Sequence[Field] = (("Key", "key", ""), ("Operator", "operator", ""), ("Values", "values", None))
_TERM: Sequence[Field] = (
    ("MatchExpressions", "matchExpressions", _REQUIREMENT),
    ("MatchFields", "matchFields", _REQUIREMENT),
)
_ATTRIBUTE: Sequence[Field] = (
    ("IntValue", "int", None),
    ("BoolValue", "bool", None),
    ("StringValue", "string", None),
    ("VersionValue", "version", None),
    ("IntValues", "ints", None),
    ("BoolValues", "bools", None),
    ("StringValues", "strings", None),
    ("VersionValues", "versions", None),
)


def _struct(value: Any, table: Sequence[Field]) -> Any:
    if isinstance(value, list):
        return [_struct(item, table) for item in value] or None
    if not isinstance(value, dict):
        return None
    shown: dict[str, Any] = {}
    for go_name, name, holds in table:
        inner = value.get(name)
        if isinstance(holds, tuple):
            shown[go_name] = _struct(inner, holds)
        else:
            shown[go_name] = holds if inner is None else inner
    return shown


def _exact_fields(is_derived: bool) -> tuple[Sequence[Field], Sequence[Field]]:
    extra: Sequence[Field] = (("DerivedAttributes", "derivedAttributes", _DERIVED),) if is_derived else ()
    return (*_EXACT, *extra), (*_SUBREQUEST, *extra)


def claim_spec(spec: Any, *, has_derived: bool) -> dict[str, Any]:
    """A ResourceClaimSpec; `has_derived` where the version knows derived attributes."""
    exact, subrequest = _exact_fields(has_derived)
    request = (
        ("Name", "name", ""),
        ("Exactly", "exactly", exact),
        ("FirstAvailable", "firstAvailable", subrequest),
    )
    devices = (
        ("Requests", "requests", request),
        ("Constraints", "constraints", _CONSTRAINT),
        ("Config", "config", _CONFIG),
    )
    found = spec if isinstance(spec, dict) else {}
    return {"Devices": _struct(found.get("devices") or {}, devices)}


def template_spec(spec: Any, *, has_derived: bool) -> dict[str, Any]:
    """A ResourceClaimTemplateSpec: its metadata inline, then the claim's spec."""
    found = spec if isinstance(spec, dict) else {}
    metadata = found.get("metadata") or {}
    return {**metadata, "Spec": claim_spec(found.get("spec"), has_derived=has_derived)}


def allocation(value: Any, *, has_skip: bool) -> dict[str, Any]:
    """An AllocationResult; `has_skip` where the version knows skipped node operations."""
    extra: Sequence[Field] = (("SkipNodeOperations", "skipNodeOperations", None),) if has_skip else ()
    config = (("Source", "source", ""), *_CONFIG)
    devices = (("Results", "results", (*_RESULT, *extra)), ("Config", "config", config))
    found = value if isinstance(value, dict) else {}
    selector = found.get("nodeSelector")
    return {
        "Devices": _struct(found.get("devices") or {}, devices),
        "NodeSelector": None if selector is None else {"NodeSelectorTerms": terms(selector)},
        "AllocationTimestamp": found.get("allocationTimestamp"),
    }


def terms(selector: Any) -> Any:
    """The terms of a NodeSelector."""
    found = selector.get("nodeSelectorTerms") if isinstance(selector, dict) else None
    return _struct(found or [], _TERM)


def attribute(value: Any) -> Any:
    """A DeviceAttribute."""
    return _struct(value, _ATTRIBUTE)

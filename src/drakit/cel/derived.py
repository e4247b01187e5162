"""What an expression of a derived attribute may give: one value an attribute can have, or a list of such.

Source: k8s.io/dynamic-resource-allocation/cel compile.go (validateOutputType, valToDeviceAttribute).
"""

from __future__ import annotations

from typing import Any

from drakit.cel import types
from drakit.cel.types import Type
from drakit.cel.value import Fault, kind_of
from drakit.model.semver import Version

_SCALARS = frozenset((types.BOOL, types.INT, types.STRING, types.SEMVER, types.ANY, types.DYN))
_GO_NAMES: dict[type, str] = {bool: "bool", int: "int", str: "string", Version: "semver"}
_GO_TYPES = {
    "bool": "bool", "int": "int64", "uint": "uint64", "double": "float64", "string": "string",
    "bytes": "[]uint8", "null_type": "structpb.NullValue", "google.protobuf.Timestamp": "time.Time",
    "google.protobuf.Duration": "time.Duration", "kubernetes.Quantity": "*resource.Quantity",
    "kubernetes.Semver": "semver.Version", "net.IP": "netip.Addr", "net.CIDR": "netip.Prefix",
    "kubernetes.URL": "*url.URL",
}  # fmt: skip


def refusal(type_: Type, *, may_be_list: bool) -> str | None:
    """Why an expression of that type is none for a derived attribute."""
    if type_ in _SCALARS or (may_be_list and type_.kind == "list" and type_.params[0] in _SCALARS):
        return None
    lists = " or a list of these scalars" if may_be_list else ""
    return f"must evaluate to a primitive scalar (string, integer, boolean, semver){lists}, not {type_}"


def check(value: Any) -> None:
    """Raises Fault for a value that no attribute can have."""
    if value.__class__ in _GO_NAMES:
        return
    if value.__class__ is not list:
        raise Fault(f"unsupported CEL return type: {_go_type(value)}")
    for index, item in enumerate(value):
        wanted = _GO_NAMES.get(value[0].__class__)
        if wanted is None:
            raise Fault(f"unsupported list element type: {_go_type(item)}")
        if item.__class__ is not value[0].__class__:
            raise Fault(f"expected list element at index {index} to be {wanted}, got {_go_type(item)}")


def _go_type(value: Any) -> str:
    kind = kind_of(value)
    return _GO_TYPES.get(kind, kind)

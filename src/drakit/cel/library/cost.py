"""What calls of the libraries may cost: cel-go's sets and lists, Kubernetes' own, DRA's `includes`.

Source: cel-go ext/{lists,sets}.go, k8s.io/apiserver/pkg/cel/library/cost.go.
"""

from __future__ import annotations

from typing import Protocol

from drakit.cel.charge import CHECK, UNIT
from drakit.cel.macro import ACCUMULATOR
from drakit.cel.size import (
    MOST,
    UNKNOWN,
    Size,
    add,
    by_factor,
    multiply,
    regex_cost,
    replaced,
    times,
    total_of,
)
from drakit.cel.syntax import Call, Literal, Node

Estimate = tuple[int, Size | None]
"""The cost without the arguments', and the size of the result where known."""


class Known(Protocol):
    """What the estimator knows of nodes it has seen."""

    def size(self, node: Node) -> Size | None:
        """How big its value is."""

    def path(self, node: Node) -> tuple[str, ...]:
        """Where in the device it leads."""

    def at(self, path: tuple[str, ...]) -> Size | None:
        """How big what a path leads to is."""


class LibraryCosts:
    """Estimates calls."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def estimate(self, node: Call, id_: str) -> Estimate | None:
        """None for what is no library's."""
        return self._extension(node, id_) or self._kubernetes(node, id_)

    def _size(self, node: Node) -> Size:
        """As Kubernetes' estimator sees a node: no path through an accumulator."""
        size = self._known.size(node)
        if size is not None:
            return size
        path = self._known.path(node)
        return (None if path and path[0] == ACCUMULATOR else self._known.at(path)) or UNKNOWN

    def _extension(self, node: Call, id_: str) -> Estimate | None:
        """cel-go's sets and lists, and DRA's `includes`."""
        if id_ == "dra_includes_dyn_dyn":
            return 48, None
        if id_ in _SETS:
            size = multiply(self._size(node.args[0]), self._size(node.args[1]))
            return total_of(by_factor(size[1], _SETS[id_]), 1), None
        if id_ == "lists_range":
            count = _literal_uint(node.args[0], MOST)
            return self._allocating(1, (count, count))
        if node.target is None:
            return None
        if id_ == "list_slice":
            most = self._size(node.target)[1]
            count = (_literal_uint(node.args[1], most) - _literal_uint(node.args[0], 0)) & MOST
            return self._allocating(1, (count, count))
        if id_ == "list_reverse":
            return self._allocating(1, self._size(node.target))
        if id_ in ("list_flatten", "list_flatten_int"):
            depth = _literal_uint(node.args[0], MOST) if node.args else 1
            return self._allocating(float(depth), self._size(node.target))
        if id_ == "list_distinct":
            size = self._size(node.target)
            return self._allocating(2.0, multiply(size, size))
        if id_.endswith(("_sort", "_sortByAssociatedKeys")):
            size = self._size(node.args[0] if node.args else node.target)
            factor = 2.1 if id_.startswith(("list_string_", "list_bytes_")) else 2.0
            return self._allocating(factor, multiply(size, size))
        return None

    def _allocating(self, factor: float, size: Size) -> tuple[int, Size]:
        return total_of(by_factor(size[1], factor), 11), size

    def _kubernetes(self, node: Call, id_: str) -> Estimate | None:
        function, target, args, sized = node.function, node.target, node.args, self._size
        if function in UNIT:
            return 1, None
        if function == "check":
            return CHECK, None
        if function == "_==_":
            return self._opaque_equality(args)
        if id_ == "cidr_ip":
            return 1, None
        if function in _PARSERS and args:
            return by_factor(sized(args[0])[1], _PARSERS[function]), None
        if function == "url" and len(args) == 1:
            size = sized(args[0])
            return by_factor(size[1], 0.1), size
        if target is None:
            return None
        if function in ("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"):
            return self._traversal(target), None
        return self._strings(function, target, args) or self._network(node, id_)

    def _strings(self, function: str, target: Node, args: list[Node]) -> Estimate | None:
        sized = self._size
        if function in ("lowerAscii", "upperAscii", "substring", "trim"):
            size = sized(target)
            return by_factor(size[1], 0.1), size
        if function == "replace" and len(args) >= 2:
            size = sized(target)
            return by_factor(size[1], 2 * 0.1), replaced(size, sized(args[0]), sized(args[1]))
        if function == "split":
            size = sized(target)
            most = size[1]
            if len(args) > 1 and isinstance(args[1], Literal) and args[1].value.__class__ is int:
                most = args[1].value & MOST
            return by_factor(size[1], 2 * 0.1), (0, most)
        if function == "join":
            size = self._joined(target, args)
            return by_factor(size[1], 0.1), size
        if function in ("find", "findAll") and args:
            return regex_cost(sized(target), sized(args[0])), (0, sized(target)[1])
        return None

    def _network(self, node: Call, id_: str) -> Estimate | None:
        function, args, sized = node.function, node.args, self._size
        if function == "containsIP" and args:
            extra = by_factor(sized(args[0])[1], 0.1) if id_ == "cidr_contains_ip_string" else 0
            return total_of(4, extra), None
        if function == "containsCIDR" and args:
            extra = by_factor(sized(args[0])[1], 0.1) if id_ == "cidr_contains_cidr_string" else 0
            return total_of(4 + 2 + 1, extra), None
        if function == "validate":
            per_text = by_factor(sized(args[0])[1], 0.1)
            return by_factor(per_text, _MAX_NAME_REGEX * 0.25), None
        return None

    def _traversal(self, target: Node) -> int:
        size = self._size(target)
        if not target.type.params:
            return by_factor(size[1], 0.1)
        per_item = 1
        if target.type.params[0].kind in ("string", "bytes"):
            per_item = total_of(1, by_factor(self._item_size(target)[1], 0.1))
        return times(size[1], per_item)

    def _item_size(self, target: Node) -> Size:
        path = self._known.path(target)
        if not path or path[0] == ACCUMULATOR:
            return UNKNOWN
        return self._known.at((*path, "@items")) or UNKNOWN

    def _joined(self, target: Node, args: list[Node]) -> Size:
        count = self._size(target)
        size: Size = (0, 0)
        if target.type.params:
            size = multiply(count, self._item_size(target))
        if args:
            separators = (max(count[0] - 1, 0), max(count[1] - 1, 0))
            size = add(size, multiply(self._size(args[0]), separators))
        return size

    def _opaque_equality(self, args: list[Node]) -> Estimate | None:
        left, right = args[0].type, args[1].type
        if left != right:
            return None
        if left.name in ("net.IP", "net.CIDR", "kubernetes.Quantity", "kubernetes.Semver"):
            return 1, None
        if left.name == "kubernetes.NamedFormat":
            return by_factor(_MAX_FORMAT, 0.1), None
        if left.name == "kubernetes.URL":
            size = self._known.size(args[1])
            return by_factor(size[1] if size else 1, 0.1), None
        return None


_PARSERS = {
    "quantity": 0.1, "isQuantity": 0.1, "semver": 0.1, "isSemver": 0.1, "ip": 0.1, "isIP": 0.1, "cidr": 0.1,
    "isCIDR": 0.1, "ip.isCanonical": 0.2,
}  # fmt: skip
"""What reading a text costs for each of its characters."""
_MAX_FORMAT = 64
_MAX_NAME_REGEX = 128
_SETS = {
    "list_sets_contains_list": 1.0,
    "list_sets_intersects_list": 1.0,
    "list_sets_equivalent_list": 2.0,
}


def _literal_uint(node: Node, default: int) -> int:
    if isinstance(node, Literal) and node.value.__class__ is int:
        return max(0, node.value)
    return default

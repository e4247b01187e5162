"""The most an expression may cost, estimated from the tree and from how big a device's values may be.

The estimate is cel-go's to the digit, so that drakit refuses what Kubernetes refuses. Sizes are pairs of a
least and a greatest value; costs are only followed at their greatest. Everything saturates at 2^64 - 1. A
path, such as device.attributes.@values.name, says where in a device a value comes from.

Source: cel-go checker/cost.go, ext/{lists,sets}.go, k8s.io/apiserver/pkg/cel/library/cost.go and the size
estimator of k8s.io/dynamic-resource-allocation/cel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from drakit.cel.charge import COMPARED_BY_SIZE
from drakit.cel.library.cost import LibraryCosts
from drakit.cel.macro import ACCUMULATOR
from drakit.cel.size import (
    MOST,
    ONE,
    UNKNOWN,
    Entry,
    Shape,
    Size,
    Variable,
    add,
    by_factor,
    regex_cost,
    times,
    total_of,
    union,
)
from drakit.cel.syntax import Call, Fold, Ident, ListNode, Literal, MapNode, MessageNode, Node, Select
from drakit.cel.types import Type, is_optional

_SCALARS = frozenset(("bool", "double", "duration", "int", "timestamp", "uint"))


def max_cost(root: Node, shapes: Mapping[str, Shape]) -> int:
    """The estimate for a checked tree; `shapes` says how big the variables may be."""
    return _Estimator(shapes).cost(root)


class _Estimator:
    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._shapes = shapes
        self._variables: dict[str, list[Variable]] = {}
        self._sizes: dict[int, Size] = {}
        self._entries: dict[int, Entry] = {}
        self._paths: dict[int, tuple[str, ...]] = {}

    # --- what is known of a node ------------------------------------------------------------------

    def _variable(self, node: Node) -> Variable | None:
        if type(node) is Ident:
            found = self._variables.get(node.name)
            if found:
                return found[-1]
        return None

    def path(self, node: Node) -> tuple[str, ...]:
        variable = self._variable(node)
        return self._paths.get(node.number, ()) if variable is None else variable.path

    def at(self, path: tuple[str, ...]) -> Size | None:
        """The size of what a path leads to."""
        shape = self._shapes.get(path[0]) if path else None
        for name in path[1:]:
            if shape is None:
                return None
            if name in ("@items", "@values"):
                shape = shape.value
            elif name == "@keys":
                shape = shape.key
            elif shape.fields is not None and name in shape.fields:
                shape = shape.fields[name]
            else:
                shape = shape.value if shape.is_attribute_map else None
        return None if shape is None else (0, shape.most)

    def size(self, node: Node) -> Size | None:
        known = self._sizes.get(node.number)
        if known is not None:
            return known
        if type(node) is Literal:
            length = len(node.value) if isinstance(node.value, str | bytes) else 1
            return length, length
        if type(node) is ListNode:
            return len(node.items), len(node.items)
        if isinstance(node, MapNode):
            return len(node.entries), len(node.entries)
        found = self.at(self.path(node))
        if found is not None:
            self._sizes[node.number] = found
            return found
        if _is_scalar(node.type):
            return ONE
        variable = self._variable(node)
        return None if variable is None else variable.size

    def _size_or_unknown(self, node: Node) -> Size:
        return self.size(node) or UNKNOWN

    def _entry(self, node: Node) -> Entry | None:
        known = self._entries.get(node.number)
        if known is not None:
            return known
        variable = self._variable(node)
        return None if variable is None else variable.entry

    def _copy(self, target: Node, source: Node) -> None:
        size, entry = self.size(source), self._entry(source)
        if size is not None:
            self._sizes[target.number] = size
        if entry is not None:
            self._entries[target.number] = entry

    # --- nodes ------------------------------------------------------------------------------------

    def cost(self, node: Node) -> int:
        rule = _RULES.get(node.__class__)
        return 0 if rule is None else rule(self, node)

    def _ident(self, node: Ident) -> int:
        variable = self._variable(node)
        self._paths[node.number] = (node.name,) if variable is None else variable.path
        return 1

    def _select(self, node: Select) -> int:
        total = self.cost(node.operand)
        if node.is_test:
            return total
        if node.operand.type.kind in ("map", "object", "param"):
            total = total_of(total, 1)
        self._paths[node.number] = (*self.path(node.operand), node.field)
        return total

    def _list(self, node: ListNode) -> int:
        total, item_size = 10, (MOST, 0) if node.items else (0, 0)
        for item in node.items:
            total = total_of(total, self.cost(item))
            item_size = union(item_size, self._size_or_unknown(item))
        self._entries[node.number] = Entry("list", ONE, item_size)
        return total

    def _map(self, node: MapNode) -> int:
        total = 40 if isinstance(node, MessageNode) else 30
        key_size = value_size = (MOST, 0) if node.entries else (0, 0)
        for key, value, _ in node.entries:
            total = total_of(total, self.cost(key), self.cost(value))
            key_size = union(key_size, self._size_or_unknown(key))
            value_size = union(value_size, self._size_or_unknown(value))
        self._entries[node.number] = Entry("map", key_size, value_size)
        return total

    def _push(self, name: str, variable: Variable) -> None:
        self._variables.setdefault(name, []).append(variable)

    def _push_accumulator(self, node: Fold) -> None:
        variable = Variable(self.path(node.init), self.size(node.init), self._entry(node.init))
        self._push(node.accu, variable)

    def _push_elements(self, node: Fold) -> None:
        entry, path = self._entry(node.range), self.path(node.range)
        is_list = (entry.kind if entry else node.range.type.kind) == "list"
        key_size, value_size = (entry.key, entry.value) if entry else (None, None)
        value_step = "@items" if is_list else "@values"
        if node.variable2 is not None:
            # In Go the two paths are slices of one array where it has room for another step: the second
            # writes over the first.
            has_room = len(path) & (len(path) - 1)
            key_step = value_step if has_room else "@indices" if is_list else "@keys"
            self._push(node.variable, Variable((*path, key_step), key_size, None))
            self._push(node.variable2, Variable((*path, value_step), value_size, None))
        elif is_list:
            self._push(node.variable, Variable((*path, "@items"), value_size, None))
        else:
            self._push(node.variable, Variable((*path, "@keys"), key_size, None))

    def _fold(self, node: Fold) -> int:
        if _is_bind(node):
            return self._bind(node)
        total = total_of(self.cost(node.range), self.cost(node.init))
        self._push_accumulator(node)
        self._push_elements(node)
        loop = total_of(self.cost(node.condition), self.cost(node.step))
        self._variables[node.variable].pop()
        if node.variable2 is not None:
            self._variables[node.variable2].pop()
        total = total_of(total, self.cost(node.result))
        self._variables[node.accu].pop()
        count = self._size_or_unknown(node.range)
        total = total_of(total, times(count[1], loop))
        if isinstance(node.init, Literal):
            self._sizes[node.number] = self._size_or_unknown(node.init)
        elif isinstance(node.init, ListNode | MapNode):
            self._sizes[node.number] = count
            entry = self._entry(node.step)
            if entry is not None:
                self._entries[node.number] = entry
        return total

    def _bind(self, node: Fold) -> int:
        total = total_of(self.cost(node.range), self.cost(node.init))
        self._push_accumulator(node)
        total = total_of(total, self.cost(node.result))
        self._variables[node.accu].pop()
        self._copy(node, node.result)
        return total

    # --- calls ------------------------------------------------------------------------------------

    def _call(self, node: Call) -> int:
        if node.function == "dyn":
            total = total_of(1, self.cost(node.args[0]))
            self._copy(node, node.args[0])
            return total
        arg_costs = [self.cost(arg) for arg in node.args]
        if not node.overloads:
            return 0
        total = 0 if node.target is None else self.cost(node.target)
        most = 0
        result: Size | None = None
        for id_ in node.overloads:
            amount, size = self._overload(node, id_, arg_costs)
            most = max(most, amount)
            if size is not None:
                result = size if result is None else union(result, size)
            if id_ in ("index_list", "index_map"):
                container = node.args[0]
                entry = self._entry(container)
                result = entry.value if entry else None
                step = "@items" if id_ == "index_list" else "@values"
                self._paths[node.number] = (*self.path(container), step)
            if result is None:
                result = self.size(node)
        if result is not None:
            self._sizes[node.number] = result
        return total_of(total, most)

    def _overload(self, node: Call, id_: str, arg_costs: list[int]) -> tuple[int, Size | None]:
        """Cost with the arguments', and size of the result where known."""
        args_cost = total_of(*arg_costs)
        extension = LibraryCosts(self).estimate(node, id_)
        if extension is not None:
            return total_of(extension[0], args_cost), extension[1]
        if id_ in ("logical_or", "logical_and"):
            return args_cost, None
        if id_ == "conditional":
            return self._conditional(node, arg_costs)
        amount, size = self._standard(node, id_)
        return total_of(amount, args_cost), size

    def _conditional(self, node: Call, arg_costs: list[int]) -> tuple[int, Size | None]:
        _, first, second = node.args
        self._unite_entries(node, first, second)
        size = union(self._size_or_unknown(first), self._size_or_unknown(second))
        return total_of(arg_costs[0], max(arg_costs[1], arg_costs[2])), size

    def _unite_entries(self, node: Node, first: Node, second: Node) -> None:
        a, b = self._entry(first), self._entry(second)
        if a is not None and b is not None:
            self._entries[node.number] = Entry(a.kind, union(a.key, b.key), union(a.value, b.value))

    def _standard(self, node: Call, id_: str) -> tuple[int, Size | None]:
        args, sized = node.args, self._size_or_unknown
        if id_ == "string_format" and node.target is not None:
            return by_factor(sized(node.target)[1], 0.1), None
        if id_ == "string_to_bytes":
            low, high = sized(args[0])
            return by_factor(high, 0.1), (low, (high * 4) & MOST)
        if id_ == "bytes_to_string":
            low, high = sized(args[0])
            return by_factor(high, 0.1), (low // 4, high)
        if id_ == "strings_quote":
            low, high = sized(args[0])
            return by_factor(high, 0.1), ((low + 2) & MOST, (high * 2 + 2) & MOST)
        if id_ in ("starts_with_string", "ends_with_string"):
            return by_factor(sized(args[0])[1], 0.1), None
        if id_ == "in_list":
            return by_factor(sized(args[1])[1], 1), None
        if id_ == "matches_string" and node.target is not None:
            return regex_cost(sized(node.target), sized(args[0])), None
        if id_ == "contains_string" and node.target is not None:
            return times(by_factor(sized(node.target)[1], 0.1), by_factor(sized(args[0])[1], 0.1)), None
        if id_ in ("add_string", "add_bytes", "add_list"):
            size = add(sized(args[0]), sized(args[1]))
            self._unite_entries(node, args[0], args[1])
            return 1 if id_ == "add_list" else by_factor(size[1], 0.1), size
        if id_ in COMPARED_BY_SIZE:
            return by_factor(min(sized(args[0])[1], sized(args[1])[1]), 0.1), None
        return 1, None


def _is_bind(node: Fold) -> bool:
    return node.accu != ACCUMULATOR


def _is_scalar(type_: Type) -> bool:
    return type_.kind in _SCALARS or (is_optional(type_) and _is_scalar(type_.params[0]))


_RULES: dict[type, Callable[[_Estimator, Any], int]] = {
    Ident: _Estimator._ident, Select: _Estimator._select, Call: _Estimator._call, ListNode: _Estimator._list,
    MapNode: _Estimator._map, MessageNode: _Estimator._map, Fold: _Estimator._fold,
}  # fmt: skip
"""What costs by the kind of node; a literal is free."""

"""The type checker: cel-go's algorithm, which decides what compiles and which overloads a call may take.

Types are inferred bottom up. Type variables are bound as arguments meet parameters; a call keeps every
overload that its arguments may take, and its type is that of the first, or dyn where they differ.

Source: cel-go checker/checker.go, checker/types.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakit.cel import types
from drakit.cel.declare import Environment, Overload
from drakit.cel.source import Issue
from drakit.cel.syntax import (
    Call,
    Fold,
    Ident,
    ListNode,
    Literal,
    MapNode,
    MessageNode,
    Node,
    Select,
    qualified_name,
)
from drakit.cel.types import DYN, ERROR, Type, is_dyn, is_optional
from drakit.cel.unify import OPEN, Unifier
from drakit.cel.value import Uint

_LITERALS: dict[type, Type] = {
    bool: types.BOOL, int: types.INT, Uint: types.UINT, float: types.DOUBLE, str: types.STRING,
    bytes: types.BYTES, type(None): types.NULL,
}  # fmt: skip


class Checker:
    """Checks one tree: types and overloads are written into the nodes, `issues` has what is wrong."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._functions = environment.functions
        self._types = Unifier()
        self._scopes: list[tuple[str, Type]] = []
        self._unfinished: list[Node] = []
        self._known: dict[tuple[str, bool, int, str], list[Overload]] = {}
        self.issues: list[Issue] = []

    def check(self, root: Node) -> None:
        """Infer every type below `root`."""
        self._infer(root)
        for node in self._unfinished:
            node.type = self._types.final(node.type)

    # --- nodes ------------------------------------------------------------------------------------

    def _infer(self, node: Node) -> Type:
        node.type = result = _RULES[node.__class__](self, node)
        if result.params or result.kind == "var":
            self._unfinished.append(node)
        return result

    def _literal(self, node: Literal) -> Type:
        return _LITERALS[node.value.__class__]

    def _ident(self, node: Ident) -> Type:
        if node.name.startswith("."):
            if not self._is_known(node.name[1:]):
                self._undeclared(node, node.name)
                return ERROR
            node.name = node.name[1:]
        for name, type_ in reversed(self._scopes):
            if name == node.name:
                return type_
        found = self._environment.variables.get(node.name)
        if found is not None:
            return found
        self._undeclared(node, node.name)
        return ERROR

    def _is_known(self, name: str) -> bool:
        return name in self._environment.variables or any(name == known for known, _ in self._scopes)

    def _undeclared(self, node: Node, name: str) -> None:
        self._issue(node, f"undeclared reference to '{name}' (in container '')")

    def _issue(self, node: Node, message: str) -> None:
        self.issues.append((node.position, message))

    def _select(self, node: Select) -> Type:
        name = qualified_name(node)
        if name is not None and "." in name:
            found = self._environment.variables.get(name.removeprefix("."))
            if found is not None:
                return found
        result = self._field(node, node.operand, node.field, False)
        return types.BOOL if node.is_test else self._types.substitute(result)

    def _field(self, node: Node, operand: Node, field: str, is_optional_select: bool) -> Type:
        operand_type = self._types.substitute(self._infer(operand))
        was_optional = is_optional(operand_type)
        target = operand_type.params[0] if was_optional else operand_type
        result = DYN
        if target.kind == "map":
            result = target.params[1]
        elif target.kind == "object":
            result = self._object_field(node, target, field)
        elif target.kind == "var":
            self._types.is_assignable(DYN, target)
        elif not is_dyn(target) and target.kind != "error":
            self._issue(node, f"type '{target}' does not support field selection")
        return types.optional_of(result) if was_optional or is_optional_select else result

    def _object_field(self, node: Node, target: Type, field: str) -> Type:
        if self._environment.has_patches and target.name.partition(".")[0] == "Object":
            return DYN
        fields = self._environment.objects.get(target.name)
        if fields is None:
            self._issue(node, f"unexpected failed resolution of '{target.name}'")
            return ERROR
        found = fields.get(field)
        if found is None:
            self._issue(node, f"undefined field '{field}'")
            return ERROR
        return found

    def _list(self, node: ListNode) -> Type:
        item: Type | None = None
        for index, child in enumerate(node.items):
            child_type = self._infer(child)
            if index in node.optional:
                child_type = self._unwrapped(child, child_type)
            item = self._joined(item, child_type)
        return types.list_of(self._types.variable() if item is None else item)

    def _map(self, node: MapNode) -> Type:
        key_type: Type | None = None
        value_type: Type | None = None
        for key, value, is_optional_entry in node.entries:
            key_type = self._joined(key_type, self._infer(key))
            this_type = self._infer(value)
            if is_optional_entry:
                this_type = self._unwrapped(value, this_type)
            value_type = self._joined(value_type, this_type)
        if key_type is None or value_type is None:
            return types.map_of(self._types.variable(), self._types.variable())
        return types.map_of(key_type, value_type)

    def _message(self, node: MessageNode) -> Type:
        name = node.name
        is_made = name == "JSONPatch" or name.partition(".")[0] == "Object"
        if not self._environment.has_patches or not is_made:
            self._undeclared(node, name)
            return ERROR
        made = Type("object", name)
        for key, value, is_optional_entry in node.entries:
            assert isinstance(key, Literal)
            key.type = types.STRING
            wanted = self._object_field(key, made, key.value)
            found = self._infer(value)
            if is_optional_entry:
                found = self._unwrapped(value, found)
            if not self._types.is_assignable(wanted, found):
                shown = self._types.shown(self._types.substitute(found))
                text = f"expected type of field '{key.value}' is '{wanted}' but provided type is '{shown}'"
                self._issue(key, text)
        return made

    def _unwrapped(self, node: Node, type_: Type) -> Type:
        """The type of an optional element."""
        type_ = self._types.substitute(type_)
        if is_optional(type_):
            return type_.params[0]
        if not is_dyn(type_):
            self._issue(node, f"expected type '{types.optional_of(type_)}' but found '{type_}'")
        return type_

    def _joined(self, previous: Type | None, current: Type) -> Type:
        """The type of elements of these types; that they may not differ is for the validators to say."""
        if previous is None:
            return current
        if self._types.is_assignable(previous, current):
            return previous if self._types.is_equal_or_less_specific(previous, current) else current
        return DYN

    def _mismatch(self, node: Node, expected: Type, found: Type) -> None:
        expected, found = self._types.substitute(expected), self._types.substitute(found)
        self._issue(
            node, f"expected type '{self._types.shown(expected)}' but found '{self._types.shown(found)}'"
        )

    def _fold(self, node: Fold) -> Type:
        range_type = self._types.substitute(self._infer(node.range))
        accu_type = self._infer(node.init)
        first, second = self._elements(node, range_type)
        depth = len(self._scopes)
        self._scopes.append((node.accu, accu_type))
        self._scopes.append((node.variable, first))
        if node.variable2 is not None:
            self._scopes.append((node.variable2, second))
        condition = self._infer(node.condition)
        if not self._types.is_assignable(condition, types.BOOL):
            self._mismatch(node.condition, types.BOOL, condition)
        step = self._infer(node.step)
        if not self._types.is_assignable(step, accu_type):
            self._mismatch(node.step, accu_type, step)
        del self._scopes[depth + 1 :]
        result = self._infer(node.result)
        del self._scopes[depth:]
        return self._types.substitute(result)

    def _elements(self, node: Fold, range_type: Type) -> tuple[Type, Type]:
        """The types of the one or two variables of a fold."""
        has_two = node.variable2 is not None
        if range_type.kind == "list":
            return (types.INT, range_type.params[0]) if has_two else (range_type.params[0], ERROR)
        if range_type.kind == "map":
            return range_type.params[0], range_type.params[1]
        if range_type.kind == "var":
            self._types.is_assignable(DYN, range_type)
        elif range_type.kind not in ("dyn", "error"):
            self._issue(
                node.range,
                f"expression of type '{range_type}' cannot be range of a comprehension "
                "(must be list, map, or dynamic)",
            )
            return ERROR, ERROR
        return DYN, DYN

    # --- calls ------------------------------------------------------------------------------------

    def _call(self, node: Call) -> Type:
        if node.function == "_?._":
            field = node.args[1]
            assert isinstance(field, Literal)
            field.type = types.STRING
            result = self._field(node, node.args[0], field.value, True)
            node.overloads = ("select_optional_field",)
            return self._types.substitute(result)
        arg_types = [self._infer(arg) for arg in node.args]
        if node.target is None:
            name = node.function.removeprefix(".")
            overloads = self._functions.get(name)
            if overloads is None:
                self._undeclared(node, node.function)
                return ERROR
            node.function = name
            return self._resolve(node, overloads, arg_types)
        prefix = qualified_name(node.target)
        if prefix is not None:
            name = f"{prefix}.{node.function}".removeprefix(".")
            overloads = self._functions.get(name)
            if overloads is not None:
                node.function, node.target = name, None
                return self._resolve(node, overloads, arg_types)
        target_type = self._infer(node.target)
        overloads = self._functions.get(node.function)
        if overloads is None:
            self._undeclared(node, node.function)
            return ERROR
        return self._resolve(node, overloads, [target_type, *arg_types])

    def _resolve(self, node: Call, overloads: tuple[Overload, ...], arg_types: list[Type]) -> Type:
        if node.function in ("_&&_", "_||_"):
            return self._logical(node, overloads[0], arg_types)
        is_method = node.target is not None
        result: Type | None = None
        ids: list[str] = []
        for overload in self._possible(node.function, is_method, overloads, arg_types):
            candidate = self._types.result_of(overload, arg_types)
            if candidate is None:
                continue
            ids.append(overload.id)
            if result is None:
                result = candidate
            elif not is_dyn(result) and candidate != result:
                result = DYN
        if result is None:
            shown = [str(self._types.shown(self._types.substitute(type_))) for type_ in arg_types]
            signature = f"({', '.join(shown[1:] if is_method else shown)})"
            if is_method:
                signature = f"{shown[0]}.{signature}"
            self._issue(node, f"found no matching overload for '{node.function}' applied to '{signature}'")
            return ERROR
        node.overloads = tuple(ids)
        return result

    def _possible(
        self, function: str, is_method: bool, overloads: tuple[Overload, ...], arg_types: list[Type]
    ) -> list[Overload]:
        """The overloads that may fit, as far as form, number of arguments and the kind of the first tell."""
        count, kind = len(arg_types), arg_types[0].kind if arg_types else ""
        key = function, is_method, count, kind
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = [
                overload
                for overload in overloads
                if overload.is_method is is_method
                and len(overload.args) == count
                and (not count or kind in OPEN or overload.args[0].kind in (kind, *OPEN))
            ]
        return known

    def _logical(self, node: Call, overload: Overload, arg_types: list[Type]) -> Type:
        is_wrong = False
        for arg, type_ in zip(node.args, arg_types, strict=True):
            if not self._types.is_assignable(type_, types.BOOL):
                self._mismatch(arg, types.BOOL, type_)
                is_wrong = True
        node.overloads = (overload.id,)
        return ERROR if is_wrong else types.BOOL


_RULES: dict[type, Callable[[Checker, Any], Type]] = {
    Literal: Checker._literal, Ident: Checker._ident, Select: Checker._select, Call: Checker._call,
    ListNode: Checker._list, MapNode: Checker._map, MessageNode: Checker._message, Fold: Checker._fold,
}  # fmt: skip

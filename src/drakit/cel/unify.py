"""Type variables: binding them, and whether a value of one type may stand where another is expected.

Source: cel-go checker/types.go, checker/mapping.go.
"""

from __future__ import annotations

from operator import is_

from drakit.cel.declare import Overload
from drakit.cel.types import DYN, NULLABLE, Type, is_dyn

OPEN = frozenset(("param", "var", "dyn", "any", "error", "null"))
"""Kinds that may meet another kind."""


class Unifier:
    """The type variables of one tree and what they are bound to."""

    def __init__(self) -> None:
        self._bindings: dict[str, Type] = {}
        self._trail: list[tuple[str, Type | None]] = []
        self._variables = 0
        self._ground: dict[int, Type] = {}
        self._finals: dict[int, tuple[Type, Type]] = {}

    def result_of(self, overload: Overload, arg_types: list[Type]) -> Type | None:
        """The result type if the arguments fit; then the bindings made on the way are kept."""
        expected, result = overload.args, overload.result
        if overload.params:
            fresh = {name: self.variable() for name in overload.params}
            expected = tuple([_instantiate(type_, fresh) for type_ in expected])
            result = _instantiate(result, fresh)
        mark = len(self._trail)
        for found, wanted in zip(arg_types, expected, strict=True):
            if not self._assign(found, wanted):
                self._undo(mark)
                return None
        return self.substitute(result)

    def variable(self) -> Type:
        self._variables += 1
        return Type("var", f"_var{self._variables}")

    def substitute(self, type_: Type) -> Type:
        """With every bound variable replaced."""
        if type_.kind == "var":
            bound = self._bindings.get(type_.name)
            return type_ if bound is None else self.substitute(bound)
        if not type_.params or id(type_) in self._ground:
            return type_
        params = tuple([self.substitute(param) for param in type_.params])
        result = type_ if all(map(is_, params, type_.params)) else Type(type_.kind, type_.name, params)
        for param in params:
            if param.kind == "var" or (param.params and id(param) not in self._ground):
                return result
        # Kept, so that the id stays its own: a type without variables is not walked through again.
        self._ground[id(result)] = result
        return result

    def final(self, type_: Type) -> Type:
        """With every variable replaced, by dyn where it stayed unbound; once all is inferred."""
        if type_.kind == "var":
            bound = self._bindings.get(type_.name)
            return DYN if bound is None else self.final(bound)
        if not type_.params:
            return type_
        known = self._finals.get(id(type_))
        if known is None:
            params = tuple([self.final(param) for param in type_.params])
            # The key is kept with the result, so that its id stays its own.
            known = self._finals[id(type_)] = (type_, Type(type_.kind, type_.name, params))
        return known[1]

    def shown(self, type_: Type) -> Type:
        if type_.kind == "var":
            return DYN
        if not type_.params or id(type_) in self._ground:
            return type_
        return Type(type_.kind, type_.name, tuple(self.shown(param) for param in type_.params))

    def is_assignable(self, found: Type, wanted: Type) -> bool:
        mark = len(self._trail)
        if self._assign(found, wanted):
            return True
        self._undo(mark)
        return False

    def _undo(self, mark: int) -> None:
        """Takes back the bindings made since the trail had that length."""
        while len(self._trail) > mark:
            name, before = self._trail.pop()
            if before is None:
                del self._bindings[name]
            else:
                self._bindings[name] = before

    def _assign(self, found: Type, wanted: Type) -> bool:
        """Whether a value of `found` may stand where `wanted` is expected; binds variables."""
        if found is wanted:
            return True
        if wanted.kind == "var":
            is_valid, is_bound = self._bind(found, wanted)
            if is_valid or is_bound:
                return is_valid
        if found.kind == "var":
            return self._bind(wanted, found)[0]
        if found.kind in ("dyn", "any", "error") or wanted.kind in ("dyn", "any", "error"):
            return True
        if found.kind == "null" or wanted.kind == "null":
            return (found if wanted.kind == "null" else wanted).kind in NULLABLE
        if found.kind == "type":
            return wanted.kind == "type"
        if found.kind != wanted.kind or found.name != wanted.name or len(found.params) != len(wanted.params):
            return False
        return all(map(self._assign, found.params, wanted.params))

    def _bind(self, type_: Type, variable: Type) -> tuple[bool, bool]:
        """(fits, was bound before) for `type_` in the place of `variable`."""
        if type_.kind == "var" and type_.name == variable.name:
            return True, True
        bound = self._bindings.get(variable.name)
        if bound is not None:
            if type_ == bound:
                return True, True
            if not self._assign(type_, bound):
                return False, True
            general = type_ if self.is_equal_or_less_specific(type_, bound) else bound
            if not self._occurs(variable, general):
                self._trail.append((variable.name, bound))
                self._bindings[variable.name] = general
            return True, True
        if self._occurs(variable, type_):
            return False, False
        self._trail.append((variable.name, None))
        self._bindings[variable.name] = type_
        return True, False

    def _occurs(self, variable: Type, type_: Type) -> bool:
        if type_.kind == "var":
            if type_.name == variable.name:
                return True
            bound = self._bindings.get(type_.name)
            return bound is not None and self._occurs(variable, bound)
        if not type_.params or id(type_) in self._ground:
            return False
        return any(self._occurs(variable, param) for param in type_.params)

    def is_equal_or_less_specific(self, first: Type, second: Type) -> bool:
        if first is second or is_dyn(first) or first.kind == "var":
            return True
        if is_dyn(second) or second.kind == "var":
            return False
        if first.kind != second.kind or first.name != second.name or len(first.params) != len(second.params):
            return False
        if first.kind == "type":
            return True
        return all(map(self.is_equal_or_less_specific, first.params, second.params))


def _instantiate(type_: Type, fresh: dict[str, Type]) -> Type:
    if type_.kind == "param":
        return fresh[type_.name]
    if not type_.params:
        return type_
    return Type(type_.kind, type_.name, tuple([_instantiate(param, fresh) for param in type_.params]))

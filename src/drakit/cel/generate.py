"""The fast path: an expression becomes one Python function over the device as it is.

What is emitted is only this module's own words, names made here, and `repr()` of literals. It covers what
selectors are made of; for anything else there is no fast path (`generate` gives None). It knows no errors
and no costs: where a value is missing or of an unexpected type the emitted code raises, whatever it raises,
and the exact path decides. That is sound because expressions have no effects. It is not used where the
greatest cost passes the limit.

An attribute is read where it lies: `n` or `d/n` in the device's own dict, then the field of the kind that
the context asks for. So a device not seen before costs no more than the attributes that are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

from drakit.cel import equality, lookup
from drakit.cel.device import attribute_value
from drakit.cel.library import FUNCTIONS, OPERATORS
from drakit.cel.place import Names, Path, Places, Unsupported
from drakit.cel.remember import CHANGES, QUANTITY_KEYS, VERSION_KEYS, matcher
from drakit.cel.syntax import Call, Fold, Ident, ListNode, Literal, Node, Select
from drakit.cel.value import Fault
from drakit.model.quantity import parse_field
from drakit.model.resource import Device

_MAX_DEPTH = 24
_MAX_TEXT = 10_000
_MAX_NODES = 600

_ORDER = {"_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">="}
_GENERIC = {
    name: OPERATORS[name] for name in ("_<_", "_<=_", "_>_", "_>=_", "_+_", "_-_", "_*_", "_/_", "_%_", "-_")
}
_FIELD: dict[type, str] = {str: "string", int: "int_", bool: "bool_"}
_STRING_METHODS = frozenset(
    ("lowerAscii", "upperAscii", "trim", "substring", "charAt", "indexOf", "lastIndexOf")
)
_COMPARISONS = {"isGreaterThan": ">", "isLessThan": "<"}


class Fast(Protocol):
    """Whether a device is selected, of a driver, or as a document with the driver in it."""

    def __call__(self, device: Device | Mapping[str, Any], driver: str | None = None) -> bool: ...


class _Bail(Exception):
    """The exact path must decide."""


def _bail() -> NoReturn:
    raise _Bail


def generate(root: Node, exact: Fast) -> Fast | None:
    """The function for a checked tree that is a bool; `exact` is called where it cannot answer."""
    generator = _Generator()
    try:
        body = generator.boolean(root, {}, 0)
    except (Unsupported, Fault):
        return None
    if len(body) > _MAX_TEXT:
        return None
    lines = ["def fast(device, driver=None):", "  if driver is None: return exact(device)", "  try:"]
    lines += [f"    {line}" for line in generator.places.preparation()]
    lines += [f"    return {body}", "  except Exception:", "    return exact(device, driver)"]
    namespace: dict[str, Any] = {**_NAMESPACE, **generator.constants, "exact": exact}
    exec(compile("\n".join(lines), "<selector>", "exec"), namespace)
    fast: Fast = namespace.pop("fast")
    return fast


_NAMESPACE: dict[str, Any] = {
    "_bail": _bail, "_value": attribute_value, "_eq": equality.equal, "_in": equality.is_in,
    "_size": lookup.size, "_iterate": lookup.iterate, "_index": lookup.select,
    "_quantity": parse_field, "_version_key": VERSION_KEYS, "_quantity_key": QUANTITY_KEYS,
    "_includes": FUNCTIONS["dra_includes_dyn_dyn"],
}  # fmt: skip


class _Generator:
    def __init__(self) -> None:
        self.constants: dict[str, Any] = {}
        self.places = Places()
        self._temporaries = 0
        self._nodes = 0

    # --- names ------------------------------------------------------------------------------------

    def _constant(self, value: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = value
        return name

    def _temporary(self) -> str:
        self._temporaries += 1
        return f"t{self._temporaries}"

    def _literal(self, value: Any) -> str:
        if value is None or value.__class__ in (str, int, bool):
            return repr(value)
        return self._constant(value)

    # --- expressions by what is wanted ------------------------------------------------------------

    def boolean(self, node: Node, names: Names, depth: int) -> str:
        """A Python expression that is True or False, or raises."""
        entry = self.places.attribute(node, names)
        if entry is not None:
            name = self._temporary()
            return f"({name} if ({name} := {entry}.bool_) is not None else _bail())"
        text = self.value(node, names, depth)
        if node.type.kind == "bool":
            return text
        name = self._temporary()
        return f"({name} if ({name} := {text}).__class__ is bool else _bail())"

    def _string(self, node: Node, names: Names, depth: int) -> str:
        name = self._temporary()
        entry = self.places.attribute(node, names)
        if entry is not None:
            return f"({name} if ({name} := {entry}.string) is not None else _bail())"
        text = self.value(node, names, depth)
        if node.type.kind == "string":
            return text
        return f"({name} if ({name} := {text}).__class__ is str else _bail())"

    def _sort_key(self, node: Node, names: Names, depth: int, is_quantity: bool) -> str:
        """What orders a quantity or a version."""
        constant = self._folded(node)
        if constant is not None:
            key = constant.nano if is_quantity else constant.key
            return repr(key) if is_quantity else self._constant(key)
        entry = self.places.attribute(node, names)
        if entry is not None and not is_quantity:
            return f"_version_key[{entry}.version]"
        path = self.places.path(node, names)
        if is_quantity and path is not None and len(path) == 3 and path[0] == "capacity":
            return f"_quantity_key[{self.places.entry(path)}.value]"
        wanted = "kubernetes.Quantity" if is_quantity else "kubernetes.Semver"
        if node.type.name != wanted:
            raise Unsupported
        return f"{self.value(node, names, depth)}.{'nano' if is_quantity else 'key'}"

    def _folded(self, node: Node) -> Any:
        """The quantity or version of a constructor call with literals, or None."""
        if not isinstance(node, Call) or node.function not in ("quantity", "semver"):
            return None
        if len(node.overloads) != 1 or not all(isinstance(arg, Literal) for arg in node.args):
            return None
        return FUNCTIONS[node.overloads[0]](*[arg.value for arg in node.args if isinstance(arg, Literal)])

    def value(self, node: Node, names: Names, depth: int) -> str:
        """A Python expression with the CEL value of the node, or one that raises."""
        depth += 1
        self._nodes += 1
        if depth > _MAX_DEPTH or self._nodes > _MAX_NODES:
            raise Unsupported
        path = self.places.path(node, names)
        if path is not None:
            return self.places.read(path)
        if isinstance(node, Literal):
            return self._literal(node.value)
        if isinstance(node, Ident):
            found = names.get(node.name)
            if not isinstance(found, str):
                raise Unsupported
            return found
        if isinstance(node, Select):
            return self._test(node, names)
        if isinstance(node, ListNode):
            if node.optional:
                raise Unsupported
            return f"[{', '.join(self.value(item, names, depth) for item in node.items)}]"
        if isinstance(node, Fold):
            return self._fold(node, names, depth)
        if isinstance(node, Call):
            return self._call(node, names, depth)
        raise Unsupported

    def _test(self, node: Select, names: Names) -> str:
        base = self.places.path(node.operand, names)
        if not node.is_test or base is None or len(base) > 2:
            raise Unsupported
        return self.places.has((*base, node.field))

    # --- calls ------------------------------------------------------------------------------------

    def _call(self, node: Call, names: Names, depth: int) -> str:
        function, args = node.function, node.args
        if function in ("_&&_", "_||_"):
            word = "and" if function == "_&&_" else "or"
            return f"({self.boolean(args[0], names, depth)} {word} {self.boolean(args[1], names, depth)})"
        if function == "!_":
            return f"(not {self.boolean(args[0], names, depth)})"
        if function == "_?_:_":
            condition, first, second = args
            return (
                f"({self.value(first, names, depth)} if {self.boolean(condition, names, depth)} "
                f"else {self.value(second, names, depth)})"
            )
        if function in ("_==_", "_!=_"):
            text = self._equality(args[0], args[1], names, depth)
            return text if function == "_==_" else f"(not {text})"
        if function in _ORDER:
            return self._comparison(node, names, depth)
        if function == "@in":
            return self._membership(node, names, depth)
        if function in _GENERIC:
            operands = ", ".join(self.value(arg, names, depth) for arg in args)
            return f"{self._constant(_GENERIC[function])}({operands})"
        constant = self._folded(node)
        if constant is not None:
            return self._constant(constant)
        if node.target is not None:
            return self._method(node, node.target, names, depth)
        if function == "size":
            return f"_size({self.value(args[0], names, depth)})"
        if function == "_[_]":
            return f"_index({self.value(args[0], names, depth)}, {self.value(args[1], names, depth)})"
        raise Unsupported

    def _equality(self, left: Node, right: Node, names: Names, depth: int) -> str:
        if isinstance(left, Literal) and not isinstance(right, Literal):
            left, right = right, left
        if isinstance(right, Literal) and right.value.__class__ in _FIELD:
            literal = repr(right.value)
            entry = self.places.attribute(left, names)
            if entry is not None:
                name, field = self._temporary(), self._temporary()
                wanted = _FIELD[right.value.__class__]
                return (
                    f"({field} == {literal} if ({field} := ({name} := {entry}).{wanted}) is not None "
                    f"else _eq(_value({name}), {literal}))"
                )
            if isinstance(left, Call) and left.function == "orValue" and left.target is not None:
                test = self._equality_or(left, left.target, right.value, names)
                if test is not None:
                    return test
            if right.value.__class__ is str and self.places.path(left, names) == ("driver",):
                return self.places.is_driver(right.value)
        texts = self.value(left, names, depth), self.value(right, names, depth)
        if left.type == right.type and left.type.kind in ("string", "int", "bool"):
            return f"({texts[0]} == {texts[1]})"
        return f"_eq({texts[0]}, {texts[1]})"

    def _equality_or(self, node: Call, target: Node, literal: Any, names: Names) -> str | None:
        """`a.?b.orValue(c) == literal` for an attribute and a literal c."""
        path, other = self._optional_path(target, names), node.args[0]
        if path is None or path[0] != "attributes" or not isinstance(other, Literal):
            return None
        name, field = self._temporary(), self._temporary()
        wanted, text = _FIELD[literal.__class__], repr(literal)
        entry, slow = self.places.entry(path, default=True), f"_eq(_value({name}), {text})"
        found = f"({field} == {text} if ({field} := {name}.{wanted}) is not None else {slow})"
        return f"({found} if ({name} := {entry}) is not None else {equality.equal(other.value, literal)})"

    def _comparison(self, node: Call, names: Names, depth: int) -> str:
        left, right = node.args
        operator = _ORDER[node.function]
        is_zero = isinstance(right, Literal) and right.value.__class__ is int and right.value == 0
        if is_zero and isinstance(left, Call) and left.function == "compareTo" and left.target is not None:
            return self._compared(left, left.target, operator, names, depth)
        if isinstance(right, Literal) and right.value.__class__ in (int, str):
            entry = self.places.attribute(left, names)
            if entry is not None:
                name = self._temporary()
                field = _FIELD[right.value.__class__]
                test = f"{name} {operator} {right.value!r}"
                return f"({test} if ({name} := {entry}.{field}) is not None else _bail())"
        texts = self.value(left, names, depth), self.value(right, names, depth)
        if left.type == right.type and left.type.kind in ("string", "int"):
            return f"({texts[0]} {operator} {texts[1]})"
        return f"{self._constant(_GENERIC[node.function])}({texts[0]}, {texts[1]})"

    def _compared(self, node: Call, target: Node, operator: str, names: Names, depth: int) -> str:
        """`target.compareTo(arg) <operator> 0`, and the like."""
        if len(node.overloads) != 1:
            raise Unsupported
        is_quantity = node.overloads[0].startswith("quantity_")
        left = self._sort_key(target, names, depth, is_quantity)
        return f"({left} {operator} {self._sort_key(node.args[0], names, depth, is_quantity)})"

    def _membership(self, node: Call, names: Names, depth: int) -> str:
        item, container = node.args
        path = self.places.path(container, names)
        if path is not None and len(path) == 2 and isinstance(item, Literal) and isinstance(item.value, str):
            return self.places.has((*path, item.value))
        if isinstance(container, ListNode) and container.items:
            literals = [part.value for part in container.items if isinstance(part, Literal)]
            if len(literals) == len(container.items) and all(value.__class__ is str for value in literals):
                return f"({self.value(item, names, depth)} in {self._constant(frozenset(literals))})"
        return f"_in({self.value(item, names, depth)}, {self.value(container, names, depth)})"

    def _method(self, node: Call, target: Node, names: Names, depth: int) -> str:
        function, args = node.function, node.args
        if function in ("orValue", "hasValue"):
            return self._optional(node, target, names, depth)
        if function in _COMPARISONS:
            return self._compared(node, target, _COMPARISONS[function], names, depth)
        if function == "includes":
            return f"_includes({self.value(target, names, depth)}, {self.value(args[0], names, depth)})"
        if function == "size" and not args:
            return f"_size({self.value(target, names, depth)})"
        if function in ("startsWith", "endsWith"):
            text, part = self._string(target, names, depth), self._string(args[0], names, depth)
            return f"{text}.{function.lower()}({part})"
        if function == "contains":
            return f"({self._string(args[0], names, depth)} in {self._string(target, names, depth)})"
        if function == "matches" and isinstance(args[0], Literal) and isinstance(args[0].value, str):
            return self._match(args[0].value, target, names, depth)
        if function in _STRING_METHODS and len(node.overloads) == 1:
            return self._string_method(node, target, names, depth)
        raise Unsupported

    def _match(self, pattern: str, target: Node, names: Names, depth: int) -> str:
        changes: list[Callable[[str], str]] = []
        while isinstance(target, Call) and target.function in CHANGES and target.target is not None:
            changes.append(CHANGES[target.function])
            target = target.target
        return f"{self._constant(matcher(pattern, changes))}[{self._string(target, names, depth)}]"

    def _string_method(self, node: Call, target: Node, names: Names, depth: int) -> str:
        id_ = node.overloads[0]
        if not id_.startswith("string_"):
            raise Unsupported
        texts = [self._string(target, names, depth)]
        for arg in node.args:
            if arg.type.kind == "string":
                texts.append(self._string(arg, names, depth))
            elif arg.type.kind == "int" and not isinstance(arg, Ident):
                texts.append(self.value(arg, names, depth))
            else:
                raise Unsupported
        return f"{self._constant(FUNCTIONS[id_])}({', '.join(texts)})"

    def _optional_path(self, node: Node, names: Names) -> Path | None:
        """The path of `a.?b` or `a[?"b"]` for an attribute or capacity."""
        if not isinstance(node, Call) or node.function not in ("_?._", "_[?_]"):
            return None
        base, key = self.places.path(node.args[0], names), node.args[1]
        if base is None or len(base) != 2 or not isinstance(key, Literal) or not isinstance(key.value, str):
            return None
        return (*base, key.value)

    def _optional(self, node: Call, target: Node, names: Names, depth: int) -> str:
        """`a.?b.orValue(c)` and `a.?b.hasValue()` for an attribute or capacity."""
        path = self._optional_path(target, names)
        if path is None:
            raise Unsupported
        if node.function == "hasValue":
            return self.places.has(path)
        name = self._temporary()
        found = f"_value({name})" if path[0] == "attributes" else f"_quantity({name}.value)"
        entry = self.places.entry(path, default=True)
        other = self.value(node.args[0], names, depth)
        return f"({found} if ({name} := {entry}) is not None else {other})"

    # --- comprehensions ---------------------------------------------------------------------------

    def _fold(self, node: Fold, names: Names, depth: int) -> str:
        if node.macro == "bind":
            return self._bind(node, names, depth)
        if node.variable2 is not None or node.predicate is None:
            raise Unsupported
        if node.macro not in ("exists", "all", "exists_one"):
            raise Unsupported
        range_path = self.places.path(node.range, names)
        if range_path is not None and len(range_path) < 3:
            raise Unsupported
        items, item = self._temporary(), self._temporary()
        start = f"{items} := _iterate({self.value(node.range, names, depth)})"
        test = self.boolean(node.predicate, {**names, node.variable: item}, depth)
        # Every element is tested, as a list: an error anywhere leaves the answer to the exact path.
        tests = f"[{test} for {item} in {items}]"
        if node.macro == "exists_one":
            return f"(({start}), {tests}.count(True) == 1)[1]"
        return f"(({start}), {'any' if node.macro == 'exists' else 'all'}({tests}))[1]"

    def _bind(self, node: Fold, names: Names, depth: int) -> str:
        path = self.places.path(node.init, names)
        if path is not None:
            return self.value(node.result, {**names, node.accu: path}, depth)
        name = self._temporary()
        start = f"{name} := {self.value(node.init, names, depth)}"
        return f"(({start}), {self.value(node.result, {**names, node.accu: name}, depth)})[1]"

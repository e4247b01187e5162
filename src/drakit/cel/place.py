"""Where in a device an expression reads, and the text that reads it there.

An attribute lies under `n` or `d/n` in the device's own dict. The emitted names: A and C are the device's
attributes and capacity, d0, d1, ... say whether its driver is a domain that occurs.
"""

from __future__ import annotations

from drakit.cel.syntax import Call, Ident, Literal, Node, Select

Path = tuple[str, ...]
Names = dict[str, "str | Path"]
"""What a variable is: a name of the emitted code, or a place in the device."""

_PLACES = {"A": "attributes", "C": "capacity"}


class Unsupported(Exception):
    """The expression has no fast path."""


class Places:
    """The places that one expression reads."""

    def __init__(self) -> None:
        self._domains: dict[str, str] = {}
        self._used: set[str] = set()

    def preparation(self) -> list[str]:
        """The statements that must come first."""
        lines = [f"{name} = device.{field}" for name, field in _PLACES.items() if name in self._used]
        return lines + [f"{name} = driver == {domain!r}" for domain, name in self._domains.items()]

    def path(self, node: Node, names: Names) -> Path | None:
        if isinstance(node, Ident):
            found = names.get(node.name)
            if found is None:
                return () if node.name == "device" else None
            return found if isinstance(found, tuple) else None
        if isinstance(node, Select) and not node.is_test:
            base, key = self.path(node.operand, names), node.field
        elif isinstance(node, Call) and node.function == "_[_]" and isinstance(node.args[1], Literal):
            base, key = self.path(node.args[0], names), node.args[1].value
        else:
            return None
        return (*base, key) if base is not None and isinstance(key, str) and len(base) < 3 else None

    def entry(self, path: Path, default: bool = False) -> str:
        """The DeviceAttribute or DeviceCapacity at a path; with `default` None where there is none."""
        part, domain, name = path
        place = self._place(part)
        qualified = f"{place}.get({f'{domain}/{name}'!r})" if default else f"{place}[{f'{domain}/{name}'!r}]"
        return f"(({place}.get({name!r}) or {qualified}) if {self.is_driver(domain)} else {qualified})"

    def _place(self, part: str) -> str:
        place = "A" if part == "attributes" else "C"
        self._used.add(place)
        return place

    def is_driver(self, domain: str) -> str:
        return self._domains.setdefault(domain, f"d{len(self._domains)}")

    def has(self, path: Path) -> str:
        """Whether a path leads to something."""
        if len(path) < 3:
            return "True"
        part, domain, name = path
        place = self._place(part)
        qualified = f"{f'{domain}/{name}'!r} in {place}"
        return f"(({name!r} in {place} or {qualified}) if {self.is_driver(domain)} else {qualified})"

    def attribute(self, node: Node, names: Names) -> str | None:
        """The entry of an attribute that the node reads whole."""
        path = self.path(node, names)
        if path is None or len(path) != 3 or path[0] != "attributes":
            return None
        return self.entry(path)

    def read(self, path: Path) -> str:
        if path == ("driver",):
            return "driver"
        if path == ("allowMultipleAllocations",):
            return "(device.allow_multiple_allocations is True)"
        if len(path) == 3 and path[0] == "attributes":
            return f"_value({self.entry(path)})"
        if len(path) == 3 and path[0] == "capacity":
            return f"_quantity({self.entry(path)}.value)"
        raise Unsupported

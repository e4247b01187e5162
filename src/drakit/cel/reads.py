"""What of a device an expression reads, found in its tree.

A path is (part, domain, name): ("attributes", "gpu.example.com", "model"), ("capacity", domain, name),
("driver", "", ""), ("allowMultipleAllocations", "", ""). A name "" stands for whether the domain is there
at all. Two devices with equal values at all paths get the same answer, so a uuid nobody reads makes no
device unique.
"""

from __future__ import annotations

from typing import Any

from drakit.cel.syntax import Call, Fold, Ident, Literal, Node, Select
from drakit.model.resource import Device

Path = tuple[str, str, str]


def reads_of(root: Node) -> frozenset[Path] | None:
    """The paths an expression reads, or None when it may read any."""
    reader = _Reader()
    return frozenset(reader.paths) if reader.visit(root, {}) else None


def constant_path(node: Node) -> tuple[str, ...] | None:
    """Where in the device a chain of constant selections leads: ("attributes", domain, name)."""
    return _Reader().path(node, {})


class _Reader:
    def __init__(self) -> None:
        self.paths: set[Path] = set()

    def visit(self, node: Node, names: dict[str, tuple[str, ...]]) -> bool:
        """Notes what the node reads; False when that cannot be told."""
        path = self.path(node, names)
        if path is not None:
            return self._note(path)
        if type(node) is Fold:
            return self._fold(node, names)
        if type(node) is Call and node.function == "@in":
            container = self.path(node.args[1], names)
            if container is not None and isinstance(node.args[0], Literal):
                return self._note_membership(container, node.args[0].value)
        return all(self.visit(child, names) for child in node.children())

    def _note(self, path: tuple[str, ...]) -> bool:
        if len(path) >= 1 and path[0] in ("driver", "allowMultipleAllocations"):
            self.paths.add((path[0], "", ""))
            return True
        if len(path) >= 3:
            self.paths.add((path[0], path[1], path[2]))
            return True
        return False

    def _note_membership(self, container: tuple[str, ...], key: Any) -> bool:
        if not isinstance(key, str):
            return False
        if len(container) == 1 and container[0] in ("attributes", "capacity"):
            self.paths.add((container[0], key, ""))
            return True
        return self._note((*container, key))

    def _fold(self, node: Fold, names: dict[str, tuple[str, ...]]) -> bool:
        inner = dict(names)
        inner.pop(node.accu, None)
        if node.macro == "bind":
            path = self.path(node.init, names)
            if path is None and not self.visit(node.init, names):
                return False
            if path is not None:
                inner[node.accu] = path
            return self.visit(node.result, inner)
        if not self.visit(node.range, names):
            return False
        for variable in (node.variable, node.variable2):
            inner.pop(variable or "", None)
        return all(self.visit(part, inner) for part in (node.init, node.condition, node.step, node.result))

    def path(self, node: Node, names: dict[str, tuple[str, ...]]) -> tuple[str, ...] | None:
        """Where in the device a chain of constant selections leads; () is the device itself."""
        if type(node) is Ident:
            return names.get(node.name, () if node.name == "device" else None)
        key: Any = None
        operand: Node | None = None
        if type(node) is Select:
            operand, key = node.operand, node.field
        elif type(node) is Call and node.function in ("_[_]", "_[?_]", "_?._"):
            operand = node.args[0]
            key = node.args[1].value if isinstance(node.args[1], Literal) else None
        if operand is None:
            return None
        base = self.path(operand, names)
        if base is None:
            return None
        if isinstance(key, str):
            return (*base, key)
        # A computed key: the whole of what it is looked up in is read, if that is one value.
        if len(base) >= 3 and isinstance(node, Call) and self.visit(node.args[1], names):
            return base
        return None


def shape(paths: frozenset[Path], device: Device, driver: str) -> tuple[Any, ...]:
    """The values of a device at `paths`, hashable: equal shapes, equal answers."""
    return tuple(_at(path, device, driver) for path in sorted(paths))


def _at(path: Path, device: Device, driver: str) -> Any:
    part, domain, name = path
    if part == "driver":
        return driver
    if part == "allowMultipleAllocations":
        return bool(device.allow_multiple_allocations)
    if part == "capacity":
        entry = _find(device.capacity, domain, name, driver)
        return entry if entry is None or entry is True else str(entry.value)
    attribute = _find(device.attributes, domain, name, driver)
    if attribute is None or attribute is True:
        return attribute
    lists = (attribute.ints, attribute.bools, attribute.strings, attribute.versions)
    if any(items is not None for items in lists):
        return tuple((index, *items) for index, items in enumerate(lists) if items is not None)
    # The position tells true from 1.
    return (
        attribute.int_,
        attribute.bool_ is True,
        attribute.bool_ is False,
        attribute.string,
        attribute.version,
    )


def _find(entries: dict[str, Any], domain: str, name: str, driver: str) -> Any:
    """The entry; for the name "" whether the domain has any, as True or None."""
    if name:
        found = entries.get(name) if domain == driver else None
        return entries.get(f"{domain}/{name}") if found is None else found
    prefix = f"{domain}/"
    has_any = any(key.startswith(prefix) or (domain == driver and "/" not in key) for key in entries)
    return True if has_any else None

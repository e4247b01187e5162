"""The text of a generated function while it is written: lines, names, and costs not yet written down."""

from __future__ import annotations

from typing import Any, NamedTuple

from drakit.cel.loop import Loop


class Term(NamedTuple):
    """A value: a name or literal of the generated code. `is_bool` says it is certainly true or false."""

    text: str
    is_bool: bool = False
    is_sure: bool = False
    """It is no error."""
    is_constant: bool = False
    value: Any = None


class Open(NamedTuple):
    """A loop whose body is being written: the names of its variables, its accumulator, its round's cost."""

    loop: Loop
    targets: str
    accu: str
    cost: str

    def handed(self) -> list[str]:
        """Statements that hand the variables to planned steps."""
        loop = self.loop
        slots = [loop.first_slot] + ([] if loop.second_slot is None else [loop.second_slot])
        return [f"S[{slot}] = {name}" for slot, name in zip(slots, self.targets.split(", "), strict=True)]


class Statements:
    """Lines of Python at an indent. `constants` has the values that the text names."""

    def __init__(self) -> None:
        self.constants: dict[str, Any] = {}
        self.indent = 1
        self.lines: list[str] = []
        self.pending = 0
        """Cost that was not added yet."""
        self._count = 0

    def line(self, text: str) -> None:
        self.lines.append("  " * self.indent + text)

    def name(self, prefix: str = "v") -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def constant(self, value: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = value
        return name

    def charge(self) -> None:
        """Writes down what has been spent since the last time."""
        if self.pending:
            self.line(f"c += {self.pending}")
            self.pending = 0


def entry_test(root: str, key: str) -> tuple[str, str]:
    """Test and value for an entry of a map."""
    return f"{root}.__class__ is dict and {key!r} in {root}", f"{root}[{key!r}]"


def are_ints(left: Term, right: Term) -> str:
    tests = [f"{term.text}.__class__ is int" for term in (left, right) if term.value.__class__ is not int]
    return " and ".join(tests) or "True"

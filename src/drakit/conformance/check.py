"""A check: one thing that a driver owes, and where that is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal

from msgspec import Struct, field

if TYPE_CHECKING:
    from drakit.conformance.lab import Lab

Status = Literal["pass", "fail", "skip"]


class Failed(Exception):
    """The driver does not do what the check asks for; the text is the evidence."""


class Skipped(Exception):
    """The check does not apply to this driver; the text says why."""


class Evidence(Struct, frozen=True):
    """What was seen when a check passed. `warnings` are worth a look, but break no rule."""

    text: str
    warnings: tuple[str, ...] = ()


Run = Callable[["Lab"], Awaitable[Evidence | str]]


class Check(Struct, frozen=True):
    """`run` returns evidence, raises Failed or Skipped. It is not tried when one of `needs` has failed."""

    id: str
    meaning: str
    source: str
    needs: tuple[str, ...]
    run: Run


def check(id: str, *, source: str, needs: tuple[str, ...] = ()) -> Callable[[Run], Check]:
    """Makes a Check of a function; its docstring is the meaning."""

    def make(run: Run) -> Check:
        return Check(id, " ".join((run.__doc__ or "").split()), source, needs, run)

    return make


class Result(Struct, frozen=True, kw_only=True):
    """What became of a check."""

    id: str
    meaning: str
    source: str
    status: Status
    evidence: str
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    log: list[str] = field(default_factory=list)
    """The driver's last lines, where the check failed."""

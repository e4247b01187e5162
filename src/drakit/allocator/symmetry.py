"""Which devices and which states are the same but for names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drakit.allocator.problem import Problem

if TYPE_CHECKING:
    from drakit.allocator.search import Partial


class Fingerprints:
    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.kind = list(range(problem.size))

    def key(
        self, request: int, count: int, state: Partial, demand: int, slots: int | None, todo: int
    ) -> object:
        return (request, count, state, demand, slots, todo)

"""Proofs that what is left cannot serve what is still to be served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drakit.allocator.problem import Problem

if TYPE_CHECKING:
    from drakit.allocator.search import Partial


class Bounds:
    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def allow(
        self, request: int, count: int, state: Partial, demand: int, slots: int | None, todo: int
    ) -> bool:
        return slots is None or self._problem.demands[demand].mines != 0 or todo.bit_count() >= slots

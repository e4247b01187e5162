"""The search: a row of choices, the first full one in Kubernetes' order.

Theory of operation
-------------------
Requests are served one after the other: choose an alternative, then one device for each of its slots, each
from the devices behind the last one picked. The first row of choices that works out is the answer; the
order of trying is Kubernetes' order, so it is Kubernetes' answer.

There is no undo to get wrong. What a choice changes (devices used, counters left, capacity left, values that
constraints allow) is one immutable tuple; a choice makes a new one, and going back is using the old one.
The stack of open choices is a list: users' claims set its depth, and Python's stack is not theirs to fill.

The first attempt walks straight ahead and is all that most pods need. When it gets stuck the search starts
again carefully. It then leaves out what cannot contain a solution, and nothing else:

- `Bounds` proves that the devices left cannot serve what is still to be served;
- of devices that nothing tells apart only the first is tried for a slot;
- a state from which everything was tried before, or one that differs only in the names of alike devices,
  is a dead end (`Fingerprints`).

Where that takes too long, choices are made plainly, as Kubernetes makes them, each at a fraction of the
price: there may be so many solutions that the first is near. Only what both cannot answer is given up.

Selectors that fail on a device are mines: reaching one ends the whole search with its error, as in
Kubernetes. Derived attributes are evaluated last: a device on which one fails is a mine only where it would
be taken but for that. Proofs therefore never look across a request with a mine ahead, see `Bounds`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

from drakit.allocator.bounds import Bounds
from drakit.allocator.problem import Demanded, Problem
from drakit.allocator.symmetry import Fingerprints
from drakit.model.resource import MAX_RESULTS

_PARTS = 8
"""The parts of a problem may cost this share of what the whole may."""

_PLAIN = 20
"""Plain choices for the price of a careful one."""

_FEW = 300
"""Devices on a node with few."""


class Partial(NamedTuple):
    """What has been used up on the way to a choice."""

    used: int
    """Devices picked by this pod that nobody after may have."""
    own: int
    """Of these, the ones the claim at hand picked: admin access never takes a device twice in one claim."""
    left: tuple[tuple[int, ...], ...]
    shares: tuple[tuple[bool, tuple[int, ...]], ...]
    """Of each shareable device: whether it is in use, and what is left of its capacities."""
    marks: tuple[int, ...]
    """Of each constraint: the values it still allows (matchAttribute) or has seen (distinctAttribute)."""
    groups: tuple[int | None, ...]
    """Of each counter set: the compatibility groups possible; None while nothing is allocated from it."""


def start(problem: Problem) -> Partial:
    """The state before anything is picked."""
    return Partial(0, 0, problem.left, problem.shares, problem.marks, problem.groups)


class Pick(NamedTuple):
    demand: int
    position: int


class Mine(Exception):
    """The search reached a device on which a selector or a derived attribute of the demand fails."""

    def __init__(self, demand: int, position: int) -> None:
        super().__init__()
        self.demand = demand
        self.position = position


class MustFail(Exception):
    """A request for all devices meets a constraint that one of them cannot satisfy."""

    def __init__(self, demand: int, position: int) -> None:
        super().__init__()
        self.demand = demand
        self.position = position


class GaveUp(Exception):
    """More choices than allowed were tried."""


class Outcome(NamedTuple):
    """What came of a problem: `picks` in the order of requests, None when there is no solution; or `failed`,
    where an error ended the search."""

    picks: list[Pick] | None
    failed: Mine | MustFail | GaveUp | None
    steps: int


def solve(problem: Problem, step_limit: int) -> Outcome:
    """The first solution in Kubernetes' order; `step_limit` bounds the search, see `_limit_for`."""
    search = Search(problem, step_limit)
    outcome = _outcome(search, search.run)
    if not isinstance(outcome.failed, GaveUp):
        return outcome
    search = Search(problem, step_limit)
    plain = _outcome(search, search.run_plainly)
    return plain._replace(steps=outcome.steps + plain.steps)


def _outcome(search: Search, run: Callable[[], list[Pick] | None]) -> Outcome:
    try:
        return Outcome(run(), None, search.steps)
    except (Mine, MustFail, GaveUp) as failed:
        return Outcome(None, failed, search.steps)


def _limit_for(problem: Problem, step_limit: int) -> int:
    """How many careful choices are worth `step_limit` of them on a node with few devices.

    The price of one grows with the number of devices. The walk straight ahead takes no more choices than
    there are requests and devices, at a fraction of the price, and is not limited.
    """
    return max(1, step_limit * _FEW // (_FEW + problem.size))


class _Choice:
    """An open choice: which alternative of `request` (`slots` is None), or which device for a slot."""

    __slots__ = ("count", "demand", "key", "picked", "request", "slots", "state", "todo", "tried")

    def __init__(
        self, request: int, count: int, state: Partial, demand: int, slots: int | None, todo: int
    ) -> None:
        self.request = request
        self.count = count
        """Devices the claim has so far."""
        self.state = state
        self.demand = demand
        """For a slot the demand it belongs to, for an alternative the number of those tried."""
        self.slots = slots
        self.todo = todo
        self.tried: set[Hashable] = set()
        self.picked: list[Pick] = []
        self.key: Hashable = None


class Search:
    """One problem, solved once. `steps` counts the choices tried."""

    def __init__(self, problem: Problem, step_limit: int) -> None:
        self._problem = problem
        self._careful_steps = _limit_for(problem, step_limit)
        self._limit: int | None = None
        self._is_plain = False
        self.steps = 0
        self._bounds: Bounds | None = None
        self._prints: Fingerprints | None = None
        self._dead: set[Hashable] = set()

    def run(self) -> list[Pick] | None:
        """The picks in the order of requests, or None when there is no solution.

        Raises Mine, MustFail or GaveUp.
        """
        problem = self._problem
        if not problem.requests:
            return []
        picks = self._walk()
        if picks is None and not problem.is_hopeless():
            self._bounds = Bounds(problem)
            self._prints = Fingerprints(problem)
            self._limit = self.steps + self._careful_steps
            if not self._is_dead(self._first()) and not self._has_hopeless_part():
                picks = self._walk()
        return picks

    def run_plainly(self) -> list[Pick] | None:
        """As `run`, with nothing left out: choice after choice as Kubernetes makes them."""
        self._is_plain = True
        self._limit = self._careful_steps * _PLAIN
        return self._walk()

    def _first(self) -> _Choice:
        return _Choice(0, 0, start(self._problem), 0, None, 0)

    def _has_hopeless_part(self) -> bool:
        """Whether some requests have no solution even alone; a search that is not over soon says nothing."""
        allowed = self._careful_steps // _PARTS
        for part in self._problem.parts():
            search = Search(part, allowed)
            outcome = _outcome(search, search.run)
            allowed -= outcome.steps
            self.steps += outcome.steps
            if outcome.picks is None and outcome.failed is None:
                return True
            if allowed <= 0:
                break
        return False

    def _walk(self) -> list[Pick] | None:
        """Depth first. Straight ahead it ends at the first dead end that has alternatives."""
        first = self._first()
        if self._bounds is not None and self._is_dead(first):
            return None
        stack = [first]
        while stack:
            choice = stack[-1]
            following = self._advance(choice)
            if following is None:
                if self._bounds is None and not self._is_plain:
                    return None
                self._dead.add(choice.key)
                stack.pop()
            elif isinstance(following, bool):
                return [pick for done in stack for pick in done.picked]
            else:
                stack.append(following)
        return None

    def _advance(self, choice: _Choice) -> _Choice | bool | None:
        """Make the next choice that may work out: what is to choose after it, True when that was all."""
        for following in self._children(choice):
            if following is None:
                return True
            if self._bounds is None or not self._is_dead(following):
                return following
        choice.picked = []
        return None

    def _children(self, choice: _Choice) -> Iterator[_Choice | None]:
        if choice.slots is None:
            return self._alternatives(choice)
        return self._devices(choice)

    def _step(self) -> None:
        self.steps += 1
        if self._limit is not None and self.steps > self._limit:
            raise GaveUp

    def _open(self, request: int, count: int, state: Partial) -> _Choice | None:
        """The choice that begins `request`; None when there is no such request."""
        problem = self._problem
        if request >= len(problem.requests):
            return None
        if request and problem.claim_of[request] != problem.claim_of[request - 1]:
            count, state = 0, state._replace(own=0)
        return _Choice(request, count, state, 0, None, 0)

    def _alternatives(self, choice: _Choice) -> Iterator[_Choice | None]:
        problem = self._problem
        alternatives = problem.requests[choice.request]
        while choice.demand < len(alternatives):
            index = alternatives[choice.demand]
            choice.demand += 1
            choice.picked = []
            self._step()
            demand = problem.demands[index]
            if choice.count + demand.count > MAX_RESULTS:
                continue
            if demand.is_all:
                state = self._take_all(choice, index, demand)
                if state is not None:
                    yield self._open(choice.request + 1, choice.count + demand.count, state)
            elif demand.count <= 0:
                yield self._open(choice.request + 1, choice.count, choice.state)
            else:
                yield self._slot(choice.request, choice.count, choice.state, index, demand.count, -1)

    def _slot(self, request: int, count: int, state: Partial, index: int, slots: int, behind: int) -> _Choice:
        """The choice of one device for the demand, of those behind position `behind`."""
        problem = self._problem
        demand = problem.demands[index]
        blocked = state.own if demand.is_admin else state.used | problem.taken
        todo = (demand.candidates | demand.mines) & ~blocked
        if behind >= 0:
            todo = todo >> (behind + 1) << (behind + 1)
        return _Choice(request, count, state, index, slots, todo)

    def _devices(self, choice: _Choice) -> Iterator[_Choice | None]:
        problem = self._problem
        demand = problem.demands[choice.demand]
        assert choice.slots is not None
        while choice.todo:
            bit = choice.todo & -choice.todo
            position = bit.bit_length() - 1
            choice.todo ^= bit
            if demand.mines & bit:
                if position in demand.traps and not problem.is_sprung(demand, position, choice.state):
                    continue
                raise Mine(choice.demand, position)
            if self._prints is not None:
                kind = self._prints.kind(choice.request, position, choice.state)
                if kind in choice.tried:
                    continue
                choice.tried.add(kind)
            self._step()
            state = problem.take(demand, position, choice.state)
            if state is None:
                continue
            choice.picked = [Pick(choice.demand, position)]
            if choice.slots > 1:
                yield self._slot(
                    choice.request, choice.count + 1, state, choice.demand, choice.slots - 1, position
                )
            else:
                yield self._open(choice.request + 1, choice.count + 1, state)

    def _take_all(self, choice: _Choice, index: int, demand: Demanded) -> Partial | None:
        """Take every device of a demand for all of them; None when one is not to be had."""
        problem = self._problem
        if not demand.count:
            return None
        state: Partial | None = choice.state
        for position in demand.all_positions:
            assert state is not None
            blocked = state.own if demand.is_admin else state.used | problem.taken
            bit = 1 << position
            if blocked & bit or not demand.tolerable & bit:
                return None
            self._step()
            before = state
            if position in demand.traps and problem.is_sprung(demand, position, before):
                raise Mine(index, position)
            state = problem.take(demand, position, before)
            if state is None:
                if problem.reaches_constraints(demand, position, before) and problem.violates(
                    demand, position, before
                ):
                    raise MustFail(index, position)
                return None
        choice.picked = [Pick(index, position) for position in demand.all_positions]
        return state

    def _is_dead(self, choice: _Choice) -> bool:
        """Whether nothing can come of the choice (careful search only)."""
        assert self._bounds is not None
        assert self._prints is not None
        what = (choice.request, choice.count, choice.demand, choice.slots)
        choice.key = self._prints.key(what, choice.state, choice.todo)
        if choice.key in self._dead:
            return True
        return not self._bounds.allow(*what[:2], choice.state, choice.demand, choice.slots, choice.todo)

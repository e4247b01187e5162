"""Allocating claims on nodes: checks, search, result.

The order of everything that can go wrong is Kubernetes': what is wrong with the claims, then what their
requests for all devices find on the node, then the search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set

from drakit.allocator.formulation import problem_of
from drakit.allocator.judge import Failure, failure_text
from drakit.allocator.pool import Problem as PoolProblem
from drakit.allocator.problem import Problem
from drakit.allocator.report import Report
from drakit.allocator.request import Asked, Demand
from drakit.allocator.result import build
from drakit.allocator.search import GaveUp, Mine, MustFail, Outcome, solve
from drakit.allocator.state import State
from drakit.allocator.trace import Trace
from drakit.allocator.view import InUse, NodeView
from drakit.errors import AllocationError, FailedOnNode, SearchGaveUp
from drakit.model.meta import Node
from drakit.model.resource import MAX_RESULTS, AllocationResult, ResourceClaim

STEP_LIMIT = 3000
"""Choices the search may weigh on a node with few devices before it gives up; fewer where there are many."""

_OUTCOMES = 16384
"""Answers a plan remembers."""
_ANSWERS = 8
"""Plans a view remembers the results for."""


class Allocator:
    """Allocates `claims` together, on one node after the other.

    The claims share their devices: no two are given the same one. `share_id` makes the id of one share of
    a device that several claims may use; it must never repeat. Classes are read now, everything else in
    `state` at each call. A `trace` is told, on each call and whatever comes of it, what became of every
    device.
    """

    def __init__(
        self,
        claims: Sequence[ResourceClaim],
        state: State,
        *,
        share_id: Callable[[], str],
        trace: Trace | None = None,
        step_limit: int = STEP_LIMIT,
    ) -> None:
        self._claims = claims
        self._state = state
        self._share_id = share_id
        self._trace = trace
        self._limit = step_limit
        self._plan = state.plan(claims)
        self.steps = 0
        """Choices tried in all calls so far; answers known from nodes that look alike cost none."""
        self._last: tuple[tuple[int, InUse], Problem] | None = None
        self.gave_up = 0
        """Calls that ended because the choices allowed were not enough."""

    def allocate(self, node: Node) -> list[AllocationResult] | None:
        """One result a claim, in order; None when they do not fit on the node.

        Raises AllocationError when no node can help and FailedOnNode when only this one cannot be used.
        """
        view = self._state.view(node)
        if not self._plan.is_plain:
            self._check(view)
        if self._trace is not None:
            Report(self._plan, self._claims, self._state, view, self._trace).tell()
        outcome = self._outcome(view)
        if outcome.picks is not None:
            return self._results(view, outcome)
        self._raise(outcome, view)
        if view.invalid:
            reasons = "; ".join(f"{pool.pool}: {pool.reason}" for pool in view.invalid)
            raise FailedOnNode(f"invalid resource pools were encountered: {reasons}")
        return None

    def prospects(self, nodes: Mapping[str, Node]) -> Set[str]:
        """The names of the nodes on which the claims fit, and of those on which `allocate` raises
        AllocationError; to be read at once, not to be kept.

        For a scheduler that has claims of equal spec again and again: only nodes that changed since the
        last look are looked at, so the price is that of the changes and not of the number of nodes. `nodes`
        are all nodes by name, the same ones each time but for those that came or went.
        """
        plan, journal = self._plan, self._state.journal
        changed = journal.since(plan.looked_at)
        if changed is None or self._state.depends_on_nodes:
            plan.known.clear()
            plan.fitting.clear()
            changed = []
        plan.looked_at = journal.now
        for name in changed:
            plan.known.discard(name)
            plan.fitting.discard(name)
        todo = [name for name in changed if name in nodes and name not in plan.known]
        plan.known.update(todo)
        if len(plan.known) != len(nodes):
            gone = plan.known - nodes.keys()
            plan.known -= gone
            plan.fitting -= gone
            new = nodes.keys() - plan.known
            todo += new
            plan.known |= new
        plan.fitting.update([name for name in todo if self._may_fit(nodes[name])])
        return plan.fitting

    def _may_fit(self, node: Node) -> bool:
        view = self._state.view(node)
        try:
            if not self._plan.is_plain:
                self._check(view)
        except AllocationError:
            return True
        outcome = self._outcome(view)
        return outcome.picks is not None or outcome.failed is not None

    def _results(self, view: NodeView, outcome: Outcome) -> list[AllocationResult]:
        """The results, those of the last claims like these where nothing has changed since."""
        known = view.answers.get(self._plan.number)
        if known is not None and known[0] is outcome:
            return list(known[1])
        assert outcome.picks is not None
        results = build(self._plan, self._claims, view, outcome.picks, self._share_id)
        if not any(view.devices[pick.position].is_shareable for pick in outcome.picks):
            if len(view.answers) >= _ANSWERS:
                view.answers.clear()
            view.answers[self._plan.number] = (outcome, results)
        return results

    def _outcome(self, view: NodeView) -> Outcome:
        in_use = self._state.in_use(view)
        plan = self._plan
        key = (plan.signature(view), in_use)
        outcome = plan.outcomes.get(key)
        if outcome is None or isinstance(outcome.failed, GaveUp):
            outcome = solve(self._problem(view), self._limit)
            if len(plan.outcomes) >= _OUTCOMES:
                plan.outcomes.clear()
            plan.outcomes[key] = outcome
            self.steps += outcome.steps
        return outcome

    def _problem(self, view: NodeView) -> Problem:
        """What there is to solve on the node; the last one is kept, checks and search both ask for it."""
        key = (self._plan.signature(view), self._state.in_use(view))
        if self._last is None or self._last[0] != key:
            self._last = (key, problem_of(self._plan, view, key[1]))
        return self._last[1]

    # --- what can go wrong ---------------------------------------------------------------------

    def _raise(self, outcome: Outcome, view: NodeView) -> None:
        failed = outcome.failed
        if isinstance(failed, GaveUp):
            self.gave_up += 1
            claims = ", ".join(claim.metadata.key for claim in self._claims)
            raise SearchGaveUp(
                f"claim {claims}: node {view.node_name}: gave up after {outcome.steps} steps: "
                "ask for fewer devices at a time or loosen the constraints"
            )
        if isinstance(failed, Mine):
            raise AllocationError(self._failure(self._plan.demands[failed.demand], view, failed.position))
        if isinstance(failed, MustFail):
            demand = self._plan.demands[failed.demand]
            key = self._claims[demand.claim].metadata.key
            raise AllocationError(
                f"claim {key}, request {demand.name}: cannot add device {view.devices[failed.position]} "
                "because a claim constraint would not be satisfied"
            )

    def _failure(self, demand: Demand, view: NodeView, position: int) -> str:
        published = view.devices[position]
        verdict = self._plan.verdict(demand, published, view.here[position])
        asked = [self._plan.constraints[constraint].attribute for constraint in demand.constraints]
        derived = [verdict.derived.get(attribute) for attribute in asked]
        failure = verdict.failure or next(found for found in derived if isinstance(found, Failure))
        return failure_text(failure, self._claims[demand.claim].metadata.key, demand, str(published))

    def _check(self, view: NodeView) -> None:
        """Raise what is wrong with the claims, in the order in which Kubernetes finds it."""
        for index, claim in enumerate(self._claims):
            total = 0
            for asked in self._plan.claims[index]:
                total += self._check_request(asked, claim.metadata.key, view)
            if total > MAX_RESULTS:
                raise AllocationError(
                    f"claim {claim.metadata.key}: number of requested devices {total} "
                    f"exceeds the claim limit of {MAX_RESULTS}"
                )
            if index in self._plan.constraint_errors:
                raise AllocationError(f"claim {claim.metadata.key}{self._plan.constraint_errors[index]}")

    def _check_request(self, asked: Asked, key: str, view: NodeView) -> int:
        """The least number of devices the request needs on the node."""
        if asked.error:
            raise AllocationError(f"claim {key}{asked.error}")
        least: list[int] = []
        for demand in asked.alternatives:
            if demand.error:
                raise AllocationError(f"claim {key}{demand.error}")
            least.append(self._count_all(demand, key, view) if demand.is_all else demand.count)
        return min(least)

    def _count_all(self, demand: Demand, key: str, view: NodeView) -> int:
        where = f"claim {key}, request {demand.name}: asks for all devices, but resource pool"
        for pool, start in zip(view.pools, view.starts, strict=True):
            if pool.problem is PoolProblem.INCOMPLETE:
                raise AllocationError(f"{where} {pool.pool} is currently being updated")
            if pool.problem is PoolProblem.INVALID:
                raise AllocationError(f"{where} {pool.pool} is currently invalid")
            for position in range(start, start + len(pool.devices)):
                verdict = self._plan.verdict(demand, view.devices[position], view.here[position])
                if verdict.failure is not None:
                    raise AllocationError(self._failure(demand, view, position))
        return self._problem(view).demands[demand.index].count

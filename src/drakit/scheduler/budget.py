"""Disruption budgets: which pods better stay when some have to leave."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from drakit.errors import BadRequest
from drakit.model.selector import read_labels
from drakit.scheduler.pod import PodInfo
from drakit.transport import Document


class Budgets:
    """`items()` are all PodDisruptionBudgets."""

    def __init__(self, items: Callable[[], Iterable[Document]] = tuple) -> None:
        self._items = items

    def violated_by(self, pods: Iterable[PodInfo]) -> set[str]:
        """The uids of those of `pods`, taken in that order, that no budget lets go any more."""
        budgets = list(self._items())
        left = [int((budget.get("status") or {}).get("disruptionsAllowed") or 0) for budget in budgets]
        found: set[str] = set()
        for pod in pods if budgets else ():
            for index, budget in enumerate(budgets):
                if _covers(budget, pod):
                    left[index] -= 1
                    if left[index] < 0:
                        found.add(pod.uid)
        return found


def _covers(budget: Document, pod: PodInfo) -> bool:
    """Whether the budget counts the pod; those it let go already are not counted again."""
    if budget["metadata"]["namespace"] != pod.namespace or not pod.labels:
        return False
    if pod.name in ((budget.get("status") or {}).get("disruptedPods") or {}):
        return False
    try:
        selector = read_labels((budget.get("spec") or {}).get("selector"))
    except BadRequest:
        return False
    return selector is not None and bool(selector.requirements) and selector.matches(pod.labels)

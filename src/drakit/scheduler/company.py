"""What other pods mean for one attempt: affinity between pods, and topology spread."""

from __future__ import annotations

from drakit.scheduler.inventory import Inventory
from drakit.scheduler.neighbours import NamespaceLabels, Neighbourhood
from drakit.scheduler.node import NodeInfo
from drakit.scheduler.pod import PodInfo
from drakit.scheduler.reason import Rejection
from drakit.scheduler.spread import Spread


class Company:
    """The pods of the cluster as one pod minds them, and as they mind it."""

    __slots__ = ("neighbourhood", "spread")

    def __init__(self, neighbourhood: Neighbourhood | None, spread: Spread | None) -> None:
        self.neighbourhood = neighbourhood
        self.spread = spread

    def reject(self, node: NodeInfo) -> Rejection | None:
        """Why the pod may not be on `node`; upstream asks for the spread first."""
        rejection = self.spread.reject(node) if self.spread is not None else None
        if rejection is None and self.neighbourhood is not None:
            rejection = self.neighbourhood.reject(node)
        return rejection

    @property
    def has_preference(self) -> bool:
        return (self.neighbourhood is not None and self.neighbourhood.has_preference) or (
            self.spread is not None and self.spread.has_preference
        )

    def likings(self, nodes: list[NodeInfo]) -> list[float]:
        """How good each of `nodes` is for the company it has, as a sum of two scores from 0 to 100."""
        totals = [0.0] * len(nodes)
        if self.neighbourhood is not None and self.neighbourhood.has_preference:
            likings = [self.neighbourhood.liking(node) for node in nodes]
            lowest, span = min(likings), max(likings) - min(likings)
            if span:
                totals = [100 * (liking - lowest) / span for liking in likings]
        if self.spread is not None and self.spread.has_preference:
            crowds = [self.spread.crowd(node) for node in nodes]
            known = [crowd for crowd in crowds if crowd is not None]
            least, most = min(known, default=0.0), max(known, default=0.0)
            for index, crowd in enumerate(crowds):
                if crowd is not None:
                    totals[index] += 100 * (most + least - crowd) / most if most else 100
        return totals


def company_of(pod: PodInfo, inventory: Inventory, labels_of: NamespaceLabels) -> Company | None:
    """None where no pod minds another one."""
    neighbourhood: Neighbourhood | None = None
    spread: Spread | None = None
    if pod.terms is not None or inventory.with_terms:
        nodes = inventory.all() if pod.terms is not None else inventory.with_terms.values()
        neighbourhood = Neighbourhood(pod, nodes, labels_of)
        if not neighbourhood.has_rules and not neighbourhood.has_preference:
            neighbourhood = None
    if pod.spread:
        spread = Spread(
            pod,
            inventory.all(),
            lambda node: node.is_chosen_by(pod),
            lambda node: node.is_open_to(pod),
        )
    if neighbourhood is None and spread is None:
        return None
    return Company(neighbourhood, spread)

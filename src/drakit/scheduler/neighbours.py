"""Affinity and anti-affinity between pods: beside whom a pod wants to be, and beside whom not.

Whatever has the same value of a topology label is one place. For one attempt the pods of the cluster are
walked once and counted by place; after that a node is judged by its labels alone. A pod without rules
looks only at the pods whose own anti-affinity may be against it, which are usually none. Source:
pkg/scheduler/framework/plugins/interpodaffinity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from drakit.model.selector import LabelSelector, read_labels
from drakit.scheduler.reason import Rejection, Wake
from drakit.transport import Document

if TYPE_CHECKING:
    from drakit.scheduler.node import NodeInfo
    from drakit.scheduler.pod import PodInfo

Place = tuple[str, str]
"""Key and value of a topology label."""
NamespaceLabels = Callable[[str], Mapping[str, str]]

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_HARD_WEIGHT = 1
"""What a required affinity of a pod that is there counts for when nodes are compared."""

_ALONE = Rejection("node(s) didn't match pod affinity rules", Wake.NODE | Wake.POD_PLACED)
_TOO_CLOSE = Rejection(
    "node(s) didn't match pod anti-affinity rules", Wake.NODE | Wake.POD_GONE, is_resolvable=True
)
_UNWELCOME = Rejection(
    "node(s) didn't satisfy existing pods anti-affinity rules", Wake.NODE | Wake.POD_GONE, is_resolvable=True
)


class Term(Struct, frozen=True):
    """Pods that `selector` picks, in `namespaces` or those that `of_namespaces` picks, in the place that
    `topology_key` makes."""

    topology_key: str
    selector: LabelSelector | None
    namespaces: frozenset[str]
    of_namespaces: LabelSelector | None
    weight: int = 0

    def matches(self, pod: PodInfo, labels_of: NamespaceLabels) -> bool:
        if self.selector is None or not self.selector.matches(pod.labels):
            return False
        if pod.namespace in self.namespaces:
            return True
        return self.of_namespaces is not None and self.of_namespaces.matches(labels_of(pod.namespace))


class Terms(Struct, frozen=True):
    """The rules of one pod."""

    near: tuple[Term, ...] = ()
    apart: tuple[Term, ...] = ()
    rather_near: tuple[Term, ...] = ()
    rather_apart: tuple[Term, ...] = ()


def read_terms(spec: Document, namespace: str, labels: Mapping[str, str]) -> Terms | None:
    """The rules in a pod's spec, None without any. Raises BadRequest for a selector that is broken."""
    affinity = spec.get("affinity") or {}
    near, apart = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
    if not near and not apart:
        return None

    def hard(part: Document) -> tuple[Term, ...]:
        return tuple(_read(row, namespace, labels) for row in part.get(_REQUIRED) or ())

    def soft(part: Document) -> tuple[Term, ...]:
        return tuple(
            _read(row.get("podAffinityTerm") or {}, namespace, labels, int(row.get("weight") or 0))
            for row in part.get(_PREFERRED) or ()
        )

    return Terms(hard(near), hard(apart), soft(near), soft(apart))


def _read(row: Document, namespace: str, labels: Mapping[str, str], weight: int = 0) -> Term:
    of_namespaces = row.get("namespaceSelector")
    named = row.get("namespaces") or ()
    return Term(
        row.get("topologyKey") or "",
        with_label_keys(row, labels),
        frozenset(named) if named or of_namespaces is not None else frozenset((namespace,)),
        read_labels(of_namespaces) if of_namespaces is not None else None,
        weight,
    )


def with_label_keys(row: Document, labels: Mapping[str, str]) -> LabelSelector | None:
    """The `labelSelector` of a rule, narrowed to pods that agree with `labels` on `matchLabelKeys` and
    differ on `mismatchLabelKeys`."""
    selector = row.get("labelSelector")
    if selector is None:
        return None
    more = [
        {"key": key, "operator": operator, "values": [labels[key]]}
        for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn"))
        for key in row.get(field) or ()
        if key in labels
    ]
    if more:
        selector = {**selector, "matchExpressions": [*(selector.get("matchExpressions") or ()), *more]}
    return read_labels(selector)


class Neighbourhood:
    """The cluster as one pod's rules see it, and as the rules of others see that pod."""

    __slots__ = ("_apart", "_is_first", "_liking", "_near", "_terms", "_unwelcome")

    def __init__(self, pod: PodInfo, nodes: Iterable[NodeInfo], labels_of: NamespaceLabels) -> None:
        self._terms = pod.terms or Terms()
        self._near: Counter[Place] = Counter()
        self._apart: Counter[Place] = Counter()
        self._unwelcome: Counter[Place] = Counter()
        self._liking: Counter[Place] = Counter()
        for node in nodes:
            others = node.pods.values() if pod.terms is not None else node.with_terms.values()
            for other in others:
                self._count(pod, other, node.labels, labels_of)
        self._is_first = not self._near and all(term.matches(pod, labels_of) for term in self._terms.near)

    def _count(
        self, pod: PodInfo, other: PodInfo, labels: Mapping[str, str], labels_of: NamespaceLabels
    ) -> None:
        mine = self._terms
        if mine.near and all(term.matches(other, labels_of) for term in mine.near):
            _tally(self._near, mine.near, labels)
        _tally(self._apart, (term for term in mine.apart if term.matches(other, labels_of)), labels)
        for sign, wished in ((1, mine.rather_near), (-1, mine.rather_apart)):
            for term in wished:
                if term.matches(other, labels_of):
                    _tally(self._liking, (term,), labels, sign * term.weight)
        theirs = other.terms
        if theirs is None:
            return
        _tally(self._unwelcome, (term for term in theirs.apart if term.matches(pod, labels_of)), labels)
        for term in theirs.near:
            if term.matches(pod, labels_of):
                _tally(self._liking, (term,), labels, _HARD_WEIGHT)
        for sign, wished in ((1, theirs.rather_near), (-1, theirs.rather_apart)):
            for term in wished:
                if term.matches(pod, labels_of):
                    _tally(self._liking, (term,), labels, sign * term.weight)

    def reject(self, node: NodeInfo) -> Rejection | None:
        """Why the pod may not be on `node`."""
        labels = node.labels
        for term in self._terms.near:
            place = (term.topology_key, labels.get(term.topology_key, ""))
            if term.topology_key not in labels or (not self._is_first and not self._near[place]):
                return _ALONE
        for term in self._terms.apart:
            if self._apart[term.topology_key, labels.get(term.topology_key, "")]:
                return _TOO_CLOSE
        if any(labels.get(key) == value for key, value in self._unwelcome):
            return _UNWELCOME
        return None

    def liking(self, node: NodeInfo) -> int:
        """How much the pod would like to be on `node`, and be liked there; may be negative."""
        labels = node.labels
        return sum(weight for (key, value), weight in self._liking.items() if labels.get(key) == value)

    @property
    def has_preference(self) -> bool:
        return bool(self._liking)

    @property
    def has_rules(self) -> bool:
        """Whether any node can be rejected at all."""
        return bool(self._terms.near or self._apart or self._unwelcome)


def _tally(counter: Counter[Place], terms: Iterable[Term], labels: Mapping[str, str], step: int = 1) -> None:
    for term in terms:
        value = labels.get(term.topology_key)
        if value is not None:
            counter[term.topology_key, value] += step

"""Which pods of a DaemonSet make way for its newest template, and when.

Without surge pods of older templates are deleted, unavailable ones first, so that at most `maxUnavailable`
nodes are without. With `maxSurge` a node gets the new pod beside the old one, which goes when the new one is
available; at most that many nodes have two. With OnDelete nothing goes by itself. Source:
pkg/controller/daemon/update.go.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, field

from drakit.controllers.history import hash_of
from drakit.controllers.pod import available_in, is_deleting, is_ready, is_terminal
from drakit.controllers.workload import portion
from drakit.transport import Document


class Update(Struct):
    """The next step: pods to delete, and nodes that get a second pod."""

    outdated: list[Document] = field(default_factory=list)
    surging: set[str] = field(default_factory=set)


def plan_update(daemon_set: Document, there: dict[str, list[Document]], name: str, now: float) -> Update:
    """The next step towards the template with the hash `name`. `there` are the pods by node, for every node
    that should have one."""
    spec = daemon_set["spec"]
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return Update(outdated=_left_over(there, name))
    rolling = strategy.get("rollingUpdate") or {}
    min_ready = spec.get("minReadySeconds") or 0

    def is_available(pod: Document) -> bool:
        return available_in(pod, min_ready, now) == 0

    surge = portion(rolling.get("maxSurge", 0), len(there), up=True)
    if surge:
        return _surge(there, name, surge, is_available)
    limit = portion(rolling.get("maxUnavailable", 1), len(there), up=True)
    return _replace(there, name, max(limit, 1))


def _left_over(there: dict[str, list[Document]], name: str) -> list[Document]:
    """Pods of older templates beside one of the newest: a surge that was called off."""
    return [
        pod
        for pods in there.values()
        if any(hash_of(p) == name and not is_deleting(p) for p in pods)
        for pod in pods
        if hash_of(pod) != name and not is_deleting(pod)
    ]


def _replace(there: dict[str, list[Document]], name: str, limit: int) -> Update:
    extra = _left_over(there, name)
    pods = [pod for pods in there.values() for pod in pods if pod not in extra]
    outdated = [pod for pod in pods if hash_of(pod) != name and not is_deleting(pod)]
    empty = sum(not pods for pods in there.values())
    down = sum(is_deleting(pod) or not is_ready(pod) for pod in pods)
    broken = [pod for pod in outdated if not is_ready(pod)]
    budget = max(limit - down - empty, 0)
    healthy = [pod for pod in outdated if is_ready(pod)][:budget]
    return Update(outdated=extra + broken + healthy)


def _surge(
    there: dict[str, list[Document]], name: str, limit: int, is_available: Callable[[Document], bool]
) -> Update:
    update = Update()
    candidates: list[str] = []
    under_way = 0
    for node in sorted(there):
        pods = [pod for pod in there[node] if not is_deleting(pod) and not is_terminal(pod)]
        old = [pod for pod in pods if hash_of(pod) != name]
        new = [pod for pod in pods if hash_of(pod) == name]
        if not old:
            continue
        if any(is_available(pod) for pod in new):
            update.outdated += old
        elif new:
            under_way += 1
            update.outdated += [pod for pod in old if not is_available(pod)]
        elif not any(is_available(pod) for pod in old):
            under_way += 1
            update.surging.add(node)
        else:
            candidates.append(node)
    update.surging |= set(candidates[: max(limit - under_way, 0)])
    return update

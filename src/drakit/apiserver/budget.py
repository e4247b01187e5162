"""Disruption budgets at an eviction: refuse it, or take one disruption off the budget.

The numbers in a budget's status are the disruption controller's. An eviction takes one off at once, and
notes the pod, so two evictions cannot spend the same disruption before the controller has looked again.
Source: pkg/registry/core/pod/storage/eviction.go.
"""

from __future__ import annotations

from drakit.apiserver.registry import Registry
from drakit.apiserver.route import Target
from drakit.apiserver.view import stored_document
from drakit.errors import Forbidden, InternalError, TooManyRequests
from drakit.model.selector import read_labels
from drakit.model.validation.field import listed, mapped
from drakit.store import Entry
from drakit.transport import Document

_GROUP, _PLURAL = "policy", "poddisruptionbudgets"
_MAX_DISRUPTED = 2000
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."


async def spend(registry: Registry, pod: Document, *, is_dry_run: bool) -> None:
    """Take the eviction of `pod` off its budget. Raises TooManyRequests if nothing is left of it."""
    status = mapped(pod.get("status"))
    if pod["metadata"].get("deletionTimestamp") or status.get("phase") in ("Pending", "Succeeded", "Failed"):
        return
    budgets = _budgets_of(registry, pod)
    if len(budgets) > 1:
        raise InternalError(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )
    for target, entry in budgets:
        budget = stored_document(entry)
        if not _is_ready(pod) and _gives_up_on_unready(budget):
            return
        spent = _spent(budget, pod["metadata"]["name"], registry.now())
        if not is_dry_run:
            await registry.write(target, entry, spent, is_dry_run=False)


def _budgets_of(registry: Registry, pod: Document) -> list[tuple[Target, Entry]]:
    kind = registry.kinds.resource(_GROUP, _PLURAL)
    assert kind is not None
    metadata = pod["metadata"]
    namespace, labels = metadata["namespace"], metadata.get("labels") or {}
    found: list[tuple[Target, Entry]] = []
    for entry in registry.store.page(kind.collection, f"{namespace}/"):
        wanted = mapped(stored_document(entry).get("spec")).get("selector")
        selector = read_labels(wanted) if isinstance(wanted, dict) else None
        if selector is not None and selector.matches(labels):
            # The newest state, written or about to be: evictions side by side must not miss each other.
            newest = registry.store.head(kind.collection, entry.key)
            if newest is not None:
                found.append((Target(kind, "v1", namespace, entry.key.partition("/")[2]), newest))
    return found


def _is_ready(pod: Document) -> bool:
    conditions = listed(mapped(pod.get("status")).get("conditions"))
    return any(row.get("type") == "Ready" and row.get("status") == "True" for row in conditions)


def _gives_up_on_unready(budget: Document) -> bool:
    """Whether a pod that is not ready may go: always, or because enough others are healthy."""
    if mapped(budget.get("spec")).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = mapped(budget.get("status"))
    desired = status.get("desiredHealthy") or 0
    return desired > 0 and (status.get("currentHealthy") or 0) >= desired


def _spent(budget: Document, pod_name: str, now: str) -> Document:
    """`budget` with one disruption less."""
    metadata, status = budget["metadata"], dict(mapped(budget.get("status")))
    name = metadata["name"]
    if (status.get("observedGeneration") or 0) < (metadata.get("generation") or 0):
        text = f"The disruption budget {name} is still being processed by the server."
        raise _too_many(text, retry_after=10)
    allowed, disrupted = status.get("disruptionsAllowed") or 0, dict(mapped(status.get("disruptedPods")))
    if allowed < 0 or len(disrupted) > _MAX_DISRUPTED:
        why = (
            "pdb disruptions allowed is negative"
            if allowed < 0
            else "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        )
        details = {"name": name, "group": _GROUP, "kind": "poddisruptionbudget"}
        raise Forbidden(f'poddisruptionbudget.policy "{name}" is forbidden: {why}', details=details)
    if allowed == 0:
        raise _too_many(_explained(name, status))
    status["disruptionsAllowed"] = allowed - 1
    status["disruptedPods"] = {**disrupted, pod_name: now}
    return {**budget, "status": status}


def _explained(name: str, status: Document) -> str:
    for row in listed(status.get("conditions")):
        if (row.get("type"), row.get("status"), row.get("reason")) == (
            "DisruptionAllowed",
            "False",
            "SyncFailed",
        ):
            return (
                f"The disruption budget {name} does not allow evicting pods currently because it failed "
                f"sync: {row.get('message', '')}"
            )
    desired, current = status.get("desiredHealthy") or 0, status.get("currentHealthy") or 0
    return f"The disruption budget {name} needs {desired} healthy pods and has {current} currently"


def _too_many(text: str, retry_after: int = 0) -> TooManyRequests:
    details: Document = {"causes": [{"reason": "DisruptionBudget", "message": text}]}
    if retry_after:
        details["retryAfterSeconds"] = retry_after
    return TooManyRequests(_REFUSED, details=details)

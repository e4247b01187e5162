"""Facts about pods that several controllers read."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from drakit.client.clock import parse_timestamp
from drakit.transport import Document


class PodClaim(Struct, frozen=True):
    """An entry of `spec.resourceClaims`. `claim` is the ResourceClaim's name, None while it is not
    generated yet or when none is needed; `template` is set for generated ones."""

    name: str
    claim: str | None
    template: str | None


def pod_claims(pod: Document) -> Iterator[PodClaim]:
    """What the pod's entries refer to, generated names taken from its status."""
    status = pod.get("status") or {}
    generated = {
        row["name"]: row.get("resourceClaimName") for row in status.get("resourceClaimStatuses") or ()
    }
    for row in (pod.get("spec") or {}).get("resourceClaims") or ():
        name, template = row["name"], row.get("resourceClaimTemplateName")
        yield PodClaim(name, row.get("resourceClaimName") or generated.get(name), template)


def claim_names(pod: Document) -> list[str]:
    """Every ResourceClaim the pod uses, the one for its extended resources among them."""
    names = [entry.claim for entry in pod_claims(pod) if entry.claim]
    extended = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
    if extended.get("resourceClaimName"):
        names.append(extended["resourceClaimName"])
    return names


def phase(pod: Document) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def node_name(pod: Document) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


def is_terminal(pod: Document) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def is_deleting(document: Document) -> bool:
    return document["metadata"].get("deletionTimestamp") is not None


def is_done(pod: Document) -> bool:
    """Whether no container of the pod runs or ever will."""
    return is_terminal(pod) or (is_deleting(pod) and not node_name(pod))


def is_active(pod: Document) -> bool:
    """Whether the pod counts for the workload that owns it."""
    return not is_terminal(pod) and not is_deleting(pod)


def condition(document: Document, type: str) -> Document | None:
    """The condition of that type in the object's status."""
    for row in (document.get("status") or {}).get("conditions") or ():
        if row.get("type") == type:
            found: Document = row
            return found
    return None


def is_ready(pod: Document) -> bool:
    return (condition(pod, "Ready") or {}).get("status") == "True"


def available_in(pod: Document, min_ready_seconds: int, now: float) -> float | None:
    """Seconds until the pod has been ready for `min_ready_seconds`: 0 when it has, None when not ready."""
    ready = condition(pod, "Ready")
    if ready is None or ready.get("status") != "True":
        return None
    since = ready.get("lastTransitionTime")
    if not min_ready_seconds or not since:
        return 0.0
    return max(parse_timestamp(since) + min_ready_seconds - now, 0.0)

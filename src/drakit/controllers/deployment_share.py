"""How many pods each ReplicaSet of a Deployment should have, by the numbers alone."""

from __future__ import annotations

from drakit.controllers.workload import portion
from drakit.transport import Document

REVISION = "deployment.kubernetes.io/revision"
DESIRED, MOST = "deployment.kubernetes.io/desired-replicas", "deployment.kubernetes.io/max-replicas"


def strategy_of(deployment: Document) -> Document:
    return deployment["spec"].get("strategy") or {}


def limits_of(deployment: Document) -> tuple[int, int]:
    """How many pods more, and how many fewer, than wanted there may be during an update."""
    if strategy_of(deployment).get("type") == "Recreate":
        return 0, 0
    rolling = strategy_of(deployment).get("rollingUpdate") or {}
    wanted = wanted_by(deployment)
    surge = portion(rolling.get("maxSurge", "25%"), wanted, up=True)
    unavailable = portion(rolling.get("maxUnavailable", "25%"), wanted, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, wanted)


def is_scaled(deployment: Document, sets: list[Document]) -> bool:
    """Whether the deployment was scaled since its sets got their numbers."""
    wanted = str(wanted_by(deployment))
    known = [(s["metadata"].get("annotations") or {}).get(DESIRED) for s in sets if wanted_by(s)]
    return any(number is not None and number != wanted for number in known)


def shares_of(deployment: Document, sets: list[Document]) -> dict[str, int]:
    """How the wanted pods, with those that a rolling update may have beside, are shared out between `sets`
    by uid: each in proportion to what it has, the largest first; the rest goes to the largest."""
    surge, _ = limits_of(deployment)
    wanted = wanted_by(deployment)
    rolling = (strategy_of(deployment).get("type") or "RollingUpdate") == "RollingUpdate"
    allowed = wanted + surge if wanted and rolling else wanted
    total = sum(wanted_by(s) for s in sets)
    to_add = allowed - total
    order = sorted(sets, key=lambda s: (wanted_by(s), revision_of(s)), reverse=True)
    shares: dict[str, int] = {}
    added = 0
    for replica_set in order:
        size = wanted_by(replica_set)
        annotations = replica_set["metadata"].get("annotations") or {}
        most = annotations.get(MOST, "")
        whole = int(most) if most.isdigit() and int(most) else count_of(deployment, "replicas") or total
        share = round(size * allowed / whole) - size if to_add else 0
        left = to_add - added
        share = min(share, left) if to_add > 0 else max(share, left)
        shares[replica_set["metadata"]["uid"]] = max(size + share, 0)
        added += share
    first = order[0]["metadata"]["uid"]
    shares[first] = max(shares[first] + to_add - added, 0)
    return shares


def wanted_by(document: Document) -> int:
    return int(document["spec"].get("replicas", 1))


def count_of(replica_set: Document, field: str) -> int:
    return int((replica_set.get("status") or {}).get(field) or 0)


def revision_of(replica_set: Document) -> int:
    text = (replica_set["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0

"""Deleting a pod that is disturbed from outside: it is told why before it goes."""

from __future__ import annotations

from drakit.client.api import PODS, Client
from drakit.client.clock import Clock, timestamp
from drakit.controllers.workload import set_condition
from drakit.errors import Conflict, NotFound
from drakit.transport import Document


async def delete_pod(
    client: Client,
    clock: Clock,
    pod: Document,
    reason: str,
    message: str,
    *,
    phase: str = "",
    grace_period_seconds: int | None = None,
) -> None:
    """Set the condition DisruptionTarget (and `phase`, if given), then delete. A pod that is gone is fine."""
    meta = pod["metadata"]
    row = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}
    conditions = (pod.get("status") or {}).get("conditions") or []
    status: Document = {"conditions": set_condition(conditions, row, timestamp(clock.now()))}
    if phase:
        status["phase"] = phase
    own = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
    try:
        await client.patch(
            PODS, meta["name"], {"metadata": own, "status": status}, meta["namespace"], subresource="status"
        )
        await client.delete(
            PODS,
            meta["name"],
            meta["namespace"],
            uid=meta["uid"],
            grace_period_seconds=grace_period_seconds,
        )
    except NotFound:
        return
    except Conflict:
        # Changed meanwhile: unless the pod was replaced, deleting it is still right.
        await _delete_same(client, meta, grace_period_seconds)


async def _delete_same(client: Client, meta: Document, grace_period_seconds: int | None) -> None:
    try:
        await client.delete(
            PODS,
            meta["name"],
            meta["namespace"],
            uid=meta["uid"],
            grace_period_seconds=grace_period_seconds,
        )
    except (NotFound, Conflict):
        return

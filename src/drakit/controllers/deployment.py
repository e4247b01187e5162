"""Deployments: one ReplicaSet for each template there has been, scaled from the old to the new.

The ReplicaSet of a template is found by the hash of the template in its labels and name. A rolling
update makes the new set grow and the old ones shrink within maxSurge and maxUnavailable, one step each
time something changes. Scaled in the middle of an update, or while paused, each set gets its share.

Source: pkg/controller/deployment.
"""

from __future__ import annotations

from drakit.client.api import DEPLOYMENTS, PODS, REPLICA_SETS
from drakit.client.clock import parse_timestamp, timestamp
from drakit.client.informer import key_of
from drakit.controllers.adoption import Adoption
from drakit.controllers.context import Context
from drakit.controllers.deployment_share import (
    DESIRED,
    MOST,
    REVISION,
    count_of,
    is_scaled,
    limits_of,
    revision_of,
    shares_of,
    strategy_of,
    wanted_by,
)
from drakit.controllers.owner import controller_of, controller_uid, reference_to
from drakit.controllers.pod import condition, is_deleting, is_terminal
from drakit.controllers.recent import Recent
from drakit.controllers.workload import set_condition, template_hash, write_status
from drakit.errors import AlreadyExists, NotFound
from drakit.transport import Document

HASH_LABEL = "pod-template-hash"
_WORKERS = 4


class Deployments:
    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._queue = context.queue()
        self._recorder = context.recorder("deployment-controller")
        self._deployments = context.informer(DEPLOYMENTS)
        self._sets = context.informer(REPLICA_SETS)
        self._recent = Recent(self._sets, context.clock)
        self._adoption = Adoption(context.client, self._deployments, self._sets, self._recent)
        self._deployments.add_handler(lambda old, new: self._queue.add(key_of(new)) if new else None)
        self._sets.add_handler(self._set_changed)
        self._pods = context.informer(PODS)
        self._pods.add_index("controller", controller_uid)
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self._queue.run(self._sync, workers=_WORKERS, name="deployment")

    def _set_changed(self, old: Document | None, new: Document | None) -> None:
        for key in self._adoption.concerned(new or old):
            self._queue.add(key)

    def _pod_changed(self, old: Document | None, new: Document | None) -> None:
        """A pod that is gone may be what a Recreate waits for."""
        if new is not None or old is None:
            return
        owner = controller_of(old)
        if owner is not None and owner["kind"] == "ReplicaSet":
            replica_set = self._sets.get(f"{old['metadata']['namespace']}/{owner['name']}")
            if replica_set is not None:
                self._set_changed(None, replica_set)

    async def _sync(self, key: str) -> None:
        deployment = self._deployments.get(key)
        if deployment is None or is_deleting(deployment):
            return
        sets = await self._adoption.gather(deployment)
        name = template_hash(deployment["spec"]["template"])
        new = next((s for s in sets if _is_of(s, deployment, name)), None)
        old = sorted((s for s in sets if s is not new), key=revision_of)
        if deployment["spec"].get("paused") or is_scaled(deployment, sets):
            new, old = await self._share_out(deployment, new, old)
        else:
            is_recreating = strategy_of(deployment).get("type") == "Recreate"
            if new is None and not (is_recreating and await self._stop(old)):
                new = await self._create_set(deployment, name, old)
            if new is not None:
                new = await self._mark_revision(deployment, new, old)
                if is_recreating:
                    if not await self._stop(old):
                        new = await self._scale(deployment, new, wanted_by(deployment))
                else:
                    new = await self._roll(deployment, new, old)
        await self._clean_up(deployment, new, old)
        await self._report(deployment, new, old)

    # --- replica sets -----------------------------------------------------------------------------

    async def _create_set(self, deployment: Document, name: str, old: list[Document]) -> Document:
        meta, spec = deployment["metadata"], deployment["spec"]
        template = spec["template"]
        labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: name}
        selector = spec["selector"]
        document: Document = {
            "apiVersion": REPLICA_SETS.api_version,
            "kind": REPLICA_SETS.kind,
            "metadata": {
                "name": f"{meta['name']}-{name}",
                "namespace": meta["namespace"],
                "labels": labels,
                "annotations": self._annotations(deployment, _next_revision(old)),
                "ownerReferences": [reference_to(deployment, DEPLOYMENTS)],
            },
            "spec": {
                "replicas": 0,
                "minReadySeconds": spec.get("minReadySeconds", 0),
                "selector": {
                    **selector,
                    "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: name},
                },
                "template": {**template, "metadata": {**(template.get("metadata") or {}), "labels": labels}},
            },
        }
        try:
            made = await self._client.create(REPLICA_SETS, document)
        except AlreadyExists:
            made = await self._client.get(REPLICA_SETS, document["metadata"]["name"], meta["namespace"])
            owner = controller_of(made)
            if owner is None or owner["uid"] != meta["uid"]:
                self._recorder.event(
                    deployment,
                    "Warning",
                    "ReplicaSetCreateError",
                    f"ReplicaSet {made['metadata']['name']} exists and belongs to something else: delete it",
                )
                raise
        self._recent.created(meta["uid"], made)
        return made

    def _annotations(self, deployment: Document, revision: int) -> dict[str, str]:
        spec = deployment["spec"]
        wanted = spec.get("replicas", 1)
        surge, _ = limits_of(deployment)
        kept = {
            key: value
            for key, value in (deployment["metadata"].get("annotations") or {}).items()
            if not key.startswith("deployment.kubernetes.io/")
            and key != "kubectl.kubernetes.io/last-applied-configuration"
        }
        return {**kept, REVISION: str(revision), DESIRED: str(wanted), MOST: str(wanted + surge)}

    async def _mark_revision(self, deployment: Document, new: Document, old: list[Document]) -> Document:
        """The newest template has the highest revision, also when it is an old one come back."""
        revision = max(revision_of(new), _next_revision(old))
        if revision_of(new) != revision:
            new = await self._patch_set(new, {"metadata": {"annotations": {REVISION: str(revision)}}})
        annotations = deployment["metadata"].get("annotations") or {}
        if annotations.get(REVISION) != str(revision):
            meta = deployment["metadata"]
            patch = {"metadata": {"annotations": {REVISION: str(revision)}}}
            await self._client.patch(DEPLOYMENTS, meta["name"], patch, meta["namespace"])
        return new

    async def _scale(
        self, deployment: Document, replica_set: Document, replicas: int, *, is_share: bool = False
    ) -> Document:
        """Have the set make so many pods. With `is_share` its annotations follow in any case: they say of
        how many it is a part."""
        before = wanted_by(replica_set)
        wanted = deployment["spec"].get("replicas", 1)
        surge, _ = limits_of(deployment)
        annotations = {DESIRED: str(wanted), MOST: str(wanted + surge)}
        known = replica_set["metadata"].get("annotations") or {}
        if before == replicas and not (is_share and annotations.items() - known.items()):
            return replica_set
        changed = await self._patch_set(
            replica_set, {"metadata": {"annotations": annotations}, "spec": {"replicas": replicas}}
        )
        if before == replicas:
            return changed
        verb = "up" if replicas > before else "down"
        self._recorder.event(
            deployment,
            "Normal",
            "ScalingReplicaSet",
            f"Scaled {verb} replica set {replica_set['metadata']['name']} from {before} to {replicas}",
        )
        return changed

    async def _patch_set(self, replica_set: Document, change: Document) -> Document:
        meta = replica_set["metadata"]
        own = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        patch = {**change, "metadata": {**(change.get("metadata") or {}), **own}}
        return await self._client.patch(REPLICA_SETS, meta["name"], patch, meta["namespace"])

    async def _share_out(
        self, deployment: Document, new: Document | None, old: list[Document]
    ) -> tuple[Document | None, list[Document]]:
        """Scale what there is to the wanted number: one set alone, several each by its share."""
        sets = [*old, *([new] if new is not None else [])]
        going = [s for s in sets if wanted_by(s)]
        wanted = wanted_by(deployment)
        if len(going) <= 1:
            target = going[0] if going else sets[-1] if sets else None
            shares = {target["metadata"]["uid"]: wanted} if target is not None else {}
        else:
            shares = shares_of(deployment, going)
        scaled = {
            s["metadata"]["uid"]: await self._scale(
                deployment, s, shares[s["metadata"]["uid"]], is_share=True
            )
            for s in sets
            if s["metadata"]["uid"] in shares
        }
        old = [scaled.get(s["metadata"]["uid"], s) for s in old]
        return (scaled.get(new["metadata"]["uid"], new) if new is not None else None), old

    async def _stop(self, old: list[Document]) -> bool:
        """Recreate: bring the old sets to nothing; returns whether pods of them are still there."""
        for replica_set in old:
            if wanted_by(replica_set):
                await self._patch_set(replica_set, {"spec": {"replicas": 0}})
        return any(
            wanted_by(replica_set)
            or any(
                not is_terminal(p) for p in self._pods.by_index("controller", replica_set["metadata"]["uid"])
            )
            for replica_set in old
        )

    async def _roll(self, deployment: Document, new: Document, old: list[Document]) -> Document:
        """One step of a rolling update: grow the new set as far as allowed, then shrink the old ones."""
        wanted = wanted_by(deployment)
        surge, unavailable = limits_of(deployment)
        total = wanted_by(new) + sum(wanted_by(s) for s in old)
        if wanted_by(new) > wanted:
            new = await self._scale(deployment, new, wanted)
        elif wanted_by(new) < wanted:
            room = max(wanted + surge - total, 0)
            new = await self._scale(deployment, new, min(wanted_by(new) + room, wanted))
        spare = (
            sum(wanted_by(s) for s in old)
            + wanted_by(new)
            - (wanted - unavailable)
            - (wanted_by(new) - count_of(new, "availableReplicas"))
        )
        for position, replica_set in enumerate(old):
            unhealthy = wanted_by(replica_set) - count_of(replica_set, "availableReplicas")
            cut = min(max(unhealthy, 0), max(spare, 0))
            if cut:
                spare -= cut
                old[position] = await self._scale(deployment, replica_set, wanted_by(replica_set) - cut)
        available = count_of(new, "availableReplicas") + sum(count_of(s, "availableReplicas") for s in old)
        spare = min(spare, available - (wanted - unavailable))
        for position, replica_set in enumerate(old):
            cut = min(wanted_by(replica_set), max(spare, 0))
            if cut:
                spare -= cut
                old[position] = await self._scale(deployment, replica_set, wanted_by(replica_set) - cut)
        return new

    async def _clean_up(self, deployment: Document, new: Document | None, old: list[Document]) -> None:
        """Delete the oldest empty sets beyond the history limit, once the update is through."""
        if new is None or count_of(new, "availableReplicas") < wanted_by(deployment):
            return
        limit = deployment["spec"].get("revisionHistoryLimit", 10)
        empty = [s for s in old if not wanted_by(s) and not count_of(s, "replicas") and not is_deleting(s)]
        for replica_set in empty[: max(len(empty) - limit, 0)]:
            meta = replica_set["metadata"]
            try:
                await self._client.delete(REPLICA_SETS, meta["name"], meta["namespace"], uid=meta["uid"])
            except NotFound:
                continue

    # --- status -----------------------------------------------------------------------------------

    async def _report(self, deployment: Document, new: Document | None, old: list[Document]) -> None:
        sets = [*old, *([new] if new else [])]
        wanted = wanted_by(deployment)
        counts = {field: sum(count_of(s, field) for s in sets) for field in _COUNTS}
        updated = count_of(new, "replicas") if new else 0
        _, unavailable = limits_of(deployment)
        is_available = counts["availableReplicas"] >= wanted - unavailable
        is_complete = (
            updated == wanted == counts["availableReplicas"] == counts["replicas"]
            and new is not None
            and wanted_by(new) == wanted
        )
        status: Document = {field: count or None for field, count in counts.items()}
        status |= {
            "updatedReplicas": updated or None,
            "unavailableReplicas": max(sum(wanted_by(s) for s in sets) - counts["availableReplicas"], 0)
            or None,
            "observedGeneration": deployment["metadata"].get("generation", 0),
            "conditions": self._conditions(deployment, sets, new, status, is_available, is_complete),
        }
        try:
            await write_status(self._client, DEPLOYMENTS, deployment, status)
        except NotFound:
            return

    def _conditions(
        self,
        deployment: Document,
        sets: list[Document],
        new: Document | None,
        status: Document,
        is_available: bool,
        is_complete: bool,
    ) -> list[Document]:
        now = timestamp(self._clock.now())
        rows = (deployment.get("status") or {}).get("conditions") or []
        row: Document = {
            "type": "Available",
            "status": "True" if is_available else "False",
            "reason": "MinimumReplicasAvailable" if is_available else "MinimumReplicasUnavailable",
            "message": f"Deployment {'has' if is_available else 'does not have'} minimum availability.",
        }
        rows = set_condition(rows, _updated(rows, row, now), now)
        progress = self._progress(deployment, new, status, is_complete, now)
        if progress is not None:
            rows = set_condition(rows, _updated(rows, progress, now), now)
        failed = next((f for s in sets if (f := condition(s, "ReplicaFailure"))), None)
        rows = [r for r in rows if r["type"] != "ReplicaFailure" or failed]
        if failed is not None:
            rows = set_condition(rows, _updated(rows, {**failed}, now), now)
        return rows

    def _progress(
        self, deployment: Document, new: Document | None, status: Document, is_complete: bool, now: str
    ) -> Document | None:
        """How the rollout goes: done, moving, or stuck since progressDeadlineSeconds."""
        deadline = deployment["spec"].get("progressDeadlineSeconds", 600)
        if new is None:
            return None
        name = new["metadata"]["name"]
        before = condition(deployment, "Progressing")
        if is_complete:
            text = f'ReplicaSet "{name}" has successfully progressed.'
            return _row("True", "NewReplicaSetAvailable", text)
        old_status = deployment.get("status") or {}
        moved = before is None or any(old_status.get(f) != v for f, v in status.items())
        if moved or before is None or before.get("reason") == "NewReplicaSetAvailable":
            row = _row("True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
            return {**row, "lastUpdateTime": now}
        since = parse_timestamp(before.get("lastUpdateTime") or now)
        left = since + deadline - self._clock.now()
        if left <= 0:
            return _row(
                "False", "ProgressDeadlineExceeded", f'ReplicaSet "{name}" has timed out progressing.'
            )
        self._queue.add_after(key_of(deployment), left + 1)
        return None


_COUNTS = ("replicas", "readyReplicas", "availableReplicas")


def _row(status: str, reason: str, message: str) -> Document:
    return {"type": "Progressing", "status": status, "reason": reason, "message": message}


def _updated(rows: list[Document], row: Document, now: str) -> Document:
    """`row` with the time of its last change of words."""
    if "lastUpdateTime" in row:
        return row
    before = next((r for r in rows if r["type"] == row["type"]), None)
    same = before is not None and all(before.get(f) == row.get(f) for f in ("status", "reason", "message"))
    return {**row, "lastUpdateTime": before.get("lastUpdateTime", now) if same and before else now}


def _is_of(replica_set: Document, deployment: Document, name: str) -> bool:
    """Whether the set is of the deployment's present template: by the hash, or for one that was taken in
    by what it says."""
    if _hash_of(replica_set) == name:
        return True
    return _plain(replica_set["spec"]["template"]) == _plain(deployment["spec"]["template"])


def _plain(template: Document) -> Document:
    meta = dict(template.get("metadata") or {})
    meta["labels"] = {k: v for k, v in (meta.get("labels") or {}).items() if k != HASH_LABEL}
    return {"spec": template.get("spec"), "metadata": {k: v for k, v in meta.items() if v}}


def _hash_of(replica_set: Document) -> str | None:
    return (replica_set["metadata"].get("labels") or {}).get(HASH_LABEL)


def _next_revision(old: list[Document]) -> int:
    return max((revision_of(s) for s in old), default=0) + 1

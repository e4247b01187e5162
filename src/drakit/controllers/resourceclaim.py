"""ResourceClaims: made from templates for pods, given back when nobody uses them.

For a pod: every entry with a template gets a claim that the pod owns; the names go into
`pod.status.resourceClaimStatuses`. A claim that was created but not written down yet is found again by
its owner and annotation, so a crash in between makes no second one.

For a claim: entries of `reservedFor` whose pods are done or gone are dropped; with the last one the
allocation goes in the same write, then the finalizer, then the claim itself if it was made for a pod that
does not need it any more. A pod that is not in the informer is only believed gone when its deletion was
seen or the API server says so: the scheduler may know pods earlier than we do.

Source: pkg/controller/resourceclaim/controller.go.
"""

from __future__ import annotations

from collections import OrderedDict

from drakit.client.api import PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS
from drakit.client.informer import key_of
from drakit.controllers.context import Context
from drakit.controllers.owner import controller_of, controller_uid, reference_to
from drakit.controllers.pod import PodClaim, claim_names, is_deleting, is_done, node_name, pod_claims
from drakit.controllers.recent import UNANSWERED, Recent
from drakit.errors import APIError, NotFound
from drakit.model.resource import (
    EXTENDED_CLAIM_ANNOTATION,
    FINALIZER,
    MAX_RESERVED_FOR,
    POD_CLAIM_ANNOTATION,
)
from drakit.transport import Document

FIELD_MANAGER = "ResourceClaimController"
_POD, _CLAIM = "pod:", "claim:"
_WORKERS = 16
_REMEMBERED = 5000
_LONGEST_BASE = 57
"""Of a generated name: room for a hyphen and five random characters in 63."""


class ResourceClaims:
    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._queue = context.queue()
        self._recorder = context.recorder("resource_claim")
        self._pods = context.informer(PODS)
        self._claims = context.informer(RESOURCE_CLAIMS)
        self._templates = context.informer(RESOURCE_CLAIM_TEMPLATES)
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._pods.add_index("claim", _claims_of_pod)
        self._pods.add_index("missing template", _templates_of_pod)
        self._claims.add_index("controller", controller_uid)
        self._recent = Recent(self._claims, context.clock)
        self._pods.add_handler(self._pod_changed)
        self._claims.add_handler(self._claim_changed)
        self._templates.add_handler(self._template_changed)

    async def run(self) -> None:
        await self._queue.run(self._sync, workers=_WORKERS, name="resourceclaim")

    # --- what makes work --------------------------------------------------------------------------

    def _pod_changed(self, old: Document | None, new: Document | None) -> None:
        pod = new or old
        assert pod is not None
        if new is not None and node_name(new) and (old is None or not node_name(old)):
            self._look_at_owned(new)
        if not (pod.get("spec") or {}).get("resourceClaims") and not claim_names(pod):
            return
        if new is None:
            self._remember_gone(pod["metadata"]["uid"])
        elif not is_done(new):
            self._queue.add(_POD + key_of(new))
            return
        namespace = pod["metadata"]["namespace"]
        for name in claim_names(pod):
            self._queue.add(f"{_CLAIM}{namespace}/{name}")
        self._look_at_owned(pod)

    def _look_at_owned(self, pod: Document) -> None:
        for claim in self._claims.by_index("controller", pod["metadata"]["uid"]):
            self._queue.add(_CLAIM + key_of(claim))

    def _claim_changed(self, old: Document | None, new: Document | None) -> None:
        if new is not None:
            self._queue.add(_CLAIM + key_of(new))
            return
        assert old is not None
        for pod in self._pods.by_index("claim", key_of(old)):
            if not is_done(pod):
                self._queue.add(_POD + key_of(pod))

    def _template_changed(self, old: Document | None, new: Document | None) -> None:
        if new is not None and old is None:
            for pod in self._pods.by_index("missing template", key_of(new)):
                self._queue.forget(_POD + key_of(pod))
                self._queue.add(_POD + key_of(pod))

    def _remember_gone(self, uid: str) -> None:
        self._gone[uid] = None
        if len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)

    async def _sync(self, key: str) -> None:
        if key.startswith(_POD):
            await self._sync_pod(key.removeprefix(_POD))
        else:
            await self._sync_claim(key.removeprefix(_CLAIM))

    # --- pods -------------------------------------------------------------------------------------

    async def _sync_pod(self, key: str) -> None:
        pod = self._pods.get(key)
        if pod is None or is_deleting(pod) or is_done(pod):
            return
        made: dict[str, str] = {}
        for entry in pod_claims(pod):
            try:
                name = await self._ensure_claim(pod, entry)
            except APIError as error:
                text = f"PodResourceClaim {entry.name}: {error}"
                self._recorder.event(pod, "Warning", "FailedResourceClaimCreation", text)
                raise
            if name is not None and name != entry.claim:
                made[entry.name] = name
        if made:
            await self._write_names(pod, made)
        elif node_name(pod):
            await self._reserve(pod)

    async def _ensure_claim(self, pod: Document, entry: PodClaim) -> str | None:
        """The name of the claim for `entry`, made if need be; None when there is nothing to generate."""
        if entry.template is None:
            return None
        meta = pod["metadata"]
        await self._recent.ask(self._client, meta["uid"])
        owned = self._recent.owned(meta["uid"])
        if entry.claim is not None and any(c["metadata"]["name"] == entry.claim for c in owned):
            return entry.claim
        for claim in owned:
            if (claim["metadata"].get("annotations") or {}).get(POD_CLAIM_ANNOTATION) == entry.name:
                return str(claim["metadata"]["name"])
        template = self._templates.get(f"{meta['namespace']}/{entry.template}")
        if template is None:
            raise NotFound(
                f'resource claim template "{entry.template}": '
                f'resourceclaimtemplate.resource.k8s.io "{entry.template}" not found; '
                "the claim is made as soon as the template exists"
            )
        try:
            claim = await self._client.create(RESOURCE_CLAIMS, _claim_for(pod, entry, template))
        except APIError as error:
            if isinstance(error, UNANSWERED):
                self._recent.doubted(pod)
            raise type(error)(
                f"create ResourceClaim from template {entry.template}: {error}", code=error.code
            ) from None
        self._recent.created(meta["uid"], claim)
        return str(claim["metadata"]["name"])

    async def _write_names(self, pod: Document, made: dict[str, str]) -> None:
        names = {e.name: e.claim for e in pod_claims(pod) if e.template and e.claim} | made
        meta = pod["metadata"]
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
            "status": {
                "resourceClaimStatuses": [
                    {"name": name, "resourceClaimName": claim} for name, claim in sorted(names.items())
                ]
            },
        }
        await self._client.apply(PODS, document, subresource="status", field_manager=FIELD_MANAGER)

    async def _reserve(self, pod: Document) -> None:
        """For a pod that was put on a node without the scheduler: take its claims that are allocated."""
        meta = pod["metadata"]
        for entry in pod_claims(pod):
            claim = self._claims.get(f"{meta['namespace']}/{entry.claim}") if entry.claim else None
            status = (claim or {}).get("status") or {}
            reserved = status.get("reservedFor") or []
            if claim is None or not status.get("allocation") or is_deleting(claim):
                continue
            if any(row.get("uid") == meta["uid"] for row in reserved) or len(reserved) >= MAX_RESERVED_FOR:
                continue
            if entry.template and _owning_pod_uid(claim) != [meta["uid"]]:
                continue
            consumer = {"resource": "pods", "name": meta["name"], "uid": meta["uid"]}
            await self._patch_status(claim, {"reservedFor": [*reserved, consumer]})

    # --- claims -----------------------------------------------------------------------------------

    async def _sync_claim(self, key: str) -> None:
        claim = self._claims.get(key)
        if claim is None:
            return
        status = claim.get("status") or {}
        reserved = status.get("reservedFor") or []
        namespace = claim["metadata"]["namespace"]
        kept = [row for row in reserved if await self._is_needed(namespace, row)]
        if len(kept) < len(reserved):
            change: Document = {"reservedFor": kept or None}
            if not kept:
                change |= {"allocation": None, "devices": None}
            claim = await self._patch_status(claim, change)
        elif not kept and status.get("allocation") and is_deleting(claim):
            claim = await self._patch_status(claim, {"allocation": None, "devices": None})
        if kept:
            return
        is_released = len(reserved) > 0 or is_deleting(claim)
        if is_released and not (claim.get("status") or {}).get("allocation"):
            claim = await self._drop_finalizer(claim)
        if not is_deleting(claim) and self._is_leftover(claim):
            meta = claim["metadata"]
            try:
                await self._client.delete(RESOURCE_CLAIMS, meta["name"], namespace, uid=meta["uid"])
            except NotFound:
                return

    async def _is_needed(self, namespace: str, consumer: Document) -> bool:
        """Whether an entry of `reservedFor` still stands; entries that are not pods always do."""
        if consumer.get("apiGroup") or consumer.get("resource") != "pods":
            return True
        if consumer["uid"] in self._gone:
            return False
        pod = self._pods.get(f"{namespace}/{consumer['name']}")
        if pod is None:
            try:
                pod = await self._client.get(PODS, consumer["name"], namespace)
            except NotFound:
                return False
        return bool(pod["metadata"]["uid"] == consumer["uid"]) and not is_done(pod)

    def _is_leftover(self, claim: Document) -> bool:
        """Whether the claim was made for a pod that is done, gone or uses another one."""
        uids = _owning_pod_uid(claim)
        if not uids:
            return False
        if uids[0] in self._gone:
            return True
        owner = controller_of(claim)
        assert owner is not None
        pod = self._pods.get(f"{claim['metadata']['namespace']}/{owner['name']}")
        if pod is None:
            return False  # Perhaps not seen yet; of a pod that is gone the garbage collector takes care.
        if pod["metadata"]["uid"] != uids[0] or is_done(pod):
            return True
        if EXTENDED_CLAIM_ANNOTATION not in (claim["metadata"].get("annotations") or {}):
            return False
        extended = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
        in_use = extended.get("resourceClaimName")
        return bool(node_name(pod)) and in_use != claim["metadata"]["name"]

    async def _patch_status(self, claim: Document, change: Document) -> Document:
        meta = claim["metadata"]
        patch = {
            "metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]},
            "status": change,
        }
        return await self._client.patch(
            RESOURCE_CLAIMS, meta["name"], patch, meta["namespace"], subresource="status"
        )

    async def _drop_finalizer(self, claim: Document) -> Document:
        meta = claim["metadata"]
        finalizers = meta.get("finalizers") or []
        if FINALIZER not in finalizers:
            return claim
        patch = {
            "metadata": {
                "uid": meta["uid"],
                "resourceVersion": meta["resourceVersion"],
                "finalizers": [name for name in finalizers if name != FINALIZER] or None,
            }
        }
        return await self._client.patch(RESOURCE_CLAIMS, meta["name"], patch, meta["namespace"])


def _claim_for(pod: Document, entry: PodClaim, template: Document) -> Document:
    """The claim that `template` describes, for `entry` of `pod`."""
    source = template["spec"]
    wanted = source.get("metadata") or {}
    metadata: Document = {
        "generateName": _base_name(pod["metadata"]["name"], entry.name),
        "namespace": pod["metadata"]["namespace"],
        "annotations": {**(wanted.get("annotations") or {}), POD_CLAIM_ANNOTATION: entry.name},
        "ownerReferences": [reference_to(pod, PODS)],
    }
    if wanted.get("labels"):
        metadata["labels"] = wanted["labels"]
    return {
        "apiVersion": RESOURCE_CLAIMS.api_version,
        "kind": RESOURCE_CLAIMS.kind,
        "metadata": metadata,
        "spec": source.get("spec") or {},
    }


def _base_name(pod: str, entry: str) -> str:
    """`pod-entry-`, both cut in proportion where that would be too long for a name."""
    base = f"{pod}-{entry}-"
    if len(base) <= _LONGEST_BASE:
        return base
    return (
        f"{pod[: len(pod) * _LONGEST_BASE // len(base)]}-{entry[: len(entry) * _LONGEST_BASE // len(base)]}-"
    )


def _claims_of_pod(pod: Document) -> list[str]:
    return [f"{pod['metadata']['namespace']}/{name}" for name in claim_names(pod)]


def _templates_of_pod(pod: Document) -> list[str]:
    """Templates of which the pod still needs a claim."""
    namespace = pod["metadata"]["namespace"]
    return [f"{namespace}/{e.template}" for e in pod_claims(pod) if e.template and e.claim is None]


def _owning_pod_uid(claim: Document) -> list[str]:
    owner = controller_of(claim)
    return [owner["uid"]] if owner and (owner["apiVersion"], owner["kind"]) == ("v1", "Pod") else []

"""Writing a decision to the API: claims first, then the binding.

For each claim of the pod: the finalizer in a write of its own, then allocation and reservation in one
status write, both for the version of the claim that was read. A conflict reads the claim again and goes
on only if the decision still stands, so a claim allocated elsewhere is never overwritten. A write whose
fate is unknown (the connection broke, the server failed) is looked up until it is known: until then its
devices stay promised.

Nothing here decides and nothing here touches the queue. Source: DynamicResources.PreBind upstream.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial

from drakit.client.api import PODS, RESOURCE_CLAIMS, Client
from drakit.client.clock import Clock, timestamp
from drakit.client.record import EventRecorder
from drakit.errors import APIError, Conflict, NotFound
from drakit.model.resource import EXTENDED_CLAIM_ANNOTATION, FINALIZER
from drakit.profile import Gate, Profile
from drakit.scheduler.claim import Claims
from drakit.scheduler.decision import PASSING, Decision, Lost, name_of
from drakit.scheduler.metrics import Metrics
from drakit.scheduler.plan import Variant, is_reserved_for, other_users, special_uid
from drakit.scheduler.pod import NODE_RESOURCES, PodInfo
from drakit.scheduler.readiness import has_conditions
from drakit.scheduler.waiting import Waiter
from drakit.transport import MERGE_PATCH, STRATEGIC_PATCH, Document

_log = logging.getLogger(__name__)

_TRIES = 5
_UNKNOWN_DELAY, _UNKNOWN_LAST = 0.1, 5.0


class Binder:
    """Carries out decisions. `changed(key)` gives a future that is done at the next change of a claim."""

    def __init__(
        self,
        client: Client,
        profile: Profile,
        claims: Claims,
        recorder: EventRecorder,
        metrics: Metrics,
        clock: Clock,
        changed: Callable[[str], Awaitable[None]],
    ) -> None:
        self._client = client
        self._claims = claims
        self._metrics = metrics
        self._clock = clock
        self._waiter = Waiter(client, claims, recorder, metrics, clock, changed, self.release)
        self._stamps = profile.is_on(Gate.DEVICE_BINDING_CONDITIONS) and profile.is_on(Gate.DEVICE_STATUS)

    async def bind(self, decision: Decision) -> None:
        """Write `decision`. Raises DRAError when it cannot stand; then `undo` is due."""
        plan = decision.plan
        if plan is not None:
            for claim in plan.claims:
                await self._claim(decision, claim)
            if decision.variant is not None and decision.variant.special is not None:
                await self._special(decision, decision.variant)
            if self._stamps and any(has_conditions(claim) for claim in decision.reserved):
                await self._waiter.wait(decision)
            if decision.shares:
                await self._shares(decision)
        await self._pod(decision.pod, decision.node)

    async def undo(self, decision: Decision) -> None:
        """Take back what `bind` promised and wrote before it failed.

        Claims keep their allocation, as upstream: the next attempt uses them, or gives them up when they
        are in the way. Devices that failed to get ready are given up at once.
        """
        pod = decision.pod
        for claim in decision.reserved:
            meta = claim["metadata"]
            if decision.special is not None and meta["uid"] == decision.special["metadata"]["uid"]:
                continue
            patch = {
                "metadata": {"uid": meta["uid"]},
                "status": {"reservedFor": [{"$patch": "delete", "uid": pod.uid}]},
            }
            self._metrics.claim_writes += 1
            try:
                document = await self._client.patch(
                    RESOURCE_CLAIMS,
                    meta["name"],
                    patch,
                    pod.namespace,
                    content_type=STRATEGIC_PATCH,
                    subresource="status",
                )
                self._claims.assume(document)
            except APIError as error:
                # Controllers drop reservations of pods that are gone; a live pod uses its own again.
                _log.info("reservation of claim %s for pod %s stays: %s", name_of(claim), pod.key, error)
        if decision.special is not None:
            try:
                await self.release(decision.special)
            except APIError as error:
                _log.info("claim %s stays: the next attempt removes it: %s", name_of(decision.special), error)
        if decision.is_nominated:
            await self._waiter.nominate(decision, None)
        if decision.has_told_shares:
            try:
                await self._tell(pod, {NODE_RESOURCES: []}, content_type=MERGE_PATCH)
            except APIError as error:
                _log.info("status.%s of pod %s stays: %s", NODE_RESOURCES, pod.key, error)
        for uid in decision.promises:
            key = self._key_of(decision, uid)
            if self._claims.is_in_flight(uid):
                self._claims.unreserve(uid, key)

    async def release(self, claim: Document) -> bool:
        """Give up the allocation of a claim that nobody uses; a special claim is deleted. Whether it
        was done: not if the claim has changed since."""
        meta = claim["metadata"]
        self._metrics.claim_writes += 1
        try:
            if (meta.get("annotations") or {}).get(EXTENDED_CLAIM_ANNOTATION) == "true":
                await self._delete(claim)
                return True
            status = {
                key: value
                for key, value in (claim.get("status") or {}).items()
                if key not in ("allocation", "reservedFor", "devices")
            }
            document = await self._client.update(
                RESOURCE_CLAIMS, {**claim, "status": status}, subresource="status"
            )
        except (Conflict, NotFound):
            return False
        self._claims.assume(document)
        return True

    async def _shares(self, decision: Decision) -> None:
        """Write to the pod what its devices stand for of the node's own resources."""
        rows = decision.shares
        if decision.special is not None and decision.variant is not None:
            known = decision.variant.members[-1][1].rpartition("/")[2]
            name = decision.special["metadata"]["name"]
            rows = [
                row | {"resourceClaimName": name} if row["resourceClaimName"] == known else row
                for row in rows
            ]
        decision.has_told_shares = True
        await self._tell(decision.pod, {NODE_RESOURCES: rows}, content_type=MERGE_PATCH)

    async def _tell(self, pod: PodInfo, status: Document, *, content_type: str = STRATEGIC_PATCH) -> None:
        """Write to the pod's status."""
        self._metrics.pod_writes += 1
        patch = {"metadata": {"uid": pod.uid}, "status": status}
        await self._client.patch(
            PODS, pod.name, patch, pod.namespace, content_type=content_type, subresource="status"
        )

    async def _pod(self, pod: PodInfo, node: str) -> None:
        self._metrics.bindings += 1
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self._client.create(PODS, binding, pod.namespace, name=pod.name, subresource="binding")
        except PASSING:
            latest = await self._until_answered(lambda: self._client.get(PODS, pod.name, pod.namespace))
            is_there = latest is not None and latest["metadata"]["uid"] == pod.uid
            if latest is None or not is_there or (latest.get("spec") or {}).get("nodeName") != node:
                raise

    # --- claims -----------------------------------------------------------------------------------

    async def _claim(self, decision: Decision, claim: Document) -> None:
        """Allocate `claim` as promised, or only reserve it for the pod where it is allocated."""
        uid = claim["metadata"]["uid"]
        promise = decision.promises.get(uid)
        if promise is None and is_reserved_for(claim, decision.pod.uid):
            decision.reserved.append(claim)
            return
        written = await self._write(decision.pod, claim, promise)
        self._claims.assume(written)
        decision.reserved.append(written)

    async def _special(self, decision: Decision, variant: Variant) -> None:
        """Create and allocate the claim for the pod's extended resources and tell the pod of it."""
        pod, special = decision.pod, variant.special
        if special is None:
            return
        meta = {key: value for key, value in special["metadata"].items() if key != "uid"}
        self._metrics.claim_writes += 1
        created = await self._client.create(RESOURCE_CLAIMS, {**special, "metadata": meta}, pod.namespace)
        decision.special = created
        written = await self._write(pod, created, decision.promises[special_uid(pod)])
        decision.special = written
        self._claims.assume(written, promised_as=special_uid(pod))
        decision.reserved.append(written)
        status = {
            "extendedResourceClaimStatus": {
                "requestMappings": variant.mappings,
                "resourceClaimName": written["metadata"]["name"],
            }
        }
        await self._tell(pod, status)

    async def _write(self, pod: PodInfo, claim: Document, promise: Document | None) -> Document:
        """The claim with the finalizer, `promise` as its allocation, and reserved for `pod`."""
        decided = (claim.get("status") or {}).get("allocation")
        for _ in range(_TRIES):
            _check(claim, decided, is_promised=promise is not None)
            if is_reserved_for(claim, pod.uid) and promise is None:
                return claim
            try:
                meta = claim["metadata"]
                if promise is not None and FINALIZER not in (meta.get("finalizers") or ()):
                    finalizers = [*(meta.get("finalizers") or ()), FINALIZER]
                    self._metrics.claim_writes += 1
                    claim = await self._client.update(
                        RESOURCE_CLAIMS, {**claim, "metadata": {**meta, "finalizers": finalizers}}
                    )
                self._metrics.claim_writes += 1
                return await self._client.update(
                    RESOURCE_CLAIMS, self._reserved(pod, claim, promise), subresource="status"
                )
            except Conflict:
                self._metrics.conflicts += 1
                claim = await self._read(claim)
            except PASSING:
                latest = await self._until_answered(partial(self._read, claim))
                if latest is None:
                    raise
                if is_reserved_for(latest, pod.uid):
                    return latest
                claim = latest
        raise Lost(f"resourceclaim {name_of(claim)} keeps changing under our writes")

    def _reserved(self, pod: PodInfo, claim: Document, promise: Document | None) -> Document:
        status = dict(claim.get("status") or {})
        consumer = {"resource": "pods", "name": pod.name, "uid": pod.uid}
        status["reservedFor"] = [*(status.get("reservedFor") or ()), consumer]
        if promise is not None:
            stamp = {"allocationTimestamp": timestamp(self._clock.now())} if self._stamps else {}
            status["allocation"] = {**promise, **stamp}
        return {**claim, "status": status}

    async def _read(self, claim: Document) -> Document:
        meta = claim["metadata"]
        latest = await self._client.get(RESOURCE_CLAIMS, meta["name"], meta["namespace"])
        if latest["metadata"]["uid"] != meta["uid"]:
            raise Lost(f"resourceclaim {name_of(claim)} was deleted and made anew in the meantime")
        return latest

    async def _until_answered(self, ask: Callable[[], Awaitable[Document]]) -> Document | None:
        """What became of a write with an unknown fate: the object as it is now, None if it is gone."""
        delay = _UNKNOWN_DELAY
        while True:
            await self._clock.sleep(delay)
            delay = min(delay * 2, _UNKNOWN_LAST)
            try:
                return await ask()
            except (NotFound, Lost):
                return None
            except APIError:
                continue

    async def _delete(self, claim: Document) -> None:
        meta = claim["metadata"]
        latest = await self._read(claim)
        owner = next((row["name"] for row in meta.get("ownerReferences") or () if row.get("controller")), "")
        if other_users(latest, owner):
            raise Lost(f"resourceclaim {name_of(claim)} is in use by another pod")
        rest = [name for name in latest["metadata"].get("finalizers") or () if name != FINALIZER]
        if len(rest) != len(latest["metadata"].get("finalizers") or ()):
            await self._client.update(
                RESOURCE_CLAIMS, {**latest, "metadata": {**latest["metadata"], "finalizers": rest}}
            )
        await self._client.delete(RESOURCE_CLAIMS, meta["name"], meta["namespace"], uid=meta["uid"])

    @staticmethod
    def _key_of(decision: Decision, uid: str) -> str:
        claims = decision.plan.claims if decision.plan else []
        return next((name_of(claim) for claim in claims if claim["metadata"]["uid"] == uid), "")


def _check(claim: Document, decided: Document | None, *, is_promised: bool) -> None:
    """Raise Lost unless the decision still fits `claim`."""
    allocation = (claim.get("status") or {}).get("allocation")
    if claim["metadata"].get("deletionTimestamp"):
        raise Lost(f"resourceclaim {name_of(claim)} got deleted in the meantime")
    if is_promised and allocation is not None:
        raise Lost(f"resourceclaim {name_of(claim)} got allocated elsewhere in the meantime")
    if not is_promised and allocation != decided:
        raise Lost(f"resourceclaim {name_of(claim)} got another allocation in the meantime")

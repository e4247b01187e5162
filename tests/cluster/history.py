"""What must hold at every revision, whoever dies in between: judged from what the store has written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from drakit.model.resource import FINALIZER, POD_CLAIM_ANNOTATION
from tests.cluster.mortal import Step

_ORDER = [None, "Pending", "Running", "Succeeded"]


class History:
    """What has been written so far."""

    def __init__(self) -> None:
        self._pods: dict[str, Any] = {}
        self._claims: dict[str, Any] = {}
        self._slices: dict[str, Any] = {}
        self._made: set[tuple[str, str]] = set()
        self._last = 0

    def go_on(self, steps: Sequence[Step]) -> None:
        """Raise AssertionError for the first of the next `steps` that must not be."""
        for step in steps:
            place = f"{step.name} at {step.revision}"
            assert step.revision == self._last + 1 or not self._last, f"{place} after {self._last}"
            self._last = step.revision
            if step.collection == "pods":
                new = _document(step)
                _judge_pod(place, self._pods.get(step.key), new, self._claims)
                self._pods[step.key] = new
            elif step.collection == "resourceclaims.resource.k8s.io":
                old, new = self._claims.get(step.key), _document(step)
                self._claims[step.key] = new
                _judge_claim(place, old, new)
                _judge_devices(place, self._claims)
                if old is None and (twin := _made_for(new)):
                    assert twin not in self._made, f"{place}: a second claim for {twin}"
                    self._made.add(twin)
            elif step.collection == "resourceslices.resource.k8s.io":
                self._slices[step.key] = _document(step)
                _judge_pool(place, self._slices)


def _judge_pool(place: str, slices: dict[str, Any]) -> None:
    """A pool that looks complete has every device once."""
    specs = [document["spec"] for document in slices.values() if document]
    newest = max((spec["pool"]["generation"] for spec in specs), default=0)
    specs = [spec for spec in specs if spec["pool"]["generation"] == newest]
    if specs and len(specs) == specs[0]["pool"]["resourceSliceCount"]:
        devices = [device for spec in specs for device in spec["devices"]]
        assert len({device["name"] for device in devices}) == len(devices), f"{place}: a device twice"


def _document(step: Step) -> Any:
    return msgspec.json.decode(step.value) if step.value is not None else None


def _judge_pod(place: str, old: Any, new: Any, claims: dict[str, Any]) -> None:
    if old is None or new is None:
        return
    before, after = old["spec"].get("nodeName"), new["spec"].get("nodeName")
    assert before in (None, after), f"{place}: bound twice"
    phases = [document.get("status", {}).get("phase") for document in (old, new)]
    if phases[1] != "Failed":
        assert _ORDER.index(phases[0]) <= _ORDER.index(phases[1]), f"{place}: phase {phases}"
    if after and not before:
        names = {row.get("resourceClaimName") for row in new["status"].get("resourceClaimStatuses") or ()} | {
            row.get("resourceClaimName") for row in new["spec"].get("resourceClaims") or ()
        }
        for name in names - {None}:
            claim = next(c for c in claims.values() if c and c["metadata"]["name"] == name)
            users = {row["uid"] for row in claim["status"].get("reservedFor") or ()}
            assert claim["status"].get("allocation"), f"{place}: bound without {name}"
            assert new["metadata"]["uid"] in users, f"{place}: bound before it had {name}"


def _judge_claim(place: str, old: Any, new: Any) -> None:
    before, after = (((document or {}).get("status") or {}).get("allocation") for document in (old, new))
    if new is None:
        assert not before, f"{place}: deleted with its devices"
        return
    if before and after:
        assert before == after, f"{place}: other devices"
    if after:
        assert FINALIZER in new["metadata"].get("finalizers", ()), f"{place}: no finalizer"
    else:
        assert not new.get("status", {}).get("reservedFor"), f"{place}: reserved without devices"


def _judge_devices(place: str, claims: dict[str, Any]) -> None:
    held = [
        (result["driver"], result["pool"], result["device"])
        for claim in claims.values()
        for result in ((claim or {}).get("status", {}).get("allocation") or {})
        .get("devices", {})
        .get("results", ())
    ]
    assert len(held) == len(set(held)), f"{place}: held twice: {held}"


def _made_for(claim: Any) -> tuple[str, str] | None:
    """The pod and the entry for which a claim was generated."""
    entry = (claim["metadata"].get("annotations") or {}).get(POD_CLAIM_ANNOTATION)
    owners = claim["metadata"].get("ownerReferences")
    return (owners[0]["uid"], entry) if entry and owners else None

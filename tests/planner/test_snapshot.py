"""Snapshots: what is in them, what never is, and names that cannot be read back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from drakit.errors import UsageError
from drakit.planner.manifest import put_in
from drakit.planner.situation import Situation, wanted_by_claim, wanted_by_pod
from drakit.planner.snapshot import decode, hashed
from drakit.planner.why import why
from drakit.profile import Gate
from tests.planner.make import DRIVER, H100, busy, claim, pod, snapshot


def waiting() -> dict[str, object]:
    parts = busy()
    claims = [*parts["resource_claims"], claim("secretive", 9, H100)]
    return {**parts, "resource_claims": claims, "pods": [pod("hushed", "secretive")]}


def test_what_is_written_is_read_back() -> None:
    taken = snapshot(**waiting())
    assert decode(taken.encode(), "f") == taken


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"kind": "Pod", "apiVersion": "v1"}', b'{"kind": 3}', b"\xff"]
)
def test_what_is_no_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"^f holds "):
        decode(data, "f")


def test_hashed_names_cannot_be_read_and_give_the_same_answer() -> None:
    taken = snapshot(**waiting())
    hidden = hashed(taken, b"salt")
    text = hidden.encode().decode()
    for name in ("secretive", "hushed", "node-0", "eval-2", '"ml"', '"default"'):
        assert name not in text
    situation = Situation(hidden)
    (key,) = situation.pods
    report = why(situation, wanted_by_pod(situation, key))
    plain = Situation(taken)
    expected = why(plain, wanted_by_pod(plain, "default/hushed"))
    assert [(line.count, line.cause) for line in report.sections[0].lines] == [
        (line.count, line.cause) for line in expected.sections[0].lines
    ]
    assert hashed(taken, b"other") != hidden


def test_hashing_changes_nothing_that_is_given() -> None:
    taken = snapshot(**waiting())
    before = msgspec.json.encode(taken)
    hashed(taken, b"salt")
    assert msgspec.json.encode(taken) == before


REQUEST = {"name": "gpu", "exactly": {"deviceClassName": DRIVER, "count": 12}}
OF_BETA = {"name": "gpu", "deviceClassName": DRIVER, "count": 12}
POD_SPEC = {"resourceClaims": [{"name": "g", "resourceClaimName": "c"}], "containers": []}


def manifest(kind: str, spec: Any, version: str = "resource.k8s.io/v1", **meta: str) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "c", **meta}, "spec": spec}


CLAIM = manifest("ResourceClaim", {"devices": {"requests": [REQUEST]}})


@pytest.mark.parametrize(
    ("documents", "subject"),
    [
        ([CLAIM], "claim default/c"),
        (
            [manifest("ResourceClaim", {"devices": {"requests": [OF_BETA]}}, "resource.k8s.io/v1beta1")],
            "claim default/c",
        ),
        ([{"kind": "List", "items": [CLAIM, manifest("Pod", POD_SPEC, "v1")]}], "pod default/c"),
        ([CLAIM, manifest("Deployment", {"template": {"spec": POD_SPEC}}, "apps/v1")], "pod default/c"),
        (
            [
                CLAIM,
                manifest("CronJob", {"jobTemplate": {"spec": {"template": {"spec": POD_SPEC}}}}, "batch/v1"),
            ],
            "pod default/c",
        ),
        ([manifest("ResourceClaim", CLAIM["spec"], namespace="far")], "claim far/c"),
    ],
    ids=["claim", "v1beta1", "list", "deployment", "cronjob", "namespace"],
)
def test_manifests_are_looked_at_as_if_applied(documents: list[Any], subject: str) -> None:
    taken, ((kind, key),) = put_in(snapshot(**busy()), documents, "f", "default")
    situation = Situation(taken)
    report = why(
        situation, wanted_by_pod(situation, key) if kind == "pod" else wanted_by_claim(situation, key)
    )
    assert report.subject == subject
    assert "no node has 12 free devices for request gpu (gpu.nvidia.com)" in report.sentence


def test_claims_that_no_pod_of_the_manifest_uses_are_looked_at_too() -> None:
    other = {**CLAIM, "metadata": {"name": "other"}}
    _, subjects = put_in(snapshot(**busy()), [other, CLAIM, manifest("Pod", POD_SPEC, "v1")], "f", "default")
    assert subjects == [("pod", "default/c"), ("claim", "default/other")]


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        ([], "^f holds none of Pod, "),
        ([None, 3, "x", {"kind": "ConfigMap"}], "^f holds none of Pod, "),
        ([{"kind": "Pod"}], "^f: a Pod without metadata.name"),
        ([{"kind": "Deployment", "metadata": {"name": 3}}], "^f: a Pod without metadata.name"),
    ],
)
def test_what_is_no_manifest_is_refused(documents: list[Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        put_in(snapshot(**busy()), documents, "f", "default")


@pytest.mark.parametrize(
    ("version", "known"), [("1.36", "1.36"), ("1.37", "1.37"), ("1.99", "1.37"), ("2.0", "1.37")]
)
def test_newer_versions_count_as_the_newest_known(version: str, known: str) -> None:
    assert Situation(snapshot(**busy(), version=version)).profile.version == known


def test_feature_gates_count() -> None:
    taken = snapshot(**busy(), feature_gates={"DRADeviceTaints": False})
    assert not Situation(taken).profile.is_on(Gate.DEVICE_TAINTS)
    with pytest.raises(UsageError, match="no DRA feature gate 'DRANope'"):
        Situation(snapshot(**busy(), feature_gates={"DRANope": True}))


def test_a_request_in_the_shape_of_another_version_is_told_with_its_fix() -> None:
    request = {"name": "g", "deviceClassName": "gpu"}
    document = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "c"},
        "spec": {"devices": {"requests": [request]}},
    }
    said = (
        r"^f: ResourceClaim c, spec.devices.requests\[0\]: in resource.k8s.io/v1 a request has no"
        r" deviceClassName: put it under `exactly`$"
    )
    with pytest.raises(UsageError, match=said):
        put_in(snapshot(), [{"kind": "List", "items": [document]}], "f", "default")

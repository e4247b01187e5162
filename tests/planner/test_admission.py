"""Manifests that a server would refuse: what is said of them; the others are read as it reads them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from drakit.errors import UsageError
from drakit.planner.admission import Admission
from drakit.planner.manifest import put_in
from drakit.profile import profile_for
from tests.planner.make import busy, snapshot


def claim(request: Any, version: str = "resource.k8s.io/v1") -> dict[str, Any]:
    spec = {"devices": {"requests": request}}
    return {"apiVersion": version, "kind": "ResourceClaim", "metadata": {"name": "c"}, "spec": spec}


def exactly(**fields: Any) -> list[dict[str, Any]]:
    return [{"name": "gpu", "exactly": {"deviceClassName": "gpu", **fields}}]


def deployment(**spec: Any) -> dict[str, Any]:
    template = {"spec": {"containers": [], **spec}}
    head = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}
    return {**head, "spec": {"template": template}}


PLACE = "spec.devices.requests[0].exactly"
REFUSED = {
    "nearly": (claim(exactly(coun=2)), f"{PLACE}.coun", "unknown field: did you mean count?"),
    "far off": (claim(exactly(colour="red")), f"{PLACE}.colour", "unknown field"),
    "no list": (claim({"name": "gpu"}), "", "json: cannot unmarshal object into Go struct field "),
    "no number": (claim(exactly(count="two")), "", "json: cannot unmarshal string into Go struct field "),
    "rule": (claim(exactly(count=-1)), f"{PLACE}.count", "Invalid value: -1: must be greater than zero"),
    "selector": (
        claim(exactly(selectors=[{"cel": {"expression": "device.nope"}}])),
        f"{PLACE}.selectors[0].cel.expression",
        'Invalid value: "device.nope": compilation failed: ',
    ),
    "of another version": (claim([{"name": "g", "count": 1}]), "spec.devices.requests[0]", "in resource"),
    "alpha": (
        claim([], "resource.k8s.io/v1alpha3"),
        "apiVersion",
        "Kubernetes 1.37 does not serve resource.k8s.io/v1alpha3 ResourceClaim: write resource.k8s.io/v1, ",
    ),
    "no version": (
        {key: value for key, value in claim(exactly()).items() if key != "apiVersion"},
        "apiVersion",
        "missing: write resource.k8s.io/v1",
    ),
    "pod in a workload": (
        deployment(resourceClaims=[{"name": "g", "resourceClaim": "c"}]),
        "spec.template.spec.resourceClaims[0].resourceClaim",
        "unknown field: did you mean resourceClaimName?",
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_a_server_would_refuse_is_told_with_its_place(case: tuple[dict[str, Any], str, str]) -> None:
    document, field, message = case
    before = copy.deepcopy(document)
    _, (problem,) = Admission(profile_for("1.37")).admitted(document)
    assert problem.field == field
    assert problem.message.startswith(message)
    assert document == before
    with pytest.raises(UsageError, match=f"^f: {problem.object}, "):
        put_in(snapshot(**busy()), [document], "f", "default")


def test_defaults_are_set() -> None:
    kept, problems = Admission(profile_for("1.37")).admitted(claim(exactly(count=0)))
    assert problems == []
    assert kept["spec"]["devices"]["requests"][0]["exactly"]["count"] == 1


def test_other_peoples_kinds_are_taken_as_they_are() -> None:
    job = {"apiVersion": "batch.example.com/v1", "kind": "Job", "spec": {"strange": 1}}
    assert Admission(profile_for("1.37")).admitted(job) == (job, [])


def test_what_holds_itself_is_refused() -> None:
    document = claim([])
    document["spec"]["devices"] = document["spec"]
    _, (problem,) = Admission(profile_for("1.37")).read(document)
    assert problem.message == "it is nested too deeply"

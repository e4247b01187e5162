"""Discovery: what drakit serves is described word for word as a real 1.36 server describes it."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.apiserver import discovery
from drakit.apiserver.kinds import Kinds, kinds_for
from drakit.errors import NotAcceptable
from drakit.profile import profile_for
from tests.recorded import cases

RECORDED = {row["name"]: row.get("body") for row in cases("api/discovery")}
NOT_SERVED = {
    "componentstatuses": "deprecated, and there are no such components",
    "podgroups": "alpha",
    "workloads": "alpha",
}
NOT_SERVED_PARTS = {"proxy"}
NOT_SERVED_VERSIONS = {("autoscaling", "v1")}


@pytest.fixture(scope="module")
def kinds() -> Kinds:
    return kinds_for(profile_for("1.36", {"all": True}))


def resources(items: list[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The resources of an aggregated document, without what drakit does not serve."""
    found = {}
    for group in items:
        for version in group["versions"]:
            name = group["metadata"].get("name", "")
            for row in version["resources"]:
                parts = [
                    part
                    for part in row.get("subresources", ())
                    if part["subresource"] not in NOT_SERVED_PARTS
                ]
                whole = {key: value for key, value in row.items() if key != "subresources"}
                if parts:
                    whole["subresources"] = parts
                is_left_out = (
                    row["resource"] in NOT_SERVED or (name, version["version"]) in NOT_SERVED_VERSIONS
                )
                if not is_left_out:
                    found[name, version["version"], row["resource"]] = whole
    return found


@pytest.mark.parametrize("name", ["api", "apis"])
def test_aggregated(kinds: Kinds, name: str) -> None:
    ours = discovery.aggregated(kinds, "v2", is_core=name == "api")
    real = RECORDED[f"aggregated_v2_{name}"]
    assert resources(ours["items"]) == resources(real["items"])
    assert (ours["kind"], ours["apiVersion"], ours["metadata"]) == (real["kind"], real["apiVersion"], {})


@pytest.mark.parametrize("name", sorted(name for name in RECORDED if name.startswith("plain_api")))
def test_plain(kinds: Kinds, name: str) -> None:
    parts = name.removeprefix("plain_").split("_")
    real = RECORDED[name]
    if "resources" in real:
        group = parts[1] if parts[0] == "apis" else ""
        ours = discovery.resource_list(kinds, group, parts[-1])
        assert ours is not None
        rows = [row for row in real["resources"] if _is_served(row["name"])]
        assert [row["name"] for row in ours["resources"]] == [row["name"] for row in rows]
        assert ours == {**real, "resources": rows}
    elif parts == ["apis"]:
        ours = discovery.group_list(kinds)
        served = {row["name"]: row for row in real["groups"]}
        for row in ours["groups"]:
            if row["name"] not in ("autoscaling", "scheduling.k8s.io"):
                assert row == served[row["name"]]
    elif parts[0] == "apis":
        assert discovery.group(kinds, parts[1]) == real
    else:
        assert discovery.legacy_versions(real["serverAddressByClientCIDRs"][0]["serverAddress"]) == real


def _is_served(name: str) -> bool:
    plural, _, part = name.partition("/")
    return plural not in NOT_SERVED and part not in NOT_SERVED_PARTS


def test_version_has_the_fields_of_a_real_one() -> None:
    ours = discovery.version_info(profile_for("1.36"))
    real = RECORDED["plain_version"]
    assert list(ours) == list(real)
    assert {key: ours[key] for key in ("major", "minor", "emulationMinor", "minCompatibilityMinor")} == {
        key: real[key] for key in ("major", "minor", "emulationMinor", "minCompatibilityMinor")
    }


AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        (AGGREGATED.format("v2") + "," + AGGREGATED.format("v2beta1") + ",application/json", "v2"),
        (AGGREGATED.format("v2beta1") + ",application/json", "v2beta1"),
        ("application/json", None),
        ("", None),
        (AGGREGATED.format("v3") + ",application/json", None),
    ],
)
def test_what_the_client_accepts_decides(accept: str, version: str | None) -> None:
    assert discovery.wants_aggregated(accept) == version


def test_a_client_that_accepts_nothing_known_is_told() -> None:
    with pytest.raises(NotAcceptable):
        discovery.wants_aggregated(AGGREGATED.format("v9"))


@pytest.mark.parametrize(
    ("version", "taint_rules", "claims"),
    [
        ("1.32", [], ["v1beta1"]),
        ("1.33", ["v1alpha3"], ["v1beta1", "v1beta2"]),
        ("1.34", ["v1alpha3"], ["v1", "v1beta2", "v1beta1"]),
        ("1.36", ["v1beta2", "v1alpha3"], ["v1", "v1beta2", "v1beta1"]),
        ("1.37", ["v1", "v1beta2", "v1alpha3"], ["v1", "v1beta2", "v1beta1"]),
    ],
)
def test_each_kubernetes_version_serves_its_own(
    version: str, taint_rules: list[str], claims: list[str]
) -> None:
    kinds = kinds_for(profile_for(version))
    found = kinds.resource("resource.k8s.io", "devicetaintrules")
    assert (list(found.versions) if found else []) == taint_rules
    claim = kinds.resource("resource.k8s.io", "resourceclaims")
    assert claim is not None
    assert list(claim.versions) == claims

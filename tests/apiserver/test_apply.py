"""Server-side apply and managedFields: who owns what, and what becomes of the object."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from drakit.apiserver.apply import (
    restore_times,
    server_side_apply,
    track_managed_fields,
)
from drakit.apiserver.apply_fields import Fields, from_fields_v1, to_fields_v1
from drakit.apiserver.apply_managers import MAX_UPDATE_MANAGERS
from drakit.apiserver.schema import custom_type, type_for
from drakit.errors import BadRequest, Conflict

DEPLOYMENT = type_for("apps/v1", "Deployment")
CLAIM = type_for("resource.k8s.io/v1", "ResourceClaim")
EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
Doc = dict[str, Any]


def deployment(*containers: Doc, **spec: Any) -> Doc:
    template = {"spec": {"containers": list(containers)}}
    head = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "x"}}
    return {**head, "spec": {"template": template, **spec}}


def apply(
    live: Doc | None, applied: Doc, manager: str = "m", *, force: bool = False, now: str = EARLY
) -> Doc:
    before = copy.deepcopy((live, applied))
    result = server_side_apply(
        live, applied, manager=manager, force=force, type_=DEPLOYMENT, api_version="apps/v1", now=now
    )
    assert (live, applied) == before, "the arguments stay as they are"
    return result


STATUS_ALONE = frozenset({("f:spec",)})


def write(
    old: Doc | None,
    new: Doc,
    manager: str = "w",
    *,
    now: str = EARLY,
    subresource: str = "",
    ignored: Fields = frozenset(),
) -> Doc:
    document = copy.deepcopy(new)
    if old is not None and "managedFields" not in document["metadata"]:
        document["metadata"]["managedFields"] = old["metadata"].get("managedFields", [])
    track_managed_fields(
        old,
        document,
        manager=manager,
        type_=DEPLOYMENT,
        api_version="apps/v1",
        now=now,
        subresource=subresource,
        ignored=ignored,
    )
    return document


def owned(document: Doc, manager: str) -> Doc:
    entries = document["metadata"].get("managedFields", [])
    return next((dict(entry["fieldsV1"]) for entry in entries if entry["manager"] == manager), {})


def containers(document: Doc) -> list[Doc]:
    return list(document["spec"]["template"]["spec"]["containers"])


def test_apply_creates_and_owns_what_it_says() -> None:
    made = apply(None, deployment({"name": "c", "image": "x"}, replicas=2))
    item = {".": {}, "f:image": {}, "f:name": {}}
    assert owned(made, "m") == {
        "f:spec": {
            "f:replicas": {},
            "f:template": {"f:spec": {"f:containers": {'k:{"name":"c"}': item}}},
        }
    }
    assert made["metadata"]["managedFields"][0]["operation"] == "Apply"


def test_a_field_no_longer_applied_goes() -> None:
    first = apply(None, deployment({"name": "c", "image": "x"}, replicas=2, paused=True))
    second = apply(first, deployment({"name": "c", "image": "x"}, replicas=2), now=LATE)
    assert "paused" not in second["spec"]
    assert second["spec"]["replicas"] == 2
    assert second["metadata"]["managedFields"][0]["time"] == LATE


def test_a_field_somebody_else_owns_stays() -> None:
    first = apply(None, deployment({"name": "c", "image": "x"}, replicas=2))
    shared = apply(first, deployment(replicas=2), "other")
    left = apply(shared, deployment({"name": "c", "image": "x"}))
    assert left["spec"]["replicas"] == 2
    assert owned(left, "other")["f:spec"]["f:replicas"] == {}
    assert "f:replicas" not in owned(left, "m")["f:spec"]


def test_an_item_no_longer_applied_goes_with_its_defaults() -> None:
    first = apply(None, deployment({"name": "a", "image": "x"}, {"name": "b", "image": "y"}))
    for container in containers(first):
        container["terminationMessagePath"] = "/dev/termination-log"
    second = apply(first, deployment({"name": "b", "image": "y"}))
    assert [container["name"] for container in containers(second)] == ["b"]


def test_what_others_added_to_an_item_stays() -> None:
    first = apply(None, deployment({"name": "a", "image": "x"}))
    env = {"name": "E", "value": "1"}
    second = apply(first, deployment({"name": "a", "env": [env]}), "other")
    third = apply(second, deployment({"name": "a", "image": "z"}))
    assert containers(third) == [{"name": "a", "image": "z", "env": [env]}]


def test_the_same_apply_again_changes_nothing() -> None:
    first = apply(None, deployment({"name": "a", "image": "x"}, replicas=1))
    assert apply(first, deployment({"name": "a", "image": "x"}, replicas=1), now=LATE) == first


def test_one_conflict() -> None:
    first = apply(None, deployment(replicas=1), "a")
    with pytest.raises(Conflict) as caught:
        apply(first, deployment(replicas=2), "b")
    error = caught.value
    assert error.message == 'Apply failed with 1 conflict: conflict with "a": .spec.replicas'
    assert error.details == {
        "causes": [
            {"reason": "FieldManagerConflict", "message": 'conflict with "a"', "field": ".spec.replicas"}
        ]
    }


def test_several_conflicts_with_a_plain_writer() -> None:
    live = write(None, deployment({"name": "c", "image": "x"}, replicas=1), "kubectl-edit")
    with pytest.raises(Conflict) as caught:
        apply(live, deployment({"name": "c", "image": "y"}, replicas=2))
    assert caught.value.message == (
        'Apply failed with 2 conflicts: conflicts with "kubectl-edit" using apps/v1:\n'
        '- .spec.replicas\n- .spec.template.spec.containers[name="c"].image'
    )


def test_force_takes_fields_over() -> None:
    first = apply(None, deployment(replicas=1, paused=True), "a")
    forced = apply(first, deployment(replicas=2), "b", force=True)
    assert forced["spec"]["replicas"] == 2
    assert owned(forced, "a") == {"f:spec": {"f:paused": {}}}
    assert "f:replicas" in owned(forced, "b")["f:spec"]


def test_equal_values_are_no_conflict() -> None:
    first = apply(None, deployment(replicas=1), "a")
    both = apply(first, deployment(replicas=1), "b")
    assert {entry["manager"] for entry in both["metadata"]["managedFields"]} == {"a", "b"}


def test_a_plain_write_takes_ownership() -> None:
    first = apply(None, deployment({"name": "c", "image": "x"}, replicas=1), "a")
    changed = copy.deepcopy(first)
    changed["spec"]["replicas"] = 5
    second = write(first, changed, "scaler", now=LATE)
    assert "f:replicas" not in owned(second, "a")["f:spec"]
    assert owned(second, "scaler") == {"f:spec": {"f:replicas": {}}}


def test_a_status_write_is_an_entry_of_its_own() -> None:
    first = write(None, deployment(replicas=1), "w")
    changed = copy.deepcopy(first) | {"status": {"readyReplicas": 1}}
    second = write(first, changed, "w", subresource="status")
    entries = [(e["manager"], e.get("subresource", "")) for e in second["metadata"]["managedFields"]]
    assert entries == [("w", ""), ("w", "status")]


def test_a_deleted_field_is_owned_by_nobody() -> None:
    first = write(None, deployment(replicas=1, paused=True), "w")
    changed = copy.deepcopy(first)
    del changed["spec"]["paused"]
    assert "f:paused" not in owned(write(first, changed, "x"), "w")["f:spec"]


def test_managed_fields_can_be_cleared() -> None:
    first = write(None, deployment(replicas=1), "w")
    cleared = copy.deepcopy(first)
    cleared["metadata"]["managedFields"] = [{}]
    assert "managedFields" not in write(first, cleared, "x")["metadata"]


def test_writers_are_bounded() -> None:
    document = write(None, deployment(replicas=0), "w")
    for number in range(2 * MAX_UPDATE_MANAGERS):
        changed = copy.deepcopy(document)
        changed["metadata"]["labels"] = {**document["metadata"].get("labels", {}), f"l{number}": "x"}
        document = write(document, changed, f"w{number}", now=f"2026-01-01T00:00:{number:02d}Z")
    entries = document["metadata"]["managedFields"]
    assert len(entries) <= MAX_UPDATE_MANAGERS
    assert "ancient-changes" in {entry["manager"] for entry in entries}


def test_metadata_of_the_system_is_nobodys() -> None:
    document = deployment(replicas=1)
    document["metadata"] |= {
        "uid": "u",
        "resourceVersion": "3",
        "creationTimestamp": EARLY,
        "labels": {"a": "b"},
    }
    fields = owned(write(None, document, "w"), "w")["f:metadata"]
    assert fields == {"f:labels": {".": {}, "f:a": {}}}


REFUSED: list[tuple[str, Doc, str]] = [
    (
        "another version",
        {**deployment(), "apiVersion": "apps/v2"},
        "Incorrect version specified in apply patch. Specified patch version: apps/v2, expected: apps/v1",
    ),
    (
        "managedFields of its own",
        {**deployment(), "metadata": {"name": "d", "managedFields": []}},
        "metadata.managedFields must be nil",
    ),
]


@pytest.mark.parametrize(("applied", "text"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused(applied: Doc, text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        apply(None, applied)
    assert caught.value.message == text


def test_lists_with_several_keys_and_optional_ones() -> None:
    status = {"devices": [{"driver": "d", "pool": "p", "device": "x", "data": {"a": 1}}]}
    applied = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "c"},
        "status": status,
    }
    more: Any = {"type_": CLAIM, "api_version": "resource.k8s.io/v1", "now": EARLY, "subresource": "status"}
    first = server_side_apply({"metadata": {"name": "c"}}, applied, manager="driver-a", force=False, **more)
    key = 'k:{"device":"x","driver":"d","pool":"p"}'
    assert list(owned(first, "driver-a")["f:status"]["f:devices"]) == [key]
    other = copy.deepcopy(applied)
    other["status"]["devices"][0] |= {"driver": "e"}
    second = server_side_apply(first, other, manager="driver-b", force=False, **more)
    assert [entry["driver"] for entry in second["status"]["devices"]] == ["d", "e"]
    other["status"]["devices"] = []
    third = server_side_apply(second, other, manager="driver-b", force=False, **more)
    assert [entry["driver"] for entry in third["status"]["devices"]] == ["d"]


def test_custom_resources_merge_as_their_schema_says() -> None:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                    "plain": {"type": "array", "items": {"type": "string"}},
                },
            }
        },
    }
    more: Any = {
        "type_": custom_type(schema, "Thing"),
        "api_version": "x.io/v1",
        "now": EARLY,
        "force": False,
    }
    head = {"apiVersion": "x.io/v1", "kind": "Thing", "metadata": {"name": "t"}}
    first = server_side_apply(None, {**head, "spec": {"tags": ["a"], "plain": ["1"]}}, manager="m", **more)
    second = server_side_apply(first, {**head, "spec": {"tags": ["b"]}}, manager="n", **more)
    assert second["spec"] == {"tags": ["a", "b"], "plain": ["1"]}
    third = server_side_apply(second, {**head, "spec": {"tags": ["a"]}}, manager="m", **more)
    assert third["spec"] == {"tags": ["a", "b"]}


@pytest.mark.parametrize(
    "tree",
    [
        {"f:a": {}},
        {"f:a": {".": {}, "f:b": {}}},
        {"f:a": {"f:b": {}}, 'k:{"name":"x"}': {".": {}, "f:c": {}}, 'v:"s"': {}},
    ],
)
def test_fields_v1_reads_back(tree: Doc) -> None:
    assert to_fields_v1(from_fields_v1(tree)) == tree


def test_a_write_that_changes_nothing_keeps_its_times() -> None:
    old = write(None, deployment(replicas=1), "w")
    new = copy.deepcopy(old)
    new["metadata"]["managedFields"][0]["time"] = LATE
    restore_times(old, new)
    assert new == old
    new["metadata"]["managedFields"][0]["time"] = LATE
    new["spec"]["replicas"] = 2
    restore_times(old, new)
    assert new["metadata"]["managedFields"][0]["time"] == LATE


def test_what_an_endpoint_ignores_stays_owned() -> None:
    first = write(None, deployment(replicas=1), "w")
    changed = copy.deepcopy(first) | {"status": {"readyReplicas": 1}}
    changed["spec"]["replicas"] = 7
    second = write(first, changed, "x", subresource="status", ignored=STATUS_ALONE)
    assert "f:replicas" in owned(second, "w")["f:spec"]
    assert list(owned(second, "x")) == ["f:status"]

"""Ownership in the less common cases: objects without managers, nulls, kubectl's annotation, bad entries."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from drakit.apiserver.apply import server_side_apply, track_managed_fields
from drakit.apiserver.apply_fields import compare, fields_of, item_step, reading_order
from drakit.apiserver.apply_merge import merge, remove
from drakit.apiserver.schema import Type, custom_type, type_for
from drakit.errors import Conflict

Doc = dict[str, Any]
EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def type_of(api_version: str, kind: str) -> Type:
    found = type_for(api_version, kind)
    assert found is not None
    return found


MAP, POD = type_of("v1", "ConfigMap"), type_of("v1", "Pod")
CLAIM = type_of("resource.k8s.io/v1", "ResourceClaim")


def config(data: Any, **metadata: Any) -> Doc:
    head = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "x", **metadata}}
    return head if data is None else {**head, "data": data}


def apply(
    live: Doc | None, applied: Doc, manager: str = "m", *, force: bool = False, now: str = EARLY
) -> Doc:
    return server_side_apply(
        live, applied, manager=manager, force=force, type_=MAP, api_version="v1", now=now
    )


def write(old: Doc | None, new: Doc, manager: str = "w", *, subresource: str = "", now: str = EARLY) -> Doc:
    document = copy.deepcopy(new)
    track_managed_fields(
        old, document, manager=manager, type_=MAP, api_version="v1", subresource=subresource, now=now
    )
    return document


def managers(document: Doc) -> list[str]:
    return [entry["manager"] for entry in document["metadata"].get("managedFields", [])]


LIVE = config({"a": "1"}, uid="u")


def test_an_object_nobody_is_known_to_have_written_stays_so() -> None:
    assert managers(write(LIVE, config({"a": "2"}, uid="u"))) == []


def test_the_first_apply_finds_everything_owned() -> None:
    with pytest.raises(Conflict) as caught:
        apply(LIVE, config({"a": "2"}))
    assert caught.value.message == (
        'Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.a'
    )
    assert managers(apply(LIVE, config({"b": "2"}))) == ["m", "before-first-apply"]


@pytest.mark.parametrize("sent", [[], [{}]], ids=["no entries", "an empty entry"])
def test_a_client_takes_everything_from_everybody(sent: list[Doc]) -> None:
    owned = apply(None, config({"a": "1"}, uid="u"))
    assert managers(write(owned, config({"a": "1"}, uid="u", managedFields=sent))) == []


@pytest.mark.parametrize(
    "entry",
    [
        {"operation": "Delete", "apiVersion": "v1", "fieldsType": "FieldsV1"},
        {"operation": "Apply", "apiVersion": "v1"},
        {"operation": "Apply", "fieldsType": "FieldsV1"},
    ],
    ids=["operation", "fieldsType", "apiVersion"],
)
def test_entries_that_mean_nothing_change_nothing(entry: Doc) -> None:
    owned = apply(None, config({"a": "1"}, uid="u"))
    assert managers(write(owned, config({"a": "1"}, uid="u", managedFields=[entry]))) == ["m"]


def test_a_subresource_takes_no_managers() -> None:
    owned = apply(None, config({"a": "1"}, uid="u"))
    sent = config({"a": "1"}, uid="u", managedFields=[])
    assert managers(write(owned, sent, subresource="status")) == ["m"]


def test_who_applies_what_is_there_has_changed_nothing_and_has_no_time() -> None:
    owned = apply(None, config({"a": "1"}))
    shared = apply(owned, config({"a": "1"}), "n", now=LATE)
    assert [(e["manager"], e.get("time")) for e in shared["metadata"]["managedFields"]] == [
        ("n", None),
        ("m", EARLY),
    ]


def test_nulls_are_owned_and_leave_fields_alone() -> None:
    made = apply(apply(None, config({"a": "1"}), "n"), config({"a": None, "b": "2"}), force=True)
    assert made["data"] == {"a": None, "b": "2"}
    kept = apply(made, {**config(None), "data": None}, "o")
    assert kept["data"] == made["data"]


def test_kubectl_may_change_what_it_applied_on_the_clients_side() -> None:
    annotation = "kubectl.kubernetes.io/last-applied-configuration"
    before = config({"a": "1", "b": "1"}, annotations={annotation: json.dumps(config({"a": "1"}))})
    live = write(None, before, "kubectl-client-side-apply")
    after = apply(live, config({"a": "2"}), "kubectl")
    assert after["data"] == {"a": "2", "b": "1"}
    text = after["metadata"]["annotations"][annotation]
    assert (json.loads(text), text[-1]) == (config({"a": "2"}), "\n")
    with pytest.raises(Conflict) as caught:
        apply(live, config({"a": "2", "b": "2"}), "kubectl")
    assert caught.value.message.endswith(": .data.b")
    with pytest.raises(Conflict):
        apply(live, config({"a": "2"}), "somebody-else")


def test_conflicts_are_read_level_by_level() -> None:
    paths: list[tuple[str, ...]] = [("f:spec", "f:a", "f:x"), ("f:spec", "f:b")]
    paths += [('k:{"port":80}',), ('k:{"port":9}',)]
    assert sorted(paths, key=reading_order) == [
        ('k:{"port":9}',),
        ('k:{"port":80}',),
        ("f:spec", "f:b"),
        ("f:spec", "f:a", "f:x"),
    ]


CONTAINERS = POD.fields["spec"].fields["containers"]
STEPS: dict[str, tuple[Type, Doc, str]] = {
    "a default": (
        CONTAINERS.items.fields["ports"],
        {"containerPort": 1},
        '{"containerPort":1,"protocol":"TCP"}',
    ),
    "a key left out": (CONTAINERS, {"image": "x"}, '{"name":""}'),
    "a null is a key": (CONTAINERS, {"name": None}, '{"name":null}'),
    "a key that may miss": (
        CLAIM.fields["status"].fields["devices"],
        {"driver": "d", "pool": "p", "device": "x"},
        '{"device":"x","driver":"d","pool":"p"}',
    ),
}


@pytest.mark.parametrize("case", STEPS.values(), ids=STEPS)
def test_keys_of_items(case: tuple[Type, Doc, str]) -> None:
    type_, item, key = case
    assert item_step(item, type_) == f"k:{key}"


def test_what_lost_its_last_field_is_null() -> None:
    pod = {"spec": {"securityContext": {"runAsUser": 1}, "nodeName": "n"}}
    gone = frozenset({("f:spec", "f:securityContext", "f:runAsUser")})
    assert remove(pod, gone, POD) == {"spec": {"securityContext": None, "nodeName": "n"}}


def test_items_of_one_key_are_owned_together() -> None:
    twice = {"spec": {"containers": [{"name": "c", "image": "x"}, {"name": "c"}]}}
    step = 'k:{"name":"c"}'
    assert fields_of(twice, POD) == {("f:spec", "f:containers", step)}
    once = {"spec": {"containers": [{"name": "c", "image": "x"}]}}
    difference = compare(twice, once, POD)
    here = ("f:spec", "f:containers", step)
    assert difference.added == {here, (*here, "f:name"), (*here, "f:image")}
    assert difference.removed == {here}


def test_raw_data_is_replaced_as_a_whole() -> None:
    devices = CLAIM.fields["status"].fields["devices"]
    item = {"driver": "d", "pool": "p", "device": "x"}
    merged = merge([{**item, "data": {"a": 1}}], [{**item, "data": {"b": 1}}], devices)
    assert merged == [{**item, "data": {"b": 1}}]


def test_of_a_custom_object_nothing_is_there_before_it_is_made() -> None:
    """Whatever its kind is called: Go has no struct for it."""
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}},
    }
    document: Doc = {"apiVersion": "e.x/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"n": 0}}
    type_ = custom_type(schema, "Job")
    track_managed_fields(None, document, manager="w", type_=type_, api_version="e.x/v1", now=EARLY)
    assert document["metadata"]["managedFields"][0]["fieldsV1"] == {"f:spec": {".": {}, "f:n": {}}}


@pytest.mark.parametrize(("old", "new"), [(1, {"y": 2}), ({"y": 2}, 1)], ids=["to an object", "from one"])
def test_what_no_type_describes_may_become_something_else(old: Any, new: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    difference = compare({"any": {"x": old}}, {"any": {"x": new}}, custom_type(schema, "K"))
    here = ("f:any", "f:x")
    assert difference.modified == {here}
    assert difference.added | difference.removed == {(*here, "f:y")}

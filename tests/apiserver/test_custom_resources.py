"""CustomResourceDefinitions: the kinds they add, and what becomes of their objects."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from drakit.transport import APPLY_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Document
from tests.apiserver.served import Served

pytestmark = pytest.mark.anyio

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
THINGS = "/apis/x.example.com/v1/namespaces/default/things"
SPEC: dict[str, Any] = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1},
        "color": {"type": "string", "default": "red"},
        "replicas": {"type": "integer"},
        "port": {"x-kubernetes-int-or-string": True},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
STATUS = {
    "type": "object",
    "properties": {
        "replicas": {"type": "integer"},
        "selector": {"type": "string"},
        "conditions": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": {
                "type": "object",
                "required": ["type"],
                "properties": {"type": {"type": "string"}, "status": {"type": "string"}},
            },
        },
    },
}


def schema(**fields: Any) -> Document:
    properties = {"spec": SPEC, "status": STATUS, **fields}
    return {"openAPIV3Schema": {"type": "object", "properties": properties}}


def definition(plural: str = "things", kind: str = "Thing", **more: Any) -> Document:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": schema(),
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
        "selectableFields": [{"jsonPath": ".spec.color"}],
    }
    old = {"name": "v1beta1", "served": True, "storage": False, "schema": schema(), "deprecated": True}
    names = {"plural": plural, "kind": kind, "shortNames": ["th"], "categories": ["all"]}
    spec = {"group": "x.example.com", "scope": "Namespaced", "names": names, "versions": [version, old]}
    name = f"{plural}.x.example.com"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {**spec, **more},
    }


def thing(name: str = "a", **spec: Any) -> Document:
    metadata = {"name": name}
    return {
        "apiVersion": "x.example.com/v1",
        "kind": "Thing",
        "metadata": metadata,
        "spec": {"size": 1, **spec},
    }


@pytest.fixture
async def server() -> AsyncIterator[Served]:
    async with Served() as served:
        await served.ok("POST", CRDS, definition())
        yield served


async def test_a_definition_is_established_and_discovered(server: Served) -> None:
    found = await server.ok("GET", f"{CRDS}/things.x.example.com")
    conditions = [(row["type"], row["status"], row["reason"]) for row in found["status"]["conditions"]]
    assert conditions == [
        ("NamesAccepted", "True", "NoConflicts"),
        ("Established", "True", "InitialNamesAccepted"),
    ]
    assert found["status"]["storedVersions"] == ["v1"]
    assert found["status"]["acceptedNames"]["listKind"] == "ThingList"
    listed = await server.ok("GET", "/apis/x.example.com/v1")
    assert [row["name"] for row in listed["resources"]] == ["things", "things/status", "things/scale"]
    assert listed["resources"][0]["shortNames"] == ["th"]
    beta = await server.ok("GET", "/apis/x.example.com/v1beta1")
    assert [row["name"] for row in beta["resources"]] == ["things"]
    group = await server.ok("GET", "/apis/x.example.com")
    assert group["preferredVersion"]["version"] == "v1"
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    aggregated = await server.ok("GET", "/apis", accept=accept)
    last = aggregated["items"][-1]
    assert last["metadata"]["name"] == "x.example.com"
    assert [row["version"] for row in last["versions"]] == ["v1", "v1beta1"]


async def test_objects_are_pruned_defaulted_and_checked(server: Served) -> None:
    made = await server.send(
        "POST", THINGS, thing(zz=1, free={"deep": {"x": 1}}, port="http"), fieldValidation="Warn"
    )
    assert made.status == 201
    assert made.warnings == ['unknown field "spec.zz"']
    assert made.document["spec"] == {"size": 1, "free": {"deep": {"x": 1}}, "port": "http", "color": "red"}
    assert made.document["metadata"]["generation"] == 1
    code, _, text = await server.refused("POST", THINGS, thing("b", zz=1), fieldValidation="Strict")
    assert (code, text.endswith('strict decoding error: unknown field "spec.zz"')) == (400, True)
    code, _, text = await server.refused("POST", THINGS, thing("b", size=0))
    assert code == 422
    assert text == (
        'Thing.x.example.com "b" is invalid: spec.size: Invalid value: 0: spec.size in body should be '
        "greater than or equal to 1"
    )


async def test_every_version_shows_the_same_object(server: Served) -> None:
    await server.ok("POST", THINGS, thing())
    response = await server.send("GET", THINGS.replace("v1", "v1beta1") + "/a")
    assert response.document["apiVersion"] == "x.example.com/v1beta1"
    assert response.warnings == ["x.example.com/v1beta1 Thing is deprecated; use x.example.com/v1 Thing"]
    listed = await server.ok("GET", THINGS, fieldSelector="spec.color=red")
    assert (listed["kind"], len(listed["items"])) == ("ThingList", 1)
    assert not (await server.ok("GET", THINGS, fieldSelector="spec.color=blue"))["items"]
    _, _, text = await server.refused("GET", THINGS, fieldSelector="spec.size=1")
    assert text == "field label not supported: spec.size"


async def test_status_and_scale_are_apart(server: Served) -> None:
    made = await server.ok("POST", THINGS, thing(replicas=2) | {"status": {"replicas": 9}})
    assert "status" not in made
    change = {"status": {"replicas": 2, "selector": "a=b"}, "spec": {"size": 7}}
    found = await server.ok("PATCH", f"{THINGS}/a/status", change, content_type=MERGE_PATCH)
    assert (found["spec"]["size"], found["status"]["replicas"], found["metadata"]["generation"]) == (1, 2, 1)
    scale = await server.ok("GET", f"{THINGS}/a/scale")
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 2, "selector": "a=b"})
    await server.ok("PUT", f"{THINGS}/a/scale", scale | {"spec": {"replicas": 5}})
    found = await server.ok("GET", f"{THINGS}/a")
    assert (found["spec"]["replicas"], found["metadata"]["generation"]) == (5, 2)
    await server.ok("POST", THINGS, thing("b"))
    code, _, text = await server.refused("GET", f"{THINGS}/b/scale")
    assert code == 500
    assert 'the spec replicas field ".spec.replicas" does not exist' in text


async def test_applying(server: Served) -> None:
    applied = await server.ok(
        "PATCH", f"{THINGS}/a", thing(color="blue"), content_type=APPLY_PATCH, fieldManager="me"
    )
    entry = applied["metadata"]["managedFields"][0]
    assert (entry["manager"], entry["operation"]) == ("me", "Apply")
    assert entry["fieldsV1"]["f:spec"] == {"f:color": {}, "f:size": {}}
    code, reason, _ = await server.refused(
        "PATCH", f"{THINGS}/a", thing(color="green"), content_type=APPLY_PATCH, fieldManager="you"
    )
    assert (code, reason) == (409, "Conflict")
    code, _, text = await server.refused("PATCH", f"{THINGS}/a", {}, content_type=STRATEGIC_PATCH)
    assert (code, "strategic" in text) == (415, False)


async def test_tables_have_the_columns_of_the_definition(server: Served) -> None:
    await server.ok("POST", THINGS, thing())
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    shown = await server.ok("GET", THINGS, accept=accept)
    assert [column["name"] for column in shown["columnDefinitions"]] == ["Name", "Size"]
    assert shown["rows"][0]["cells"] == ["a", 1]
    plain = await server.ok("GET", THINGS.replace("v1", "v1beta1"), accept=accept)
    assert [column["name"] for column in plain["columnDefinitions"]] == ["Name", "Age"]


async def test_a_changed_definition_holds_at_once(server: Served) -> None:
    await server.ok("POST", THINGS, thing())
    events = server.watch(THINGS)
    assert (await anext(events))["type"] == "ADDED"
    changed = definition()
    changed["spec"]["versions"][0]["schema"] = schema(extra={"type": "string", "default": "new"})
    await server.ok("PATCH", f"{CRDS}/things.x.example.com", changed, content_type=MERGE_PATCH)
    assert (await server.ok("GET", f"{THINGS}/a"))["extra"] == "new"
    found = (await server.ok("GET", THINGS))["items"][0]
    assert found["extra"] == "new"
    found |= {"apiVersion": "x.example.com/v1", "kind": "Thing"}
    assert (await server.ok("PUT", f"{THINGS}/a", found))["metadata"]["generation"] == 1
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_deleting_a_definition_deletes_its_objects(server: Served) -> None:
    await server.ok("POST", THINGS, thing("free"))
    held = thing("held")
    held["metadata"]["finalizers"] = ["x.example.com/hold"]
    await server.ok("POST", THINGS, held)
    await server.ok("DELETE", f"{CRDS}/things.x.example.com")
    found = await server.ok("GET", f"{CRDS}/things.x.example.com")
    assert found["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    assert [row["metadata"]["name"] for row in (await server.ok("GET", THINGS))["items"]] == ["held"]
    code, _, text = await server.refused("POST", THINGS, thing("late"))
    assert (code, text) == (405, "create not allowed while custom resource definition is terminating")
    await server.ok("PATCH", f"{THINGS}/held", {"metadata": {"finalizers": None}}, content_type=MERGE_PATCH)
    await server.api.custom_resources.settle()
    assert (await server.refused("GET", f"{CRDS}/things.x.example.com"))[0] == 404
    assert (await server.refused("GET", THINGS))[0] == 404
    await server.ok("POST", CRDS, definition())
    assert (await server.ok("GET", THINGS))["items"] == []


async def test_the_first_to_have_a_name_keeps_it(server: Served) -> None:
    await server.ok("POST", CRDS, definition("rivals", "Thing"))
    found = await server.ok("GET", f"{CRDS}/rivals.x.example.com")
    rows = {row["type"]: row for row in found["status"]["conditions"]}
    assert rows["Established"]["status"] == "False"
    assert (await server.refused("GET", THINGS.replace("things", "rivals")))[0] == 404
    await server.ok("DELETE", f"{CRDS}/things.x.example.com")
    found = await server.ok("GET", f"{CRDS}/rivals.x.example.com")
    assert {row["type"]: row["status"] for row in found["status"]["conditions"]} == {
        "NamesAccepted": "True",
        "Established": "True",
    }


async def test_definitions_are_served_again_after_a_restart(server: Served) -> None:
    await server.ok("POST", THINGS, thing())
    again = Served(store=server.api.store)
    assert (await again.ok("GET", f"{THINGS}/a"))["spec"]["size"] == 1


async def test_openapi_follows(server: Served) -> None:
    document = server.api.openapi.v3("x.example.com", "v1").decode()
    assert '"com.example.x.v1.Thing"' in document
    assert "strategic-merge-patch" not in document
    core = server.api.openapi.v3("", "v1")
    await server.ok("POST", CRDS, definition("others", "Other", names={"plural": "others", "kind": "Other"}))
    assert b"com.example.x.v1.Other" in server.api.openapi.v3("x.example.com", "v1")
    assert server.api.openapi.v3("", "v1") is core
    assert b"com.example.x.v1.Other" in server.api.openapi.v2_protobuf


async def test_what_is_not_done_is_said(server: Served) -> None:
    late = definition("others", "Other", names={"plural": "others", "kind": "Other"})
    client = {"url": "https://127.0.0.1/convert"}
    webhook = {"conversionReviewVersions": ["v1"], "clientConfig": client}
    late["spec"]["conversion"] = {"strategy": "Webhook", "webhook": webhook}
    response = await server.send("POST", CRDS, late)
    assert response.warnings == [
        "spec.conversion.strategy: this server calls no conversion webhook: it serves only the version that "
        "is stored, v1"
    ]
    others = THINGS.replace("things", "others")
    await server.ok("GET", others)
    assert (await server.send("GET", others.replace("v1", "v1beta1"))).status == 404


def _set(path: str, value: Any) -> Any:
    """A change of the definition: `path` counts from spec; "" takes the value away."""

    def change(document: Document) -> None:
        at: Any = document["spec"]
        *steps, last = path.split("/")
        for step in steps:
            at = at[int(step)] if isinstance(at, list) else at.setdefault(step, {})
        at[last] = value

    return change


_ROOT = "versions/0/schema/openAPIV3Schema"
_SIZE = f"{_ROOT}/properties/spec/properties/size"
_PLACE = "spec.versions[0].schema.openAPIV3Schema"
REFUSED: list[tuple[str, Any, str]] = [
    ("group", "other.io", 'metadata.name: Invalid value: "things.x.example.com": must be spec.names.plural'),
    ("scope", "Both", 'spec.scope: Unsupported value: "Both": supported values: "Cluster", "Namespaced"'),
    ("versions/0/storage", False, "must have exactly one version marked as storage version"),
    ("versions/1/name", "v1", "must contain unique version names"),
    (
        "versions/0/schema",
        None,
        "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
    ),
    ("names/listKind", "Thing", 'spec.names.listKind: Invalid value: "Thing": kind and listKind may not be'),
    (
        _SIZE,
        {},
        "spec.validation.openAPIV3Schema.properties[spec].properties[size].type: Required value: must",
    ),
    (f"{_SIZE}/type", "int", 'properties[size].type: Unsupported value: "int": supported values: "array"'),
    (f"{_SIZE}/default", "x", 'properties[size].default: Invalid value: "string"'),
    (f"{_SIZE}/anyOf", [{"type": "string"}], "anyOf[0].type: Forbidden: must be empty to be structural"),
    (f"{_ROOT}/type", "array", f'{_PLACE}.type: Invalid value: "array": must be object at the root'),
    (f"{_ROOT}/$ref", "#/x", f"{_PLACE}.$ref: Forbidden: $ref is not supported"),
    (f"{_ROOT}/anyOf", [{"properties": {"q": {"minimum": 1}}}], "properties[q]: Required value: because it"),
    (f"{_ROOT}/properties/spec/properties/l", {"type": "array"}, "[l].items: Required value: must be spec"),
    (
        "versions/0/subresources/scale/specReplicasPath",
        ".status.x",
        'scale.specReplicasPath: Invalid value: ".status.x": should be a json path under .spec',
    ),
    (
        "versions/0/additionalPrinterColumns",
        [{"name": "A", "type": "text", "jsonPath": ".a"}],
        'type: Invalid value: "text": must be one of boolean,date,integer,number,string',
    ),
    (
        "versions/0/selectableFields",
        [{"jsonPath": ".spec.no"}],
        "is an invalid path: does not refer to a valid",
    ),
    (
        "versions/0/selectableFields",
        [{"jsonPath": ".spec.free"}],
        "must point to a field of type string, bool",
    ),
    (
        f"{_ROOT}/properties/spec/properties/l",
        {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}},
        "must be atomic as item of a list with x-kubernetes-list-type=set",
    ),
    (f"{_SIZE}/x-kubernetes-map-type", "atomic", "must be object if x-kubernetes-map-type is specified"),
    ("conversion", {"strategy": "Magic"}, 'spec.conversion.strategy: Unsupported value: "Magic"'),
    ("conversion", {"strategy": "Webhook"}, "webhookClientConfig: Required value: required when strategy is"),
]


@pytest.mark.parametrize(("path", "value", "text"), REFUSED)
async def test_bad_definitions_are_refused(path: str, value: Any, text: str) -> None:
    async with Served() as served:
        document = copy.deepcopy(definition())
        _set(path, value)(document)
        code, _, message = await served.refused("POST", CRDS, document)
        assert (code, text in message) == (422, True), message


_VALUES: list[Any] = [
    *(None, True, 0, -1, 1.5, "", "x", "(", [], {}, [1], ["size"], {"a": 1}, {"type": "string"}),
    *([{"type": "string"}], "object", "array", "map", {"a": {"type": "integer"}}, "1e400", [[]]),
    *("date-time", "byte", [{"rule": "self == oldSelf"}], [{"rule": 5}], [{"rule": "has(self.size)"}]),
    [{"rule": "self.size > 0", "messageExpression": "string(self)", "fieldPath": ".size"}],
]
_FIELDS = """
type items properties additionalProperties required enum default pattern maximum minimum multipleOf maxLength
minLength maxItems maxProperties allOf anyOf oneOf not nullable format x-kubernetes-preserve-unknown-fields
x-kubernetes-embedded-resource x-kubernetes-int-or-string x-kubernetes-list-type x-kubernetes-list-map-keys
x-kubernetes-validations
"""


def _random_schema(random: Random, depth: int = 0) -> Any:
    if depth and random.random() < 0.2:
        return random.choice(_VALUES)
    found: Document = {"type": random.choice(["object", "array", "string", "integer"])}
    for _ in range(random.randrange(3)):
        found[random.choice(_FIELDS.split())] = random.choice(_VALUES)
    if depth < 3 and found["type"] == "object":
        found["properties"] = {"a": _random_schema(random, depth + 1), "size": {"type": "integer"}}
    elif depth < 3 and found["type"] == "array":
        found["items"] = _random_schema(random, depth + 1)
    return found


async def test_no_definition_breaks_the_server(server: Served) -> None:
    random, taken = Random(4), 0
    for number in range(120):
        name = {"plural": f"t{number}s", "kind": f"T{number}"}
        document = definition(f"t{number}s", f"T{number}", names=name)
        document["spec"]["versions"] = document["spec"]["versions"][:1]
        document["spec"]["versions"][0]["schema"] = schema(free=_random_schema(random))
        answer = await server.send("POST", CRDS, document)
        assert answer.status in (201, 400, 422), (document, answer.document)
        if answer.status != 201:
            continue
        taken += 1
        path = THINGS.replace("things", f"t{number}s")
        for value in _VALUES:
            made = thing() | {"kind": f"T{number}", "free": value}
            done = await server.send("PATCH", f"{path}/a", made, content_type=APPLY_PATCH, fieldManager="me")
            assert done.status in (200, 201, 400, 409, 422), (document, value, done.document)
        assert (await server.send("GET", path)).status == 200
        await server.ok("DELETE", f"{CRDS}/t{number}s.x.example.com")
    assert taken > 10


async def test_what_may_not_change(server: Served) -> None:
    where = f"{CRDS}/things.x.example.com"
    for change, text in [
        ({"scope": "Cluster"}, 'spec.scope: Invalid value: "Cluster": field is immutable'),
        ({"names": {"kind": "Other"}}, 'spec.names.kind: Invalid value: "Other": field is immutable'),
        (
            {"versions": [definition()["spec"]["versions"][1] | {"storage": True}]},
            "missing from spec.versions",
        ),
    ]:
        _, _, message = await server.refused("PATCH", where, {"spec": change}, content_type=MERGE_PATCH)
        assert text in message


async def test_many_writers_of_a_definition_meet_no_half_served_kind(server: Served) -> None:
    async def one(number: int) -> None:
        name = {"plural": f"t{number}s", "kind": f"T{number}"}
        await server.ok("POST", CRDS, definition(f"t{number}s", f"T{number}", names=name))
        await server.ok("GET", f"/apis/x.example.com/v1/namespaces/default/t{number}s")

    await asyncio.gather(*(one(number) for number in range(10)))

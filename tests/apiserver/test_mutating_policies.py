"""MutatingAdmissionPolicies: what they do to objects, in which order, and the words of their failures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from drakit.transport import MERGE_PATCH, Document
from tests.apiserver.served import Served, config_map

pytestmark = pytest.mark.anyio

GROUP = "/apis/admissionregistration.k8s.io/v1"
POLICIES = f"{GROUP}/mutatingadmissionpolicies"
BINDINGS = f"{GROUP}/mutatingadmissionpolicybindings"
MAPS = "/api/v1/namespaces/default/configmaps"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"


def applied(expression: str) -> Document:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patched(expression: str) -> Document:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def policy(
    *mutations: Document, name: str = "p", on: tuple[str, str] = ("", "configmaps"), **spec: Any
) -> Document:
    rule = {
        "apiGroups": [on[0]],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": [on[1]],
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {"matchConstraints": {"resourceRules": [rule]}, "mutations": list(mutations), **spec},
    }


def binding(to: str = "p", **spec: Any) -> Document:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": f"b-{to}"},
        "spec": {"policyName": to, **spec},
    }


@pytest.fixture
async def server() -> AsyncIterator[Served]:
    async with Served() as served:
        yield served


async def install(server: Served, *documents: Document) -> None:
    for document in documents:
        place = BINDINGS if document["kind"].endswith("Binding") else POLICIES
        await server.ok("POST", place, document)


def claim(*tolerations: Document) -> Document:
    exactly = {"deviceClassName": "gpu", **({"tolerations": list(tolerations)} if tolerations else {})}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "c", "namespace": "default"},
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}},
    }


async def test_an_apply_configuration_is_laid_over_the_object(server: Served) -> None:
    text = (
        'Object{metadata: Object.metadata{labels: {"made-by": request.userInfo.username}}, data: {"n": "1"}}'
    )
    await install(server, policy(applied(text)), binding())
    document = config_map("a", x="y")
    document["metadata"]["labels"] = {"own": "1"}
    made = await server.ok("POST", MAPS, document)
    assert made["data"] == {"x": "y", "n": "1"}
    assert set(made["metadata"]["labels"]) == {"own", "made-by"}
    changed = await server.ok("PATCH", f"{MAPS}/a", {"data": {"n": None}}, content_type=MERGE_PATCH)
    assert changed["data"] == {"x": "y", "n": "1"}


async def test_atomic_lists_are_left_alone(server: Served) -> None:
    text = """Object{spec: Object.spec{devices: Object.spec.devices{
        requests: object.spec.devices.requests.map(r, Object.spec.devices.requests{
            name: r.name, exactly: Object.spec.devices.requests.exactly{adminAccess: false}})}}}"""
    rows = policy(applied(text), on=("resource.k8s.io", "resourceclaims"))
    await install(server, rows, binding())
    _, _, text = await server.refused("POST", CLAIMS, claim())
    # The requests of a claim are atomic, as Kubernetes declares them.
    assert text == (
        "policy 'p' with binding 'b-p' denied request: error applying patch: invalid ApplyConfiguration: "
        "may not mutate atomic arrays, maps or structs: .spec.devices.requests"
    )


async def test_a_json_patch_changes_what_lists_hold(server: Served) -> None:
    tolerated = '{"key": "example.com/flaky", "operator": "Exists"}'
    text = f"""[
        JSONPatch{{op: "test", path: "/spec/devices/requests/0/name", value: "gpu"}},
        JSONPatch{{op: "add", path: "/spec/devices/requests/0/exactly/tolerations", value: [{tolerated}]}},
        JSONPatch{{op: "add", path: "/metadata/labels", value: Object.metadata.labels{{}}}},
        JSONPatch{{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("example.com/x"), value: "1"}},
    ]"""
    await install(server, policy(patched(text), on=("resource.k8s.io", "resourceclaims")), binding())
    made = await server.ok("POST", CLAIMS, claim())
    assert made["spec"]["devices"]["requests"][0]["exactly"]["tolerations"] == [
        {"key": "example.com/flaky", "operator": "Exists"}
    ]
    assert made["metadata"]["labels"] == {"example.com/x": "1"}


async def test_a_test_that_fails_leaves_the_object(server: Served) -> None:
    text = '[JSONPatch{op: "test", path: "/data/a", value: "2"}, JSONPatch{op: "remove", path: "/data/a"}]'
    await install(server, policy(patched(text)), binding())
    assert (await server.ok("POST", MAPS, config_map("a", a="1")))["data"] == {"a": "1"}


FAILURES: list[tuple[str, Document, str]] = [
    (
        "name",
        applied("Object{metadata: Object.metadatax{}}"),
        'type mismatch: unexpected type name "Object.metadatax", expected "Object.metadata", which matches '
        "field name path from root Object type",
    ),
    (
        "field",
        applied("Object{datax: {'a': 'b'}}"),
        "error applying patch: failed to convert patch object to typed object: .datax: field not declared in "
        "schema",
    ),
    (
        "error",
        applied("Object{data: {'a': string(object.no)}}"),
        "expression 'Object{data: {'a': string(object.no)}}' resulted in error: no such key: no",
    ),
    (
        "operation",
        patched('[JSONPatch{op: "remove", path: "/data/no"}]'),
        "JSON Patch: cannot be applied to the object: remove /data/no",
    ),
    (
        "unknown",
        patched('[JSONPatch{op: "add", path: "/no", value: 1}]'),
        "JSON Patch: .no: field not declared in schema",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("mutation", "text"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES]
)
async def test_a_failure_denies_unless_it_is_to_be_ignored(
    server: Served, mutation: Document, text: str
) -> None:
    await install(server, policy(mutation), binding())
    response = await server.send("POST", MAPS, config_map("a", a="1"))
    message = f"policy 'p' with binding 'b-p' denied request: {text}"
    assert response.document == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "Invalid",
        "details": {"name": "a", "kind": "configmaps", "causes": [{"message": message}]},
        "code": 403,
    }
    change = {"spec": {"failurePolicy": "Ignore"}}
    await server.ok("PATCH", f"{POLICIES}/p", change, content_type=MERGE_PATCH)
    await server.ok("POST", MAPS, config_map("a", a="1"))


async def test_conditions_variables_and_parameters(server: Served) -> None:
    await server.ok("POST", MAPS, config_map("settings", size="3"))
    rows = policy(
        applied('Object{data: {"n": string(variables.n), "all": string(variables.all.size())}}'),
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        matchConditions=[{"name": "not-it", "expression": "object.metadata.name != 'settings'"}],
        variables=[
            {"name": "n", "expression": "params.data.size"},
            {"name": "all", "expression": "object.data"},
        ],
    )
    reference = {"name": "settings", "namespace": "default", "parameterNotFoundAction": "Deny"}
    await install(server, rows, binding(paramRef=reference))
    assert (await server.ok("POST", MAPS, config_map("a", x="y")))["data"] == {"x": "y", "n": "3", "all": "1"}
    settings = await server.ok("PATCH", f"{MAPS}/settings", {"data": {"n": "4"}}, content_type=MERGE_PATCH)
    assert settings["data"] == {"size": "3", "n": "4"}


@pytest.mark.parametrize(("again", "count"), [("Never", "2"), ("IfNeeded", "3")])
async def test_policies_go_by_name_and_see_each_other(server: Served, again: str, count: str) -> None:
    first = applied('Object{data: {"n": string(object.data.size())}}')
    second = applied('Object{data: {"later": "1"}}')
    await install(
        server,
        policy(first, name="a", reinvocationPolicy=again),
        policy(second, name="b"),
        binding("a"),
        binding("b"),
    )
    made = await server.ok("POST", MAPS, config_map("a", x="y", n="0"))
    assert made["data"] == {"x": "y", "n": count, "later": "1"}


async def test_validation_comes_after(server: Served) -> None:
    await install(server, policy(applied('Object{data: {"bad key": "1"}}')), binding())
    status, _, text = await server.refused("POST", MAPS, config_map("a"))
    assert status == 422
    assert "data[bad key]" in text


RULES: list[tuple[str, Document, list[str]]] = [
    (
        "nothing",
        {"matchConstraints": None, "mutations": []},
        [
            "spec.matchConstraints: Required value",
            "spec.mutations: Required value: mutations must contain at least one item",
        ],
    ),
    (
        "types",
        {"mutations": [applied("'teapot'"), patched("Object{}"), {"patchType": "Other"}]},
        [
            "must evaluate to Object but got string",
            "must evaluate to list(JSONPatch) but got Object",
            'spec.mutations[2].patchType: Unsupported value: "Other"',
        ],
    ),
    (
        "expressions",
        {
            "mutations": [patched("[JSONPatch{op: 1}]"), patched("[JSONPatch{no: '1'}]"), applied("Foo{}")],
            "reinvocationPolicy": "Sometimes",
        },
        [
            "expected type of field 'op' is 'string' but provided type is 'int'",
            "undefined field 'no'",
            "undeclared reference to 'Foo'",
            'spec.reinvocationPolicy: Unsupported value: "Sometimes": supported values: "IfNeeded", "Never"',
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "texts"), [row[1:] for row in RULES], ids=[row[0] for row in RULES])
async def test_what_a_policy_must_be(server: Served, spec: Document, texts: list[str]) -> None:
    document = policy(applied("Object{}"))
    document["spec"] |= spec
    status, _, text = await server.refused("POST", POLICIES, document)
    assert status == 422
    for part in texts:
        assert part in text


async def test_deletes_cannot_be_mutated(server: Served) -> None:
    document = policy(applied("Object{}"))
    document["spec"]["matchConstraints"]["resourceRules"][0]["operations"] = ["DELETE"]
    _, _, text = await server.refused("POST", POLICIES, document)
    assert 'operations[0]: Unsupported value: "DELETE"' in text


async def test_objects_are_made_nowhere_else(server: Served) -> None:
    document = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "v"},
        "spec": {
            "matchConstraints": policy()["spec"]["matchConstraints"],
            "validations": [{"expression": "Object{a: 1} == Object{a: 1}"}],
        },
    }
    _, _, text = await server.refused("POST", f"{GROUP}/validatingadmissionpolicies", document)
    assert "undeclared reference to 'Object'" in text

"""ValidatingAdmissionPolicies: whom they concern, what they decide, and the words they use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from drakit.apiserver.auth import User
from drakit.transport import MERGE_PATCH, Document
from tests.apiserver.served import Served, config_map

pytestmark = pytest.mark.anyio

GROUP = "/apis/admissionregistration.k8s.io/v1"
POLICIES = f"{GROUP}/validatingadmissionpolicies"
BINDINGS = f"{GROUP}/validatingadmissionpolicybindings"
MAPS = "/api/v1/namespaces/default/configmaps"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
NAME = "kubernetes.io/metadata.name"
ON_MAPS = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "operations": ["CREATE", "UPDATE"],
    "resources": ["configmaps"],
}


def policy(*validations: Document, name: str = "p", rules: Any = None, **spec: Any) -> Document:
    match = spec.pop("match", {})
    constraints = {"resourceRules": [rules or ON_MAPS], **match}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {"matchConstraints": constraints, "validations": list(validations), **spec},
    }


def binding(name: str = "b", to: str = "p", actions: tuple[str, ...] = ("Deny",), **spec: Any) -> Document:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": to, "validationActions": list(actions), **spec},
    }


def rule(expression: str, **more: str) -> Document:
    return {"expression": expression, **more}


@pytest.fixture
async def server() -> AsyncIterator[Served]:
    async with Served() as served:
        yield served


async def install(server: Served, *documents: Document) -> None:
    for document in documents:
        place = BINDINGS if document["kind"].endswith("Binding") else POLICIES
        await server.ok("POST", place, document)


async def denied(server: Served, method: str, path: str, document: Any = None, **more: Any) -> str:
    """What a policy says, without the beginning that all denials have."""
    _, _, text = await server.refused(method, path, document, **more)
    return text.partition("denied request: ")[2]


async def test_a_denial_is_what_kubernetes_says(server: Served) -> None:
    await install(server, policy(rule("object.data.size() < 2", message="too much")), binding())
    await server.ok("POST", MAPS, config_map("small", a="1"))
    response = await server.send("POST", MAPS, config_map("big", a="1", b="2"))
    text = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: too much"
    assert response.document == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f'configmaps "big" is forbidden: {text}',
        "reason": "Invalid",
        "details": {"name": "big", "kind": "configmaps", "causes": [{"message": text}]},
        "code": 422,
    }
    more = {"data": {"c": "3", "d": "4"}}
    assert await denied(server, "PATCH", f"{MAPS}/small", more, content_type=MERGE_PATCH) == "too much"
    generated = {"kind": "ConfigMap", "metadata": {"generateName": "gen-"}, "data": {"a": "1", "b": "2"}}
    _, _, text = await server.refused("POST", MAPS, generated)
    assert text.startswith('configmaps "gen-')
    assert "is forbidden: Validating" in text


WORDS: list[tuple[str, Document, str]] = [
    ("expression", rule(" 1 == 2 "), "failed expression: 1 == 2"),
    ("message", rule("false", message=" no "), "no"),
    ("messageExpression", rule("false", messageExpression="'no ' + object.metadata.name"), "no a"),
    ("failing messageExpression", rule("false", messageExpression="string(object.no)", message="x"), "x"),
    ("two lines", rule("false", messageExpression="'a\\nb'", message="x"), "x"),
    ("error", rule("object.no == 1"), "expression 'object.no == 1' resulted in error: no such key: no"),
]  # fmt: skip


@pytest.mark.parametrize(("validation", "text"), [row[1:] for row in WORDS], ids=[row[0] for row in WORDS])
async def test_what_a_denial_says(server: Served, validation: Document, text: str) -> None:
    await install(server, policy(validation), binding())
    assert await denied(server, "POST", MAPS, config_map("a")) == text


async def test_reasons_and_codes(server: Served) -> None:
    await install(server, policy(rule("false", reason="Forbidden")), binding())
    code, reason, _ = await server.refused("POST", MAPS, config_map("a"))
    assert (code, reason) == (403, "Forbidden")


async def test_failure_policy_ignore_lets_errors_pass_but_not_false(server: Served) -> None:
    broken = rule("object.data.nothing == '1'")
    await install(server, policy(broken, rule("object.data.size() < 2"), failurePolicy="Ignore"), binding())
    await server.ok("POST", MAPS, config_map("a", x="1"))
    assert await denied(server, "POST", MAPS, config_map("b", x="1", y="2"))


MATCHES: list[tuple[str, Document, bool]] = [
    ("another resource", {"resourceRules": [{**ON_MAPS, "resources": ["secrets"]}]}, False),
    ("all resources", {"resourceRules": [{**ON_MAPS, "apiGroups": ["*"], "resources": ["*"]}]}, True),
    ("subresources", {"resourceRules": [{**ON_MAPS, "resources": ["configmaps/*"]}]}, True),
    ("its status", {"resourceRules": [{**ON_MAPS, "resources": ["configmaps/status"]}]}, False),
    ("another operation", {"resourceRules": [{**ON_MAPS, "operations": ["DELETE"]}]}, False),
    ("every operation", {"resourceRules": [{**ON_MAPS, "operations": ["*"]}]}, True),
    ("cluster scope", {"resourceRules": [{**ON_MAPS, "scope": "Cluster"}]}, False),
    ("namespaced", {"resourceRules": [{**ON_MAPS, "scope": "Namespaced"}]}, True),
    ("by name", {"resourceRules": [{**ON_MAPS, "resourceNames": ["a"]}]}, True),
    ("another name", {"resourceRules": [{**ON_MAPS, "resourceNames": ["b"]}]}, False),
    ("excluded", {"excludeResourceRules": [{**ON_MAPS, "resourceNames": ["a"]}]}, False),
    ("by label", {"objectSelector": {"matchLabels": {"team": "x"}}}, True),
    ("another label", {"objectSelector": {"matchLabels": {"team": "y"}}}, False),
    ("by namespace", {"namespaceSelector": {"matchLabels": {NAME: "default"}}}, True),
    ("another namespace", {"namespaceSelector": {"matchLabels": {NAME: "x"}}}, False),
]  # fmt: skip


@pytest.mark.parametrize(("match", "is_hit"), [row[1:] for row in MATCHES], ids=[row[0] for row in MATCHES])
async def test_whom_a_policy_concerns(server: Served, match: Document, is_hit: bool) -> None:
    await install(server, policy(rule("false"), match=match), binding())
    response = await server.send("POST", MAPS, config_map("a", {"team": "x"}))
    assert (response.status == 422) is is_hit
    # The same words in the binding narrow it down further.
    await server.ok("DELETE", f"{POLICIES}/p")
    await server.ok("DELETE", f"{BINDINGS}/b")
    await install(server, policy(rule("false")), binding(matchResources=match))
    response = await server.send("POST", MAPS, config_map("a", {"team": "x"}), dryRun="All")
    assert (response.status == 422) is is_hit or response.status == 409


async def test_match_conditions(server: Served) -> None:
    conditions = [
        {"name": "not-ada", "expression": "request.userInfo.username != 'ada'"},
        {"name": "small", "expression": "object.data.size() < 2"},
    ]
    await install(server, policy(rule("false"), matchConditions=conditions), binding())
    ada = User("ada", ("system:masters",))
    await server.ok("POST", MAPS, config_map("a", x="1"), user=ada)
    await server.ok("POST", MAPS, config_map("b", x="1", y="2"))
    assert await denied(server, "POST", MAPS, config_map("c", x="1")) == "failed expression: false"
    assert "no such key: data" in await denied(server, "POST", MAPS, config_map("d"))


async def test_warn_and_audit_let_pass(server: Served) -> None:
    await install(server, policy(rule("false", message="hm")), binding(actions=("Warn", "Audit")))
    response = await server.send("POST", MAPS, config_map("a"))
    assert response.status == 201
    text = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': hm"
    assert response.warnings == [text]


async def test_what_expressions_see(server: Served) -> None:
    seen = (
        "request.operation + ' ' + request.resource.resource + ' ' + request.kind.kind + ' ' + request.name "
        "+ ' ' + request.namespace + ' ' + string(request.dryRun) + ' ' + string(oldObject == null) "
        "+ ' ' + namespaceObject.metadata.name + ' ' + request.userInfo.groups[0] + ' ' + params.data.word"
    )
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    await server.ok("POST", MAPS, config_map("params", word="w"))
    reference = {"name": "params", "namespace": "default", "parameterNotFoundAction": "Deny"}
    rules = {**ON_MAPS, "operations": ["*"]}
    body = policy(rule("false", messageExpression=seen), rules=rules, paramKind=kind)
    await install(server, body, binding(paramRef=reference))
    text = await denied(server, "POST", MAPS, config_map("a"), dryRun="All")
    assert text == "CREATE configmaps ConfigMap a default true true default system:masters w"
    text = await denied(server, "DELETE", f"{MAPS}/params")
    assert text == "DELETE configmaps ConfigMap params default false false default system:masters w"


async def test_params(server: Served) -> None:
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    secrets = {**ON_MAPS, "resources": ["secrets"]}
    body = policy(
        rule("params != null && params.data.word != 'bad'", messageExpression="string(params.metadata.name)"),
        rules=secrets,
        paramKind=kind,
    )
    labels = {"use": "params"}
    for name, word in (("one", "good"), ("two", "bad"), ("three", "bad")):
        await server.ok("POST", MAPS, config_map(name, labels, word=word))
    by_label = {"selector": {"matchLabels": labels}, "parameterNotFoundAction": "Deny"}
    await install(server, body, binding(paramRef=by_label))
    secret = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}}
    path = "/api/v1/namespaces/default/secrets"
    _, _, text = await server.refused("POST", path, secret)
    assert text.endswith("denied request: three")
    await server.ok("DELETE", f"{MAPS}/two")
    await server.ok("DELETE", f"{MAPS}/three")
    await server.ok("POST", path, secret)
    await server.ok("DELETE", f"{MAPS}/one")
    _, _, text = await server.refused("POST", path, {**secret, "metadata": {"name": "t"}})
    assert text.endswith(
        "denied request: failed to configure binding: no params found for policy binding with `Deny` "
        "parameterNotFoundAction"
    )
    await server.ok(
        "PATCH",
        f"{BINDINGS}/b",
        {"spec": {"paramRef": {"parameterNotFoundAction": "Allow"}}},
        content_type=MERGE_PATCH,
    )
    await server.ok("POST", path, {**secret, "metadata": {"name": "t"}})


async def test_an_unknown_kind_of_params(server: Served) -> None:
    await install(
        server,
        policy(rule("true"), paramKind={"apiVersion": "x.example.com/v1", "kind": "Limit"}),
        binding(paramRef={"name": "a", "parameterNotFoundAction": "Allow"}),
    )
    _, _, text = await server.refused("POST", MAPS, config_map("a"))
    assert text == (
        "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: failed to configure "
        "policy: failed to find resource referenced by paramKind: 'x.example.com/v1, Kind=Limit'"
    )


async def test_the_authorizer(server: Served) -> None:
    check = "authorizer.group('').resource('secrets').namespace('default').check('create').allowed()"
    mine = "authorizer.requestResource.check('create').allowed()"
    await install(server, policy(rule(f"{check} && {mine}", message="no secrets")), binding())
    await server.ok("POST", MAPS, config_map("a"))
    role: Document = {
        "kind": "ClusterRole",
        "metadata": {"name": "maps"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}],
    }
    bound = {
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "maps"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "maps"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ada"}],
    }
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    await server.ok("POST", f"{rbac}/clusterroles", role)
    await server.ok("POST", f"{rbac}/clusterrolebindings", bound)
    assert await denied(server, "POST", MAPS, config_map("b"), user=User("ada")) == "no secrets"


async def test_a_policy_for_another_version_sees_that_version(server: Served) -> None:
    group = {"apiGroups": ["resource.k8s.io"], "apiVersions": ["v1beta1"]}
    rules = {**ON_MAPS, **group, "resources": ["resourceslices"]}
    seen = (
        "object.apiVersion + ' ' + request.kind.version + ' ' + request.requestKind.version + ' ' + "
        "object.spec.devices[0].basic.attributes.model.string"
    )
    body = policy(rule("false", messageExpression=seen), rules=rules)
    await install(server, body, binding())
    device = {"name": "d", "attributes": {"model": {"string": "m"}}}
    spec = {"driver": "x.example.com", "nodeName": "n", "devices": [device]}
    pool = {"name": "n", "generation": 1, "resourceSliceCount": 1}
    one = {"kind": "ResourceSlice", "metadata": {"name": "s"}, "spec": {**spec, "pool": pool}}
    assert await denied(server, "POST", SLICES, one) == "resource.k8s.io/v1beta1 v1beta1 v1 m"
    exact = {"spec": {"matchConstraints": {"matchPolicy": "Exact"}}}
    await server.ok("PATCH", f"{POLICIES}/p", exact, content_type=MERGE_PATCH)
    await server.ok("POST", SLICES, one)


async def test_scale_is_a_resource_of_its_own(server: Served) -> None:
    what = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"]}
    seen = "object.kind + ' ' + string(oldObject.spec.replicas) + ' ' + string(object.spec.replicas)"
    few = rule("object.spec.replicas < 4", messageExpression=seen)
    await install(server, policy(few, rules={**what, "resources": ["deployments/scale"]}), binding())
    await install(
        server,
        policy(rule("false"), name="q", rules={**what, "resources": ["deployments"]}),
        binding("c", "q"),
    )
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    path = "/apis/apps/v1/namespaces/default/deployments"
    await server.ok("POST", path, {"metadata": {"name": "d"}, "spec": spec})
    scaled = {"spec": {"replicas": 3}}
    await server.ok("PATCH", f"{path}/d/scale", scaled, content_type=MERGE_PATCH)
    scaled = {"spec": {"replicas": 9}}
    assert await denied(server, "PATCH", f"{path}/d/scale", scaled, content_type=MERGE_PATCH) == "Scale 3 9"
    assert await denied(server, "PATCH", f"{path}/d", scaled, content_type=MERGE_PATCH)


async def test_the_configuration_of_admission_is_exempt(server: Served) -> None:
    rules = {key: ["*"] for key in ("apiGroups", "apiVersions", "operations", "resources")}
    await install(server, policy(rule("false"), rules=rules), binding())
    assert (await server.send("POST", MAPS, config_map("a"))).status == 422
    await server.ok("DELETE", f"{BINDINGS}/b")
    await server.ok("POST", MAPS, config_map("a"))


async def test_a_policy_that_costs_too_much_denies(server: Served) -> None:
    numbers = "[" + ",".join("1" for _ in range(100)) + "]"
    heavy = f"{numbers}.all(a, {numbers}.all(b, {numbers}.all(c, a + b + c > 0)))"
    await install(server, policy(rule(heavy)), binding())
    text = await denied(server, "POST", MAPS, config_map("a"))
    assert text.endswith("resulted in error: operation cancelled: actual cost limit exceeded")


PROBLEMS: list[tuple[str, Document, str]] = [
    (
        "no validations",
        {"validations": []},
        "spec.validations: Required value: validations or auditAnnotations",
    ),
    (
        "does not compile",
        {"validations": [rule("object.")]},
        "compilation failed: ERROR: <input>:1:8: Syntax",
    ),
    (
        "no bool",
        {"validations": [rule("1 + 1")]},
        'spec.validations[0].expression: Invalid value: "1 + 1": must evaluate to bool but got int',
    ),
    ("perhaps bool", {"validations": [rule("object.x")]}, "must evaluate to bool but got dyn"),
    (
        "no message",
        {"validations": [rule("true", messageExpression="1")]},
        "must evaluate to string but got int",
    ),
    (
        "no authorizer in messages",
        {
            "validations": [
                rule("true", messageExpression="string(authorizer.path('/').check('get').allowed())")
            ]
        },
        "undeclared reference to 'authorizer'",
    ),
    ("params undeclared", {"validations": [rule("params == null")]}, "undeclared reference to 'params'"),
    (
        "a later variable",
        {"variables": [rule("variables.b", name="a"), rule("1", name="b")]},
        "spec.variables[0].expression: Invalid value",
    ),
    ("a variable's name", {"variables": [rule("1", name="if")]}, "name is not a valid CEL identifier"),
    (
        "type of a variable",
        {"variables": [rule("1", name="a")], "validations": [rule("variables.a == 'x'")]},
        "found no matching overload for '_==_' applied to '(int, string)'",
    ),
    (
        "variables in conditions",
        {"variables": [rule("1", name="a")], "matchConditions": [rule("variables.a == 1", name="a")]},
        "undeclared reference to 'variables'",
    ),
    (
        "conditions",
        {"matchConditions": [rule("1", name="a"), rule("true", name="a")]},
        "spec.matchConditions[1].name: Duplicate value",
    ),
    (
        "failurePolicy",
        {"failurePolicy": "Maybe"},
        'spec.failurePolicy: Unsupported value: "Maybe": supported values: "Fail", "Ignore"',
    ),
    ("no rules", {"matchConstraints": {}}, "spec.matchConstraints.resourceRules: Required value"),
    (
        "operations",
        {"matchConstraints": {"resourceRules": [{**ON_MAPS, "operations": ["GET"]}]}},
        'Unsupported value: "GET"',
    ),
    (
        "reason",
        {"validations": [rule("true", reason="Gone")]},
        "spec.validations[0].reason: Unsupported value",
    ),
    (
        "annotations",
        {"auditAnnotations": [{"key": "a", "valueExpression": "1"}]},
        "must evaluate to one of [string null_type] but got int",
    ),
    ("params' kind", {"paramKind": {"apiVersion": "v1"}}, "spec.paramKind.kind: Required value"),
]


@pytest.mark.parametrize(("change", "text"), [row[1:] for row in PROBLEMS], ids=[row[0] for row in PROBLEMS])
async def test_what_makes_a_policy_invalid(server: Served, change: Document, text: str) -> None:
    body = policy(rule("true"))
    body["spec"] |= change
    code, _, found = await server.refused("POST", POLICIES, body)
    assert code == 422
    assert text in found


async def test_what_makes_a_binding_invalid(server: Served) -> None:
    _, _, text = await server.refused("POST", BINDINGS, binding(actions=("Deny", "Warn")))
    assert "must not contain both Deny and Warn" in text
    _, _, text = await server.refused("POST", BINDINGS, binding(actions=()))
    assert "spec.validationActions: Required value: at least one validation action is required" in text
    _, _, text = await server.refused("POST", BINDINGS, binding(paramRef={"parameterNotFoundAction": "Deny"}))
    assert "spec.paramRef: Required value: one of name or selector must be specified" in text

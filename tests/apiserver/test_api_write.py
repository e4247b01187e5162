"""create, update, patch, delete and the subresources: what a client may change, and what it may not."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest

from drakit.apiserver.auth import User
from drakit.client.api import EVENTS, PODS, Client
from drakit.errors import Conflict
from drakit.transport import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from tests.apiserver.served import ADMIN, Served, config_map, pod

pytestmark = pytest.mark.anyio

NS = "/api/v1/namespaces/default"
MAPS = f"{NS}/configmaps"
POD_PATH = f"{NS}/pods"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with Served() as server:
        yield server


# --- create ---------------------------------------------------------------------------------------


async def test_create_fills_in_what_is_the_servers(served: Served) -> None:
    document = config_map("a", x="1")
    document["metadata"] |= {"uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "selfLink": "/x"}
    made = await served.ok("POST", MAPS, document)
    meta = made["metadata"]
    assert meta["uid"] != "mine"
    assert meta["creationTimestamp"] == "2026-11-22T12:00:00Z"
    assert meta["namespace"] == "default"
    assert "selfLink" not in meta
    assert document["metadata"]["uid"] == "mine"


async def test_a_document_handed_over_is_not_changed(served: Served) -> None:
    document = pod("p", nodeName="n1")
    before = copy.deepcopy(document)
    await served.ok("POST", POD_PATH, document)
    patch = {"metadata": {"labels": {"a": "b"}}}
    await served.ok("PATCH", f"{POD_PATH}/p", patch, content_type=MERGE_PATCH)
    assert document == before
    assert patch == {"metadata": {"labels": {"a": "b"}}}


async def test_generated_names(served: Served) -> None:
    document = {"metadata": {"generateName": "x" * 70}}
    made = {(await served.ok("POST", MAPS, document))["metadata"]["name"] for _ in range(5)}
    assert len(made) == 5
    assert {len(name) for name in made} == {63}
    code, reason, message = await served.refused("POST", MAPS, {"metadata": {}})
    assert (code, reason) == (422, "Invalid")
    assert "name or generateName is required" in message


async def test_create_refusals(served: Served) -> None:
    await served.ok("POST", MAPS, config_map("a"))
    assert (await served.refused("POST", MAPS, config_map("a")))[:2] == (409, "AlreadyExists")
    other = config_map("b")
    other["metadata"]["namespace"] = "elsewhere"
    assert (await served.refused("POST", MAPS, other))[0] == 400
    nowhere = await served.refused("POST", "/api/v1/namespaces/nowhere/configmaps", config_map("a"))
    assert nowhere == (404, "NotFound", 'namespaces "nowhere" not found')
    assert (await served.refused("POST", MAPS, None))[0] == 400
    assert (await served.refused("POST", MAPS, config_map("c"), dryRun="Some"))[0] == 422
    assert (await served.refused("POST", MAPS, config_map("c"), fieldValidation="Maybe"))[0] == 422


async def test_a_dry_run_says_what_would_be_and_does_nothing(served: Served) -> None:
    made = await served.ok("POST", MAPS, config_map("a"), dryRun="All")
    assert made["metadata"]["uid"]
    assert "resourceVersion" not in made["metadata"]
    assert (await served.refused("GET", f"{MAPS}/a"))[0] == 404
    await served.ok("POST", MAPS, config_map("a"))
    assert (await served.refused("POST", MAPS, config_map("a"), dryRun="All"))[0] == 409
    changed = await served.ok("PUT", f"{MAPS}/a", config_map("a", x="1"), dryRun="All")
    assert changed["data"] == {"x": "1"}
    await served.ok("DELETE", f"{MAPS}/a", dryRun="All")
    assert "data" not in await served.ok("GET", f"{MAPS}/a")


async def test_nothing_is_made_in_a_namespace_that_ends(served: Served) -> None:
    await served.ok("POST", "/api/v1/namespaces", {"metadata": {"name": "t"}})
    ended = await served.ok("DELETE", "/api/v1/namespaces/t")
    assert ended["status"]["phase"] == "Terminating"
    code, reason, message = await served.refused("POST", "/api/v1/namespaces/t/configmaps", config_map("a"))
    assert (code, reason) == (403, "Forbidden")
    assert "unable to create new content in namespace t because it is being terminated" in message
    done = {**ended, "spec": {}}
    await served.ok("PUT", "/api/v1/namespaces/t/finalize", done)
    assert (await served.refused("GET", "/api/v1/namespaces/t"))[0] == 404
    assert (await served.refused("DELETE", "/api/v1/namespaces/kube-system"))[0] == 403


# --- update and patch -----------------------------------------------------------------------------


async def test_the_resource_version_is_an_optimistic_lock(served: Served) -> None:
    first = await served.ok("POST", MAPS, config_map("a"))
    second = await served.ok("PUT", f"{MAPS}/a", {**first, "data": {"x": "1"}})
    code, reason, message = await served.refused("PUT", f"{MAPS}/a", {**first, "data": {"x": "2"}})
    assert (code, reason) == (409, "Conflict")
    assert message == (
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    stale = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"x": "3"}}
    assert (await served.refused("PATCH", f"{MAPS}/a", stale, content_type=MERGE_PATCH))[0] == 409
    assert await served.ok("GET", f"{MAPS}/a") == second
    await served.ok("PUT", f"{MAPS}/a", config_map("a", x="4"))


async def test_a_change_that_changes_nothing_has_no_new_version(served: Served) -> None:
    made = await served.ok("POST", POD_PATH, pod("p"))
    assert await served.ok("PUT", f"{POD_PATH}/p", made) == made
    nothing = {"metadata": {"labels": {}}}
    assert await served.ok("PATCH", f"{POD_PATH}/p", nothing, content_type=MERGE_PATCH) == made


async def test_identity_stays(served: Served) -> None:
    made = await served.ok("POST", MAPS, config_map("a"))
    other = {**made, "metadata": {**made["metadata"], "uid": "other"}}
    assert (await served.refused("PUT", f"{MAPS}/a", other))[0] == 409
    renamed = {**made, "metadata": {**made["metadata"], "name": "b"}}
    assert (await served.refused("PUT", f"{MAPS}/a", renamed))[0] == 400
    rename = {"metadata": {"name": "b"}}
    assert (await served.refused("PATCH", f"{MAPS}/a", rename, content_type=MERGE_PATCH))[0] == 400
    young = {
        "metadata": {"creationTimestamp": "2001-01-01T00:00:00Z", "deletionTimestamp": "2001-01-01T00:00:00Z"}
    }
    kept = await served.ok("PATCH", f"{MAPS}/a", young, content_type=MERGE_PATCH)
    assert kept["metadata"]["creationTimestamp"] == made["metadata"]["creationTimestamp"]
    assert "deletionTimestamp" not in kept["metadata"]


@pytest.mark.parametrize(
    ("content_type", "patch"),
    [
        (MERGE_PATCH, {"data": {"x": "2", "y": None}}),
        (STRATEGIC_PATCH, {"data": {"x": "2", "y": None}}),
        (
            JSON_PATCH,
            [{"op": "replace", "path": "/data/x", "value": "2"}, {"op": "remove", "path": "/data/y"}],
        ),
    ],
)
async def test_patch_formats(served: Served, content_type: str, patch: Any) -> None:
    await served.ok("POST", MAPS, config_map("a", x="1", y="1"))
    changed = await served.ok("PATCH", f"{MAPS}/a", patch, content_type=content_type)
    assert changed["data"] == {"x": "2"}
    assert (await served.refused("PATCH", f"{MAPS}/b", patch, content_type=content_type))[0] == 404


async def test_patching_in_an_older_version(served: Served) -> None:
    requests = [{"name": "r", "exactly": {"deviceClassName": "c"}}]
    await served.ok("POST", CLAIMS, {"metadata": {"name": "c"}, "spec": {"devices": {"requests": requests}}})
    old = CLAIMS.replace("/v1/", "/v1beta1/")
    patch = [{"op": "test", "path": "/spec/devices/requests/0/deviceClassName", "value": "c"}]
    label = {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}
    changed = await served.ok("PATCH", f"{old}/c", [*patch, label], content_type=JSON_PATCH)
    assert changed["apiVersion"] == "resource.k8s.io/v1beta1"
    now = await served.ok("GET", f"{CLAIMS}/c")
    assert now["metadata"]["labels"] == {"a": "b"}
    assert now["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"] == "c"


async def test_status_and_spec_have_separate_ways(served: Served) -> None:
    await served.ok("POST", POD_PATH, pod("p"))
    both = {"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Running"}}
    await served.ok("PATCH", f"{POD_PATH}/p", both, content_type=MERGE_PATCH)
    assert (await served.ok("GET", f"{POD_PATH}/p"))["status"]["phase"] == "Pending"
    status = {"spec": {"priority": 5}, "status": {"phase": "Running"}}
    changed = await served.ok("PATCH", f"{POD_PATH}/p/status", status, content_type=MERGE_PATCH)
    assert changed["status"]["phase"] == "Running"
    assert changed["spec"].get("priority") != 5


async def test_writes_at_the_same_time_all_count(served: Served) -> None:
    await served.ok("POST", MAPS, config_map("a"))
    patches = [{"data": {f"k{number}": "v"}} for number in range(50)]
    await asyncio.gather(
        *(served.ok("PATCH", f"{MAPS}/a", patch, content_type=MERGE_PATCH) for patch in patches)
    )
    assert len((await served.ok("GET", f"{MAPS}/a"))["data"]) == 50


async def test_a_put_makes_a_lease_but_no_config_map(served: Served) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    made = await served.send(
        "PUT", f"{leases}/l", {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}
    )
    assert made.status == 201
    assert (await served.refused("PUT", f"{MAPS}/a", config_map("a")))[0] == 404


async def test_a_lease_is_given_back_with_an_empty_holder_as_go_clients_do(served: Served) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15}}
    made = await served.ok("POST", leases, lease)
    given_back = {**made, "spec": {"holderIdentity": "", "leaseDurationSeconds": 1}}
    assert (await served.ok("PUT", f"{leases}/l", given_back))["spec"]["holderIdentity"] == ""


async def test_apply_needs_a_manager_and_makes_what_is_missing(served: Served) -> None:
    document = config_map("a", x="1")
    refused = await served.refused("PATCH", f"{MAPS}/a", document, content_type=APPLY_PATCH)
    assert refused[0] == 422
    made = await served.send("PATCH", f"{MAPS}/a", document, content_type=APPLY_PATCH, fieldManager="m")
    assert made.status == 201
    document = config_map("a", y="2")
    changed = await served.ok("PATCH", f"{MAPS}/a", document, content_type=APPLY_PATCH, fieldManager="m")
    assert changed["data"] == {"y": "2"}
    other = config_map("a", y="3")
    code, reason, message = await served.refused(
        "PATCH", f"{MAPS}/a", other, content_type=APPLY_PATCH, fieldManager="n"
    )
    assert (code, reason) == (409, "Conflict")
    assert ".data.y" in message


# --- delete ---------------------------------------------------------------------------------------


async def test_what_a_deletion_answers(served: Served) -> None:
    made = await served.ok("POST", MAPS, config_map("a"))
    gone = await served.ok("DELETE", f"{MAPS}/a")
    assert gone["status"] == "Success"
    assert gone["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    await served.ok("POST", CLAIMS, {"metadata": {"name": "c"}, "spec": {}})
    assert (await served.ok("DELETE", f"{CLAIMS}/c"))["kind"] == "ResourceClaim"
    assert (await served.refused("DELETE", f"{MAPS}/a"))[0] == 404


async def test_finalizers_keep_an_object_until_they_are_gone(served: Served) -> None:
    document = config_map("a")
    document["metadata"]["finalizers"] = ["example.com/f"]
    await served.ok("POST", MAPS, document)
    marked = await served.ok("DELETE", f"{MAPS}/a")
    assert marked["metadata"]["deletionTimestamp"] == "2026-11-22T12:00:00Z"
    served.clock.advance(60)
    again = await served.ok("DELETE", f"{MAPS}/a")
    assert again["metadata"]["deletionTimestamp"] == "2026-11-22T12:00:00Z"
    await served.ok("PATCH", f"{MAPS}/a", {"metadata": {"finalizers": None}}, content_type=MERGE_PATCH)
    assert (await served.refused("GET", f"{MAPS}/a"))[0] == 404


@pytest.mark.parametrize(
    ("options", "finalizers"),
    [
        ({"propagationPolicy": "Orphan"}, ["orphan"]),
        ({"propagationPolicy": "Foreground"}, ["foregroundDeletion"]),
        ({"orphanDependents": True}, ["orphan"]),
    ],
)
async def test_propagation_is_a_finalizer(served: Served, options: Any, finalizers: list[str]) -> None:
    await served.ok("POST", MAPS, config_map("a"))
    assert (await served.ok("DELETE", f"{MAPS}/a", options))["metadata"]["finalizers"] == finalizers


async def test_preconditions(served: Served) -> None:
    made = await served.ok("POST", MAPS, config_map("a"))
    for wrong in ({"uid": "x"}, {"resourceVersion": "1"}):
        code, reason, message = await served.refused("DELETE", f"{MAPS}/a", {"preconditions": wrong})
        assert (code, reason) == (409, "Conflict")
        assert "in the precondition" in message
    meta = made["metadata"]
    right = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
    await served.ok("DELETE", f"{MAPS}/a", {"preconditions": right})


@pytest.mark.parametrize(
    "options",
    [
        {"gracePeriodSeconds": "x"},
        {"propagationPolicy": "Sideways"},
        {"propagationPolicy": "Orphan", "orphanDependents": True},
        {"preconditions": []},
        [],
        "x",
    ],
)
async def test_broken_delete_options(served: Served, options: Any) -> None:
    await served.ok("POST", MAPS, config_map("a"))
    assert (await served.refused("DELETE", f"{MAPS}/a", options))[0] in (400, 422)
    await served.ok("GET", f"{MAPS}/a")


async def test_a_pod_gets_time_to_stop(served: Served) -> None:
    await served.ok("POST", POD_PATH, pod("waiting"))
    await served.ok("DELETE", f"{POD_PATH}/waiting")
    assert (await served.refused("GET", f"{POD_PATH}/waiting"))[0] == 404

    await served.ok("POST", POD_PATH, pod("running", nodeName="n", terminationGracePeriodSeconds=20))
    marked = await served.ok("DELETE", f"{POD_PATH}/running")
    assert marked["metadata"]["deletionTimestamp"] == "2026-11-22T12:00:20Z"
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 20
    served.clock.advance(5)
    shorter = await served.ok("DELETE", f"{POD_PATH}/running", {"gracePeriodSeconds": 3})
    assert shorter["metadata"]["deletionTimestamp"] == "2026-11-22T12:00:03Z"
    longer = await served.ok("DELETE", f"{POD_PATH}/running", {"gracePeriodSeconds": 30})
    assert longer == shorter
    labelled = {"metadata": {"labels": {"still": "here"}}}
    await served.ok("PATCH", f"{POD_PATH}/running", labelled, content_type=MERGE_PATCH)
    await served.ok("DELETE", f"{POD_PATH}/running", {"gracePeriodSeconds": 0})
    assert (await served.refused("GET", f"{POD_PATH}/running"))[0] == 404


async def test_a_collection_is_deleted_by_selector(served: Served) -> None:
    for name in ("a", "b", "c"):
        await served.ok("POST", MAPS, config_map(name, {"drop": "yes"} if name != "b" else None))
    gone = await served.ok("DELETE", MAPS, labelSelector="drop=yes")
    assert gone["kind"] == "ConfigMapList"
    left = await served.ok("GET", MAPS)
    assert [item["metadata"]["name"] for item in left["items"]] == ["b"]


# --- subresources ---------------------------------------------------------------------------------


async def test_binding(served: Served) -> None:
    await served.ok("POST", POD_PATH, pod("p"))
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
    client = Client(served.api.transport(ADMIN))
    bound = await client.create(PODS, binding, "default", name="p", subresource="binding")
    assert bound["status"] == "Success"
    found = await client.get(PODS, "p", "default")
    assert found["spec"]["nodeName"] == "n1"
    scheduled = [row for row in found["status"]["conditions"] if row["type"] == "PodScheduled"]
    assert scheduled[0]["status"] == "True"
    with pytest.raises(Conflict, match='already assigned to node "n1"'):
        await client.create(PODS, binding, "default", name="p", subresource="binding")
    assert (await served.refused("POST", f"{POD_PATH}/p/binding", {"target": {}}))[0] == 422
    assert (await served.refused("POST", f"{POD_PATH}/p/binding", {"target": 3}))[0] == 400
    assert (await served.refused("POST", f"{POD_PATH}/q/binding", binding))[0] == 404


async def test_eviction(served: Served) -> None:
    await served.ok("POST", POD_PATH, pod("p", nodeName="n"))
    eviction = {"metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 0}}
    assert (await served.ok("POST", f"{POD_PATH}/p/eviction", eviction))["status"] == "Success"
    assert (await served.refused("POST", f"{POD_PATH}/p/eviction", eviction))[0] == 404


async def test_streams_are_for_http(served: Served) -> None:
    await served.ok("POST", POD_PATH, pod("p", nodeName="n"))
    assert (await served.refused("GET", f"{POD_PATH}/p/log"))[0] == 400


async def test_scale(served: Served) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    await served.ok("POST", DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": spec})
    scale = await served.ok("GET", f"{DEPLOYMENTS}/d/scale")
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 0, "selector": "a=b"})
    patch = {"spec": {"replicas": 4}}
    await served.ok("PATCH", f"{DEPLOYMENTS}/d/scale", patch, content_type=MERGE_PATCH)
    assert (await served.ok("GET", f"{DEPLOYMENTS}/d"))["spec"]["replicas"] == 4
    assert (await served.refused("PUT", f"{DEPLOYMENTS}/d/scale", scale))[0] == 409
    negative = {"spec": {"replicas": -1}}
    assert (await served.refused("PATCH", f"{DEPLOYMENTS}/d/scale", negative, content_type=MERGE_PATCH))[
        0
    ] == 422


# --- who may --------------------------------------------------------------------------------------


async def test_reviews(served: Served) -> None:
    user = User("me", ("devs",), "u1")
    base = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    me = await served.ok("POST", base, {}, user=user)
    assert me["status"]["userInfo"] == {
        "username": "me",
        "uid": "u1",
        "groups": ["devs", "system:authenticated"],
    }
    ask = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    question = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}}
    assert (await served.ok("POST", ask, question))["status"]["allowed"] is True
    assert (await served.ok("POST", ask, question, user=user))["status"]["allowed"] is False
    assert (await served.refused("POST", ask, {"spec": {}}))[0] == 400
    rules = await served.ok(
        "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {"spec": {"namespace": "default"}}
    )
    assert rules["status"]["resourceRules"][0]["verbs"] == ["*"]
    other = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    question["spec"]["user"] = "me"
    assert (await served.ok("POST", other, question))["status"]["allowed"] is False


async def test_roles_decide_for_everyone_else(served: Served) -> None:
    user = User("me", ("devs",))
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    code, reason, message = await served.refused("GET", POD_PATH, user=user)
    assert (code, reason) == (403, "Forbidden")
    assert message == (
        'pods is forbidden: User "me" cannot list resource "pods" in API group "" in the namespace "default"'
    )
    role = {
        "metadata": {"name": "r"},
        "rules": [
            {"apiGroups": [""], "resources": ["pods", "pods/status"], "verbs": ["list", "get", "patch"]}
        ],
    }
    await served.ok("POST", f"{rbac}/namespaces/default/roles", role)
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    group = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "devs"}
    binding = {"metadata": {"name": "b"}, "roleRef": reference, "subjects": [group]}
    await served.ok("POST", f"{rbac}/namespaces/default/rolebindings", binding)
    await served.ok("GET", POD_PATH, user=user)
    await served.ok("POST", POD_PATH, pod("p"))
    status = {"status": {"phase": "Running"}}
    await served.ok("PATCH", f"{POD_PATH}/p/status", status, content_type=MERGE_PATCH, user=user)
    assert (await served.refused("DELETE", f"{POD_PATH}/p", user=user))[0] == 403
    assert (await served.refused("GET", "/api/v1/pods", user=user))[0] == 403
    await served.ok("DELETE", f"{rbac}/namespaces/default/rolebindings/b")
    assert (await served.refused("GET", POD_PATH, user=user))[0] == 403


async def test_tokens_of_service_accounts(served: Served) -> None:
    accounts = f"{NS}/serviceaccounts"
    await served.ok("POST", accounts, {"metadata": {"name": "sa"}})
    request = {"spec": {"expirationSeconds": 3600}}
    answer = await served.ok("POST", f"{accounts}/sa/token", request)
    token = answer["status"]["token"]
    user = served.api.user_of(token)
    assert user.name == "system:serviceaccount:default:sa"
    assert set(user.groups) == {
        "system:serviceaccounts",
        "system:serviceaccounts:default",
        "system:authenticated",
    }
    review = "/apis/authentication.k8s.io/v1/tokenreviews"
    assert (await served.ok("POST", review, {"spec": {"token": token}}))["status"]["authenticated"] is True
    head, claims, signature = token.split(".")
    for forged in (f"{head}.{claims}.x", f"{head}.e30.{signature}", "", "x.y", "a.b.c"):
        review_of = await served.ok("POST", review, {"spec": {"token": forged}})
        assert review_of["status"]["authenticated"] is False
    await served.ok("DELETE", f"{accounts}/sa")
    assert (await served.ok("POST", review, {"spec": {"token": token}}))["status"]["authenticated"] is False
    assert (await served.refused("POST", f"{accounts}/sa/token", request))[0] == 404


async def test_the_client_in_the_same_process_sees_its_own_events(served: Served) -> None:
    client = Client(served.api.transport(User("system:kube-scheduler", ("system:masters",))))
    event = {
        "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Scheduled",
        "message": "it is there",
        "type": "Normal",
    }
    await client.create(EVENTS, event)
    found = await client.list(EVENTS, "default", field_selector="involvedObject.name=p,reason=Scheduled")
    assert [item["message"] for item in found.items] == ["it is there"]


# --- versions ---------------------------------------------------------------------------------------


async def test_some_kinds_want_to_know_what_a_put_replaces(served: Served) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    await served.ok("POST", leases, {"metadata": {"name": "a"}, "spec": {}})
    code, reason, text = await served.refused("PUT", f"{leases}/a", {"metadata": {"name": "a"}, "spec": {}})
    assert (code, reason) == (422, "Invalid")
    assert text == (
        'leases.coordination.k8s.io "a" is invalid: metadata.resourceVersion: Invalid value: 0: must be '
        "specified for an update"
    )
    await served.ok("POST", MAPS, config_map("a"))
    await served.ok("PUT", f"{MAPS}/a", config_map("a", x="1"))


async def test_a_version_that_is_no_number(served: Served) -> None:
    await served.ok("POST", MAPS, config_map("a"))
    parsing = 'strconv.ParseUint: parsing "x": invalid syntax'
    document = config_map("a")
    document["metadata"]["resourceVersion"] = "x"
    assert await served.refused("PUT", f"{MAPS}/a", document) == (400, "BadRequest", parsing)
    field = f'resourceVersion: Invalid value: "x": {parsing}'
    for path, text in ((MAPS, f"invalid resource version: {field}"), (f"{MAPS}/a", field)):
        assert await served.refused("GET", path, resourceVersion="x") == (400, "BadRequest", text)

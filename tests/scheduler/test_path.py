"""From a pending pod to a bound one, through the real API server."""

from __future__ import annotations

import pytest

from drakit.client.api import NAMESPACES, RESOURCE_CLAIMS
from drakit.client.clock import timestamp
from drakit.errors import Conflict, ServiceUnavailable
from drakit.profile import VERSIONS, Gate
from drakit.transport import Document, Request
from tests.scheduler.cluster import NS, Cluster, cluster
from tests.scheduler.make import DRIVER, claim, device, device_class, node, pod, request, resource_slice

pytestmark = pytest.mark.anyio


def nodes(count: int = 3, devices: int = 1) -> list[Document]:
    found: list[Document] = [device_class()]
    for index in range(count):
        found += [node(f"n{index}"), resource_slice(f"n{index}", devices)]
    return found


async def test_a_pod_with_a_claim_is_allocated_reserved_and_bound() -> None:
    async with cluster(*nodes(1), claim("c"), pod("p", claims=["c"])) as it:
        await it.settle()
        bound = await it.get("Pod", "p")
        assert bound["spec"]["nodeName"] == "n0"
        found = await it.get("ResourceClaim", "c")
        assert found["metadata"]["finalizers"] == ["resource.kubernetes.io/delete-protection"]
        assert found["status"] == {
            "allocation": {
                "devices": {"results": [{"request": "r", "driver": DRIVER, "pool": "n0", "device": "d0"}]},
                "nodeSelector": {
                    "nodeSelectorTerms": [
                        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n0"]}]}
                    ]
                },
                "allocationTimestamp": timestamp(it.clock.now()),
            },
            "reservedFor": [{"resource": "pods", "name": "p", "uid": bound["metadata"]["uid"]}],
        }
        assert (await it.condition("p"))["status"] == "True"
        (event,) = await it.events("p")
        assert (event["type"], event["reason"]) == ("Normal", "Scheduled")
        assert event["message"] == "Successfully assigned default/p to n0"
        assert event["reportingComponent"] == "default-scheduler"


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_version_of_kubernetes_is_served(version: str) -> None:
    async with cluster(
        *nodes(1, 2), claim("c", request(count=2)), pod("p", claims=["c"]), version=version
    ) as it:
        await it.settle()
        assert await it.node_of("p") == "n0"
        allocation = (await it.get("ResourceClaim", "c"))["status"]["allocation"]
        assert len(allocation["devices"]["results"]) == 2
        stamps = it.profile.is_on(Gate.DEVICE_BINDING_CONDITIONS)
        assert ("allocationTimestamp" in allocation) is stamps


async def test_a_plain_pod_needs_one_write() -> None:
    async with cluster(node("n0"), pod("p")) as it:
        await it.settle()
        assert await it.node_of("p") == "n0"
        assert [w.path.rpartition("/")[2] for w in it.wire.writes] == ["binding", "events"]


async def test_pods_of_another_scheduler_stay() -> None:
    async with cluster(node("n0"), pod("p", scheduler="other")) as it:
        await it.settle(10)
        assert await it.node_of("p") is None
        assert it.wire.writes == []


async def test_what_fits_nowhere_is_told_and_goes_ahead_when_devices_come() -> None:
    async with cluster(
        device_class(), node("n0"), claim("c", request(count=2)), pod("p", claims=["c"])
    ) as it:
        await it.settle()
        condition = await it.condition("p")
        assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
        assert condition["message"] == (
            "0/1 nodes are available: 1 cannot serve "
            "claim default/c request r: 2 devices wanted, 0 free (no devices are published here)."
        )
        (event,) = await it.events("p")
        assert (event["type"], event["reason"]) == ("Warning", "FailedScheduling")
        assert event["message"] == condition["message"]
        await it.put(resource_slice("n0", 2))
        await it.settle()
        assert await it.node_of("p") == "n0"
        assert (await it.condition("p"))["status"] == "True"


async def test_the_same_words_are_not_said_again_at_once() -> None:
    async with cluster(device_class(), node("n0"), claim("c"), pod("p", claims=["c"])) as it:
        await it.settle()
        writes = len(it.wire.writes)
        for index in range(5):
            await it.put(resource_slice(f"elsewhere{index}", 1))
            await it.settle(2)
        assert it.scheduler.metrics.unschedulable == 6
        assert len(it.wire.writes) == writes


async def test_a_missing_claim_keeps_the_pod_out_and_it_is_told_after_a_moment() -> None:
    async with cluster(*nodes(), pod("p", claims=["c"])) as it:
        await it.settle()
        assert it.wire.writes == []
        await it.settle(1.5)
        text = "0/3 nodes are available: waiting for resourceclaim default/c: it does not exist."
        assert (await it.condition("p"))["message"] == text
        assert [event["message"] for event in await it.events("p")] == [text]
        await it.put(claim("c"))
        await it.settle()
        assert await it.node_of("p") is not None


async def test_two_pods_share_a_claim_and_a_node() -> None:
    async with cluster(*nodes(), claim("c"), pod("p", claims=["c"]), pod("q", claims=["c"])) as it:
        await it.settle()
        assert await it.node_of("p") == await it.node_of("q") is not None
        status = (await it.get("ResourceClaim", "c"))["status"]
        assert sorted(row["name"] for row in status["reservedFor"]) == ["p", "q"]
        assert [e["reason"] for e in await it.events("q")] == ["FailedScheduling", "Scheduled"]
        assert (await it.condition("q"))["status"] == "True"


async def test_many_pods_share_one_claim_although_their_writes_conflict() -> None:
    names = [f"p{i}" for i in range(20)]
    async with cluster(*nodes(), claim("c"), *(pod(name, claims=["c"]) for name in names)) as it:
        for _ in range(30):
            await it.settle(1)
        status = (await it.get("ResourceClaim", "c"))["status"]
        assert sorted(row["name"] for row in status["reservedFor"]) == sorted(names)
        assert {await it.node_of(name) for name in names} <= {"n0", "n1", "n2"}


async def test_several_claims_of_a_pod_are_allocated_together() -> None:
    async with cluster(*nodes(2, 2), claim("a"), claim("b"), pod("p", claims=["a", "b", "a"])) as it:
        await it.settle()
        used = [c["status"]["allocation"]["devices"]["results"][0] for c in await it.claims()]
        assert {row["pool"] for row in used} == {await it.node_of("p")}
        assert sorted(row["device"] for row in used) == ["d0", "d1"]


async def test_every_device_is_used_once_by_many_pods_at_once() -> None:
    names = [f"p{i}" for i in range(40)]
    async with cluster(*nodes(10, 4), *(claim(n) for n in names), *(pod(n, claims=[n]) for n in names)) as it:
        await it.settle()
        results = [c["status"]["allocation"]["devices"]["results"][0] for c in await it.claims()]
        assert len({(row["pool"], row["device"]) for row in results}) == 40


async def test_admin_access_takes_a_device_in_use() -> None:
    admin = claim("admin", request(adminAccess=True))
    async with cluster(*nodes(1), claim("c"), pod("p", claims=["c"])) as it:
        await it.client.patch(
            NAMESPACES, NS, {"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}}
        )
        await it.settle()
        await it.put(admin, pod("q", claims=["admin"]))
        await it.settle()
        assert await it.node_of("q") == "n0"
        (result,) = (await it.get("ResourceClaim", "admin"))["status"]["allocation"]["devices"]["results"]
        assert (result["device"], result["adminAccess"]) == ("d0", True)


async def test_extended_resources_get_a_claim_of_their_own() -> None:
    resource = "example.com/gpu"
    async with cluster(
        device_class(extended=resource),
        node("n0"),
        resource_slice("n0", 3),
        pod("p", requests={resource: "2"}),
    ) as it:
        await it.settle()
        (special,) = await it.claims()
        assert special["metadata"]["name"].startswith("p-extended-resources-")
        assert special["metadata"]["annotations"] == {
            "resource.kubernetes.io/extended-resource-claim": "true"
        }
        (owner,) = special["metadata"]["ownerReferences"]
        bound = await it.get("Pod", "p")
        assert (owner["uid"], owner["controller"]) == (bound["metadata"]["uid"], True)
        assert len(special["status"]["allocation"]["devices"]["results"]) == 2
        assert special["status"]["reservedFor"][0]["uid"] == bound["metadata"]["uid"]
        assert bound["spec"]["nodeName"] == "n0"
        assert bound["status"]["extendedResourceClaimStatus"] == {
            "requestMappings": [
                {"containerName": "c", "resourceName": resource, "requestName": "container-0-request-0"}
            ],
            "resourceClaimName": special["metadata"]["name"],
        }
        await it.put(pod("q", requests={resource: "2"}), pod("r", requests={resource: "1"}))
        await it.settle()
        assert await it.node_of("q") is None
        assert await it.node_of("r") == "n0"


async def test_without_the_feature_an_extended_resource_is_the_nodes_affair() -> None:
    wanted = {"deviceclass.resource.kubernetes.io/gpu": "1"}
    async with cluster(*nodes(1), pod("p", requests=wanted), version="1.35") as it:
        await it.settle()
        assert "Insufficient deviceclass.resource.kubernetes.io/gpu" in (await it.condition("p"))["message"]
        assert await it.claims() == []


async def test_the_special_claim_of_an_attempt_that_did_not_end_is_removed_first() -> None:
    resource = "example.com/gpu"
    async with cluster(
        device_class(extended=resource),
        node("n0"),
        resource_slice("n0", 1),
        pod("p", requests={resource: "1"}),
    ) as it:
        await it.settle()
        await it.stop()
        (first,) = await it.claims()
        again = await it.get("Pod", "p")
        del again["spec"]["nodeName"]
    async with cluster(
        device_class(extended=resource), node("n0"), resource_slice("n0", 1), start=False
    ) as it:
        await it.put(pod("p", requests={resource: "1"}))
        owner = (await it.get("Pod", "p"))["metadata"]["uid"]
        meta = {key: first["metadata"][key] for key in ("name", "namespace", "annotations")}
        meta["ownerReferences"] = [{**first["metadata"]["ownerReferences"][0], "uid": owner}]
        await it.put({**first, "kind": "ResourceClaim", "metadata": meta})
        await it.start()
        for _ in range(5):
            await it.settle(2)
        (special,) = await it.claims()
        assert special["metadata"]["name"] != first["metadata"]["name"]
        assert await it.node_of("p") == "n0"


# --- taking back -----------------------------------------------------------------------------------


async def test_an_unused_claim_allocated_elsewhere_moves_with_the_pod() -> None:
    async with cluster(*nodes(2), claim("c"), pod("p", claims=["c"])) as it:
        await it.settle()
        first = await it.node_of("p")
        other = "n1" if first == "n0" else "n0"
        await it.delete("Pod", "p")
        await it.set_status("ResourceClaim", "c", {"reservedFor": None})
        await it.put(pod("q", claims=["c"], nodeSelector={"kubernetes.io/hostname": other}))
        await it.settle(3)
        assert await it.node_of("q") == other
        assert [event["reason"] for event in await it.events("q")] == ["FailedScheduling", "Scheduled"]


async def test_a_conflict_is_read_again_and_the_decision_kept_where_it_still_stands() -> None:
    async with cluster(*nodes(1), claim("c")) as it:
        await it.settle()
        await it.put(pod("p", claims=["c"]))
        await it.client.patch(RESOURCE_CLAIMS, "c", {"metadata": {"labels": {"a": "b"}}}, NS)
        await it.settle()
        assert await it.node_of("p") == "n0"
        assert (await it.get("ResourceClaim", "c"))["metadata"]["labels"] == {"a": "b"}


class Flaky:
    """Lets the first write to a path that ends with `suffix` fail: before it is carried out, or after."""

    def __init__(self, it: Cluster, suffix: str, *, after: bool) -> None:
        self.suffix = suffix
        self.left = 1
        setattr(it.wire, "after" if after else "before", self)

    def __call__(self, sent: Request) -> None:
        if self.left and sent.path.endswith(self.suffix):
            self.left -= 1
            raise ServiceUnavailable("the connection broke")


LOST = [
    ("resourceclaims/c/status", False),
    ("resourceclaims/c/status", True),
    ("resourceclaims/c", True),
    ("pods/p/binding", False),
    ("pods/p/binding", True),
]


@pytest.mark.parametrize(("suffix", "after"), LOST)
async def test_a_write_with_an_unknown_fate_is_looked_up_and_nothing_is_lost(
    suffix: str, after: bool
) -> None:
    async with cluster(*nodes(1), claim("c"), start=False) as it:
        flaky = Flaky(it, suffix, after=after)
        await it.start()
        await it.put(pod("p", claims=["c"]))
        await it.settle()
        await it.put(claim("d"), pod("q", claims=["d"]))
        for _ in range(6):
            await it.settle(1)
        assert flaky.left == 0
        assert await it.node_of("p") == "n0"
        status = (await it.get("ResourceClaim", "c"))["status"]
        assert [row["name"] for row in status["reservedFor"]] == ["p"]
        assert await it.node_of("q") is None, "the one device was never promised twice"


async def test_a_refused_binding_gives_everything_back() -> None:
    async with cluster(*nodes(1), claim("c"), start=False) as it:

        def gone(sent: Request) -> None:
            if sent.path.endswith("p/binding"):
                it.wire.before = None
                raise_conflict()

        it.wire.before = gone
        await it.start()
        await it.put(pod("p", claims=["c"]))
        await it.settle()
        for _ in range(4):
            await it.settle(2)
        assert await it.node_of("p") == "n0"
        reasons = [event["reason"] for event in await it.events("p")]
        assert reasons == ["FailedScheduling", "Scheduled"]


def raise_conflict() -> None:
    raise Conflict("somebody was faster")


# --- binding conditions ----------------------------------------------------------------------------


def waiting_device() -> Document:
    return device(
        "x", bindingConditions=["example.com/ready"], bindingFailureConditions=["example.com/failed"]
    )


def told(name: str, status: str = "True") -> Document:
    row = {
        "type": name,
        "status": status,
        "reason": "Test",
        "message": "so it is",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {"devices": [{"driver": DRIVER, "pool": "n0", "device": "x", "conditions": [row]}]}


def with_waiting_device() -> list[Document]:
    return [
        device_class(),
        node("n0"),
        resource_slice("n0", [waiting_device()]),
        claim("c"),
        pod("p", claims=["c"]),
    ]


async def test_binding_waits_until_the_device_is_ready() -> None:
    async with cluster(*with_waiting_device()) as it:
        await it.settle()
        assert await it.node_of("p") is None
        (event,) = await it.events("p")
        assert event["reason"] == "BindingConditionsPending"
        assert event["message"].startswith("waiting for binding conditions for device on node n0")
        assert (await it.get("Pod", "p"))["status"]["nominatedNodeName"] == "n0"
        await it.put(pod("q"))
        await it.settle()
        assert await it.node_of("q") == "n0", "others do not wait"
        await it.set_status("ResourceClaim", "c", told("example.com/ready"))
        await it.settle()
        assert await it.node_of("p") == "n0"


@pytest.mark.parametrize("ends_by", ["failure", "timeout"])
async def test_a_device_that_does_not_get_ready_is_given_up_and_tried_anew(ends_by: str) -> None:
    async with cluster(*with_waiting_device()) as it:
        await it.settle()
        first = (await it.get("ResourceClaim", "c"))["status"]["allocation"]["allocationTimestamp"]
        if ends_by == "failure":
            await it.set_status("ResourceClaim", "c", told("example.com/failed"))
            await it.settle()
        else:
            await it.settle(599)
            assert (await it.get("ResourceClaim", "c"))["status"]["allocation"][
                "allocationTimestamp"
            ] == first
            await it.settle(2)
        texts = [event["message"] for event in await it.events("p") if event["reason"] == "FailedScheduling"]
        assert len(texts) == 1
        assert "nominatedNodeName" not in (await it.get("Pod", "p"))["status"] or ends_by == "timeout"
        wanted = "binding failed: device" if ends_by == "failure" else "device binding timeout on node n0"
        assert wanted in texts[0]
        for _ in range(3):
            await it.settle(1)
        found = (await it.get("ResourceClaim", "c"))["status"]
        assert found["allocation"]["allocationTimestamp"] != first
        assert "devices" not in found
        await it.set_status("ResourceClaim", "c", told("example.com/ready"))
        await it.settle()
        assert await it.node_of("p") == "n0"


# --- restart ---------------------------------------------------------------------------------------


async def test_after_a_restart_what_is_allocated_stays_and_what_was_begun_is_finished() -> None:
    names = [f"p{i}" for i in range(12)]
    async with cluster(*nodes(4, 3), *(claim(n) for n in names), start=False) as it:
        await it.start()
        await it.put(*(pod(n, claims=[n]) for n in names))
        await it.until(lambda: len(it.wire.writes) > 15)
        await it.stop()
        await it.start()
        await it.settle(3)
        results = [c["status"]["allocation"]["devices"]["results"][0] for c in await it.claims()]
        assert len({(row["pool"], row["device"]) for row in results}) == 12
        for found in await it.claims():
            (consumer,) = found["status"]["reservedFor"]
            assert (
                await it.node_of(consumer["name"])
                == found["status"]["allocation"]["devices"]["results"][0]["pool"]
            )


async def test_a_claim_allocated_before_the_restart_leads_its_pod_to_its_node() -> None:
    async with cluster(*nodes(3), claim("c"), start=False) as it:
        it.wire.before = _refuse_bindings
        await it.start()
        await it.put(pod("p", claims=["c"]))
        await it.settle()
        await it.stop()
        assert await it.node_of("p") is None
        pool = (await it.get("ResourceClaim", "c"))["status"]["allocation"]["devices"]["results"][0]["pool"]
        it.wire.before = None
        await it.start()
        await it.settle(2)
        assert await it.node_of("p") == pool


def _refuse_bindings(sent: Request) -> None:
    if sent.path.endswith("/binding"):
        raise_conflict()


# --- taint rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.36", "1.37"])
async def test_taint_rules_count_where_they_are_served(version: str) -> None:
    rule = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceTaintRule",
        "metadata": {"name": "bad"},
        "spec": {"deviceSelector": {"pool": "n0"}, "taint": {"key": "broken", "effect": "NoSchedule"}},
    }
    rules = [rule] if version == "1.37" else []
    async with cluster(*nodes(1), *rules, claim("c"), pod("p", claims=["c"]), version=version) as it:
        await it.settle()
        if version == "1.37":
            assert "1 tainted broken:NoSchedule" in (await it.condition("p"))["message"]
            await it.delete("DeviceTaintRule", "bad")
            await it.settle(2)
        assert await it.node_of("p") == "n0"

"""Claims on their way through a driver on a real socket: prepared, shared, refused, given back, not lost."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from drakit.client.api import PODS, RESOURCE_CLAIMS
from drakit.errors import UsageError
from drakit.node.checkpoint import Checkpoint
from drakit.node.claims import Claims, PrepareFailed, container_claims, pod_claims
from drakit.pluginapi.dra import Claim, PreparedDevice, PrepareResult
from drakit.pluginapi.health import DeviceHealth
from drakit.transport import Document
from tests.node.make import NS, FakeDriver, TestNode, make_pod, running_node, until

pytestmark = pytest.mark.anyio


async def bind(node: TestNode, name: str, **spec: object) -> None:
    """A pod `name` with a claim of the same name, which is allocated and reserved before it is bound."""
    pod = await node.create(make_pod(name, name, bound=False, **spec))
    await node.add_claim(name, pod)
    await bind_only(node, name)


async def bind_only(node: TestNode, name: str) -> None:
    target = {"apiVersion": "v1", "kind": "Node", "name": "node-1"}
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
    await node.client.create(PODS, body, NS, name=name, subresource="binding")


def on_disk(node: TestNode) -> dict[str, object]:
    claims: dict[str, object] = json.loads(node.paths.checkpoint.read_bytes())["claims"]
    return claims


async def test_prepare_start_unprepare(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with running_node(tmp_path) as node:
        await driver.start(node.paths)
        await bind(node, "a")
        pod = await node.until_phase("a", "Running")
        spec = next(iter(node.runtime.specs.values()))
        assert [name.partition("=")[0] for name in spec.cdi_devices] == ["lamp.example.com/lamp"]
        status = pod["status"]["containerStatuses"][0]["allocatedResourcesStatus"]
        assert status == [
            {"name": "claim:a", "resources": [{"resourceID": spec.cdi_devices[0], "health": "Unknown"}]}
        ]
        assert len(on_disk(node)) == 1
        await node.client.delete(PODS, "a", NS)
        await node.until_gone("a")
        assert driver.calls == ["prepare a", "unprepare a"]
        assert (driver.prepared, on_disk(node)) == (set(), {})
    await driver.stop()


async def test_a_claim_whose_device_has_data_and_no_conditions(tmp_path: Path) -> None:
    """The API server says `conditions: null` then, as Kubernetes' does."""
    driver = FakeDriver()
    async with running_node(tmp_path) as node:
        await driver.start(node.paths)
        pod = await node.create(make_pod("a", "a", bound=False))
        claim = await node.add_claim("a", pod)
        told = {"driver": driver.name, "pool": "pool", "device": "lamp-0", "data": {"lit": True}}
        claim = await node.client.update(
            RESOURCE_CLAIMS, {**claim, "status": {**claim["status"], "devices": [told]}}, subresource="status"
        )
        assert claim["status"]["devices"][0]["conditions"] is None
        await bind_only(node, "a")
        await node.until_phase("a", "Running")
    await driver.stop()


async def test_a_finished_pod_gives_its_claim_back(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with running_node(tmp_path) as node:
        node.runtime.exit_codes["c"] = 0
        await driver.start(node.paths)
        await bind(node, "a", restartPolicy="Never")
        pod = await node.until_phase("a", "Succeeded")
        assert driver.calls == ["prepare a", "unprepare a"]
        assert "allocatedResourcesStatus" not in pod["status"]["containerStatuses"][0]
    await driver.stop()


async def test_a_driver_that_comes_later_is_used_at_once(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with running_node(tmp_path) as node:
        await bind(node, "a")
        text = await node.until_event("a", "FailedPrepareDynamicResources")
        assert text == (
            "Failed to prepare dynamic resources: prepare dynamic resources: "
            "DRA driver lamp.example.com is not registered"
        )
        await driver.start(node.paths)
        await node.until_phase("a", "Running")
    await driver.stop()


ANSWERS: list[tuple[str, Callable[[Claim], PrepareResult | None], str]] = [
    (
        "error",
        lambda claim: PrepareResult(error="lamp is broken"),
        "NodePrepareResources failed for ResourceClaim a: lamp is broken",
    ),
    ("nothing", lambda claim: None, "NodePrepareResources skipped 1 ResourceClaims"),
    (
        "bad name",
        lambda claim: PrepareResult((PreparedDevice(("r",), "pool", "d", ("not a cdi name",)),)),
        "returned nonsense",
    ),
    ("no device", lambda claim: PrepareResult((PreparedDevice(("r",), "", ""),)), "without pool or name"),
]


@pytest.mark.parametrize(("name", "answer", "words"), ANSWERS, ids=[row[0] for row in ANSWERS])
async def test_a_bad_answer_is_told_and_tried_again(
    tmp_path: Path, name: str, answer: Callable[[Claim], PrepareResult | None], words: str
) -> None:
    driver = FakeDriver()
    driver.answer = answer
    async with running_node(tmp_path) as node:
        await driver.start(node.paths)
        await until(lambda: driver.outcomes)
        await bind(node, "a")
        text = await node.until_event("a", "FailedPrepareDynamicResources")
        assert text.startswith("Failed to prepare dynamic resources: prepare dynamic resources: ")
        assert words in text
        driver.answer = driver.prepare_one
        await node.until_phase("a", "Running")
    await driver.stop()


async def test_a_driver_that_hangs(tmp_path: Path) -> None:
    driver = FakeDriver()
    driver.hangs = True
    async with running_node(tmp_path) as node:
        assert node.agent is not None
        node.agent.claims.call_seconds = 0.2
        await driver.start(node.paths)
        await until(lambda: driver.outcomes)
        await bind(node, "a")
        assert await node.until_event("a", "FailedPrepareDynamicResources") == (
            "Failed to prepare dynamic resources: prepare dynamic resources: NodePrepareResources: "
            "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
        )
        driver.hangs = False
        await node.until_phase("a", "Running")
    await driver.stop()


async def test_a_failing_unprepare_holds_the_pod_until_it_works(tmp_path: Path) -> None:
    driver = FakeDriver()
    driver.error = "lamp is stuck"
    async with running_node(tmp_path) as node:
        await driver.start(node.paths)
        await bind(node, "a")
        await node.until_phase("a", "Running")
        await node.client.delete(PODS, "a", NS)
        assert await node.until_event("a", "FailedUnprepareDynamicResources") == (
            "Failed to unprepare dynamic resources: unprepare dynamic resources: "
            "NodeUnprepareResources failed for ResourceClaim a: lamp is stuck"
        )
        assert await node.get("a") is not None
        driver.error = ""
        await node.until_gone("a")
        assert driver.prepared == set()
    await driver.stop()


async def test_a_shared_claim_is_prepared_once_and_unprepared_last(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with running_node(tmp_path) as node:
        await driver.start(node.paths)
        pods = [await node.create(make_pod(name, "shared", bound=False)) for name in ("a", "b")]
        await node.add_claim("shared", *pods)
        for name in ("a", "b"):
            await bind_only(node, name)
            await node.until_phase(name, "Running")
        await node.client.delete(PODS, "a", NS)
        await node.until_gone("a")
        assert driver.calls == ["prepare shared"]
        await node.client.delete(PODS, "b", NS)
        await node.until_gone("b")
        assert driver.calls == ["prepare shared", "unprepare shared"]
    await driver.stop()


async def test_several_claims_of_a_pod_in_one_call(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with running_node(tmp_path) as node:
        await driver.start(node.paths)
        await until(lambda: driver.outcomes)
        pod = await node.create(make_pod("a", "one", "two", bound=False))
        for name in ("one", "two"):
            await node.add_claim(name, pod)
        await bind_only(node, "a")
        await node.until_phase("a", "Running")
        assert driver.calls == ["prepare one,two"]
    await driver.stop()


async def test_claims_are_checked_before_any_driver_is_asked(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with running_node(tmp_path) as node:
        assert node.agent is not None
        await driver.start(node.paths)
        await until(lambda: driver.outcomes)
        pod = await node.create(make_pod("a", "x", bound=False))
        own = with_claim(pod, {"name": "own", "resourceClaimTemplateName": "t"})
        uid = pod["metadata"]["uid"]
        await node.add_claim("x", pod)
        await node.add_claim("other")
        other = await node.client.get(RESOURCE_CLAIMS, "other", NS)
        made = {"resourceClaimStatuses": [{"name": "own", "resourceClaimName": "x"}]}
        table = [
            (own, f'pod "{NS}/a": ResourceClaim not created yet'),
            (
                with_claim(pod, {"name": "c", "resourceClaimName": "none"}),
                'fetch ResourceClaim none: resourceclaims.resource.k8s.io "none" not found',
            ),
            (
                own | {"status": made},
                f"ResourceClaim {NS}/x was not created for pod {NS}/a (pod is not owner)",
            ),
            (
                with_claim(pod, {"name": "c", "resourceClaimName": "other"}),
                f"pod a ({uid}) is not allowed to use ResourceClaim other ({other['metadata']['uid']})",
            ),
        ]
        claims = Claims(node.client, node.agent.plugins, Checkpoint(tmp_path / "other.json"))
        for document, text in table:
            with pytest.raises(PrepareFailed) as failure:
                await claims.prepare(document)
            assert str(failure.value) == text
        assert driver.calls == []
    await driver.stop()


def with_claim(pod: Document, entry: Document) -> Document:
    """`pod` with one entry of resourceClaims."""
    return pod | {"spec": pod["spec"] | {"resourceClaims": [entry]}, "status": {}}


async def test_a_prepared_claim_still_needs_its_driver(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with running_node(tmp_path) as node:
        await driver.start(node.paths)
        pods = [await node.create(make_pod(name, "shared", bound=False)) for name in ("a", "b")]
        await node.add_claim("shared", *pods)
        await bind_only(node, "a")
        await node.until_phase("a", "Running")
        assert node.agent is not None
        agent = node.agent
        await driver.stop()
        await until(lambda: agent.plugins.find(driver.name) is None)
        with pytest.raises(PrepareFailed, match=r"DRA driver lamp.example.com is not registered"):
            await agent.claims.prepare(pods[1])
        await driver.start(node.paths)
        await until(lambda: agent.plugins.find(driver.name))
        await agent.claims.prepare(pods[1])
        assert driver.calls == ["prepare shared"]
    await driver.stop()


async def test_an_agent_that_died_between_prepare_and_start(tmp_path: Path) -> None:
    """The claim is in the checkpoint: prepared once more or not, it is given back at the end."""
    driver = FakeDriver()
    async with running_node(tmp_path) as node:
        driver.hangs = True
        await driver.start(node.paths)
        await bind(node, "a")
        await until(lambda: driver.calls)
        await node.stop()
        assert len(on_disk(node)) == 1, "written before the driver was asked"
        driver.hangs = False
        await node.start()
        await node.until_phase("a", "Running")
        await node.client.delete(PODS, "a", NS)
        await node.until_gone("a")
        assert (driver.prepared, on_disk(node)) == (set(), {})
    await driver.stop()


async def test_the_claim_of_a_pod_that_vanished_while_no_agent_ran(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with running_node(tmp_path) as node:
        await driver.start(node.paths)
        await bind(node, "a")
        await node.until_phase("a", "Running")
        await node.stop()
        await node.client.delete(PODS, "a", NS, grace_period_seconds=0)
        await node.start()
        await until(lambda: driver.prepared == set())
        await until(lambda: on_disk(node) == {} and not node.runtime.found)
    await driver.stop()


async def test_a_restarted_agent_does_not_prepare_again(tmp_path: Path) -> None:
    driver = FakeDriver()
    async with running_node(tmp_path) as node:
        await driver.start(node.paths)
        await bind(node, "a")
        await node.until_phase("a", "Running")
        await node.stop()
        await node.start()
        await until(lambda: len(driver.outcomes) == 2)
        node.runtime.end(next(iter(node.runtime.found)), 1)
        await until(lambda: "start c.1" in node.runtime.calls)
        again = [spec for cid, spec in node.runtime.specs.items() if cid.endswith(".1")]
        assert again[0].cdi_devices, "the next attempt gets its devices from the checkpoint"
        assert driver.calls == ["prepare a"]
    await driver.stop()


async def test_health_reaches_the_pod(tmp_path: Path) -> None:
    driver = FakeDriver()
    driver.versions = [*driver.versions, "v1.DRAResourceHealth"]
    async with running_node(tmp_path) as node:
        await driver.start(node.paths)
        await bind(node, "a")
        await node.until_phase("a", "Running")

        async def health() -> str:
            pod = await node.get("a")
            assert pod is not None
            entry = pod["status"]["containerStatuses"][0]["allocatedResourcesStatus"][0]
            return str(entry["resources"][0]["health"])

        for state in ("Healthy", "Unhealthy"):
            driver.report(DeviceHealth("pool", "lamp-0", state))

            async def is_so(wanted: str = state) -> bool:
                return await health() == wanted

            await until(is_so, state)
        await driver.stop()

        async def is_unknown() -> bool:
            return await health() == "Unknown"

        await until(is_unknown, "nobody says how it is")


async def test_requests_are_matched_by_their_whole_names(tmp_path: Path) -> None:
    driver = FakeDriver()
    driver.answer = lambda claim: PrepareResult(
        (
            PreparedDevice(("r",), "pool", "lamp-0", ("lamp.example.com/lamp=0",)),
            PreparedDevice(("r",), "pool", "lamp-1", ("lamp.example.com/lamp=0",)),
            PreparedDevice(("r/bright",), "pool", "lamp-2", ("lamp.example.com/lamp=2",)),
            PreparedDevice((), "pool", "lamp-3"),
        )
    )
    async with running_node(tmp_path) as node:
        await driver.start(node.paths)
        await until(lambda: driver.outcomes)
        node.runtime.exit_codes["i"] = 0
        uses = {"claims": [{"name": "a", "request": "r"}]}
        init = {"name": "i", "image": "busybox", "command": ["sh"], "resources": uses}
        pod = make_pod("a", "a", bound=False, initContainers=[init])
        pod["spec"]["containers"][0]["resources"] = uses
        await node.add_claim("a", await node.create(pod))
        await bind_only(node, "a")
        pod = await node.until_phase("a", "Running")
        given = [(spec.name, spec.cdi_devices) for spec in node.runtime.specs.values()]
        assert given == [("i", ["lamp.example.com/lamp=0"]), ("c", ["lamp.example.com/lamp=0"])]
        assert "allocatedResourcesStatus" not in pod["status"]["initContainerStatuses"][0]
        ids = ["lamp.example.com/lamp=0", "lamp.example.com/pool/lamp-3"]
        assert pod["status"]["containerStatuses"][0]["allocatedResourcesStatus"] == [
            {"name": "claim:a/r", "resources": [{"resourceID": name, "health": "Unknown"} for name in ids]}
        ]
    await driver.stop()


async def test_a_full_disk_is_told_and_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver, sync = FakeDriver(), os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with running_node(tmp_path) as node:
        await driver.start(node.paths)
        await until(lambda: driver.outcomes)
        monkeypatch.setattr(os, "fsync", full)
        await bind(node, "a")
        text = await node.until_event("a", "FailedPrepareDynamicResources")
        assert "cannot write the claim checkpoint" in text
        assert "No space left on device" in text
        assert driver.calls == [], "no driver is asked for what could be forgotten"
        monkeypatch.setattr(os, "fsync", sync)
        await node.until_phase("a", "Running")
    await driver.stop()


def test_a_broken_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "claims.json"
    path.write_text("{")
    with pytest.raises(UsageError, match=r"cannot read the claim checkpoint .*claims.json: .* move it away"):
        Checkpoint(path)


def test_which_claims_a_pod_and_a_container_have() -> None:
    pod = make_pod("a")
    pod["spec"]["resourceClaims"] = [
        {"name": "own", "resourceClaimTemplateName": "t"},
        {"name": "none", "resourceClaimTemplateName": "t"},
        {"name": "late", "resourceClaimTemplateName": "t"},
        {"name": "shared", "resourceClaimName": "s"},
    ]
    pod["status"] = {
        "resourceClaimStatuses": [{"name": "own", "resourceClaimName": "a-own-1"}, {"name": "none"}],
        "extendedResourceClaimStatus": {
            "resourceClaimName": "a-extended",
            "requestMappings": [{"containerName": "c", "requestName": "r0", "resourceName": "x/y"}],
        },
    }
    assert pod_claims(pod) == [
        ("own", "a-own-1", True),
        ("late", "", True),
        ("shared", "s", False),
        ("", "a-extended", False),
    ]
    container = {"name": "c", "resources": {"claims": [{"name": "own", "request": "g"}, {"name": "shared"}]}}
    assert container_claims(pod, container) == [("a-own-1", "g"), ("s", ""), ("a-extended", "r0")]

"""Interfaces go to pods and come back: in network namespaces of our own, one of which plays the machine's."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from drakit.client.api import RESOURCE_CLAIMS
from drakit.drivers import build
from drakit.drivers.net import hook
from drakit.drivers.net.driver import NAME
from drakit.netlink import UP, Link, Netlink, inside
from drakit.node.child import Child
from drakit.node.holder import hold
from drakit.pluginapi.dra import Claim as ClaimReference
from tests.driver.make import NODE, Cluster, Kubelet, cluster

pytestmark = [pytest.mark.anyio, pytest.mark.needs_root]


def place(child: Child) -> str:
    return f"/proc/{child.pid}/ns/net"


def links(child: Child) -> dict[str, Link]:
    with Netlink(place(child)) as netlink:
        return {link.name: link for link in netlink.links() if link.name != "lo"}


def addresses(child: Child) -> set[str]:
    with Netlink(place(child)) as netlink:
        return {address.text for address in netlink.addresses() if address.scope == 0}


class Machine:
    """The namespace that plays the machine's, with an interface `ext0`, and a driver with its kubelet."""

    def __init__(self, host: Child, lab: Cluster, kubelet: Kubelet) -> None:
        self.host = host
        self.lab = lab
        self.kubelet = kubelet

    async def prepare(self, name: str, device: str, config: Any = None, **result: Any) -> ClaimReference:
        opaque = {"opaque": {"driver": NAME, "parameters": config}, "source": "FromClaim"}
        if not device.startswith("ext"):
            result |= {"shareID": str(uuid4()), "consumedCapacity": {"interfaces": "1"}}
        reference = await self.lab.claim(
            name, device, driver=NAME, config=[opaque] if config else [], **result
        )
        answer = (await self.kubelet.prepare(reference))[name]
        assert answer.error == "", answer.error
        return reference

    def start_container(self, pod: Child, claim: ClaimReference) -> str:
        """Run the claim's hooks as a runtime does; what they complain of."""
        (path,) = self.lab.cdi.glob(f"*{claim.uid}.json")
        hooks = json.loads(path.read_text())["devices"][0]["containerEdits"]["hooks"]
        state = json.dumps({"ociVersion": "1.0.2", "id": "c", "pid": pod.pid, "status": "creating"})
        for entry in hooks:
            env = dict(text.split("=", 1) for text in entry["env"]) if "env" in entry else None
            done = subprocess.run(
                entry["args"], input=state, env=env, capture_output=True, text=True, timeout=20
            )
            if done.returncode != 0:
                return done.stderr
        return ""

    async def status(self, claim: ClaimReference, *, is_ready: bool) -> dict[str, Any]:
        """What is said of the claim's device, once it is ready or has been prepared."""
        wanted = "True" if is_ready else "False"
        async with asyncio.timeout(10):
            while True:
                document = await self.lab.client.get(RESOURCE_CLAIMS, claim.name, "default")
                for entry in document["status"].get("devices") or []:
                    if [c["status"] for c in entry["conditions"] if c["type"] == "Ready"] == [wanted]:
                        return dict(entry)
                await asyncio.sleep(0.02)


@contextmanager
def make_ext0(host: Child) -> Iterator[None]:
    with ExitStack() as stack:
        descriptor = os.open(place(host), os.O_RDONLY)
        stack.callback(os.close, descriptor)
        netlink = stack.enter_context(Netlink(place(host)))
        netlink.add_veth("wire0", "ext0", descriptor, mac="02:00:00:00:00:01", mtu=1450)
        for name in ("wire0", "ext0"):
            link = netlink.link(name)
            assert link is not None
            netlink.change(link.ifindex, is_up=True)
        netlink.add_address(link.ifindex, "192.0.2.1/24")
        yield


@asynccontextmanager
async def machine(root: Path, **options: str) -> AsyncIterator[Machine]:
    host = await hold("", ["net"])
    try:
        with make_ext0(host):
            async with cluster(root) as lab, driver(lab, host, **options) as kubelet:
                yield Machine(host, lab, kubelet)
    finally:
        host.kill()
        await host.wait()


@asynccontextmanager
async def driver(lab: Cluster, host: Child, **options: str) -> AsyncIterator[Kubelet]:
    given = {"netns": place(host), "interfaces": "ext0", **options}
    async with lab.running(build("net", given, NODE)), Kubelet.meet(lab, NAME) as kubelet:
        yield kubelet


@asynccontextmanager
async def pods(count: int) -> AsyncIterator[list[Child]]:
    made = [await hold("pod", ["net"]) for _ in range(count)]
    try:
        yield made
    finally:
        for pod in made:
            pod.kill()
            await pod.wait()


def talk(one: Child, two: Child, address: str) -> None:
    """Send something from `two` to the `address` that `one` has."""
    server = inside(place(one), lambda: socket.create_server((address, 80)))
    server.settimeout(5)
    with server, inside(place(two), lambda: socket.create_connection((address, 80), 5)) as client:
        connection, _ = server.accept()
        client.sendall(b"hello")
        assert connection.recv(9) == b"hello"
        connection.close()


CONFIG = {
    "interface": {
        "name": "net1",
        "addresses": ["198.51.100.7/24"],
        "mtu": 1400,
        "hardwareAddr": "02:00:00:00:00:99",
    },
    "routes": [{"destination": "0.0.0.0/0", "gateway": "198.51.100.1"}],
}


@pytest.mark.parametrize("installed", ["no", "yes"])
async def test_an_interface_goes_to_its_pod_and_comes_back(tmp_path: Path, installed: str) -> None:
    async with machine(tmp_path, **{"install-hook": installed}) as here, pods(2) as (pod, other):
        before = links(here.host)["ext0"]
        claim = await here.prepare("c", "ext0", CONFIG)
        copies = [path.name for path in (here.lab.plugins / NAME).glob("hook-*")]
        assert len(copies) == (installed == "yes")
        waiting = await here.status(claim, is_ready=False)
        assert waiting["networkData"]["ips"] == ["198.51.100.7/24"]
        assert here.start_container(pod, claim) == ""
        there = links(pod)["net1"]
        assert (there.is_up, there.mtu, there.mac) == (True, 1400, "02:00:00:00:00:99")
        assert addresses(pod) == {"198.51.100.7/24"}
        with Netlink(place(pod)) as netlink:
            assert netlink.default_routes() == {there.ifindex}
        assert "ext0" not in links(here.host)
        assert here.start_container(pod, claim) == "", "a second container finds it done"
        assert "another pod with the same claim has it" in here.start_container(other, claim)
        assert links(other) == {}
        ready = await here.status(claim, is_ready=True)
        assert ready["networkData"] == {
            "interfaceName": "net1",
            "ips": ["198.51.100.7/24"],
            "hardwareAddress": "02:00:00:00:00:99",
        }
        (published,) = await here.lab.slices(NAME)
        assert [device["name"] for device in published["spec"]["devices"]] == ["ext0", "veth"]
        assert (await here.kubelet.unprepare(claim))["c"] == ""
        assert links(pod) == {}
        after = links(here.host)["ext0"]
        assert after._replace(ifindex=0, state="") == before._replace(ifindex=0, state="")
        assert addresses(here.host) == {"192.0.2.1/24"}
    assert not any(here.lab.plugins.glob("*/*hook-*")), "what no claim needs is removed"


async def test_an_interface_whose_pod_died_comes_back(tmp_path: Path) -> None:
    async with machine(tmp_path) as here, pods(1) as (pod,):
        claim = await here.prepare("c", "ext0", CONFIG)
        assert here.start_container(pod, claim) == ""
        # The kernel moves a real interface like this when its namespace ends; a virtual one goes with it.
        with Netlink(place(pod)) as there:
            link = there.link("net1")
            assert link is not None
            descriptor = os.open(place(here.host), os.O_RDONLY)
            there.change(link.ifindex, namespace=descriptor)
            os.close(descriptor)
        pod.kill()
        await pod.wait()
        assert "net1" in links(here.host)
        assert (await here.kubelet.unprepare(claim))["c"] == ""
        found = links(here.host)["ext0"]
        assert (found.mtu, found.mac, found.is_up, found.alias) == (1450, "02:00:00:00:00:01", True, "")


async def test_veth_pairs_join_pods(tmp_path: Path) -> None:
    async with machine(tmp_path, veth="192.0.2.128/25") as here, pods(2) as (one, two):
        first = await here.prepare("one", "veth")
        second = await here.prepare("two", "veth", {"interface": {"name": "fast0"}})
        for pod, claim in ((one, first), (two, second)):
            assert here.start_container(pod, claim) == ""
            assert here.start_container(pod, claim) == ""
        assert set(links(one)) == {"net1"}
        assert set(links(two)) == {"fast0"}
        talk(one, two, "192.0.2.130")
        data = (await here.status(first, is_ready=True))["networkData"]
        assert (data["interfaceName"], data["ips"]) == ("net1", ["192.0.2.130/25"])
        assert data["hardwareAddress"] == links(one)["net1"].mac
        assert (await here.kubelet.unprepare(first))["one"] == ""
        assert links(one) == {}
        two.kill()
        await two.wait()
        assert (await here.kubelet.unprepare(second))["two"] == ""
        assert set(links(here.host)) == {"wire0", "ext0"}, "the bridge goes with the last of them"


async def test_macvlans_on_one_interface(tmp_path: Path) -> None:
    async with machine(tmp_path, macvlan="ext0", veth="no") as here, pods(2) as (one, two):
        (published,) = await here.lab.slices(NAME)
        (found,) = published["spec"]["devices"]
        assert found["name"] == "macvlan-ext0"
        assert found["attributes"]["parent"] == {"string": "ext0"}
        claims = []
        for number, pod in enumerate((one, two), 1):
            config = {"interface": {"addresses": [f"198.51.100.{number}/24"], "macvlanMode": "bridge"}}
            claims.append(await here.prepare(f"c{number}", "macvlan-ext0", config))
            assert here.start_container(pod, claims[-1]) == ""
        assert {link.kind for pod in (one, two) for link in links(pod).values()} == {"macvlan"}
        talk(one, two, "198.51.100.1")
        assert (await here.kubelet.unprepare(claims[0]))["c1"] == ""
        assert (links(one), len(links(two))) == ({}, 1)


async def test_what_a_killed_driver_left_is_taken_back(tmp_path: Path) -> None:
    host = await hold("", ["net"])
    try:
        with make_ext0(host):
            async with cluster(tmp_path) as lab, pods(3) as (one, two, three):
                async with driver(lab, host) as kubelet:
                    here = Machine(host, lab, kubelet)
                    for name, device, pod in (("a", "ext0", one), ("b", "veth", two)):
                        assert here.start_container(pod, await here.prepare(name, device)) == ""
                    kept = await here.prepare("kept", "veth")
                    assert here.start_container(three, kept) == ""
                assert set(links(host)) > {"wire0"}, "pods keep theirs while no driver runs"
                checkpoint = lab.plugins / NAME / "checkpoint.json"
                content = json.loads(checkpoint.read_text())
                content["claims"] = {kept.uid: content["claims"][kept.uid]}
                checkpoint.write_text(json.dumps(content))
                async with driver(lab, host) as kubelet:
                    deadline = time.monotonic() + 10
                    while links(one) or links(two) or "ext0" not in links(host):
                        assert time.monotonic() < deadline
                        await asyncio.sleep(0.02)
                    assert len(links(three)) == 1
                    assert (await kubelet.unprepare(kept))["kept"] == ""
                assert set(links(host)) == {"wire0", "ext0"}
    finally:
        host.kill()
        await host.wait()


async def test_what_cannot_be(tmp_path: Path) -> None:
    async with machine(tmp_path, veth="192.0.2.0/30") as here, pods(1) as (pod,):
        claim = await here.prepare("c", "veth")
        assert "the pod shares the host's network" in here.start_container(here.host, claim)
        second = await here.lab.claim("full", "veth", driver=NAME, shareID=str(uuid4()))
        answer = (await here.kubelet.prepare(second))["full"]
        assert answer.error == "no address of 192.0.2.0/30 is free on this node"
        same = {"opaque": {"driver": NAME, "parameters": {"interface": {"addresses": ["192.0.2.2/24"]}}}}
        third = await here.lab.claim(
            "same", "veth", driver=NAME, config=[same | {"source": "FromClaim"}], shareID=str(uuid4())
        )
        answer = (await here.kubelet.prepare(third))["same"]
        assert answer.error == "another claim on this node has the address 192.0.2.2"
        with Netlink(place(pod)) as there:
            there.add_bridge("net1", "02:00:00:00:00:01")
        assert here.start_container(pod, claim) == ""
        assert set(links(pod)) == {"net1", "net2"}
        named = await here.prepare("named", "ext0", {"interface": {"name": "net2"}})
        assert "has an interface net2 already: choose another interface.name" in here.start_container(
            pod, named
        )
        for pod_claim in (claim, named):
            assert (await here.kubelet.unprepare(pod_claim))[pod_claim.name] == ""
        config = {
            "opaque": {"driver": NAME, "parameters": {"interface": {"name": "n"}}},
            "source": "FromClaim",
        }
        both = await here.lab.claim("both", "x:ext0", "y:ext0", driver=NAME, config=[config])
        assert "would be called n" in (await here.kubelet.prepare(both))["both"].error


async def test_interfaces_come_and_lose_their_carrier(tmp_path: Path) -> None:
    host = await hold("", ["net"])
    try:
        with make_ext0(host):
            async with cluster(tmp_path) as lab:
                built = build("net", {"netns": place(host), "interfaces": "ext*", "macvlan": "ext0"}, NODE)
                async with lab.running(built), Kubelet.meet(lab, NAME) as kubelet:
                    here = Machine(host, lab, kubelet)
                    assert {health.device: health.health for health in await built.health()} == {  # type: ignore[misc, union-attr]
                        "macvlan-ext0": "Healthy",
                        "veth": "Healthy",
                    }
                    with Netlink(place(host)) as netlink, open(place(host)) as namespace:
                        netlink.add_veth("wire1", "ext1", namespace.fileno(), mac="02:00:00:00:00:02")
                        (ext1,) = (link for link in netlink.links() if link.name == "ext1")
                        netlink.change(ext1.ifindex, is_up=True)
                    async with asyncio.timeout(10):
                        while "ext1" not in [found.name for found in built.devices()]:
                            await asyncio.sleep(0.02)
                    trouble = {health.device: health.message for health in await built.health()}  # type: ignore[misc, union-attr]
                    assert trouble == {"ext1": "no carrier", "macvlan-ext0": "", "veth": ""}
                    async with pods(1) as (pod,):
                        claim = await here.prepare("c", "ext1")
                        assert here.start_container(pod, claim) == ""
                        trouble = {health.device: health.message for health in await built.health()}  # type: ignore[misc, union-attr]
                        assert trouble["ext1"] == "no carrier"
                    trouble = {health.device: health.message for health in await built.health()}  # type: ignore[misc, union-attr]
                    assert trouble["ext1"] == "it is neither here nor in its pod"
    finally:
        host.kill()
        await host.wait()


def settled(host: Child) -> set[Link]:
    """The interfaces without what changes by itself, and the numbers of peers."""
    return {
        link._replace(ifindex=0, parent=0, state="", flags=link.flags & UP) for link in links(host).values()
    }


class Killed(BaseException):
    """The hook ends here, as by kill -9."""


@contextmanager
def killed_before(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hook's `step`-th request to the kernel is not made any more."""
    left = step
    change = Netlink._do

    def do(self: Netlink, *arguments: Any, **more: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        change(self, *arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Netlink, "_do", do)
        yield


@pytest.mark.parametrize("device", ["ext0", "veth", "macvlan-ext1"])
async def test_a_hook_that_is_killed_at_any_step(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machine(tmp_path, macvlan="ext1") as here, pods(1) as (pod,):
        with Netlink(place(here.host)) as netlink, open(place(here.host)) as namespace:
            netlink.add_veth("wire1", "ext1", namespace.fileno(), mac="02:00:00:00:00:02")
            (ext1,) = (link for link in netlink.links() if link.name == "ext1")
            netlink.change(ext1.ifindex, is_up=True)
        async with asyncio.timeout(10):
            while "macvlan-ext1" not in str(await here.lab.slices(NAME)):
                await asyncio.sleep(0.02)
        before = settled(here.host)
        steps = 0
        while True:
            claim = await here.prepare(f"c{steps}", device, {"interface": {"mtu": 1400, "name": "n"}})
            (path,) = here.lab.cdi.glob(f"*{claim.uid}.json")
            edits = json.loads(path.read_text())["devices"][0]["containerEdits"]
            is_killed = False
            with killed_before(steps, monkeypatch):
                try:
                    hook.main(json.loads(edits["hooks"][0]["args"][-1]), pod.pid)
                except Killed:
                    is_killed = True
            if steps % 2:
                assert here.start_container(pod, claim) == "", "the next try goes on where it ended"
                assert set(links(pod)) == {"n"}
            assert (await here.kubelet.unprepare(claim))[claim.name] == ""
            assert links(pod) == {}
            assert settled(here.host) == before, f"killed before step {steps}"
            if not is_killed:
                break
            steps += 1
        assert steps >= 3

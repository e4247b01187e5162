"""Network interfaces through rtnetlink, in a network namespace of our own."""

from __future__ import annotations

import errno
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drakit.netlink import Netlink, NetlinkError, find_namespace, inside, watch_links

pytestmark = pytest.mark.needs_root


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[str]:
    """A new one, kept by a mount."""
    if shutil.which("unshare") is None:
        pytest.skip("network namespaces are made with unshare")
    place = tmp_path / "net"
    place.touch()
    subprocess.run(["unshare", f"--net={place}", "true"], check=True)
    yield str(place)
    subprocess.run(["umount", str(place)], check=True)


def test_making_changing_and_deleting(namespace: str) -> None:
    with Netlink(namespace) as netlink, open(namespace) as here:
        netlink.add_bridge("br0", "02:00:00:00:00:01")
        netlink.add_veth("a", "b", here.fileno(), mac="02:00:00:00:00:02", mtu=1400)
        br0, a, b = (netlink.link(name) for name in ("br0", "a", "b"))
        assert br0
        assert a
        assert b
        assert (br0.kind, br0.mac, b.kind, b.mac, b.mtu) == (
            "bridge",
            "02:00:00:00:00:01",
            "veth",
            "02:00:00:00:00:02",
            1400,
        )
        netlink.change(a.ifindex, master=br0.ifindex, is_up=True, alias="to the bridge")
        netlink.change(b.ifindex, name="c", mac="02:00:00:00:00:03", mtu=1300)
        netlink.change(b.ifindex, is_up=True)
        found = {link.name: link for link in netlink.links()}
        assert (found["a"].master, found["a"].alias, found["a"].has_carrier) == (
            br0.ifindex,
            "to the bridge",
            True,
        )
        assert (found["c"].mac, found["c"].mtu, found["c"].is_up) == ("02:00:00:00:00:03", 1300, True)
        netlink.delete(a.ifindex)
        netlink.delete(a.ifindex)
        assert {link.name for link in netlink.links()} == {"lo", "br0"}


def test_addresses_and_routes(namespace: str) -> None:
    with Netlink(namespace) as netlink:
        for name in ("br0", "br1"):
            netlink.add_bridge(name, "02:00:00:00:00:01")
        index = {link.name: link.ifindex for link in netlink.links()}
        for text in ("192.0.2.7/24", "192.0.2.7/24", "2001:db8::7/64"):
            netlink.add_address(index["br0"], text)
        assert {a.text for a in netlink.addresses()} == {"192.0.2.7/24", "2001:db8::7/64"}
        for name in ("br0", "br1"):
            netlink.change(index[name], is_up=True)
        assert netlink.default_routes() == set()
        netlink.add_route(index["br0"], "198.51.100.0/24", "192.0.2.1", "192.0.2.7")
        netlink.add_route(index["br0"], "198.51.100.0/24", "192.0.2.1", "192.0.2.7")
        netlink.add_route(index["br1"], "203.0.113.0/24")
        assert netlink.default_routes() == set()
        netlink.add_route(index["br0"], "0.0.0.0/0", "192.0.2.1")
        assert netlink.default_routes() == {index["br0"]}
        netlink.add_route(index["br1"], "::/0")
        assert netlink.default_routes() == {index["br0"], index["br1"]}


def test_a_default_route_over_several(namespace: str) -> None:
    ip = shutil.which("ip")
    if ip is None:
        pytest.skip("there is no ip to make such a route with")
    with Netlink(namespace) as netlink:
        for name in ("br0", "br1"):
            netlink.add_bridge(name, "02:00:00:00:00:01")
        index = {link.name: link.ifindex for link in netlink.links()}
        for name in ("br0", "br1"):
            netlink.change(index[name], is_up=True)
        route = "route add default nexthop dev br0 nexthop dev br1"
        subprocess.run(["nsenter", f"--net={namespace}", ip, *route.split()], check=True)
        assert netlink.default_routes() == {index["br0"], index["br1"]}


def test_the_kernel_says_why_not(namespace: str) -> None:
    with Netlink(namespace) as netlink, open(namespace) as here:
        netlink.add_bridge("br0", "02:00:00:00:00:01")
        with pytest.raises(NetlinkError, match="cannot make the bridge interface br0: File exists"):
            netlink.add_bridge("br0", "02:00:00:00:00:01")
        with pytest.raises(NetlinkError) as caught:
            netlink.add_macvlan("m0", 4711, "bridge", here.fileno(), mac="02:00:00:00:00:02")
        assert caught.value.errno == errno.ENODEV
        with pytest.raises(NetlinkError, match=r"Network is unreachable .*[Nn]exthop"):
            netlink.add_route(netlink.links()[-1].ifindex, "0.0.0.0/0", "192.0.2.1")
    with pytest.raises(FileNotFoundError):
        Netlink("/nowhere")


def test_news(namespace: str) -> None:
    with watch_links(namespace) as news, Netlink(namespace) as netlink:
        assert select.select([news], [], [], 0)[0] == []
        netlink.add_bridge("br0", "02:00:00:00:00:01")
        assert select.select([news], [], [], 5)[0] == [news]


def test_finding_a_namespace(namespace: str) -> None:
    number = os.stat(namespace).st_ino
    assert find_namespace(number) == namespace
    assert find_namespace(1) == ""
    own = find_namespace(os.stat("/proc/self/ns/net").st_ino)
    assert os.stat(own).st_ino == os.stat("/proc/self/ns/net").st_ino
    assert inside(namespace, lambda: os.stat("/proc/thread-self/ns/net").st_ino) == number


def test_a_namespace_that_only_the_machine_has_mounted(tmp_path: Path) -> None:
    """As in a container that sees the machine's processes, but not its mounts."""
    mounted = {
        "self": "35 1 8:1 / / rw - ext4 x rw",
        "1": "36 35 0:4 net:[4026532999] /run/netns/cni-1 rw - nsfs",
    }
    for process, line in mounted.items():
        (tmp_path / process).mkdir()
        (tmp_path / process / "mountinfo").write_text(f"{line}\n")
    assert find_namespace(4026532999, str(tmp_path)) == f"{tmp_path}/1/root/run/netns/cni-1"
    (tmp_path / "1" / "mountinfo").unlink()
    assert find_namespace(4026532999, str(tmp_path)) == ""

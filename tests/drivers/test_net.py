"""Network interfaces: what is published and what may be configured, from recorded answers of a machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from drakit.driver import AllocatedDevice, Claim, DeviceNode, RecoverableError
from drakit.driver.claim import OpaqueConfig
from drakit.drivers import build
from drakit.drivers.net import mark, plan
from drakit.drivers.net.config import config_of
from drakit.drivers.net.interface import Interface, attributes, describe, normal, rdma_only, select
from drakit.drivers.net.rdma import device_nodes
from drakit.errors import DRAError, UsageError
from drakit.netlink import LOOPBACK, UP, Address, Link
from tests.driver.make import NODE

MAC = "b8:3f:d2:00:00:01"
ROOT = "sys/devices/pci0000:3a/0000:3a:00.0"


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")
    return folder


def machine(root: Path) -> list[Link]:
    """A network card with RDMA and virtual functions, one of them, a virtio card, and virtual interfaces."""
    card = {"vendor": "0x15b3", "subsystem_vendor": "0x15b3", "subsystem_device": "0x0052", "numa_node": "1"}
    physical = write(
        root / ROOT / "0000:3b:00.0", device="0x101d", sriov_totalvfs="16", sriov_numvfs="2", **card
    )
    (physical / "infiniband/mlx5_0").mkdir(parents=True)
    function = write(root / ROOT / "0000:3b:00.2", device="0x101e", **card)
    (function / "physfn").symlink_to(physical)
    virtio = write(root / "sys/devices/pci0000:00/0000:00:03.0/virtio2")
    write(virtio.parent, vendor="0x1af4", device="0x1041", numa_node="-1")
    for bus, folder in (("pci", physical), ("pci", function), ("virtio", virtio)):
        (root / "sys/bus" / bus / "devices").mkdir(parents=True, exist_ok=True)
        (root / "sys/bus" / bus / "devices" / folder.name).symlink_to(folder)
    return [
        Link(1, "lo", 772, UP | LOOPBACK),
        Link(2, "eth0", 1, UP, 1500, "02:00:00:00:00:02", state="up", bus="virtio", device="virtio2"),
        Link(3, "ens1f0np0", 1, UP, 9000, MAC, MAC, state="up", bus="pci", device="0000:3b:00.0"),
        Link(4, "ens1f0v0", 1, 0, 1500, "02:00:00:00:00:04", state="down", bus="pci", device="0000:3b:00.2"),
        Link(5, "docker0", 1, UP, 1500, "02:00:00:00:00:05", kind="bridge", state="down"),
        Link(6, "drkbr01234567", 1, UP, 1500, "02:00:00:00:00:06", kind="bridge"),
    ]


ADDRESSES = [
    Address(1, "127.0.0.1/8", 254),
    Address(3, "198.51.100.7/24", 0),
    Address(3, "2001:db8::7/64", 0),
    Address(3, "fe80::1/64", 253),
]


def interfaces(root: Path) -> dict[str, Interface]:
    return {interface.name: interface for interface in describe(root, machine(root), ADDRESSES, {2})}


def test_a_card_with_everything(tmp_path: Path) -> None:
    found = interfaces(tmp_path)
    assert list(found) == ["eth0", "ens1f0np0", "ens1f0v0", "docker0"]
    assert attributes(found["ens1f0np0"]) == {
        "ifName": "ens1f0np0",
        "mac": MAC,
        "mtu": 9000,
        "state": "up",
        "type": "device",
        "encapsulation": "ether",
        "virtual": False,
        "rdma": True,
        "rdmaDevice": "mlx5_0",
        "sriov": True,
        "sriovVfs": 2,
        "isSriovVf": False,
        "ipv4": "198.51.100.7/24",
        "ipv6": "2001:db8::7/64",
        "pciAddress": "0000:3b:00.0",
        "pciVendor": "0x15b3",
        "pciDevice": "0x101d",
        "pciSubsystem": "0x15b3:0x0052",
        "numaNode": 1,
        "resource.kubernetes.io/numaNode": 1,
        "resource.kubernetes.io/pciBusID": "0000:3b:00.0",
        "resource.kubernetes.io/pcieRoot": "pci0000:3a",
    }


def test_other_interfaces(tmp_path: Path) -> None:
    found = interfaces(tmp_path)
    function, virtio, bridge = (attributes(found[name]) for name in ("ens1f0v0", "eth0", "docker0"))
    assert (function["isSriovVf"], function["sriov"], function["state"]) == (True, False, "down")
    assert virtio["resource.kubernetes.io/pcieRoot"] == "pci0000:00"
    assert virtio["pciAddress"] == "0000:00:03.0"
    assert "numaNode" not in virtio
    assert (bridge["type"], bridge["virtual"], "pciAddress" in bridge) == ("bridge", True, False)


CHOICES: list[tuple[list[str], list[str], tuple[int, int], set[str]]] = [
    ([], [], (0, 1), {"ens1f0np0", "ens1f0v0"}),
    (["*"], [], (0, 1), {"ens1f0np0", "ens1f0v0", "docker0"}),
    (["eth0", "docker?"], [], (0, 1), {"eth0", "docker0"}),
    (["eth*"], [], (0, 1), set()),
    ([], ["ens1f0np0"], (0, 1), {"ens1f0v0"}),
]


@pytest.mark.parametrize(("patterns", "parents", "share", "names"), CHOICES)
def test_which_are_given_away(
    patterns: list[str], parents: list[str], share: tuple[int, int], names: set[str], tmp_path: Path
) -> None:
    found = interfaces(tmp_path).values()
    assert {one.name for one in select(found, patterns, parents, share)} == names


def test_nodes_of_one_machine_share_them(tmp_path: Path) -> None:
    found = list(interfaces(tmp_path).values())
    parts = [{one.name for one in select(found, ["*"], [], (index, 2))} for index in range(2)]
    assert parts[0] | parts[1] == {"ens1f0np0", "ens1f0v0", "docker0"}
    assert not parts[0] & parts[1]


def test_a_marked_interface_is_still_the_one_it_was(tmp_path: Path) -> None:
    link = machine(tmp_path)[2]._replace(alias="uplink of rack 7")
    marked = mark.of(link, "0a1b2c3d", "uid-1.0")
    assert mark.read(link._replace(alias=marked.text())) == marked
    moved = link._replace(name="net1", mtu=1400, alias=marked.text())
    (interface,) = describe(tmp_path, [moved], (), set())
    assert (interface.name, interface.key, interface.alias) == ("ens1f0np0", "uid-1.0", "uplink of rack 7")
    long = mark.of(link._replace(alias="x" * 255), "0a1b2c3d", "uid-1.0")
    assert len(long.text()) == 255
    assert mark.read(link._replace(alias="drakit of yours")) is None


NAMES = [
    ("eth0", "eth0"),
    ("mlx5_0", "mlx5-0"),
    ("eth0.7", "eth0-7-8ceaef1a"),
    ("Eth0", "eth0-558b669c"),
    ("veth", "veth-29367c0f"),
    ("macvlan-a", "macvlan-a-b7cf8dfd"),
    ("_", "x-29d6a3e8"),
]


@pytest.mark.parametrize(("name", "device"), NAMES)
def test_names_of_devices(name: str, device: str) -> None:
    assert normal(name) == device


def test_rdma_devices(tmp_path: Path) -> None:
    write(tmp_path / "sys/class/infiniband_verbs/uverbs0", ibdev="mlx5_0")
    write(tmp_path / "sys/class/infiniband_verbs/uverbs1", ibdev="mlx5_1")
    write(tmp_path / "sys/class/infiniband_mad/umad0", ibdev="mlx5_0")
    write(tmp_path / "sys/class/infiniband_mad/issm0", ibdev="mlx5_0")
    write(tmp_path / "dev/infiniband", uverbs0="", uverbs1="", umad0="", rdma_cm="")
    expected = ["umad0", "uverbs0", "rdma_cm"]
    assert device_nodes(tmp_path, "mlx5_0") == [
        DeviceNode(path=f"/dev/infiniband/{name}", permissions="rw") for name in expected
    ]
    assert device_nodes(tmp_path, "mlx5_7") == []


def test_rdma_without_an_interface(tmp_path: Path) -> None:
    machine(tmp_path)
    card = tmp_path / ROOT / "0000:3b:00.0"
    for name in ("mlx5_0", "mlx5_1"):
        folder = tmp_path / "sys/class/infiniband" / name
        write(folder / "ports/1", state="4: ACTIVE", link_layer="InfiniBand")
        (folder / "device").symlink_to(card)
    (found,) = rdma_only(tmp_path, {"mlx5_0"})
    values = attributes(found)
    assert (values["ifName"], values["type"], values["rdmaDevice"]) == ("", "rdma", "mlx5_1")
    assert (values["state"], values["encapsulation"], values["pciAddress"]) == (
        "up",
        "infiniband",
        "0000:3b:00.0",
    )
    driver = build("net", {"root": str(tmp_path)}, NODE)
    assert {"mlx5-0", "mlx5-1"} <= {device.name for device in driver.devices()}
    with pytest.raises(RecoverableError, match="RDMA device mlx5_1 has no files in /dev/infiniband"):
        driver.prepare(claimed("mlx5-1"))
    write(tmp_path / "sys/class/infiniband_verbs/uverbs1", ibdev="mlx5_1")
    write(tmp_path / "dev/infiniband", uverbs1="")
    (given,) = driver.prepare(claimed("mlx5-1"))  # type: ignore[misc]
    assert [node.path for node in given.edits.device_nodes] == ["/dev/infiniband/uverbs1"]
    assert given.edits.hooks == []
    with pytest.raises(DRAError, match="mlx5-1 has no network interface to configure"):
        driver.prepare(claimed("mlx5-1", {"interface": {"name": "net1"}}))


def claimed(device: str, parameters: Any = None) -> Claim:
    result = {"request": "nic", "driver": "dra.net", "pool": NODE, "device": device}
    opaque = {"opaque": {"driver": "dra.net", "parameters": parameters}, "source": "FromClaim"}
    devices = {"results": [result], "config": [opaque] if parameters else []}
    meta = {"namespace": "default", "name": "c", "uid": "u1"}
    return Claim.of({"metadata": meta, "status": {"allocation": {"devices": devices}}}, "dra.net")


# --- configuration --------------------------------------------------------------------------------


def allocated(parameters: Any) -> AllocatedDevice:
    config = OpaqueConfig("config 0 (FromClaim)", parameters)
    return AllocatedDevice(request="nic", pool=NODE, name="veth", configs=[config])


GOOD = {
    "interface": {
        "name": "net-a.1_b",
        "addresses": ["192.0.2.7/24", "2001:db8::7/64"],
        "mtu": 1400,
        "hardwareAddr": "02:00:5E:00:53:01",
    },
    "routes": [
        {"destination": "0.0.0.0/0", "gateway": "192.0.2.1", "source": "192.0.2.7"},
        {"destination": "198.51.100.0/24"},
    ],
}


def test_good_configuration() -> None:
    config = config_of(allocated(GOOD), "veth")
    assert config.interface.mtu == 1400
    whole = GOOD | {"apiVersion": "dra.net/v1alpha1", "kind": "NetworkConfig"}
    assert config_of(allocated(whole), "veth") == config
    place = plan.Place("0a1b2c3d", "", "/f")
    made = plan.for_veth(place, "u.0", "drkbr0", config.interface.addresses, config)
    assert (made.mac, made.end[:3]) == ("02:00:5e:00:53:01", "drk")
    assert json.loads(made.hook(plan.own_program()).args[-1])["routes"][1] == {
        "destination": "198.51.100.0/24",
        "gateway": "",
        "source": "",
    }


def interface(**fields: Any) -> dict[str, Any]:
    return {"interface": fields}


BAD = [
    (interface(name="a" * 16), r"interface.name 'a{16}' is no name"),
    (interface(name="eth/0"), "interface.name 'eth/0' is no name"),
    (interface(name="lo"), "interface.name 'lo' is no name"),
    (
        interface(addresses=["192.0.2.7"]),
        r"interface.addresses\[0\] '192.0.2.7' is not an address with a prefix",
    ),
    (interface(addresses=["x/24"]), r"interface.addresses\[0\] 'x/24' is not an address with a prefix"),
    (interface(addresses=["224.0.0.1/4"]), "is not the address of an interface"),
    (interface(addresses=["192.0.2.7/24"] * 2), "one is there twice"),
    (interface(addresses=[f"192.0.2.{i}/24" for i in range(17)]), "17 are more than 16"),
    (interface(mtu=67), "interface.mtu 67 is not from 68 to 65535"),
    (interface(mtu=1000, addresses=["2001:db8::1/64"]), "interface.mtu 1000 is not from 1280"),
    (interface(mtu="big"), r"Expected `int \| null`, got `str` - at `\$.interface.mtu`"),
    (interface(hardwareAddr="01:00:5e:00:00:01"), "is not the address of one interface"),
    (interface(hardwareAddr="2:0"), "is not the address of one interface"),
    (interface(hardwareAddr="00:00:00:00:00:00"), "is not the address of one interface"),
    (interface(macvlanMode="bridge"), "is for macvlan interfaces, not for one of type veth"),
    (interface(macvlanMode="passthru"), r"Invalid enum value 'passthru' - at `\$.interface.macvlanMode`"),
    (interface(dhcp=True), r"unknown field `dhcp` - at `\$.interface`"),
    ({"routes": [{"destination": "192.0.2.1/24"}]}, r"routes\[0\].destination .* has host bits set"),
    ({"routes": [{"destination": "::/0", "gateway": "192.0.2.1"}]}, "is not of the same family as ::/0"),
    ({"routes": [{"destination": "0.0.0.0/0", "source": "me"}]}, r"routes\[0\].source 'me' is no IP address"),
    ({"routes": [{"destination": "0.0.0.0/0"}] * 65}, "routes: 65 are more than 64"),
    ({"routes": [{}]}, "missing required field `destination`"),
    ({"kind": "Other"}, r"Invalid value 'Other' - at `\$.kind`"),
    ({"apiVersion": "dra.net/v2"}, "Invalid enum value 'dra.net/v2'"),
    ("eth0", "Expected `object`, got `str`"),
]


@pytest.mark.parametrize(("parameters", "words"), BAD)
def test_bad_configuration(parameters: Any, words: str) -> None:
    with pytest.raises(DRAError, match=rf"config 0 \(FromClaim\): .*{words}"):
        config_of(allocated(parameters), "veth")


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(DRAError, match=r"interface.name .*; interface.mtu .*; routes"):
        config_of(allocated(interface(name="/", mtu=1) | {"routes": [{"destination": "x"}]}), "veth")


def test_addresses_are_divided_among_nodes() -> None:
    settings = build("net", {"veth": "192.0.2.0/29"}, NODE)._settings  # type: ignore[attr-defined]
    assert settings.subnet is not None
    free = plan.free_address(settings.subnet, {"192.0.2.2"}, (0, 1))
    assert free == "192.0.2.3/29"
    parts: list[list[str]] = [[], []]
    for index, part in enumerate(parts):
        while (address := plan.free_address(settings.subnet, part, (index, 2))) is not None:
            part.append(address.removesuffix("/29"))
    assert parts == [["192.0.2.2", "192.0.2.4", "192.0.2.6"], ["192.0.2.3", "192.0.2.5"]]


WRONG = [
    ({"veth": "10.0.0.1/24"}, "option veth: '10.0.0.1/24' is not an IPv4 network"),
    ({"veth": "10.0.0.0/31"}, "option veth: 10.0.0.0/31 is too small"),
    ({"count": "0"}, "option count"),
    ({"share": "1"}, "option share"),
    ({"netns": "/nowhere"}, "option netns: /nowhere: No such file or directory"),
    ({"macvlan": "eth*"}, r"option macvlan: 'eth\*' is not the name of an interface"),
    ({"size": "1"}, "has no option 'size'"),
]


@pytest.mark.parametrize(("options", "text"), WRONG)
def test_bad_options(options: dict[str, str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        build("net", options, NODE)


def test_a_plan_for_a_real_interface_says_how_it_was(tmp_path: Path) -> None:
    card = structs.replace(interfaces(tmp_path)["ens1f0np0"], alias="a b")
    made = plan.for_interface(plan.Place("o", "", "/f"), "u.0", card, config_of(allocated({}), "device"))
    assert made.mark == f"drakit o u.0 ens1f0np0 9000 {MAC} up a b"
    assert (made.source, made.mac, made.mtu, made.addresses) == ("ens1f0np0", "", 0, [])

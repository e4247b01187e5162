"""The network interfaces of a machine: netlink says what there is, sysfs what is behind it."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
import zlib
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from msgspec import Struct, structs

from drakit.driver.device import AttributeValue
from drakit.drivers.net import mark
from drakit.drivers.sysfs import number, pci_place, text
from drakit.netlink import LOOPBACK, Address, Link, Netlink

VETH, MACVLAN = "veth", "macvlan"
"""The kinds that are made; devices are called so."""

RDMA_ONLY = "rdma"
"""The kind of an RDMA device without a network interface."""

_MAX_TEXT = 64
_ENCAPSULATIONS = {1: "ether", 32: "infiniband", 512: "ppp", 65534: "none"}
_EVERYWHERE = 0


class Interface(Struct, frozen=True, kw_only=True):
    """An interface. `link` is what netlink says; `name` is the one it had before it was given to a claim."""

    name: str
    mac: str
    mtu: int
    state: str
    kind: str
    encapsulation: str
    is_up: bool
    has_carrier: bool
    is_virtual: bool
    alias: str = ""
    master: str = ""
    addresses: list[str] = []
    has_default_route: bool = False
    key: str = ""
    """Of the claim's device for which it is marked, "" if it is not."""
    pci_bus_id: str = ""
    pcie_root: str = ""
    numa: int | None = None
    pci_vendor: str = ""
    pci_device: str = ""
    pci_subsystem: str = ""
    sriov_total: int = 0
    sriov_vfs: int = 0
    is_vf: bool = False
    rdma: str = ""

    @property
    def device_name(self) -> str:
        """The name of the device it is published as."""
        return normal(self.name)


def normal(name: str) -> str:
    """`name` as a device may be called: with a digest where it is like that of another otherwise."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if plain == name.replace("_", "-") and plain != VETH and not plain.startswith(f"{MACVLAN}-"):
        return plain
    return f"{plain or 'x'}-{zlib.crc32(name.encode()):08x}"


def look(root: Path, namespace: str) -> list[Interface]:
    """The interfaces of the network namespace `namespace` ("" is ours); sysfs is below `root`."""
    with Netlink(namespace) as netlink:
        found = describe(root, netlink.links(), netlink.addresses(), netlink.default_routes())
    return found + rdma_only(root, {interface.rdma for interface in found})


def describe(
    root: Path, links: Sequence[Link], addresses: Iterable[Address], default_routes: set[int]
) -> list[Interface]:
    """`links` with what else is known of them; loopback and what drakit made for pods are left out."""
    names = {link.ifindex: link.name for link in links}
    of: dict[int, list[str]] = {}
    for address in addresses:
        if address.scope == _EVERYWHERE:
            of.setdefault(address.ifindex, []).append(address.text)
    found = []
    for link in links:
        if link.flags & LOOPBACK or mark.is_made(link):
            continue
        marked = mark.read(link)
        interface = Interface(
            name=marked.name if marked else link.name,
            mac=link.mac,
            mtu=link.mtu,
            state=link.state,
            kind=link.kind or "device",
            encapsulation=_ENCAPSULATIONS.get(link.type, str(link.type)),
            is_up=link.is_up,
            has_carrier=link.has_carrier,
            is_virtual=not link.device,
            alias=marked.alias if marked else link.alias,
            master=names.get(link.master, str(link.master or "")),
            addresses=of.get(link.ifindex, []),
            has_default_route=link.ifindex in default_routes,
            key=marked.key if marked else "",
        )
        behind = root / "sys/bus" / link.bus / "devices" / link.device
        found.append(_with_hardware(behind, interface) if link.device else interface)
    return found


def _with_hardware(behind: Path, interface: Interface) -> Interface:
    """With what sysfs says of the device whose folder is `behind`."""
    pci = pci_place(behind)
    folder = pci.folder or behind.resolve()
    numa = number(folder / "numa_node")
    subsystem = [text(folder / f"subsystem_{part}") for part in ("vendor", "device")]
    rdma = sorted(path.name for path in (folder / "infiniband").glob("*"))
    more = {
        "pci_bus_id": pci.bus_id,
        "pcie_root": pci.root,
        "numa": numa if numa is not None and numa >= 0 else None,
        "pci_vendor": text(folder / "vendor") if pci.bus_id else "",
        "pci_device": text(folder / "device") if pci.bus_id else "",
        "pci_subsystem": ":".join(subsystem) if all(subsystem) else "",
        "sriov_total": number(folder / "sriov_totalvfs") or 0,
        "sriov_vfs": number(folder / "sriov_numvfs") or 0,
        "is_vf": (folder / "physfn").exists(),
        "rdma": interface.rdma or (rdma[0] if rdma else ""),
    }
    return structs.replace(interface, **more)


def rdma_only(root: Path, known: AbstractSet[str]) -> list[Interface]:
    """RDMA devices that no interface stands for: those but `known`, named as the kernel does (mlx5_0)."""
    found = []
    for folder in sorted((root / "sys/class/infiniband").glob("*")):
        if folder.name in known:
            continue
        state = text(folder / "ports/1/state").partition(": ")[2]
        layer = text(folder / "ports/1/link_layer").lower().replace("ethernet", "ether")
        interface = Interface(
            name=folder.name,
            mac="",
            mtu=0,
            state="up" if state == "ACTIVE" else "down",
            kind=RDMA_ONLY,
            encapsulation=layer,
            is_up=True,
            has_carrier=state == "ACTIVE",
            is_virtual=False,
            rdma=folder.name,
        )
        found.append(_with_hardware(folder / "device", interface))
    return found


def select(
    found: Iterable[Interface], patterns: Sequence[str], parents: Sequence[str], share: tuple[int, int]
) -> list[Interface]:
    """Those that are given away: of `patterns`, or real ones if there are none; not the `parents` of others.

    What carries a default route must be named in full. `share` (INDEX, COUNT) is a node's part of them.
    """
    index, count = share
    chosen = []
    for interface in found:
        name = interface.name
        if patterns:
            is_wanted = any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        else:
            is_wanted = not interface.is_virtual
        if interface.has_default_route and name not in patterns:
            is_wanted = False
        if is_wanted and name not in parents and zlib.crc32(name.encode()) % count == index:
            chosen.append(interface)
    return chosen


def attributes(interface: Interface) -> dict[str, AttributeValue]:
    """What is published of it: the names of kubernetes-sigs/dranet, and the standard ones."""
    values: dict[str, AttributeValue] = {
        "ifName": "" if interface.kind == RDMA_ONLY else interface.name,
        "mac": interface.mac,
        "mtu": interface.mtu,
        "state": interface.state,
        "type": interface.kind,
        "encapsulation": interface.encapsulation,
        "virtual": interface.is_virtual,
        "rdma": bool(interface.rdma),
        "sriov": interface.sriov_total > 0,
        "isSriovVf": interface.is_vf,
    }
    texts = {
        "alias": interface.alias[:_MAX_TEXT],
        "ipv4": _joined(interface.addresses, 4),
        "ipv6": _joined(interface.addresses, 6),
        "rdmaDevice": interface.rdma,
        "pciAddress": interface.pci_bus_id,
        "pciVendor": interface.pci_vendor,
        "pciDevice": interface.pci_device,
        "pciSubsystem": interface.pci_subsystem,
        "resource.kubernetes.io/pciBusID": interface.pci_bus_id,
        "resource.kubernetes.io/pcieRoot": interface.pcie_root,
    }
    values |= {key: value for key, value in texts.items() if value}
    if interface.sriov_total:
        values["sriovVfs"] = interface.sriov_vfs
    if interface.numa is not None:
        values |= dict.fromkeys(("resource.kubernetes.io/numaNode", "numaNode"), interface.numa)
    return values


def _joined(addresses: Iterable[str], version: int) -> str:
    """The addresses of a family, with commas between, as many as an attribute takes."""
    joined = ""
    for address in addresses:
        longer = f"{joined},{address}" if joined else address
        if ipaddress.ip_interface(address).version == version and len(longer) <= _MAX_TEXT:
            joined = longer
    return joined

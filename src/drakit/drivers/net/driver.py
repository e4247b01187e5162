"""The driver of network interfaces (see the package)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import socket
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs

from drakit.client.clock import Clock
from drakit.driver import (
    AllocatedDevice,
    Claim,
    Device,
    DeviceCondition,
    DeviceHealth,
    DeviceTaint,
    Driver,
    NetworkDeviceData,
    PreparedClaim,
    PreparedDevice,
    RecoverableError,
    capacity,
    device,
)
from drakit.driver.device import AttributeValue
from drakit.drivers.net import plan as plans
from drakit.drivers.net.config import NetworkConfig, config_of
from drakit.drivers.net.give_back import Keeper, notes_of, owner_of
from drakit.drivers.net.install import Installed, installed_program
from drakit.drivers.net.interface import (
    MACVLAN,
    RDMA_ONLY,
    VETH,
    Interface,
    attributes,
    look,
    normal,
    select,
)
from drakit.drivers.net.plan import Plan, Program, own_program
from drakit.drivers.net.rdma import device_nodes
from drakit.errors import DRAError
from drakit.netlink import NetlinkError, watch_links

NAME = "dra.net"
CAPACITY = "interfaces"
_SETTLE_SECONDS = 0.2
_PENDING_SECONDS = 0.5
_REST_SECONDS = 30.0

_WAITING = DeviceCondition("Ready", "False", "NotAttached", "no container with it has started yet")
_READY = DeviceCondition("Ready", "True", "NetworkDeviceReady")

_log = logging.getLogger(__name__)


class Settings(Struct, frozen=True):
    """What `build` reads from the options."""

    patterns: Sequence[str]
    parents: Sequence[str]
    subnet: ipaddress.IPv4Network | None
    count: int
    share: tuple[int, int]
    root: Path
    namespace: str
    is_hook_installed: bool = False


class NetDriver(Driver):
    """Publishes the interfaces that `settings` name, and those that can be made."""

    name = NAME
    has_metadata = True

    def __init__(self, node_name: str, settings: Settings, *, clock: Clock | None = None) -> None:
        super().__init__(node_name)
        self._settings = settings
        self._clock = clock or Clock()
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._installed: Installed | None = None
        self._seen = self._look()

    # --- what there is ----------------------------------------------------------------------------

    def devices(self) -> Sequence[Device]:
        s = self._settings
        chosen = {each.device_name: each for each in select(self._seen, s.patterns, s.parents, s.share)}
        chosen |= self._given()
        found = [_device(chosen[name]) for name in sorted(chosen)]
        shares = {CAPACITY: capacity(s.count, default="1", min="1", max="1")}
        for parent in self._parents():
            own: dict[str, AttributeValue] = {
                "type": MACVLAN,
                "virtual": True,
                "parent": parent.name,
                "ifName": "",
                "mac": "",
            }
            values = {**attributes(structs.replace(parent, addresses=[], alias="")), **own}
            found.append(device(_macvlan(parent.name), values, shares, allow_multiple_allocations=True))
        if s.subnet is not None:
            texts = {"type": VETH, "network": str(s.subnet), "ifName": "", "mac": "", "state": "up"}
            flags = {"virtual": True, "rdma": False, "sriov": False, "isSriovVf": False}
            veth: dict[str, AttributeValue] = {**texts, **flags, "mtu": 1500, "encapsulation": "ether"}
            found.append(device(VETH, veth, shares, allow_multiple_allocations=True))
        return found

    def _look(self) -> list[Interface]:
        return look(self._settings.root, self._settings.namespace)

    def _given(self) -> dict[str, Interface]:
        """Interfaces that are in pods, as they were."""
        states = (one.state for _, one in self._prepared_devices())
        given = [msgspec.convert(state["interface"], Interface) for state in states if "interface" in state]
        return {interface.device_name: interface for interface in given}

    def _parents(self) -> list[Interface]:
        return [interface for interface in self._seen if interface.name in self._settings.parents]

    async def health(self) -> Sequence[DeviceHealth]:
        return await asyncio.to_thread(self._health)

    def _health(self) -> Sequence[DeviceHealth]:
        here = {interface.device_name: interface for interface in self._look()}
        here |= {f"{MACVLAN}-{name}": interface for name, interface in here.items()}
        states = ((one.name, one.state) for _, one in self._prepared_devices())
        keys = {name: state["key"] for name, state in states if "interface" in state}
        found = []
        for name in (published.name for published in self.devices()):
            trouble = ""
            if name in keys and name not in here:
                link = self._keeper.link_in_pod(keys[name])
                if link is None:
                    trouble = "it is neither here nor in its pod"
                elif link.is_up and not link.has_carrier:
                    trouble = "no carrier"
            elif name in here and here[name].is_up and not here[name].has_carrier:
                trouble = "no carrier"
            health = DeviceHealth(
                self.node_name, name, "Unhealthy" if trouble else "Healthy", message=trouble
            )
            found.append(health)
        return found

    async def watch(self) -> None:
        """Interfaces come, go and change, and hooks attach them."""
        self._loop = loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._program)
        await asyncio.to_thread(self._recover)
        told: Sequence[Device] = ()
        with watch_links(self._settings.namespace) as news:
            loop.add_reader(news, self._heard, news)
            try:
                while True:
                    self._seen = await asyncio.to_thread(self._look)
                    if (devices := self.devices()) != told:
                        told = devices
                        self.changed()
                    pending = await self._report_attached()
                    timer = self._clock.call_later(
                        _PENDING_SECONDS if pending else _REST_SECONDS, self._wake.set
                    )
                    await self._wake.wait()
                    timer.cancel()
                    await self._clock.sleep(_SETTLE_SECONDS)
                    self._wake.clear()
            finally:
                self._loop = None
                loop.remove_reader(news)
                if self._installed is not None:
                    self._installed.release()
                self._recover(is_last=True)

    def _heard(self, news: socket.socket) -> None:
        with contextlib.suppress(OSError):  # nothing more to read, or more than the kernel could keep
            while news.recv(1 << 16):
                pass
        self._wake.set()

    # --- claims -----------------------------------------------------------------------------------

    def prepare(self, claim: Claim) -> list[PreparedDevice]:
        here = self._look()
        taken = {text for _, one in self._prepared_devices() for text in _addresses(one)}
        prepared: list[PreparedDevice] = []
        names: list[str] = []
        for number, wanted in enumerate(claim.devices):
            if wanted.admin_access:  # looks after it, takes nothing
                prepared.append(wanted.prepared())
                continue
            if (rdma := self._rdma_only(wanted, here)) is not None:
                prepared.append(rdma)
                continue
            plan, interface = self._plan(wanted, f"{claim.uid}.{number}", here, taken)
            if plan.kind == VETH:
                taken.update(_alone(plan.addresses))
            names += [plan.name] if plan.name else []
            prepared.append(self._prepared(wanted, plan, interface))
        if len(set(names)) != len(names):
            raise DRAError(f"two interfaces of the claim would be called {max(names, key=names.count)}")
        self._look_soon()
        return prepared

    def _rdma_only(self, wanted: AllocatedDevice, here: Sequence[Interface]) -> PreparedDevice | None:
        """The device if it has no interface to be moved: its character devices are all of it."""
        interface = next((one for one in here if one.device_name == wanted.name), None)
        if interface is None or interface.kind != RDMA_ONLY:
            return None
        if config_of(wanted, interface.kind) != NetworkConfig():
            raise DRAError(f"{wanted.configs[-1].where}: {wanted.name} has no network interface to configure")
        nodes = device_nodes(self._settings.root, interface.rdma)
        if not nodes:
            raise RecoverableError(f"the RDMA device {interface.rdma} has no files in /dev/infiniband")
        ready = DeviceCondition("Ready", reason="RDMAOnlyDeviceReady")
        return wanted.prepared(device_nodes=nodes, conditions=[ready])

    def _plan(
        self, wanted: AllocatedDevice, key: str, here: Sequence[Interface], taken: AbstractSet[str]
    ) -> tuple[Plan, Interface | None]:
        """What is to be done for a device, and the real interface that it is."""
        place = self._place()
        if wanted.name == VETH:
            config = config_of(wanted, VETH)
            addresses = config.interface.addresses or [self._free_address(taken)]
            if others := taken & set(_alone(addresses)):
                raise RecoverableError(f"another claim on this node has the address {min(others)}")
            return plans.for_veth(place, key, self._bridge, addresses, config), None
        parents = {_macvlan(name): name for name in self._settings.parents}
        if wanted.name in parents:
            parent = parents[wanted.name]
            if all(interface.name != parent for interface in here):
                raise RecoverableError(f"the interface {parent} is not there (any more)")
            return plans.for_macvlan(place, key, parent, config_of(wanted, MACVLAN)), None
        interface = self._real(wanted.name, key, here)
        config = config_of(wanted, interface.kind)
        return plans.for_interface(place, key, interface, config), interface

    def _real(self, name: str, key: str, here: Sequence[Interface]) -> Interface:
        interface = next((one for one in here if one.device_name == name), None)
        if interface is None:
            raise RecoverableError(f"the interface {name} is not there: it went away, or a pod still has it")
        if interface.key not in ("", key):
            raise RecoverableError(f"the interface {interface.name} is still another claim's")
        if interface.master:
            raise RecoverableError(f"the interface {interface.name} is a part of {interface.master}")
        if interface.has_default_route and interface.name not in self._settings.patterns:
            raise RecoverableError(f"the interface {interface.name} carries a default route of this machine")
        return interface

    def _free_address(self, taken: AbstractSet[str]) -> str:
        assert self._settings.subnet is not None
        address = plans.free_address(self._settings.subnet, taken, self._settings.share)
        if address is None:
            raise RecoverableError(f"no address of {self._settings.subnet} is free on this node")
        return address

    def _prepared(self, wanted: AllocatedDevice, plan: Plan, interface: Interface | None) -> PreparedDevice:
        state: dict[str, Any] = {"key": plan.key, "addresses": plan.addresses, "kind": plan.kind}
        nodes = []
        if interface is not None:
            state["interface"] = msgspec.to_builtins(interface)
            nodes = device_nodes(self._settings.root, interface.rdma) if interface.rdma else []
        mac = plan.mac or (interface.mac if interface else "")
        return wanted.prepared(
            hooks=[plan.hook(self._program())],
            device_nodes=nodes,
            conditions=[_WAITING],
            network_data=NetworkDeviceData(
                interface_name=plan.name, ips=plan.addresses, hardware_address=mac
            ),
            state=state,
        )

    def unprepare(self, claim: PreparedClaim) -> None:
        try:
            for one in claim.devices:
                if "key" in one.state:
                    addresses = one.state.get("interface", {}).get("addresses", ())
                    self._keeper.give_back(one.state["key"], addresses)
            if any(one.state.get("kind") == VETH for one in claim.devices):
                self._keeper.drop_bridge(self._bridge)
        except NetlinkError as error:
            raise RecoverableError(str(error.strerror)) from None
        self._seen = self._look()  # or what came back would not be there until `watch` has looked
        self._look_soon()

    # --- what hooks have done ---------------------------------------------------------------------

    async def _report_attached(self) -> bool:
        """Say which interfaces are in their pods; whether some are not there yet."""
        is_pending = False
        for uid, one in self._prepared_devices():
            note = self._keeper.note(one.state["key"])
            is_ready = _READY in one.conditions
            if note is None or not note.is_done:
                is_pending = is_pending or not is_ready
                continue
            data = NetworkDeviceData(interface_name=note.name, ips=note.addresses, hardware_address=note.mac)
            if not is_ready or data != one.network_data:
                with contextlib.suppress(DRAError):  # it was unprepared meanwhile
                    await self.report(uid, structs.replace(one, conditions=[_READY], network_data=data))
        return is_pending

    def _prepared_devices(self) -> Iterator[tuple[str, PreparedDevice]]:
        for uid, claim in list(self.prepared.items()):
            yield from ((uid, one) for one in claim.devices if "key" in one.state)

    # --- inside -----------------------------------------------------------------------------------

    @property
    def _keeper(self) -> Keeper:
        place = self._place()
        return Keeper(place.owner, place.host, notes_of(self.folder), self._settings.root / "proc")

    def _place(self) -> plans.Place:
        notes_of(self.folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        there = self.host_folder
        return plans.Place(owner_of(there), self._settings.namespace, str(notes_of(there)))

    def _program(self) -> Program:
        if not self._settings.is_hook_installed:
            return own_program()
        self._installed = self._installed or Installed(self.folder)
        return installed_program(self.host_folder / self._installed.install())

    @property
    def _bridge(self) -> str:
        assert self._settings.subnet is not None
        return plans.bridge_name(self._settings.subnet)

    def _recover(self, *, is_last: bool = False) -> None:
        """Take back what an earlier run left to nobody, and at the end also what pods have left."""
        try:
            self._keeper.recover(self._known, is_last=is_last)
            if self._settings.subnet is not None:
                self._keeper.drop_bridge(self._bridge)
            if self._installed is not None:
                self._installed.sweep(self._checkpoint())
        except OSError as error:
            _log.warning("what is left of earlier claims: %s", error.strerror)

    def _known(self) -> set[str]:
        """The claims that are prepared: also those of another instance of this driver, from its
        checkpoint."""
        try:
            on_disk = json.loads(self._checkpoint())["claims"]
        except (OSError, ValueError, KeyError):
            on_disk = {}
        return {*self.prepared, *on_disk}

    def _checkpoint(self) -> str:
        try:
            return (self.folder / "checkpoint.json").read_text()
        except FileNotFoundError:
            return ""

    def _look_soon(self) -> None:
        """Have `watch` look; called in threads."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)


def _device(interface: Interface) -> Device:
    taints = [DeviceTaint(key=f"{NAME}/in-use", effect="NoSchedule")] if interface.master else []
    return device(interface.device_name, attributes(interface), taints=taints)


def _macvlan(name: str) -> str:
    return f"{MACVLAN}-{normal(name)}"


def _addresses(one: PreparedDevice) -> Iterator[str]:
    """What it has in the network of veth pairs."""
    return _alone(one.state["addresses"] if one.state["kind"] == VETH else ())


def _alone(addresses: Iterable[str]) -> Iterator[str]:
    """Without their prefixes."""
    return (text.partition("/")[0] for text in addresses)

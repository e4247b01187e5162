"""What the hook is told to do for a device of a claim."""

from __future__ import annotations

import hashlib
import ipaddress
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

import drakit
from drakit.driver import Hook
from drakit.drivers.net import hook
from drakit.drivers.net.config import NetworkConfig
from drakit.drivers.net.interface import Interface
from drakit.drivers.net.mark import PREFIX, Mark

_HOOK_SECONDS = 30
_DIGEST = 10


class Route(Struct, frozen=True):
    destination: str
    gateway: str
    source: str


class Program(NamedTuple):
    """How the hook is run on the host; a plan comes behind."""

    args: Sequence[str]
    env: Mapping[str, str]


def own_program() -> Program:
    """With the Python that runs this."""
    source = str(Path(drakit.__file__).parents[1])
    return Program([sys.executable, "-I", "-S", hook.__file__, source], {})


class Plan(Struct, frozen=True, kw_only=True):
    """As `hook` reads it. `host` is the machine's network namespace ("" is the hook's own), `end`, `bridge`
    and `bridge_mac` are of a veth pair, `parent` and `mode` of a macvlan, `source` and `mark` of a real
    interface."""

    kind: str
    key: str
    host: str
    folder: str
    name: str
    mac: str
    mtu: int
    addresses: list[str]
    routes: list[Route]
    mark: str = ""
    source: str = ""
    parent: str = ""
    mode: str = ""
    bridge: str = ""
    bridge_mac: str = ""
    end: str = ""

    def hook(self, program: Program) -> Hook:
        """What a container with the device runs before its program."""
        args = [*program.args, msgspec.json.encode(self).decode()]
        return Hook(
            hook_name="createRuntime",
            path=args[0],
            args=args,
            env=[f"{name}={value}" for name, value in program.env.items()],
            timeout=_HOOK_SECONDS,
        )


class Place(Struct, frozen=True):
    """Whose the plans are: the driver instance, its network namespace, and its folder for notes."""

    owner: str
    host: str
    folder: str


def for_interface(place: Place, key: str, interface: Interface, config: NetworkConfig) -> Plan:
    """Have the real `interface` moved."""
    marked = Mark(
        place.owner, key, interface.name, interface.mtu, interface.mac, interface.is_up, interface.alias
    )
    mac = config.interface.hardware_addr.lower()
    common = _common(place, key, config, mac, config.interface.addresses)
    return Plan(kind="interface", source=interface.name, mark=marked.text(), **common)


def for_macvlan(place: Place, key: str, parent: str, config: NetworkConfig) -> Plan:
    """Have a macvlan made on top of `parent`."""
    mode = config.interface.macvlan_mode or "bridge"
    common = _common(place, key, config, _mac(place, key, config), config.interface.addresses)
    return Plan(kind="macvlan", parent=parent, mode=mode, **common)


def for_veth(place: Place, key: str, bridge: str, addresses: list[str], config: NetworkConfig) -> Plan:
    """Have a veth pair made, with its other end at `bridge`."""
    mac = _mac(place, key, config)
    end = f"{PREFIX}{_digest(place.owner, key)}"
    marked = Mark(place.owner, key, end, 0, mac, True)
    common = _common(place, key, config, mac, addresses)
    bridge_mac = _as_mac(bridge)
    return Plan(kind="veth", mark=marked.text(), bridge=bridge, bridge_mac=bridge_mac, end=end, **common)


def _common(
    place: Place, key: str, config: NetworkConfig, mac: str, addresses: Collection[str]
) -> dict[str, Any]:
    return {
        "key": key,
        "host": place.host,
        "folder": place.folder,
        "name": config.interface.name,
        "mac": mac,
        "mtu": config.interface.mtu or 0,
        "addresses": [str(ipaddress.ip_interface(text)) for text in addresses],
        "routes": [Route(route.destination, route.gateway, route.source) for route in config.routes],
    }


def bridge_name(subnet: ipaddress.IPv4Network) -> str:
    """The bridge of `subnet`: one for all driver instances on a machine that use it."""
    return f"{PREFIX}br{_digest(str(subnet))[:8]}"


def free_address(subnet: ipaddress.IPv4Network, taken: Collection[str], share: tuple[int, int]) -> str | None:
    """The first address of `subnet` that is not `taken`, with its prefix; None if there is none. `share`
    (INDEX, COUNT) says which are this node's."""
    index, count = share
    for offset in range(2 + index, subnet.num_addresses - 1, count):
        if str(subnet[offset]) not in taken:
            return f"{subnet[offset]}/{subnet.prefixlen}"
    return None


def _mac(place: Place, key: str, config: NetworkConfig) -> str:
    return config.interface.hardware_addr.lower() or _as_mac(place.owner, key)


def _as_mac(*parts: str) -> str:
    """A hardware address of nobody else, the same again for the same `parts`."""
    digest = _digest(*parts)
    return ":".join(["02", *(digest[at : at + 2] for at in range(0, 10, 2))])


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_DIGEST]

"""What a class or claim may say of an interface in its pod: the model, and the rules a model cannot say.

Names follow kubernetes-sigs/dranet.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Literal

from msgspec import field

from drakit.driver.claim import AllocatedDevice, Config, ConfigPart
from drakit.errors import DRAError

MAX_ADDRESSES = 16
_MAX_ROUTES = 64
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_RESERVED = (".", "..", "lo", "all", "default")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)
_MIN_MTU, _MIN_MTU_V6, _MAX_MTU = 68, 1280, 65535


class InterfaceConfig(ConfigPart, frozen=True, kw_only=True):
    """How the interface is in the pod; what is left out stays as it is, or is chosen."""

    name: str = ""
    addresses: list[str] = field(default_factory=list)
    mtu: int | None = None
    hardware_addr: str = ""
    macvlan_mode: Literal["bridge", "private", "vepa"] | None = None


class RouteConfig(ConfigPart, frozen=True, kw_only=True):
    destination: str
    gateway: str = ""
    source: str = ""


class NetworkConfig(Config, frozen=True, kw_only=True, tag="NetworkConfig"):
    api_version: Literal["dra.net/v1alpha1"] = "dra.net/v1alpha1"
    interface: InterfaceConfig = InterfaceConfig()
    routes: list[RouteConfig] = field(default_factory=list)


def config_of(device: AllocatedDevice, kind: str) -> NetworkConfig:
    """What the claim says of `device`, an interface of `kind`. Raises DRAError with all that is wrong."""
    config = device.config(NetworkConfig)
    if config is None:
        return NetworkConfig()
    problems = list(_problems(config, kind))
    if problems:
        raise DRAError(f"{device.configs[-1].where}: {'; '.join(problems)}")
    return config


def _problems(config: NetworkConfig, kind: str) -> Iterator[str]:
    interface = config.interface
    name = interface.name
    if name and (not _NAME.fullmatch(name) or name in _RESERVED):
        yield f"interface.name {name!r} is no name for an interface: up to 15 letters, digits, - _ and ."
    yield from _address_problems(interface.addresses)
    mtu = interface.mtu
    versions = {ipaddress.ip_interface(text).version for text in interface.addresses if _is_address(text)}
    low = _MIN_MTU_V6 if 6 in versions else _MIN_MTU
    if mtu is not None and not low <= mtu <= _MAX_MTU:
        yield f"interface.mtu {mtu} is not from {low} to {_MAX_MTU}"
    mac = interface.hardware_addr
    if mac and not (_MAC.fullmatch(mac) and int(mac[:2], 16) % 2 == 0 and mac.strip("0:")):
        yield f"interface.hardwareAddr {mac!r} is not the address of one interface, like 02:00:5e:00:53:01"
    if interface.macvlan_mode and kind != "macvlan":
        yield f"interface.macvlanMode is for macvlan interfaces, not for one of type {kind}"
    if len(config.routes) > _MAX_ROUTES:
        yield f"routes: {len(config.routes)} are more than {_MAX_ROUTES}"
    for index, route in enumerate(config.routes[:_MAX_ROUTES]):
        yield from (f"routes[{index}]{problem}" for problem in _route_problems(route))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return "/" in text


def _address_problems(addresses: list[str]) -> Iterator[str]:
    if len(addresses) > MAX_ADDRESSES:
        yield f"interface.addresses: {len(addresses)} are more than {MAX_ADDRESSES}"
    if len(set(addresses)) != len(addresses):
        yield "interface.addresses: one is there twice"
    for index, text in enumerate(addresses[:MAX_ADDRESSES]):
        if not _is_address(text):
            yield f"interface.addresses[{index}] {text!r} is not an address with a prefix, like 192.0.2.7/24"
            continue
        address = ipaddress.ip_interface(text).ip
        if address.is_multicast or address.is_unspecified or address.is_loopback:
            yield f"interface.addresses[{index}] {text!r} is not the address of an interface"


def _route_problems(route: RouteConfig) -> Iterator[str]:
    try:
        network = ipaddress.ip_network(route.destination)
    except ValueError as error:
        yield f".destination {route.destination!r} is no network, like 192.0.2.0/24 ({error})"
        return
    for name, text in (("gateway", route.gateway), ("source", route.source)):
        if not text:
            continue
        try:
            version = ipaddress.ip_address(text).version
        except ValueError:
            yield f".{name} {text!r} is no IP address"
            continue
        if version != network.version:
            yield f".{name} {text} is not of the same family as {network}"

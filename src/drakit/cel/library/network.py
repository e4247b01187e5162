"""IP addresses and CIDR blocks, read as strictly as Kubernetes does: no zones, no IPv4 inside IPv6."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from drakit.cel.charge import register_size, register_unit_equality
from drakit.cel.equality import register_refusing
from drakit.cel.library.address import Address, Unreadable, parse_address, parse_prefix
from drakit.cel.value import Fault, NoOverload, register_kind
from drakit.model.quote import quoted


class IP:
    """An address."""

    __slots__ = ("address",)

    def __init__(self, address: Address) -> None:
        self.address = address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IP) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)

    def __str__(self) -> str:
        return str(self.address)


class CIDR:
    """A block: an address, host bits and all, and how many bits of it count."""

    __slots__ = ("address", "length")

    def __init__(self, address: Address, length: int) -> None:
        self.address = address
        self.length = length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CIDR) and (self.address, self.length) == (other.address, other.length)

    def __hash__(self) -> int:
        return hash((self.address, self.length))

    def __str__(self) -> str:
        return f"{self.address}/{self.length}"

    def masked(self) -> CIDR:
        """Without host bits."""
        return CIDR(_masked(self.address, self.length), self.length)

    def holds(self, address: Address) -> bool:
        return address.version == self.address.version and _masked(address, self.length) == _masked(
            self.address, self.length
        )


def _masked(address: Address, length: int) -> Address:
    bits = address.max_prefixlen
    return type(address)(int(address) >> (bits - length) << (bits - length))


def parse_ip(text: str) -> IP:
    """Raises Fault."""
    try:
        address, zone = parse_address(text)
    except Unreadable as error:
        raise Fault(f"IP Address {quoted(text)} parse error during conversion from string: {error}") from None
    if zone:
        raise Fault(f"IP address {quoted(text)} with zone value is not allowed")
    if _is_mapped(address):
        raise Fault(f"IPv4-mapped IPv6 address {quoted(text)} is not allowed")
    return IP(address)


def _is_mapped(address: Address) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


def is_ip(text: str) -> bool:
    try:
        parse_ip(text)
    except Fault:
        return False
    return True


def is_canonical(text: str) -> bool:
    return str(parse_ip(text)) == text


def parse_cidr(text: str) -> CIDR:
    """Raises Fault."""
    failed = "network address parse error during conversion from string: "
    try:
        address, length = parse_prefix(text)
    except Unreadable as error:
        # Kubernetes puts the same words before the error twice.
        raise Fault(f"{failed}{failed}{error}") from None
    if _is_mapped(address):
        raise Fault(f"{failed}IPv4-mapped IPv6 address {quoted(text)} is not allowed")
    return CIDR(address, length)


def is_cidr(text: str) -> bool:
    try:
        parse_cidr(text)
    except Fault:
        return False
    return True


def _contains_text(block: CIDR, text: str) -> bool:
    """Kubernetes loses the error of a text that is no address on the way."""
    try:
        return block.holds(parse_ip(text).address)
    except Fault:
        raise NoOverload from None


def _contains_cidr(block: CIDR, other: CIDR) -> bool:
    if block.address.version != other.address.version or other.length < block.length:
        return False
    return _masked(block.address, block.length) == _masked(other.address, block.length)


def _is_link_local_multicast(value: IP) -> bool:
    address = value.address
    if isinstance(address, ipaddress.IPv4Address):
        return int(address) >> 8 == 0xE00000
    return int(address) >> 112 & 0xFF0F == 0xFF02


def _is_link_local_unicast(value: IP) -> bool:
    address = value.address
    if isinstance(address, ipaddress.IPv4Address):
        return int(address) >> 16 == 0xA9FE
    return int(address) >> 118 == 0xFE80 >> 6


def _is_global_unicast(value: IP) -> bool:
    address = value.address
    if address.is_unspecified or address.is_loopback or address.is_multicast or _is_link_local_unicast(value):
        return False
    return int(address) != 0xFFFFFFFF or address.version == 6


register_kind(IP, "net.IP")
register_kind(CIDR, "net.CIDR")
for _cls in (IP, CIDR):
    register_refusing(_cls)
    register_unit_equality(_cls)
register_size(IP, lambda value: value.address.max_prefixlen // 8)
register_size(CIDR, lambda value: (value.length + 7) // 8)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "string_to_ip": parse_ip, "is_ip": is_ip, "ip_to_string": str, "ip_is_canonical": is_canonical,
    "ip_family": lambda value: value.address.version,
    "ip_is_unspecified": lambda value: value.address.is_unspecified,
    "ip_is_loopback": lambda value: value.address.is_loopback,
    "ip_is_link_local_multicast": _is_link_local_multicast,
    "ip_is_link_local_unicast": _is_link_local_unicast, "ip_is_global_unicast": _is_global_unicast,
    "string_to_cidr": parse_cidr, "is_cidr": is_cidr, "cidr_to_string": str,
    "cidr_contains_ip_string": _contains_text,
    "cidr_contains_ip_ip": lambda block, value: block.holds(value.address),
    "cidr_contains_cidr_string": lambda block, text: _contains_cidr(block, parse_cidr(text)),
    "cidr_contains_cidr": _contains_cidr, "cidr_ip": lambda block: IP(block.address),
    "cidr_prefix_length": lambda block: block.length, "cidr_masked": lambda block: block.masked(),
}  # fmt: skip

"""IP addresses and CIDR blocks, read as strictly as Kubernetes does: no zones, no IPv4 inside IPv6."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from drakit.cel.charge import register_size, register_unit_equality
from drakit.cel.equality import register_refusing
from drakit.cel.value import Fault, register_kind

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_PREFIX = frozenset("0123456789")


class IP:
    """An address."""

    __slots__ = ("address",)

    def __init__(self, address: _Address) -> None:
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

    def __init__(self, address: _Address, length: int) -> None:
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

    def holds(self, address: _Address) -> bool:
        return address.version == self.address.version and _masked(address, self.length) == _masked(
            self.address, self.length
        )


def _masked(address: _Address, length: int) -> _Address:
    bits = address.max_prefixlen
    return type(address)(int(address) >> (bits - length) << (bits - length))


def parse_ip(text: str) -> IP:
    """Raises Fault."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise Fault(
            f"IP Address {_quoted(text)} parse error during conversion from string: {_reason(text)}"
        ) from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise Fault(f"IP address {_quoted(text)} with zone value is not allowed")
        if address.ipv4_mapped is not None:
            raise Fault(f"IPv4-mapped IPv6 address {_quoted(text)} is not allowed")
    return IP(address)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _reason(text: str) -> str:
    return f"ParseAddr({_quoted(text)}): unable to parse IP"


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
    host, slash, length_text = text.rpartition("/")
    failed = "network address parse error during conversion from string: "
    # Kubernetes puts the same words before the error twice.
    error = Fault(f"{failed}{failed}netip.ParsePrefix({_quoted(text)}): {_prefix_reason(text)}")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise error from None
    is_number = (
        bool(length_text) and set(length_text) <= _PREFIX and (length_text[0] != "0" or length_text == "0")
    )
    if not slash or not is_number or len(length_text) > 3 or int(length_text) > address.max_prefixlen:
        raise error
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise error
        if address.ipv4_mapped is not None:
            raise Fault(f"{failed}IPv4-mapped IPv6 address {_quoted(text)} is not allowed")
    return CIDR(address, int(length_text))


def _prefix_reason(text: str) -> str:
    """What netip.ParsePrefix says is wrong, as it looks at the parts in turn."""
    host, slash, length = text.rpartition("/")
    if not slash:
        return "no '/'"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _reason(host)
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return "IPv6 zones cannot be present in a prefix"
    is_number = bool(length) and set(length) <= _PREFIX and (length[0] != "0" or length == "0")
    return "prefix length out of range" if is_number else f"bad bits after slash: {_quoted(length)}"


def is_cidr(text: str) -> bool:
    try:
        parse_cidr(text)
    except Fault:
        return False
    return True


def _contains_cidr(block: CIDR, other: CIDR) -> bool:
    """As Kubernetes has it: the address of `other` must be that of the whole block, not just within it."""
    if block.address.version != other.address.version or other.length < block.length:
        return False
    return _masked(block.address, block.length) == other.address


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
    "cidr_contains_ip_string": lambda block, text: block.holds(parse_ip(text).address),
    "cidr_contains_ip_ip": lambda block, value: block.holds(value.address),
    "cidr_contains_cidr_string": lambda block, text: _contains_cidr(block, parse_cidr(text)),
    "cidr_contains_cidr": _contains_cidr, "cidr_ip": lambda block: IP(block.address),
    "cidr_prefix_length": lambda block: block.length, "cidr_masked": lambda block: block.masked(),
}  # fmt: skip

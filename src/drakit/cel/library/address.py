"""IP addresses and prefixes as Go's net/netip reads them, with its words for what is wrong.

Source: Go's net/netip ParseAddr and ParsePrefix.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from drakit.model.quote import quoted

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_HEXADECIMAL = re.compile(r"[0-9a-fA-F]*", re.ASCII)
_BITS = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_GROUPS = 8


class Unreadable(ValueError):
    """The text is no address or prefix; the message is Go's."""


class _Wrong(Exception):
    """What is wrong with an address, and from where on."""

    def __init__(self, what: str, at: str = "") -> None:
        super().__init__(what)
        self.message = f"{what} (at {quoted(at)})" if at else what


class Parsed(NamedTuple):
    """An address and the zone it was written with."""

    address: Address
    zone: str


def parse_address(text: str) -> Parsed:
    """Raises Unreadable."""
    try:
        return _parse(text)
    except _Wrong as wrong:
        raise Unreadable(f"ParseAddr({quoted(text)}): {wrong.message}") from None


def parse_prefix(text: str) -> tuple[Address, int]:
    """The address and how many bits of it count. Raises Unreadable."""
    host, slash, bits = text.rpartition("/")
    reason = ""
    if not slash:
        reason = "no '/'"
    else:
        try:
            address, zone = parse_address(host)
        except Unreadable as error:
            reason = str(error)
        else:
            if zone:
                reason = "IPv6 zones cannot be present in a prefix"
            elif not _BITS.fullmatch(bits):
                reason = f"bad bits after slash: {quoted(bits)}"
            elif int(bits) > address.max_prefixlen:
                reason = "prefix length out of range"
            else:
                return address, int(bits)
    raise Unreadable(f"netip.ParsePrefix({quoted(text)}): {reason}")


def _parse(text: str) -> Parsed:
    separator = next((c for c in text if c in ".:%"), "")
    if separator == ".":
        return Parsed(ipaddress.IPv4Address(_fields(text)), "")
    if separator == ":":
        return _parse_groups(text)
    raise _Wrong("missing IPv6 address" if separator else "unable to parse IP")


def _fields(text: str) -> int:
    """The number that four decimal fields stand for."""
    fields = [0]
    digits = 0
    for index, c in enumerate(text):
        if c in "0123456789":
            if digits == 1 and fields[-1] == 0:
                raise _Wrong("IPv4 field has octet with leading zero")
            digits += 1
            fields[-1] = fields[-1] * 10 + int(c)
            if fields[-1] > 255:
                raise _Wrong("IPv4 field has value >255")
        elif c != ".":
            raise _Wrong("unexpected character", text[index:])
        elif digits == 0 or index == len(text) - 1:
            raise _Wrong("IPv4 field must have at least one digit", text[index:])
        elif len(fields) == 4:
            raise _Wrong("IPv4 address too long")
        else:
            fields.append(0)
            digits = 0
    if len(fields) < 4:
        raise _Wrong("IPv4 address too short")
    return int.from_bytes(bytes(fields), "big")


def _parse_groups(text: str) -> Parsed:
    rest, percent, zone = text.partition("%")
    if percent and not zone:
        raise _Wrong("zone must be a non-empty string")
    groups: list[int] = []
    gap: int | None = None
    if rest.startswith("::"):
        gap, rest = 0, rest[2:]
    while rest and len(groups) < _GROUPS:
        digits = _hexadecimal(rest)
        if rest[len(digits) : len(digits) + 1] == ".":
            groups += _embedded(rest, groups, gap)
            rest = ""
            break
        groups.append(int(digits, 16))
        rest = rest[len(digits) :]
        if not rest:
            break
        rest = _after_colon(rest)
        if rest[0] == ":":
            if gap is not None:
                raise _Wrong("multiple :: in address", rest)
            gap, rest = len(groups), rest[1:]
    if rest:
        raise _Wrong("trailing garbage after address", rest)
    return Parsed(ipaddress.IPv6Address(_filled(groups, gap)), zone)


def _hexadecimal(rest: str) -> str:
    match = _HEXADECIMAL.match(rest)
    digits = match.group() if match else ""
    if len(digits) > 4:
        raise _Wrong("each group must have 4 or less digits", rest)
    if not digits:
        raise _Wrong("each colon-separated field must have at least one digit", rest)
    return digits


def _embedded(rest: str, groups: list[int], gap: int | None) -> list[int]:
    """The last two groups, written as an IPv4 address."""
    if gap is None and len(groups) != 6:
        raise _Wrong("embedded IPv4 address must replace the final 2 fields of the address", rest)
    if len(groups) > 6:
        raise _Wrong("too many hex fields to fit an embedded IPv4 at the end of the address", rest)
    number = _fields(rest)
    return [number >> 16, number & 0xFFFF]


def _after_colon(rest: str) -> str:
    if rest[0] != ":":
        raise _Wrong("unexpected character, want colon", rest)
    if len(rest) == 1:
        raise _Wrong("colon must be followed by more characters", rest)
    return rest[1:]


def _filled(groups: list[int], gap: int | None) -> int:
    """The number of the address, with the groups that `::` leaves out at `gap`."""
    missing = _GROUPS - len(groups)
    if missing and gap is None:
        raise _Wrong("address string too short")
    if not missing and gap is not None:
        raise _Wrong("the :: must expand to at least one field of zeros")
    if gap is not None:
        groups = groups[:gap] + [0] * missing + groups[gap:]
    return int.from_bytes(b"".join(group.to_bytes(2, "big") for group in groups), "big")

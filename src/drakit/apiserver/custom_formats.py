"""Formats of strings in the schemas of custom resources. A format that is not here is no rule.

Source: kube-openapi/pkg/validation/strfmt.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from drakit.cel.library.moment import parse_duration
from drakit.cel.value import Fault
from drakit.model.validation import names

_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?(z|[+-]([01]\d|2[0-3]):?[0-5]\d)", re.I)
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\.?", re.I)
_MAIL = re.compile(r"[^@\s<>()\[\],;:\"\\]+@[^@\s<>()\[\],;:\"\\]+|[^<>]*<[^@\s<>]+@[^@\s<>]+>")
_MAC = re.compile(
    r"[0-9a-f]{2}(([:-])[0-9a-f]{2})(\2[0-9a-f]{2}){4}((\2[0-9a-f]{2}){2}|(\2[0-9a-f]{2}){14})?"
    r"|[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}(\.[0-9a-f]{4}|(\.[0-9a-f]{4}){7})?",
    re.I,
)
_HEX = "[0-9a-f]"
_PERIOD = re.compile(r"(\d+)\s*([a-zµ]+)", re.I)
_UNITS = re.compile(
    r"ns|nano(second)?s?|us|µs|micro(second)?s?|ms|milli(second)?s?|s|sec(ond)?s?|m|min(ute)?s?|h|hr|hours?|"
    r"d|days?|w|wk|weeks?",
    re.I,
)


def _pattern(text: str) -> Callable[[str], bool]:
    compiled = re.compile(text, re.I)
    return lambda value: compiled.fullmatch(value) is not None


def _uuid(version: str) -> Callable[[str], bool]:
    variant = "[89ab]" if version != _HEX and version != "3" else _HEX
    return _pattern(f"{_HEX}{{8}}-?{_HEX}{{4}}-?{version}{_HEX}{{3}}-?{variant}{_HEX}{{3}}-?{_HEX}{{12}}")


def _accepts(parse: Callable[[str], object], *problems: type[Exception]) -> Callable[[str], bool]:
    def check(value: str) -> bool:
        try:
            parse(value)
        except problems:
            return False
        return True

    return check


_is_date = _accepts(lambda text: datetime.date.fromisoformat(text), ValueError)
_is_go_duration = _accepts(parse_duration, Fault)


def _date(value: str) -> bool:
    return len(value) == 10 and value.isascii() and _is_date(value)


def _date_time(value: str) -> bool:
    return value[10:11] in ("T", "t") and _date(value[:10]) and _TIME.fullmatch(value[11:]) is not None


def _duration(value: str) -> bool:
    if _is_go_duration(value):
        return True
    match = _PERIOD.fullmatch(value.strip())
    return match is not None and _UNITS.fullmatch(match[2]) is not None


def _uri(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return bool(parts.scheme or value.startswith("/")) and not re.search(r"[\s\x00-\x1f]", value)


def _cidr(value: str) -> object:
    if "/" not in value:
        raise ValueError(value)
    return ipaddress.ip_network(value, strict=False)


_FORMATS: Mapping[str, Callable[[str], bool]] = {
    "byte": _accepts(lambda text: base64.b64decode(text, validate=True), ValueError),
    "date": _date,
    "date-time": _date_time,
    "datetime": _date_time,
    "duration": _duration,
    "uri": _uri,
    "email": lambda text: _MAIL.fullmatch(text) is not None,
    "hostname": lambda text: len(text) <= 255 and _HOST.fullmatch(text) is not None,
    "ipv4": _accepts(ipaddress.IPv4Address, ValueError),
    "ipv6": _accepts(ipaddress.IPv6Address, ValueError),
    "cidr": _accepts(_cidr, ValueError),
    "mac": lambda text: _MAC.fullmatch(text) is not None,
    "uuid": _uuid(_HEX),
    "uuid3": _uuid("3"),
    "uuid4": _uuid("4"),
    "uuid5": _uuid("5"),
    "bsonobjectid": _pattern(f"{_HEX}{{24}}"),
    "hexcolor": _pattern(f"#?({_HEX}{{3}}|{_HEX}{{6}})"),
    "k8s-short-name": lambda text: not names.dns_label(text),
    "k8s-long-name": lambda text: not names.dns_subdomain(text),
}


def has_format(value: str, name: str) -> bool:
    """Whether `value` is what the format calls for."""
    check = _FORMATS.get(name)
    return check is None or check(value)

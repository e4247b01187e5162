"""Timestamps and durations: text, parts, time zones."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from drakit.cel.arithmetic import to_duration, to_timestamp
from drakit.cel.value import Duration, Fault, Timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_DURATION = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))",
    re.ASCII,
)
_SECONDS_TO_2000 = 730_485 * 86_400
_OFFSET = re.compile(r"([+-]?)([0-9]{1,2}):([0-9]{2})", re.ASCII)
_LONGEST_ZONE = 64
_ZONE = re.compile(r"[A-Za-z0-9_+\-]+(?:/[A-Za-z0-9_+\-]+)*", re.ASCII)


def parse_duration(text: str) -> Duration:
    """Go's time.ParseDuration: "1h30m", "-1.5s"."""
    error = Fault("type conversion error from 'string' to 'google.protobuf.Duration'")
    rest = text[1:] if text[:1] in ("+", "-") and text else text
    sign = -1 if text[:1] == "-" else 1
    if rest == "0":
        return Duration(0)
    total, position = 0, 0
    while position < len(rest):
        match = _DURATION.match(rest, position)
        if match is None or len(match.group()) > 60 or not (match[1] or match[2]):
            raise error
        unit = _UNITS[match[3]]
        total += int(match[1] or 0) * unit
        if match[2]:
            total += int(match[2]) * unit // 10 ** len(match[2])
        position = match.end()
    if not rest or total > 1 << 63:
        raise error
    return to_duration(sign * total)


def parse_timestamp(text: str) -> Timestamp:
    """RFC 3339."""
    error = Fault("type conversion error from 'string' to 'google.protobuf.Timestamp'")
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise error
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    offset = 0
    if match[8]:
        if int(match[9]) > 24 or int(match[10]) > 60:
            raise error
        offset = (int(match[9]) * 60 + int(match[10])) * (60 if match[8] == "+" else -60)
    # Python has no year 0, which was a leap year.
    shift = _SECONDS_TO_2000 if year == 0 else 0
    try:
        moment = datetime(year or 2000, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise error from None
    seconds = (moment - _EPOCH) // timedelta(seconds=1) - offset - shift
    return to_timestamp(seconds * 10**9 + int((match[7] or "")[:9].ljust(9, "0")))


def format_duration(value: Duration) -> str:
    """Seconds, as `1.5s`; a double, as in Go."""
    whole, fraction = divmod(abs(int(value)), 10**9)
    seconds = Decimal(repr(whole + fraction / 1e9))
    text = f"{seconds:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return f"{'-' if value < 0 else ''}{text}s"


def format_timestamp(value: Timestamp) -> str:
    """RFC 3339 in UTC, with as many decimals as needed."""
    seconds, nanoseconds = divmod(int(value), 10**9)
    moment = _EPOCH + timedelta(seconds=seconds)
    fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
    return f"{moment.year:04d}{moment:-%m-%dT%H:%M:%S}{fraction}Z"


def _zone(name: str) -> tzinfo:
    found = _find_zone(name)
    if found is None:
        raise Fault(f"unknown time zone {name}")
    return found


@lru_cache(maxsize=256)
def _find_zone(name: str) -> tzinfo | None:
    match = _OFFSET.fullmatch(name)
    if match is not None:
        minutes = int(match[2]) * 60 + int(match[3])
        if minutes >= 24 * 60:
            return None
        return timezone(timedelta(minutes=-minutes if match[1] == "-" else minutes))
    if name in ("", "UTC"):
        return UTC
    if len(name) > _LONGEST_ZONE or not _ZONE.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        return None


def _moment(value: Timestamp, zone: str) -> datetime:
    moment = _EPOCH + timedelta(seconds=int(value) // 10**9)
    try:
        return moment.astimezone(_zone(zone))
    except OverflowError:
        raise Fault("timestamp overflow") from None


def full_year(value: Timestamp, zone: str = "UTC") -> int:
    return _moment(value, zone).year


def month(value: Timestamp, zone: str = "UTC") -> int:
    return _moment(value, zone).month - 1


def day_of_year(value: Timestamp, zone: str = "UTC") -> int:
    return _moment(value, zone).timetuple().tm_yday - 1


def day_of_month(value: Timestamp, zone: str = "UTC") -> int:
    return _moment(value, zone).day - 1


def date(value: Timestamp, zone: str = "UTC") -> int:
    return _moment(value, zone).day


def day_of_week(value: Timestamp, zone: str = "UTC") -> int:
    return _moment(value, zone).isoweekday() % 7


def hours(value: Timestamp, zone: str = "UTC") -> int:
    return _moment(value, zone).hour


def minutes(value: Timestamp, zone: str = "UTC") -> int:
    return _moment(value, zone).minute


def seconds(value: Timestamp, zone: str = "UTC") -> int:
    return _moment(value, zone).second


def milliseconds(value: Timestamp, zone: str = "UTC") -> int:
    _zone(zone)
    return int(value) % 10**9 // 10**6


def _towards_zero(value: int, unit: int) -> int:
    return value // unit if value >= 0 else -(-value // unit)


_PARTS = {
    "year": full_year, "month": month, "day_of_year": day_of_year, "day_of_month": day_of_month,
    "day_of_month_1_based": date, "day_of_week": day_of_week, "hours": hours, "minutes": minutes,
    "seconds": seconds, "milliseconds": milliseconds,
}  # fmt: skip

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"timestamp_to_{part}": function for part, function in _PARTS.items()},
    **{f"timestamp_to_{part}_with_tz": function for part, function in _PARTS.items()},
    "duration_to_hours": lambda value: _towards_zero(int(value), 3600 * 10**9),
    "duration_to_minutes": lambda value: _towards_zero(int(value), 60 * 10**9),
    "duration_to_seconds": lambda value: _towards_zero(int(value), 10**9),
    "duration_to_milliseconds": lambda value: _towards_zero(int(value), 10**6),
}

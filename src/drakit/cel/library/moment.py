"""Timestamps and durations: text, parts, time zones."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from drakit.cel.arithmetic import INT_MAX, to_duration, to_timestamp
from drakit.cel.value import Duration, Fault, Timestamp
from drakit.model.quote import quoted

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
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_MOST_DIGITS = 40
_DAY = 86_400
_FIRST_DAY, _LAST_DAY = -62_135_596_800 + _DAY, 253_402_300_799 - _DAY
_BEFORE_MONTH = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
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


@lru_cache(maxsize=256)
def _minutes_east(name: str) -> int:
    """Of a zone that is written in numbers, hours and minutes of any size and sign. Raises Fault."""
    hours_text, _, minutes_text = name.partition(":")
    hours, minutes = _number(hours_text), _number(minutes_text)
    return hours * 60 - minutes if name[0] == "-" else hours * 60 + minutes


def _number(text: str) -> int:
    """Go's strconv.Atoi."""
    if not _INTEGER.fullmatch(text):
        raise Fault(f"strconv.Atoi: parsing {quoted(text)}: invalid syntax")
    if len(text) > _MOST_DIGITS or abs(int(text)) > INT_MAX:
        raise Fault(f"strconv.Atoi: parsing {quoted(text)}: value out of range")
    return int(text)


_ZONES: dict[str, tzinfo | None] = {}
"""Zones looked up before, None for those that do not exist; never very many."""
_MOST_ZONES = 256


def is_found_quickly(name: Any) -> bool:
    """Whether a zone need not be looked up in the files of the system."""
    return not isinstance(name, str) or name in _ZONES or ":" in name


def _find_zone(name: str) -> tzinfo:
    """Where the clocks of the reference are, and so what is "Local", is UTC. Raises Fault."""
    try:
        zone = _ZONES[name]
    except KeyError:
        zone = _load_zone(name)
        if len(_ZONES) >= _MOST_ZONES:
            _ZONES.clear()
        _ZONES[name] = zone
    if zone is None:
        raise Fault(f"unknown time zone {name}")
    return zone


def _load_zone(name: str) -> tzinfo | None:
    """None where there is no such zone. Raises Fault for what cannot be a name."""
    if name in ("", "UTC", "Local"):
        return UTC
    if "\0" in name:
        raise Fault("invalid argument")
    if ".." in name or name[0] in "/\\":
        raise Fault("time: invalid location name")
    if len(name) <= _LONGEST_ZONE and _ZONE.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (OSError, ValueError, KeyError):
            return None
    return None


def _seconds_east(name: str, seconds: int) -> int:
    if ":" in name:
        return _minutes_east(name) * 60
    zone = _find_zone(name)
    if zone is UTC:
        return 0
    # The first and the last day may have no local time in Python; there are no changes to miss in them.
    seconds = min(max(seconds, _FIRST_DAY), _LAST_DAY)
    offset = (_EPOCH + timedelta(seconds=seconds)).astimezone(zone).utcoffset()
    assert offset is not None
    return offset // timedelta(seconds=1)


def _local(value: Timestamp, zone: str) -> int:
    """Seconds since 1970 on the clocks of a zone."""
    seconds = int(value) // 10**9
    return seconds + _seconds_east(zone, seconds)


def _days(value: Timestamp, zone: str) -> int:
    return _local(value, zone) // _DAY


def _date(days: int) -> tuple[int, int, int]:
    """Year, month and day of so many days after 1970, in any year: Python's calendar has but 9999."""
    # Of years that begin in March, in eras of 400 years.
    era, of_era = divmod(days + 719_468, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    return era * 400 + year + (month <= 2), month, day


def full_year(value: Timestamp, zone: str = "UTC") -> int:
    return _date(_days(value, zone))[0]


def month(value: Timestamp, zone: str = "UTC") -> int:
    return _date(_days(value, zone))[1] - 1


def day_of_year(value: Timestamp, zone: str = "UTC") -> int:
    days = _days(value, zone)
    year, month, day = _date(days)
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return _BEFORE_MONTH[month - 1] + (is_leap and month > 2) + day - 1


def day_of_month(value: Timestamp, zone: str = "UTC") -> int:
    return date(value, zone) - 1


def date(value: Timestamp, zone: str = "UTC") -> int:
    return _date(_days(value, zone))[2]


def day_of_week(value: Timestamp, zone: str = "UTC") -> int:
    return (_days(value, zone) + 4) % 7


def hours(value: Timestamp, zone: str = "UTC") -> int:
    return _local(value, zone) % _DAY // 3600


def minutes(value: Timestamp, zone: str = "UTC") -> int:
    return _local(value, zone) % 3600 // 60


def seconds(value: Timestamp, zone: str = "UTC") -> int:
    return _local(value, zone) % 60


def milliseconds(value: Timestamp, zone: str = "UTC") -> int:
    _local(value, zone)
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

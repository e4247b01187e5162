"""What Go's decoders say about a time or base64 text they cannot read.

Source: time.Parse for RFC 3339 (time/format.go), encoding/base64.
"""

from __future__ import annotations

import calendar
import datetime
import re

_STEPS: tuple[tuple[str, str, int, int, str], ...] = (
    ("2006", r"\d{4}", 0, 9999, ""),
    ("-", "-", 0, 0, ""),
    ("01", r"\d{2}", 1, 12, "month"),
    ("-", "-", 0, 0, ""),
    ("02", r"\d{2}", 0, 99, ""),
    ("T", "T", 0, 0, ""),
    ("15", r"\d{1,2}", 0, 23, "hour"),
    (":", ":", 0, 0, ""),
    ("04", r"\d{2}", 0, 59, "minute"),
    (":", ":", 0, 0, ""),
    ("05", r"\d{2}", 0, 59, "second"),
)
"""The layout piece by piece: its name, what matches it, the least and the highest number, the name of the
number."""
_COMPILED = tuple(re.compile(pattern, re.ASCII) for _, pattern, *_ in _STEPS)
_FRACTION, _MICROS = re.compile(r"[.,]\d+", re.ASCII), re.compile(r"[.,]\d{6}", re.ASCII)
_ZONE = re.compile(r"Z|([+-])(\d{2}):(\d{2})", re.ASCII)
_DAY = r"[12]\d{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])"
_EVERYDAY = re.compile(rf"{_DAY}T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\dZ", re.ASCII)
_EVERYDAY_MICRO = re.compile(rf"{_DAY}T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{{6}}Z", re.ASCII)
"""Times that stand as they are."""
_LAYOUT, _MICRO_LAYOUT = "2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05.000000Z07:00"
_ZERO = datetime.datetime(1, 1, 1)
_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def read_time(text: str, *, is_micro: bool = False) -> str | None:
    """An RFC 3339 time as Go writes it: in UTC, with microseconds or with none; None for the zero time.

    Microseconds that are to be there must be there. Raises ValueError, with Go's text, for what is no time.
    """
    everyday = _EVERYDAY_MICRO if is_micro else _EVERYDAY
    if everyday.fullmatch(text):
        return text
    numbers, fraction, minutes = _parsed(text, is_micro=is_micro)
    year, month, day, hour, minute, second = numbers
    if not year:
        return text
    micros = int(fraction[:6].ljust(6, "0")) if is_micro else 0
    try:
        moment = datetime.datetime(year, month, day, hour, minute, second, micros)
        moment -= datetime.timedelta(minutes=minutes)
    except OverflowError:
        return text
    if moment == _ZERO and not fraction.strip("0"):
        return None
    return moment.isoformat(timespec="microseconds" if is_micro else "seconds") + "Z"


def _quoted(text: str) -> str:
    """As package time quotes what it could not read."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    escaped = (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in plain.encode())
    return f'"{"".join(escaped)}"'


def _parsed(text: str, *, is_micro: bool) -> tuple[list[int], str, int]:
    """Year to second, the digits of the fraction, and the offset from UTC in minutes."""
    layout = _MICRO_LAYOUT if is_micro else _LAYOUT
    shown = f"parsing time {_quoted(text)}"

    def unread(at: int, name: str) -> ValueError:
        return ValueError(f'{shown} as "{layout}": cannot parse {_quoted(text[at:])} as "{name}"')

    at, numbers = 0, []
    for (name, _, least, most, word), pattern in zip(_STEPS, _COMPILED, strict=True):
        found = pattern.match(text, at)
        if found is None:
            raise unread(at, name)
        if found[0].isdigit():
            numbers.append(int(found[0]))
            if word and not least <= numbers[-1] <= most:
                raise ValueError(f"{shown}: {word} out of range")
        at = found.end()
    fraction = (_MICROS if is_micro else _FRACTION).match(text, at)
    if is_micro and fraction is None:
        raise unread(at, ".000000")
    at = fraction.end() if fraction else at
    zone = _ZONE.match(text, at)
    if zone is None:
        raise unread(at, "Z07:00")
    for part, most, word in ((zone[2], 24, "hour"), (zone[3], 60, "minute")):
        if part and int(part) > most:
            raise ValueError(f"{shown}: time zone offset {word} out of range")
    if zone.end() != len(text):
        raise ValueError(f"{shown}: extra text: {_quoted(text[zone.end() :])}")
    year, month, day = numbers[:3]
    if not 1 <= day <= (calendar.monthrange(year, month)[1] if year else 31):
        raise ValueError(f"{shown}: day out of range")
    minutes = int(zone[2] or 0) * 60 + int(zone[3] or 0)
    return numbers, fraction[0][1:] if fraction else "", -minutes if zone[1] == "-" else minutes


def base64_problem(text: str) -> str:
    """The error of decoding `text` as base64; "" if it is that. Line ends are skipped, as Go does."""
    body = text.rstrip("=")
    padding = len(text) - len(body)
    count = 0
    for index, char in enumerate(body):
        if char in "\r\n":
            continue
        if char not in _ALPHABET:
            return f"illegal base64 data at input byte {index}"
        count += 1
    if count % 4 == 1 or (count + padding) % 4 or padding > 2:
        return (
            f"illegal base64 data at input byte {len(body) if padding > 2 or count % 4 == 1 else len(text)}"
        )
    return ""

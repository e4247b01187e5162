"""What Go's decoders say about a time or base64 text they cannot read.

Source: time.Parse for RFC 3339 (time/format.go), encoding/base64.
"""

from __future__ import annotations

import calendar
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
_FRACTION = re.compile(r"[.,]\d+", re.ASCII)
_ZONE = re.compile(r"Z|[+-]\d{2}:\d{2}", re.ASCII)
_EVERYDAY = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d+)?Z", re.ASCII
)
"""Times that need no closer look."""
_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def time_problem(text: str, layout: str) -> str:
    """The error of parsing `text`, an RFC 3339 time, by Go's `layout`; "" if it is one."""
    if _EVERYDAY.fullmatch(text):
        return ""
    at, numbers = 0, []
    for (name, _, least, most, word), pattern in zip(_STEPS, _COMPILED, strict=True):
        found = pattern.match(text, at)
        if found is None:
            return f'parsing time "{text}" as "{layout}": cannot parse "{text[at:]}" as "{name}"'
        if found[0].isdigit():
            numbers.append(int(found[0]))
            if word and not least <= numbers[-1] <= most:
                return f'parsing time "{text}": {word} out of range'
        at = found.end()
    fraction = _FRACTION.match(text, at)
    at = fraction.end() if fraction else at
    zone = _ZONE.match(text, at)
    if zone is None:
        return f'parsing time "{text}" as "{layout}": cannot parse "{text[at:]}" as "Z07:00"'
    if zone.end() != len(text):
        return f'parsing time "{text}": extra text: "{text[zone.end() :]}"'
    year, month, day = numbers[:3]
    if not 1 <= day <= (calendar.monthrange(year, month)[1] if year else 31):
        return f'parsing time "{text}": day out of range'
    return ""


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

"""Times as Go reads and writes them."""

from __future__ import annotations

import re

import pytest

from drakit.apiserver.go_text import read_time

READ: dict[str, tuple[str, bool, str | None]] = {
    "as it is": ("2026-01-31T10:00:00Z", False, "2026-01-31T10:00:00Z"),
    "in another zone": ("2026-01-01T00:30:00+01:00", False, "2025-12-31T23:30:00Z"),
    "with a fraction": ("2026-01-01T00:00:00.999Z", False, "2026-01-01T00:00:00Z"),
    "an hour of one digit": ("2026-01-01T5:00:00Z", False, "2026-01-01T05:00:00Z"),
    "no time at all": ("0001-01-01T00:00:00Z", False, None),
    "microseconds": ("2026-01-01T00:00:00.000001-00:30", True, "2026-01-01T00:30:00.000001Z"),
}
REFUSED: dict[str, tuple[str, bool, str]] = {
    "microseconds are missing": ("2026-01-01T00:00:00Z", True, 'cannot parse "Z" as ".000000"'),
    "nanoseconds": ("2026-01-01T00:00:00.123456789Z", True, 'cannot parse "789Z" as "Z07:00"'),
    "no such zone": ("2026-01-01T00:00:00+25:00", False, ": time zone offset hour out of range"),
    "no such day": ("2026-02-29T00:00:00Z", False, ": day out of range"),
    "quoted": (
        '2026"é',
        False,
        'parsing time "2026\\"\\xc3\\xa9" as "2006-01-02T15:04:05Z07:00": cannot parse',
    ),
}


@pytest.mark.parametrize("case", READ.values(), ids=READ)
def test_times_are_kept_in_one_form(case: tuple[str, bool, str | None]) -> None:
    text, is_micro, kept = case
    assert read_time(text, is_micro=is_micro) == kept


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_is_no_time(case: tuple[str, bool, str]) -> None:
    text, is_micro, said = case
    with pytest.raises(ValueError, match=re.escape(said)):
        read_time(text, is_micro=is_micro)

"""Cron schedules: when the next time is.

Five fields (minute, hour, day of month, month, day of week) of `*`, numbers, names, ranges, lists and steps,
`@hourly` and its like, and `@every DURATION`. Where both days are restricted either is enough. A time that a
clock skips in spring does not come that day; one that it passes twice in autumn comes twice. Source:
robfig/cron, as Kubernetes uses it.
"""

from __future__ import annotations

import datetime
import re

from msgspec import Struct

from drakit.errors import BadRequest

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day of month", 1, 31, []),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)
_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_BACK = (1 / 24, 1, 31, 366, 1830)
"""Days to look back from a time for the one before it: near ones first, since most schedules are frequent."""
_YEARS = 5
"""How far ahead a time is looked for; 30 February never comes."""


class Schedule(Struct, frozen=True):
    """`every` seconds, or at the times whose parts are all in the sets."""

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    is_any_day: bool = True
    is_any_weekday: bool = True
    every: float = 0.0

    def next(self, after: float, zone: datetime.tzinfo) -> float | None:
        """The first time after `after`, both in seconds since the epoch; None if there is none for years."""
        if self.every:
            return float(int(after + self.every))
        start = datetime.datetime.fromtimestamp(after, datetime.UTC).astimezone(zone)
        day = start.date()
        for _ in range(_YEARS * 366):
            if day.month in self.months and self._is_day(day):
                for hour in sorted(self.hours):
                    if day == start.date() and hour < start.hour:
                        continue
                    moments = [m for minute in self.minutes for m in _moments(day, hour, minute, zone)]
                    coming = [moment for moment in moments if moment > after]
                    if coming:
                        return min(coming)
            day += datetime.timedelta(days=1)
        return None

    def latest(self, since: float, until: float, zone: datetime.tzinfo) -> float | None:
        """The last time after `since` and not after `until`."""
        for days in _BACK:
            start = max(since, until - days * 86400)
            moment = self.next(start, zone)
            if moment is not None and moment <= until:
                while (following := self.next(moment, zone)) is not None and following <= until:
                    moment = following
                return moment
            if start == since:
                return None
        return None

    def _is_day(self, day: datetime.date) -> bool:
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        if self.is_any_day or self.is_any_weekday:
            return by_month and by_week
        return by_month or by_week


def _moments(day: datetime.date, hour: int, minute: int, zone: datetime.tzinfo) -> list[float]:
    """When the clock in `zone` shows that time of the day: not at all, once, or twice."""
    found: list[float] = []
    for fold in (0, 1):
        local = datetime.datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone, fold=fold)
        moment = local.timestamp()
        back = datetime.datetime.fromtimestamp(moment, zone)
        if (back.hour, back.minute) == (hour, minute) and moment not in found:
            found.append(moment)
    return found


def parse(text: str) -> Schedule:
    """Read a schedule. Raises BadRequest with what is wrong in it."""
    words = text.strip()
    if words.startswith("@every "):
        return Schedule(every=max(_seconds(words.removeprefix("@every ").strip()), 1.0))
    fields = _NAMED.get(words, words).split()
    if len(fields) != len(_FIELDS):
        raise BadRequest(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    sets = [_field(value, *row) for value, row in zip(fields, _FIELDS, strict=True)]
    is_any = [value[0] in "*?" for value in fields]
    return Schedule(
        sets[0], sets[1], sets[2], sets[3], sets[4], is_any_day=is_any[2], is_any_weekday=is_any[4]
    )


def _field(text: str, name: str, low: int, high: int, names: list[str]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        if span in ("*", "?"):
            start, end = low, high
        else:
            start = _number(first, name, low, names)
            end = _number(last, name, low, names) if dash else high if slash else start
        if slash and (not step.isdigit() or not int(step)):
            raise BadRequest(f"{name} {part!r}: {step!r} is not a step")
        if not low <= start <= end <= high:
            raise BadRequest(f"{name} {part!r} is not within {low}-{high}, the lower end first")
        found |= set(range(start, end + 1, int(step) if slash else 1))
    return frozenset(found)


def _number(text: str, name: str, low: int, names: list[str]) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    if text.lower() in names:
        return names.index(text.lower()) + low
    raise BadRequest(
        f"{name}: {text!r} is not a number" + (f" or one of {', '.join(names)}" if names else "")
    )


def _seconds(text: str) -> float:
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise BadRequest(f"@every {text}: not a duration like 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)

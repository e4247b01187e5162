"""An expression against many devices: who matches, why the others do not, what was probably meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from msgspec import Struct

from drakit.cel.compile import Selector
from drakit.cel.explain import Verdict
from drakit.model.resource import Device


class Candidate(Struct, frozen=True):
    """A published device: `place` is driver/pool/device."""

    place: str
    driver: str
    device: Device


class Row(Struct, frozen=True):
    """The devices for which the expression comes out the same way."""

    verdict: Verdict
    places: list[str]


class Presence(Struct, frozen=True):
    """How many devices have an attribute or capacity that the expression reads, and names close to it."""

    part: str
    domain: str
    name: str
    count: int
    similar: list[str]


class Survey(Struct, frozen=True):
    """All of it. `total` is the number of devices looked at."""

    rows: list[Row]
    presences: list[Presence]
    total: int
    domains: list[str]
    """The drivers, and the domains of published names."""

    def notes(self, *, is_missing: bool = False) -> Iterator[str]:
        """On how many devices what the expression reads exists; with `is_missing` only where on none."""
        for each in self.presences:
            if is_missing and each.count:
                continue
            part = "attribute" if each.part == "attributes" else each.part
            text = f"{part} {each.domain}/{each.name} exists on {each.count:,} of {self.total:,} devices"
            if each.similar:
                text += f"; did you mean {', '.join(each.similar)}?"
            elif not each.count and self.total and each.domain not in self.domains:
                close = get_close_matches(each.domain, self.domains, n=1, cutoff=0.7) or self.domains[:3]
                text += f"; nothing of {each.domain} is published, but of {', '.join(close)}"
            yield text

    def guards(self, row: Row) -> Iterator[str]:
        """How to keep the expression from failing on the devices of a row."""
        message = row.verdict.error.message if row.verdict.error is not None else ""
        for each in self.presences:
            if message == f"no such key: {each.name}" and each.count:
                owner = f'device.{each.part}["{each.domain}"]'
                yield f'guard it: "{each.name}" in {owner} && ..., or {owner}.?{each.name}.orValue(...)'
            elif message == f"no such key: {each.name}" and not each.similar and "/" not in each.domain:
                yield f'say which devices it is for, first: device.driver == "{each.domain}" && ...'


def survey(selector: Selector, candidates: Sequence[Candidate]) -> Survey:
    """Evaluates `selector` for every candidate; devices of one shape are evaluated once."""
    by_shape: dict[object, list[Candidate]] = {}
    for candidate in candidates:
        shape = selector.shape(candidate.device, candidate.driver)
        by_shape.setdefault(candidate.place if shape is None else shape, []).append(candidate)
    rows: dict[object, Row] = {}
    for group in by_shape.values():
        verdict = selector.explain(group[0].device, group[0].driver)
        error = verdict.error and verdict.error.message
        same = (str(verdict.value), error, verdict.cost, tuple(part.value for part in verdict.parts))
        row = rows.setdefault(same, Row(verdict, []))
        row.places.extend(candidate.place for candidate in group)
    domains = {candidate.driver for candidate in candidates}
    for candidate in candidates:
        names = (*candidate.device.attributes, *candidate.device.capacity)
        domains.update(name.partition("/")[0] for name in names if "/" in name)
    return Survey(list(rows.values()), _presences(selector, candidates), len(candidates), sorted(domains))


def _presences(selector: Selector, candidates: Sequence[Candidate]) -> list[Presence]:
    published: Counter[tuple[str, str, str]] = Counter()
    for candidate in candidates:
        for part, names in (
            ("attributes", candidate.device.attributes),
            ("capacity", candidate.device.capacity),
        ):
            for name in names:
                domain, slash, short = name.partition("/")
                published[(part, domain, short) if slash else (part, candidate.driver, name)] += 1
    presences = []
    for part, domain, name in sorted(selector.reads or ()):
        if name:
            count = published[(part, domain, name)]
            presences.append(
                Presence(part, domain, name, count, _similar(published, part, domain, name, count))
            )
    return presences


def _similar(
    published: Counter[tuple[str, str, str]], part: str, domain: str, name: str, count: int
) -> list[str]:
    """What is published under a name like it, where nothing is under this one."""
    if count:
        return []
    same = sorted(
        f"{other}/{short}" if kind == part else f'device.{kind}["{other}"].{short}'
        for kind, other, short in published
        if short.lower() == name.lower()
    )
    nearby = sorted({short for kind, other, short in published if kind == part and other == domain})
    return same or [f"{domain}/{short}" for short in get_close_matches(name, nearby, n=3, cutoff=0.6)]

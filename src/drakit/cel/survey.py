"""An expression against many devices: who matches, why the others do not, what was probably meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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


def survey(selector: Selector, candidates: Sequence[Candidate]) -> Survey:
    """Evaluates `selector` for every candidate; devices of one shape are evaluated once."""
    by_shape: dict[object, list[Candidate]] = {}
    for candidate in candidates:
        shape = selector.shape(candidate.device, candidate.driver)
        by_shape.setdefault(candidate.place if shape is None else shape, []).append(candidate)
    rows = [
        Row(selector.explain(group[0].device, group[0].driver), [candidate.place for candidate in group])
        for group in by_shape.values()
    ]
    return Survey(rows, _presences(selector, candidates), len(candidates))


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
    names = {f"{other}/{short}" for kind, other, short in published if kind == part}
    same = sorted(full for full in names if full.rpartition("/")[2].lower() == name.lower())
    return same or get_close_matches(f"{domain}/{name}", sorted(names), n=3, cutoff=0.7)

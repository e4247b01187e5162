"""What is wrong with the selectors of manifests: classes, claims and claim templates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from drakit import cel
from drakit.cel import advice
from drakit.cel.advice import Published
from drakit.cel.declare import environment
from drakit.cel.frame import COST_LIMIT
from drakit.cel.survey import Candidate, survey
from drakit.errors import CELError
from drakit.planner.admission import Admission
from drakit.profile import Profile


class Finding(Struct, frozen=True):
    """One thing about one field of one object."""

    file: str
    object: str
    field: str
    message: str
    hints: list[str] = []
    is_error: bool = False


class _Place(Struct, frozen=True):
    object: str
    field: str
    expression: str
    before: tuple[str, ...]
    """The selectors that are asked first: a device that one turns away is not tried on this one."""
    class_name: str
    """The class whose selectors come before these; "" for a class's own."""


def selectors(found: list[dict[str, Any]]) -> Iterator[_Place]:
    """Every selector of the objects."""
    for document in found:
        metadata = document.get("metadata")
        name = metadata.get("name", "") if isinstance(metadata, dict) else ""
        owner = f"{document.get('kind', 'object')} {name}".strip()
        yield from _below(document.get("spec"), owner, "spec")


def _below(value: Any, owner: str, path: str) -> Iterator[_Place]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _below(item, owner, f"{path}[{index}]")
    elif isinstance(value, dict):
        before: list[str] = []
        for index, item in enumerate(value.get("selectors") or () if "selectors" in value else ()):
            inner = item.get("cel") if isinstance(item, dict) else None
            if isinstance(inner, dict) and isinstance(inner.get("expression"), str):
                field = f"{path}.selectors[{index}].cel.expression"
                class_name = str(value.get("deviceClassName") or "")
                yield _Place(owner, field, inner["expression"], tuple(before), class_name)
                before.append(inner["expression"])
        for key, item in value.items():
            if key not in ("opaque", "selectors"):
                yield from _below(item, owner, f"{path}.{key}")


def classes_in(found: list[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """The selectors of the DeviceClasses among objects, by name."""
    listed: dict[str, list[str]] = {}
    for document in found:
        if document.get("kind") == "DeviceClass" and isinstance(document.get("metadata"), dict):
            expressions = [place.expression for place in selectors([document])]
            listed[str(document["metadata"].get("name", ""))] = expressions
    return {name: tuple(expressions) for name, expressions in listed.items()}


def findings(
    file: str,
    found: list[dict[str, Any]],
    candidates: list[Candidate],
    classes: dict[str, tuple[str, ...]],
    profile: Profile,
) -> Iterator[Finding]:
    """Errors and warnings for the objects of a file, tried on candidates; `classes` has their selectors."""
    known = advice.published([(each.device, each.driver) for each in candidates])
    admission = Admission(profile)
    for document in found:
        for row in admission.read(document)[1]:
            yield Finding(file, row.object, row.field, row.message, is_error=True)
    for place in selectors(found):
        asked = (*classes.get(place.class_name, ()), *place.before)
        yield from _of_selector(file, place, _taken(candidates, asked, profile), known, profile)


def _taken(candidates: list[Candidate], asked: tuple[str, ...], profile: Profile) -> list[Candidate]:
    """The candidates that every expression of `asked` takes."""
    for text in asked:
        try:
            selector = cel.compile(text, profile=profile)
        except CELError:
            continue
        candidates = [each for each in candidates if _takes(selector, each)]
    return candidates


def _takes(selector: cel.Selector, candidate: Candidate) -> bool:
    try:
        return selector.matches(candidate.device, candidate.driver)
    except CELError:
        return False


def _of_selector(
    file: str, place: _Place, candidates: list[Candidate], known: Published, profile: Profile
) -> Iterator[Finding]:
    text = place.expression
    try:
        selector = cel.compile(text, profile=profile, is_new=True)
    except CELError as error:
        hints = advice.of_compile_error(text, error.message, environment(profile, is_new=True), known)
        yield Finding(file, place.object, place.field, error.message, hints, is_error=True)
        return
    if selector.max_cost > COST_LIMIT:
        message = f"too complex: it may cost {selector.max_cost}, at most {COST_LIMIT} are allowed"
        yield Finding(file, place.object, place.field, message, is_error=True)
        return
    result = survey(selector, candidates)
    hints = advice.of_expression(text, selector.root, known)
    for row in result.rows:
        if row.verdict.error is not None:
            others = f" and {len(row.places) - 1} more" if len(row.places) > 1 else ""
            message = f"would stop scheduling on {row.places[0]}{others}: {row.verdict.error.message}"
            advised = [*hints, *result.guards(row), *result.notes()]
            yield Finding(file, place.object, place.field, message, advised)
    is_failing = any(row.verdict.error is not None for row in result.rows)
    if candidates and not is_failing and not any(row.verdict.value for row in result.rows):
        message = f"matches none of {len(candidates)} devices"
        yield Finding(file, place.object, place.field, message, [*hints, *result.notes(is_missing=True)])
    elif hints and not is_failing:
        yield Finding(file, place.object, place.field, hints[0], hints[1:])

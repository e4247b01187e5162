"""`dra cel`: try and check CEL selectors of devices."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import click
import msgspec
import yaml

from drakit import cel
from drakit.cel.survey import Candidate, Survey, survey
from drakit.errors import CELError, UsageError
from drakit.model.resource import Device, ResourceSlice
from drakit.profile import DEFAULT_VERSION

_MOST = (1 << 64) - 1
_SHOWN = 5
"""Devices named in one row."""

_version = click.option(
    "--kubernetes", "version", default=DEFAULT_VERSION, help="The Kubernetes version whose CEL it is."
)


@click.group(invoke_without_command=True)
@click.option("--cases", "is_cases", is_flag=True, help="Cases as JSON lines in, results out.")
@_version
@click.pass_context
def command(context: click.Context, is_cases: bool, version: str) -> None:
    """Try and check CEL selectors of devices.

    `dra cel --cases` reads {"expression": ..., "device": {...}} line by line from standard input.
    """
    if context.invoked_subcommand is not None:
        return
    if not is_cases:
        click.echo(context.get_help())
        return
    for line in _cases(sys.stdin, version):
        click.echo(line)


@command.command("eval")
@click.argument("expression")
@click.option("--device", type=click.Path(exists=True, dir_okay=False), help="One device, as JSON or YAML.")
@click.option("--snapshot", type=click.Path(exists=True, dir_okay=False), help="From `dra snapshot`.")
@click.option("--kubeconfig", type=click.Path(), help="The cluster whose devices to try (the default).")
@click.option("--context", help="The kubeconfig's context to use.")
@_version
def evaluate(
    expression: str,
    device: str | None,
    snapshot: str | None,
    kubeconfig: str | None,
    context: str | None,
    version: str,
) -> None:
    """Show which devices EXPRESSION selects, and why it does not select the others."""
    selector = _compiled(expression, version)
    candidates = _candidates(device, snapshot, kubeconfig, context)
    for line in _report(selector, survey(selector, candidates)):
        click.echo(line)


@command.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--snapshot", type=click.Path(exists=True, dir_okay=False), help="Devices to check against.")
@_version
def check(files: tuple[str, ...], snapshot: str | None, version: str) -> None:
    """Compile every selector in the manifests FILES, and warn of what would fail on a device."""
    candidates = _slices_in(_documents(Path(snapshot))) if snapshot else []
    failures = count = 0
    for file in files:
        documents = _documents(Path(file))
        devices = candidates or _slices_in(documents)
        for place, expression in _selectors(documents):
            count += 1
            problems, is_error = _problems(expression, devices, version)
            failures += is_error
            for problem in problems:
                click.echo(f"{file}: {place}: {problem}")
    if failures:
        raise UsageError(f"{failures} of {count} selectors do not compile")
    click.echo(f"{count} selectors compile")


def _compiled(expression: str, version: str) -> cel.Selector:
    try:
        return cel.compile(expression, version)
    except CELError as error:
        raise UsageError(error.message) from None


# --- devices --------------------------------------------------------------------------------------


def _candidates(
    device: str | None, snapshot: str | None, kubeconfig: str | None, context: str | None
) -> list[Candidate]:
    if device is not None:
        return [_one_device(Path(device))]
    if snapshot is not None:
        return _slices_in(_documents(Path(snapshot)))
    return asyncio.run(_live(kubeconfig, context))


async def _live(kubeconfig: str | None, context: str | None) -> list[Candidate]:
    # Imported here: trying an expression on a file needs no client.
    from drakit.cli.connect import connect
    from drakit.client.api import RESOURCE_SLICES

    async with connect(kubeconfig, context) as client:
        listed = await client.list(RESOURCE_SLICES)
    return _slices_in({**item, "kind": "ResourceSlice"} for item in listed.items)


def _one_device(path: Path) -> Candidate:
    documents = list(_documents(path))
    if len(documents) != 1:
        raise UsageError(f"{path}: expected one device, found {len(documents)} documents")
    driver = str(documents[0].get("driver", ""))
    try:
        device = msgspec.convert({"name": "device", **documents[0]}, Device)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: not a device: {error}") from None
    return Candidate(f"{driver}/{device.name}" if driver else device.name, driver, device)


def _documents(path: Path) -> list[dict[str, Any]]:
    """The objects of a YAML or JSON file; the items of lists on their own."""
    try:
        parsed = list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=_LOADER))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: {str(error).splitlines()[0]}") from None
    return list(_flattened(parsed))


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _flattened(values: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for value in values:
        if not isinstance(value, dict):
            continue
        lists = [items for items in value.values() if isinstance(items, list)]
        is_object = "spec" in value or "name" in value or "attributes" in value or "capacity" in value
        if lists and not is_object:
            for items in lists:
                yield from _flattened(items)
        else:
            yield value


def _slices_in(documents: Iterable[dict[str, Any]]) -> list[Candidate]:
    candidates = []
    for document in documents:
        spec = document.get("spec")
        if not isinstance(spec, dict) or "pool" not in spec or "driver" not in spec:
            continue
        try:
            slice_ = msgspec.convert(document, ResourceSlice)
        except msgspec.ValidationError as error:
            name = (document.get("metadata") or {}).get("name", "")
            raise UsageError(f"ResourceSlice {name}: {error}") from None
        prefix = f"{slice_.spec.driver}/{slice_.spec.pool.name}"
        candidates += [Candidate(f"{prefix}/{d.name}", slice_.spec.driver, d) for d in slice_.spec.devices]
    return candidates


# --- output ---------------------------------------------------------------------------------------


def _report(selector: cel.Selector, result: Survey) -> Iterator[str]:
    yield f"{result.total} device{'' if result.total == 1 else 's'}, cost at most {selector.max_cost}"
    for row in result.rows:
        verdict = row.verdict
        if verdict.error is not None:
            outcome = f"error: {verdict.error.message}"
        else:
            outcome = "matches" if verdict.value else "no match"
        names = ", ".join(row.places[:_SHOWN]) + (", ..." if len(row.places) > _SHOWN else "")
        yield f"{len(row.places):6}  {outcome} (cost {verdict.cost}): {names}"
        for part in verdict.parts:
            mark = "*" if part.is_decisive else " "
            yield f"      {mark} {' '.join(part.text.split())}  =>  {part.value}"
    for presence in result.presences:
        text = f"{presence.part[:-1] if presence.part == 'attributes' else presence.part} "
        text += f"{presence.domain}/{presence.name} exists on {presence.count} of {result.total} devices"
        if presence.similar:
            text += f"; did you mean {', '.join(presence.similar)}?"
        yield text


def _selectors(documents: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Where a selector stands and its expression, for classes, claims and templates."""
    for document in documents:
        name = (document.get("metadata") or {}).get("name", "")
        yield from _selectors_below(document.get("spec"), f"{document.get('kind', 'object')} {name}", "spec")


def _selectors_below(value: Any, owner: str, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _selectors_below(item, owner, f"{path}[{index}]")
    elif isinstance(value, dict):
        inner = value.get("cel")
        if isinstance(inner, dict) and isinstance(inner.get("expression"), str):
            yield f"{owner}, {path}.cel.expression", inner["expression"]
        for key, item in value.items():
            if key != "opaque":
                yield from _selectors_below(item, owner, f"{path}.{key}")


def _problems(expression: str, devices: list[Candidate], version: str) -> tuple[list[str], bool]:
    """What is wrong with a selector, and whether it is an error and not a warning."""
    try:
        selector = cel.compile(expression, version)
    except CELError as error:
        return [error.message], True
    if selector.max_cost > 1_000_000:
        return [f"too complex: it may cost {selector.max_cost}, at most 1000000 are allowed"], True
    problems = []
    for row in survey(selector, devices).rows:
        if row.verdict.error is not None:
            count = len(row.places)
            others = f" and {count - 1} more" if count > 1 else ""
            problems.append(
                f"warning: would stop scheduling on {row.places[0]}{others}: {row.verdict.error.message}; "
                "guard it with `in`, has() or .?"
            )
    return problems, False


def _cases(lines: IO[str], version: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield msgspec.json.encode(_case(line, number, version)).decode()


def _case(line: str, number: int, version: str) -> dict[str, Any]:
    try:
        case = msgspec.json.decode(line)
        expression, document = case["expression"], dict(case.get("device") or {})
        driver = str(document.pop("driver", "") or "")
        fields = {"name": "device", **{key: value for key, value in document.items() if value is not None}}
        device = msgspec.convert(fields, Device)
        if not isinstance(expression, str):
            raise TypeError("expression is no string")
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f'line {number}: expected {{"expression": ..., "device": ...}}: {error}') from None
    try:
        selector = cel.compile(expression, version)
    except CELError as error:
        return {"compileError": error.message}
    verdict = selector.explain(device, driver)
    costs = {
        "maxCost": selector.max_cost if selector.max_cost < _MOST else None,
        "actualCost": verdict.cost,
    }
    if verdict.error is not None:
        return {"matchError": verdict.error.message, **costs}
    return {"match": verdict.value, **costs}

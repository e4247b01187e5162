"""`dra cel`: try and check CEL selectors of devices."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from drakit import cel
from drakit.cel import advice
from drakit.cel.declare import environment
from drakit.cel.device import written
from drakit.cel.survey import Row, Survey, survey
from drakit.cli import lines
from drakit.cli.cel_devices import captured, device_in, documents, slices_in
from drakit.cli.cel_manifest import Finding, classes_in, findings, selectors
from drakit.cli.connect import cluster_options
from drakit.errors import CELError, DRAError, UsageError
from drakit.profile import DEFAULT_VERSION, profile_for

_MOST = (1 << 64) - 1
_PLACES = 5
"""Devices named in one row."""
_ROWS = 12
"""Rows printed."""

_version = click.option(
    "--kubernetes", "version", default=DEFAULT_VERSION, show_default=True,
    help="The Kubernetes version whose CEL it is.",
)  # fmt: skip
_output = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
_file = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)


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
    profile_for(version)
    for number, case in lines.read(sys.stdin.buffer):
        lines.write(_case(case, number, version))


@command.command("eval")
@click.argument("expression")
@click.option("--device", type=_file, help="One device, as JSON or YAML.")
@click.option("--snapshot", type=_file, help="From `dra snapshot`, or any file with ResourceSlices.")
@cluster_options
@_version
@_output
def evaluate(
    expression: str,
    device: Path | None,
    snapshot: Path | None,
    kubeconfig: str | None,
    context: str | None,
    version: str,
    output: str,
) -> None:
    """Show which devices EXPRESSION (`-`: standard input) selects, and why it does not select the others.

    The devices are the published ones of a cluster, unless --device or --snapshot names others. Exit code 0
    if a device is selected and none fails, 2 otherwise.
    """
    text = sys.stdin.read().strip() if expression == "-" else expression
    profile = profile_for(version)
    if device is not None:
        candidates = [device_in(device)]
    elif snapshot is not None:
        candidates = slices_in(documents(snapshot))
    else:
        candidates = slices_in(captured(kubeconfig, context))
    known = advice.published([(each.device, each.driver) for each in candidates])
    try:
        selector = cel.compile(text, profile=profile)
    except CELError as error:
        hints = advice.of_compile_error(text, error.message, environment(profile), known)
        raise UsageError("\n".join([error.message, *(f"hint: {hint}" for hint in hints)])) from None
    result = survey(selector, candidates)
    hints = advice.of_expression(text, selector.root, known)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(_as_json(selector, result, hints)), indent=2))
    else:
        for line in (*_report(selector, result), *(f"hint: {hint}" for hint in hints)):
            click.echo(line)
    is_selected = any(row.verdict.value for row in result.rows)
    sys.exit(0 if is_selected and all(row.verdict.error is None for row in result.rows) else 2)


@command.command("check")
@click.argument("files", nargs=-1, required=True, type=_file)
@click.option("--snapshot", type=_file, help="Devices to check against: from `dra snapshot`.")
@cluster_options
@_version
@_output
def check(
    files: tuple[Path, ...],
    snapshot: Path | None,
    kubeconfig: str | None,
    context: str | None,
    version: str,
    output: str,
) -> None:
    """Compile every selector in the manifests FILES (`-`: standard input), and warn of what would fail or
    match nothing.

    They are tried on the devices of --snapshot, or else of the files, or else of the cluster, if there is
    one. Exit code 1 if a selector does not compile or a manifest is not understood; warnings are no failure.
    """
    profile = profile_for(version)
    found = {file: documents(file) for file in files}
    written = [document for each in found.values() for document in each]
    published, note = _published(written, snapshot, kubeconfig, context)
    candidates = slices_in(published)
    classes = classes_in([*published, *written])
    rows = [row for file in files for row in findings(str(file), found[file], candidates, classes, profile)]
    count = sum(len(list(selectors(each))) for each in found.values())
    failures = sum(row.is_error for row in rows)
    if output == "json":
        encoded = {"selectors": count, "devices": len(candidates), "findings": rows}
        click.echo(msgspec.json.format(msgspec.json.encode(encoded), indent=2))
    else:
        for row in rows:
            click.echo(_line(row))
    if failures:
        raise UsageError(f"{failures} problem{'s' if failures > 1 else ''} in {_counted(count, 'selector')}")
    if output == "text":
        against = note or f"tried on {_counted(len(candidates), 'device')}"
        click.echo(f"{_counted(count, 'selector')} compile{'s' if count == 1 else ''}; {against}")


def _published(
    written: list[dict[str, Any]], snapshot: Path | None, kubeconfig: str | None, context: str | None
) -> tuple[list[dict[str, Any]], str]:
    """The objects with the devices to check against, or why there are none."""
    if snapshot is not None:
        return documents(snapshot), ""
    if slices_in(written):
        return written, ""
    try:
        return captured(kubeconfig, context), ""
    except DRAError as error:
        if kubeconfig or context:
            raise
        return [], f"not tried on devices: {error}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _line(row: Finding) -> str:
    place = f"{row.file}: {', '.join(filter(None, (row.object, row.field)))}"
    kind = "error" if row.is_error else "warning"
    hints = "".join(f"\n  hint: {hint}" for hint in row.hints)
    return f"{place}: {kind}: {row.message}{hints}"


# --- output ---------------------------------------------------------------------------------------


def _outcome(row: Row) -> str:
    verdict = row.verdict
    if verdict.error is not None:
        return f"error: {verdict.error.message}"
    return "matches" if verdict.value else "no match"


def _report(selector: cel.Selector, result: Survey) -> Iterator[str]:
    matching = sum(len(row.places) for row in result.rows if row.verdict.value)
    yield f"matches {matching} of {_counted(result.total, 'device')}; cost at most {_cost(selector.max_cost)}"
    if not result.total:
        yield "no devices are published: name some with --device FILE or --snapshot FILE"
    order = {"matches": 0, "no match": 2}
    rows = sorted(result.rows, key=lambda row: (order.get(_outcome(row), 1), -len(row.places)))
    for row in rows[:_ROWS]:
        names = ", ".join(row.places[:_PLACES]) + (", ..." if len(row.places) > _PLACES else "")
        yield f"{len(row.places):6}  {_outcome(row)} (cost {row.verdict.cost}): {names}"
        for part in row.verdict.parts:
            mark = "*" if part.is_decisive else " "
            yield f"      {mark} {' '.join(part.text.split())}  =>  {part.value}"
        yield from (f"        {guard}" for guard in result.guards(row))
    if len(rows) > _ROWS:
        rest = sum(len(row.places) for row in rows[_ROWS:])
        yield f"        and {_counted(rest, 'device')} in {len(rows) - _ROWS} more ways: see -o json"
    yield from result.notes()


def _cost(cost: int) -> str:
    return str(cost) if cost <= 1_000_000 else f"{cost}, over the 1000000 that Kubernetes admits"


def _as_json(selector: cel.Selector, result: Survey, hints: list[str]) -> dict[str, Any]:
    rows = [
        {
            "match": row.verdict.value, "error": row.verdict.error and row.verdict.error.message,
            "cost": row.verdict.cost, "parts": row.verdict.parts, "devices": row.places,
        }
        for row in result.rows
    ]  # fmt: skip
    return {
        "maxCost": selector.max_cost if selector.max_cost < _MOST else None, "devices": result.total,
        "rows": rows, "presences": result.presences, "hints": hints,
    }  # fmt: skip


# --- cases ----------------------------------------------------------------------------------------


class _Case(msgspec.Struct):
    expression: str
    device: dict[str, Any] | None = None


def _case(document: Any, number: int, version: str) -> dict[str, Any]:
    try:
        case = msgspec.convert(document, _Case)
        device, driver = written(case.device or {})
    except (msgspec.ValidationError, CELError) as error:
        raise UsageError(f'line {number}: expected {{"expression": ..., "device": ...}}: {error}') from None
    try:
        selector = cel.compile(case.expression, version)
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

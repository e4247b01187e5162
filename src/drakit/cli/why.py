"""`dra why`: why a pod or a claim is pending, from a cluster or from files."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Hashable, Sequence
from pathlib import Path

import click
import msgspec
from msgspec import structs

from drakit.cli import complete
from drakit.cli.cel_devices import documents
from drakit.cli.connect import cluster_options, connect
from drakit.cli.gate import gates_option, read_gates
from drakit.errors import UsageError
from drakit.planner.extended import called
from drakit.planner.manifest import put_in
from drakit.planner.report import Section
from drakit.planner.situation import Situation, wanted_by_claim, wanted_by_pod
from drakit.planner.snapshot import Snapshot, capture, decode
from drakit.planner.why import Report, why

_KINDS = {
    "pod": ("pod", "pods", "po"),
    "claim": ("claim", "claims", "resourceclaim", "resourceclaims"),
}


_NAMED = 4
"""Requests named above what is said of all of them."""


@click.command()
@click.argument("subject", required=False, metavar="pod/NAME|claim/NAME", shell_complete=complete.subject)
@click.option(
    "-n",
    "--namespace",
    default="default",
    show_default=True,
    shell_complete=complete.namespace,
    is_eager=True,
)
@click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Manifests (`-`: standard input) to look at as if they were applied. Repeatable.",
)
@click.option(
    "--snapshot",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of `dra snapshot` in place of a cluster.",
)
@gates_option
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@cluster_options
def command(
    subject: str | None,
    namespace: str,
    files: tuple[Path, ...],
    snapshot: Path | None,
    gates: tuple[str, ...],
    output: str,
    kubeconfig: str | None,
    context: str | None,
) -> None:
    """Say why a pod or claim is pending and what would make it fit. It only reads.

    Exit code 0 if nothing is in its way, 2 if it is pending.
    """
    if not subject and not files:
        raise UsageError("say what to look at: dra why pod/NAME, dra why claim/NAME, or -f FILE")
    taken = decode(snapshot.read_bytes(), str(snapshot)) if snapshot else _captured(kubeconfig, context)
    taken = structs.replace(taken, feature_gates={**taken.feature_gates, **read_gates(gates)})
    subjects = [_read_subject(subject, namespace)] if subject else []
    named = bool(subject)
    for file in files:
        taken, found = put_in(taken, documents(file), str(file), namespace)
        subjects += [] if named else found
    if not subjects:
        names = ", ".join(map(str, files))
        raise UsageError(f"no pod and no claim to explain in {names}: name one, such as pod/NAME")
    situation = Situation(taken)
    reports = [_report(situation, kind, key) for kind, key in subjects]
    if output == "json":
        click.echo(
            msgspec.json.format(msgspec.json.encode(reports if files else reports[0]), indent=2).decode()
        )
    else:
        click.echo("\n\n".join(map(text, reports)))
    sys.exit(2 if any(report.is_pending for report in reports) else 0)


def _captured(kubeconfig: str | None, context: str | None) -> Snapshot:
    async def run() -> Snapshot:
        async with connect(kubeconfig, context) as client:
            return await capture(client)

    return asyncio.run(run())


def _read_subject(subject: str, namespace: str) -> tuple[str, str]:
    """Kind and namespace/name of what the user wrote."""
    kind, slash, name = subject.partition("/")
    if not slash:
        kind, name = "pod", subject
    for known, words in _KINDS.items():
        if kind in words and name:
            return known, f"{namespace}/{name}"
    raise UsageError(f"cannot explain {subject!r}: write pod/NAME or claim/NAME")


def _report(situation: Situation, kind: str, key: str) -> Report:
    return why(situation, wanted_by_pod(situation, key) if kind == "pod" else wanted_by_claim(situation, key))


def text(report: Report) -> str:
    """The report as lines for a terminal."""
    lines = [report.sentence]
    for parts in _alike(report.sections):
        lines += _section(parts)
    lines += [f"  {count:>5} {reason}" for reason, count in report.excluded.items()]
    if report.would_fit:
        lines.append("would fit: " + " | ".join(change.text for change in report.would_fit))
    elif report.sections:
        lines.append("would fit: with no single change that was tried")
    lines += [f"hint: {hint}" for hint in report.hints if hint not in report.sentence]
    return "\n".join(lines)


def _alike(sections: Sequence[Section]) -> list[list[Section]]:
    """Sections that differ in the request only, together."""
    groups: dict[Hashable, list[Section]] = {}
    for part in sections:
        told = tuple([(line.count, line.cause, line.detail) for line in part.lines])
        groups.setdefault((part.claim, part.wanted, part.nodes, part.devices, told), []).append(part)
    return list(groups.values())


def _section(parts: Sequence[Section]) -> list[str]:
    part, more = parts[0], len(parts) - _NAMED
    names = ", ".join(part.request for part in parts[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    lines = [f"{called(part.claim)}, request{'s' * (len(parts) > 1)} {names}: {part.wanted}"]
    nodes, devices = "s" * (part.nodes != 1), "s" * (part.devices != 1)
    lines.append(f"  {part.nodes} node{nodes}, {part.devices} device{devices}")
    width = max((len(line.cause) for line in part.lines), default=0)
    lines += [f"  {line.count:>5}  {line.cause:<{width}}  {line.detail}".rstrip() for line in part.lines]
    return lines

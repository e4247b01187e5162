"""`dra why`: why a pod or a claim is pending, from a cluster or from files."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
import yaml
from msgspec import structs

from drakit.cli import complete
from drakit.cli.connect import cluster_options, connect
from drakit.errors import UsageError
from drakit.planner.report import Section
from drakit.planner.situation import Situation, wanted_by_claim, wanted_by_pod
from drakit.planner.snapshot import Snapshot, capture, decode
from drakit.planner.why import Report, why

_FIELDS = {
    "Pod": "pods",
    "ResourceClaim": "resource_claims",
    "ResourceClaimTemplate": "resource_claim_templates",
    "DeviceClass": "device_classes",
    "ResourceSlice": "resource_slices",
    "DeviceTaintRule": "device_taint_rules",
    "Node": "nodes",
}
_FILE_UID = "file:"


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
    type=click.Path(exists=True, path_type=Path),
    help="Manifests to look at as if they were applied.",
)
@click.option(
    "--snapshot",
    type=click.Path(exists=True, path_type=Path),
    help="A file of `dra snapshot` in place of a cluster.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@cluster_options
def command(
    subject: str | None,
    namespace: str,
    filename: Path | None,
    snapshot: Path | None,
    output: str,
    kubeconfig: str | None,
    context: str | None,
) -> None:
    """Say why a pod or claim is pending and what would make it fit. It only reads.

    Exit code 0 if nothing is in its way, 2 if it is pending.
    """
    if not subject and not filename:
        raise UsageError("say what to look at: dra why pod/NAME, dra why claim/NAME, or -f FILE")
    taken = decode(snapshot.read_bytes(), str(snapshot)) if snapshot else _captured(kubeconfig, context)
    subjects = [subject] if subject else []
    if filename:
        taken, found = _with_manifests(taken, filename, namespace)
        subjects = subjects or found
    situation = Situation(taken)
    reports = [_report(situation, name, namespace) for name in subjects]
    if output == "json":
        click.echo(
            msgspec.json.format(msgspec.json.encode(reports if filename else reports[0]), indent=2).decode()
        )
    else:
        click.echo("\n\n".join(map(text, reports)))
    sys.exit(2 if any(report.is_pending for report in reports) else 0)


def _captured(kubeconfig: str | None, context: str | None) -> Snapshot:
    async def run() -> Snapshot:
        async with connect(kubeconfig, context) as client:
            return await capture(client)

    return asyncio.run(run())


def _report(situation: Situation, subject: str, namespace: str) -> Report:
    kind, slash, name = subject.partition("/")
    if not slash:
        kind, name = "pod", subject
    if kind in ("pod", "pods", "po"):
        return why(situation, wanted_by_pod(situation, f"{namespace}/{name}"))
    if kind in ("claim", "resourceclaim", "resourceclaims"):
        return why(situation, wanted_by_claim(situation, f"{namespace}/{name}"))
    raise UsageError(f"cannot explain {subject!r}: write pod/NAME or claim/NAME")


def _with_manifests(snapshot: Snapshot, path: Path, namespace: str) -> tuple[Snapshot, list[str]]:
    """`snapshot` with the objects of the file put in, and the pods (or else claims) among them."""
    try:
        documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    added: dict[str, list[dict[str, Any]]] = {}
    for document in documents:
        kind = document.get("kind") if isinstance(document, dict) else None
        if kind not in _FIELDS:
            continue
        name = (document.get("metadata") or {}).get("name")
        if not name:
            raise UsageError(f"{path}: a {kind} without metadata.name")
        if kind in ("Pod", "ResourceClaim", "ResourceClaimTemplate"):
            document["metadata"].setdefault("namespace", namespace)
        document["metadata"].setdefault("uid", f"{_FILE_UID}{kind}/{name}")
        added.setdefault(_FIELDS[kind], []).append(document)
    if not added:
        raise UsageError(f"{path} holds none of {', '.join(_FIELDS)}")
    changes = {field: _merged(getattr(snapshot, field), rows) for field, rows in added.items()}
    subjects = [f"pod/{row['metadata']['name']}" for row in added.get("pods", [])]
    subjects = subjects or [f"claim/{row['metadata']['name']}" for row in added.get("resource_claims", [])]
    if not subjects:
        raise UsageError(f"{path} holds no Pod and no ResourceClaim to explain: name one, such as pod/NAME")
    return structs.replace(snapshot, **changes), subjects


def _merged(there: list[dict[str, Any]], added: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def key(row: dict[str, Any]) -> tuple[str, str]:
        return row["metadata"].get("namespace", ""), row["metadata"]["name"]

    names = {key(row) for row in added}
    return [row for row in there if key(row) not in names] + added


def text(report: Report) -> str:
    """The report as lines for a terminal."""
    lines = [report.sentence]
    for part in report.sections:
        lines += _section(part)
    lines += [f"  {count:>5} {reason}" for reason, count in report.excluded.items()]
    if report.would_fit:
        lines.append("would fit: " + " | ".join(change.text for change in report.would_fit))
    lines += [f"hint: {hint}" for hint in report.hints if hint not in report.sentence]
    return "\n".join(lines)


def _section(part: Section) -> list[str]:
    lines = [f"claim {part.claim}, request {part.request}: {part.wanted}"]
    nodes, devices = "s" * (part.nodes != 1), "s" * (part.devices != 1)
    lines.append(f"  {part.nodes} node{nodes}, {part.devices} device{devices}")
    width = max((len(line.cause) for line in part.lines), default=0)
    lines += [f"  {line.count:>5}  {line.cause:<{width}}  {line.detail}".rstrip() for line in part.lines]
    return lines

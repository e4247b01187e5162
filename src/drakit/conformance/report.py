"""Results for people, for programs (JSON) and for CI (JUnit XML)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

import msgspec
import yaml

from drakit.conformance.check import Result
from drakit.conformance.front import Use
from drakit.transport import Document

_MARKS = {"pass": "ok", "fail": "FAIL", "skip": "skip"}


def line(result: Result) -> str:
    """One result as lines of text."""
    lines = [f"{_MARKS[result.status]:5}{result.id:24}{result.evidence}  ({result.seconds:.1f} s)"]
    lines += [f"     warning: {text}" for text in result.warnings]
    if result.status == "fail":
        lines += [f"     what it means: {result.meaning}", f"     source: {result.source}"]
        lines += [f"     | {text}" for text in result.log]
    return "\n".join(lines)


def summary(results: Sequence[Result]) -> str:
    """How many passed, failed and were skipped."""
    counts = Counter(result.status for result in results)
    warnings = sum(len(result.warnings) for result in results)
    return f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped, {warnings} warnings"


def cluster_role(uses: Iterable[Use], name: str) -> Document:
    """The ClusterRole `name` that allows `uses` and nothing else."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for use in sorted(uses):
        verbs.setdefault((use.group, use.resource), []).append(use.verb)
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [
            {"apiGroups": [group], "resources": [resource], "verbs": found}
            for (group, resource), found in verbs.items()
        ],
    }


def to_yaml(role: Document) -> str:
    """`role` as a manifest."""
    return yaml.safe_dump(role, sort_keys=False, default_flow_style=None)


def to_json(results: Sequence[Result], role: Document) -> str:
    """`{"passed": bool, "results": [...], "clusterRole": {...}}`."""
    passed = not any(result.status == "fail" for result in results)
    document = {"passed": passed, "results": msgspec.to_builtins(results), "clusterRole": role}
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def to_junit(results: Sequence[Result], name: str) -> str:
    """A JUnit test suite with a test case for each check."""
    counts = Counter(result.status for result in results)
    suite = ElementTree.Element(
        "testsuite",
        name=name,
        tests=str(len(results)),
        failures=str(counts["fail"]),
        skipped=str(counts["skip"]),
        errors="0",
        time=f"{sum(result.seconds for result in results):.3f}",
    )
    for result in results:
        case = ElementTree.SubElement(
            suite, "testcase", classname=name, name=result.id, time=f"{result.seconds:.3f}"
        )
        if result.status == "fail":
            failure = ElementTree.SubElement(case, "failure", message=_printable(result.evidence))
            failure.text = _printable("\n".join([result.meaning, f"Source: {result.source}", *result.log]))
        elif result.status == "skip":
            ElementTree.SubElement(case, "skipped", message=_printable(result.evidence))
        if result.status == "pass" or result.warnings:
            output = ElementTree.SubElement(case, "system-out")
            output.text = _printable(
                "\n".join([result.evidence, *(f"warning: {w}" for w in result.warnings)])
            )
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def _printable(text: str) -> str:
    """`text` without the control characters that XML forbids."""
    return "".join(character for character in text if character >= " " or character in "\n\t")

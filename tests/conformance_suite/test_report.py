"""What `dra driver test` prints, and what it takes."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from drakit.cli.driver import command
from drakit.conformance import report
from drakit.conformance.check import Result
from drakit.conformance.claim import read_manifests
from drakit.conformance.front import Use
from drakit.conformance.suite import select
from drakit.errors import UsageError

RESULTS = [
    Result(id="one", meaning="m", source="s", status="pass", evidence="fine", warnings=("old",)),
    Result(id="two", meaning="m", source="s", status="fail", evidence="bad \x00<&", log=["last words"]),
    Result(id="three", meaning="m", source="s", status="skip", evidence="needs two, which failed"),
]
ROLE = report.cluster_role(
    [Use("", "nodes", "get"), Use("g", "claims", "get"), Use("", "nodes", "list")], "d"
)


def test_formats() -> None:
    assert report.summary(RESULTS) == "1 passed, 1 failed, 1 skipped, 1 warnings"
    assert "| last words" in report.line(RESULTS[1])
    document = json.loads(report.to_json(RESULTS, ROLE))
    assert [document["passed"], [r["status"] for r in document["results"]]] == [
        False,
        ["pass", "fail", "skip"],
    ]
    assert ROLE["rules"][0] == {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]}
    suite = ElementTree.fromstring(report.to_junit(RESULTS, "d"))
    assert {key: suite.get(key) for key in ("tests", "failures", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "skipped": "1",
    }


def test_list_and_selection() -> None:
    done = CliRunner().invoke(command, ["test", "--list"])
    assert [line for line in done.output.splitlines() if line[0] != " "] == [check.id for check in select()]
    assert [check.id for check in select(["slices-quiet"])] == [
        "registration",
        "slices-published",
        "slices-quiet",
    ]
    assert "leaks" not in {check.id for check in select(skip=["leaks"])}
    with pytest.raises(UsageError, match="there is no check 'nothing'"):
        select(["nothing"])


def test_every_check_says_what_it_means_and_where_that_is_written() -> None:
    checks = select()
    assert all(check.meaning.endswith(".") and check.source for check in checks)
    assert len({check.id for check in checks}) == len(checks)


WRONG = [
    ("kind: Pod\n", "Pod is no ResourceClaim"),
    ("", "there is no ResourceClaim"),
    ("{", "cannot read claims"),
    ("- 1\n", "a document is no ResourceClaim"),
]


@pytest.mark.parametrize(("text", "problem"), WRONG)
def test_manifests_that_are_none(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "claim.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=problem):
        read_manifests(path)

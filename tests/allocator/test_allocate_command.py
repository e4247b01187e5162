"""`dra allocate`: JSON lines in, JSON lines out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from drakit.cli.allocate import command
from drakit.errors import UsageError
from tests.allocator import make

ONE = make.scenario([make.resource_slice("s", [make.device("a")])], [make.claim("c", make.request("r"))])
SHARED = make.scenario(
    [make.resource_slice("s", [make.device("a", capacity={"memory": "4"}, allowMultipleAllocations=True)])],
    [make.claim("c", make.request("r", capacity={"requests": {"memory": "1"}}))],
)


def rows(*lines: Any, options: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    result = CliRunner().invoke(command, list(options), input=text)
    assert result.exit_code == 0, result.exception
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_allocated() -> None:
    (row,) = rows(ONE)
    assert set(row) == {"name", "outcome", "results", "steps", "seconds"}
    assert (row["name"], row["outcome"]) == ("made", "allocated")
    assert row["results"] == [
        {
            "devices": {"results": [{"request": "r", "driver": make.DRIVER, "pool": "pool", "device": "a"}]},
            "nodeSelector": {
                "nodeSelectorTerms": [
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node"]}]}
                ]
            },
        }
    ]


def test_none_and_error_and_blank_lines() -> None:
    held = {**ONE, "allocatedDevices": make.held("a")}
    unknown = {**ONE, "deviceClasses": []}
    found = rows(held, "", unknown)
    assert [row["outcome"] for row in found] == ["none", "error"]
    assert "could not retrieve device class any" in found[1]["error"]


def test_share_ids() -> None:
    def share(*options: str) -> str:
        (row,) = rows(SHARED, options=options)
        return str(row["results"][0]["devices"]["results"][0]["shareID"])

    assert share("--fixed-share-ids") == "00000000-0000-0000-0000-000000000000"
    assert share() != share()


def test_every_node() -> None:
    many = {**ONE, "nodes": [{"metadata": {"name": name}} for name in ("node", "other")]}
    assert [(row["node"], row["outcome"]) for row in rows(many)] == [("node", "allocated"), ("other", "none")]


def test_explain() -> None:
    held = {**ONE, "allocatedDevices": make.held("a")}
    (row,) = rows(held, options=("--explain",))
    assert row["explain"] == [
        {
            "claim": "default/c",
            "request": "r",
            "device": f"{make.DRIVER}/pool/a",
            "check": "in-use",
            "holders": ["scenario/held-0"],
        },
        {"claim": "default/c", "request": "r", "check": "count", "wanted": 1, "possible": 0},
    ]


def test_profiles_and_gates() -> None:
    listed = make.scenario(
        [make.resource_slice("s", [make.device("a")])],
        [make.claim("c", make.first_available("r", one=make.asked()))],
    )
    assert rows(listed)[0]["outcome"] == "allocated"
    old = rows(listed, options=("--profile", "1.32"))[0]
    assert "DRAPrioritizedList feature is disabled" in old["error"]
    off = rows(listed, options=("--gates", "DRAPrioritizedList=false"))[0]
    assert "DRAPrioritizedList feature is disabled" in off["error"]


def test_what_is_no_scenario() -> None:
    wrong = {**ONE, "claimsToAllocate": "none"}
    unknown = {**ONE, "features": {"teleportation": True}}
    found = rows(wrong, unknown, ONE)
    assert [row["outcome"] for row in found] == ["error", "error", "allocated"]
    assert "claimsToAllocate" in found[0]["error"]
    assert "unknown feature 'teleportation'" in found[1]["error"]


def test_broken_json_names_the_line() -> None:
    result = CliRunner().invoke(command, [], input=json.dumps(ONE) + "\n{")
    assert isinstance(result.exception, UsageError)
    assert "line 2" in str(result.exception)


@pytest.mark.parametrize("line", [b"[" * 100_000 + b"]" * 100_000, b"\xff", json.dumps(ONE).encode("utf-16")])
def test_what_is_no_json(line: bytes) -> None:
    assert isinstance(CliRunner().invoke(command, [], input=line).exception, UsageError)


def test_other_systems_line_ends_and_byte_order_mark() -> None:
    result = CliRunner().invoke(command, [], input=b"\xef\xbb\xbf" + json.dumps(ONE).encode() + b"\r\n\r\n")
    assert json.loads(result.output)["outcome"] == "allocated"

"""Snapshots: what is in them, what never is, and names that cannot be read back."""

from __future__ import annotations

import msgspec
import pytest

from drakit.errors import UsageError
from drakit.planner.situation import Situation, wanted_by_pod
from drakit.planner.snapshot import decode, hashed
from drakit.planner.why import why
from tests.planner.make import H100, busy, claim, pod, snapshot


def waiting() -> dict[str, object]:
    parts = busy()
    claims = [*parts["resource_claims"], claim("secretive", 9, H100)]
    return {**parts, "resource_claims": claims, "pods": [pod("hushed", "secretive")]}


def test_what_is_written_is_read_back() -> None:
    taken = snapshot(**waiting())
    assert decode(taken.encode(), "f") == taken


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"kind": "Pod", "apiVersion": "v1"}', b'{"kind": 3}', b"\xff"]
)
def test_what_is_no_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"^f holds "):
        decode(data, "f")


def test_hashed_names_cannot_be_read_and_give_the_same_answer() -> None:
    taken = snapshot(**waiting())
    hidden = hashed(taken, b"salt")
    text = hidden.encode().decode()
    for name in ("secretive", "hushed", "node-0", "eval-2", '"ml"', '"default"'):
        assert name not in text
    situation = Situation(hidden)
    (key,) = situation.pods
    report = why(situation, wanted_by_pod(situation, key))
    plain = Situation(taken)
    expected = why(plain, wanted_by_pod(plain, "default/hushed"))
    assert [(line.count, line.cause) for line in report.sections[0].lines] == [
        (line.count, line.cause) for line in expected.sections[0].lines
    ]
    assert hashed(taken, b"other") != hidden


def test_hashing_changes_nothing_that_is_given() -> None:
    taken = snapshot(**waiting())
    before = msgspec.json.encode(taken)
    hashed(taken, b"salt")
    assert msgspec.json.encode(taken) == before

"""Profiles: the table of versions and gates."""

from __future__ import annotations

import pytest

from drakit.errors import UsageError
from drakit.profile import Gate, profile_for


@pytest.mark.parametrize(
    ("version", "preferred", "on", "off"),
    [
        ("1.32", "v1beta1", set(), {Gate.ADMIN_ACCESS}),
        ("1.34", "v1", {Gate.PRIORITIZED_LIST, Gate.ADMIN_ACCESS}, {Gate.CONSUMABLE_CAPACITY}),
        ("v1.36.2", "v1", {Gate.CONSUMABLE_CAPACITY, Gate.DEVICE_TAINTS}, {Gate.LIST_ATTRIBUTES}),
        ("1.37", "v1", {Gate.DEVICE_TAINT_RULES}, {Gate.DERIVED_ATTRIBUTES}),
    ],
)
def test_default_gates(version: str, preferred: str, on: set[Gate], off: set[Gate]) -> None:
    profile = profile_for(version)
    assert profile.served[0] == preferred
    assert on <= profile.gates
    assert not off & profile.gates


def test_gates_can_be_changed_by_name() -> None:
    profile = profile_for("1.37", {"DRADerivedAttributes": True, "DRADeviceTaints": False})
    assert profile.is_on(Gate.DERIVED_ATTRIBUTES)
    assert not profile.is_on(Gate.DEVICE_TAINTS)


def test_all_turns_on_every_gate_the_version_has() -> None:
    assert profile_for("1.37", {"all": True}).gates == frozenset(Gate)


@pytest.mark.parametrize(
    ("version", "gates", "text"),
    [
        ("1.12", {}, "choose one of 1.32"),
        ("1.32", {"DRADerivedAttributes": True}, "has no DRA feature gate 'DRADerivedAttributes'"),
    ],
)
def test_unknown_names_are_refused(version: str, gates: dict[str, bool], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        profile_for(version, gates)

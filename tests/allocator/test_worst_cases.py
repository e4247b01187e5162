"""The families that make a plain search explode, at four times the size at which it passes ten seconds.

The bound is on steps, which do not depend on the machine; bench/allocator.py has the times.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bench import worst_cases
from drakit.allocator import Allocator
from drakit.cli.allocate import Scenario
from drakit.errors import AllocationError
from drakit.profile import profile_for
from tests.allocator.solve import solve

FAMILIES: list[tuple[str, dict[str, Any], str]] = [
    ("missing-one", {"n": 32}, "none"),
    ("gpus-then-missing-nic", {"n": 104, "k": 8}, "none"),
    ("gpus-then-missing-nic", {"n": 96, "k": 31}, "none"),
    ("two-claims-missing-nic", {"n": 104, "k": 8}, "none"),
    ("wrong-first", {"n": 116, "k": 8}, "allocated"),
    ("wrong-first", {"n": 512, "k": 4}, "allocated"),
    ("single-claims", {"n": 40, "m": 41}, "none"),
    ("single-requests", {"n": 31, "m": 32}, "none"),
    ("firstavailable-claims", {"n": 8, "m": 28, "alts": 3}, "none"),
    ("firstavailable-claims", {"n": 16, "m": 12, "alts": 3}, "none"),
    ("firstavailable-size", {"n": 96, "m": 3}, "allocated"),
    ("firstavailable-size", {"n": 31, "m": 28}, "allocated"),
    ("match-too-few", {"n": 93, "k": 32}, "none"),
    ("match-wrong-first", {"n": 94, "k": 32}, "allocated"),
    ("match-two", {"n": 128, "k": 4}, "none"),
    ("pairs", {"n": 16, "m": 16, "missing": 1}, "none"),
    ("pairs", {"n": 16, "m": 16, "missing": 0}, "allocated"),
    ("mig-fill", {"gpus": 32, "k": 32}, "allocated"),
    ("mig-too-many", {"gpus": 15, "profile": "3g.20gb"}, "none"),
    ("mig-too-many", {"gpus": 10, "profile": "2g.10gb"}, "none"),
    ("mig-too-many", {"gpus": 4, "profile": "1g.5gb"}, "none"),
    ("mig-same-gpu", {"gpus": 32, "k": 8}, "none"),
    ("mig-any", {"gpus": 4, "k": 29}, "none"),
    ("mig-any", {"gpus": 4, "k": 28}, "allocated"),
    ("mig-mixed", {"gpus": 28, "small": 4}, "allocated"),
    ("mig-mixed-unsat", {"gpus": 24, "small": 4}, "none"),
    ("mig-pack", {"gpus": 8}, "allocated"),
    ("capacity-requests", {"n": 15, "m": 31, "per": 40}, "none"),
    ("capacity-requests", {"n": 3, "m": 25, "per": 10}, "none"),
    ("capacity-requests", {"n": 2, "m": 17, "per": 10}, "none"),
    ("capacity-claims", {"n": 24, "m": 49, "per": 40}, "none"),
    ("distinct-too-few", {"n": 16, "k": 32}, "none"),
    ("distinct-too-few", {"n": 64, "k": 32}, "none"),
    ("capacity-exact", {"n": 8}, "allocated"),
    ("capacity-exact", {"n": 10, "claims": 1}, "allocated"),
    ("capacity-halves", {"n": 15}, "none"),
    ("capacity-two", {"n": 6}, "allocated"),
    ("counters-exact", {"gpus": 8}, "allocated"),
    ("counters-and-capacity", {"gpus": 10}, "allocated"),
    ("list-match", {"n": 128, "k": 8}, "none"),
    ("list-distinct", {"n": 61}, "none"),
    ("match-and-distinct", {"n": 128, "k": 7}, "none"),
    ("prioritized-match", {"n": 128, "m": 12}, "none"),
    ("prioritized-pairs", {"n": 16, "m": 16}, "none"),
    ("shared-claims", {"n": 16, "m": 33}, "none"),
    ("all-shared", {"n": 32, "m": 20}, "none"),
    ("per-device-nodes", {"pools": 64, "n": 64, "k": 16}, "none"),
]


@pytest.mark.parametrize(
    ("family", "parameters", "outcome"), FAMILIES, ids=lambda value: value if isinstance(value, str) else None
)
def test_few_steps(family: str, parameters: dict[str, Any], outcome: str) -> None:
    document = worst_cases.build(family, **parameters)
    row = solve(document, "1.36")
    assert row["outcome"] == outcome, row.get("error")


def test_gives_up_in_time() -> None:
    """With too few choices allowed the answer is an error that says so, each time it is asked."""
    scenario = msgspec.convert(worst_cases.build("capacity-exact", n=7), Scenario)
    state = scenario.state(profile_for("1.37"))
    allocator = Allocator(scenario.claims_to_allocate or [], state, share_id=str, step_limit=50)
    assert scenario.node is not None
    for calls in (1, 2):
        with pytest.raises(AllocationError, match=r"claim default/c: node node-0: gave up after \d+ steps"):
            allocator.allocate(scenario.node)
        assert allocator.gave_up == calls
    assert allocator.steps <= 2400


def test_plain_choices_where_careful_ones_do_not_suffice() -> None:
    """Kubernetes' own way is tried before giving up: it may be short."""
    scenario = msgspec.convert(worst_cases.build("wrong-first", n=2, k=1), Scenario)
    state = scenario.state(profile_for("1.37"))
    allocator = Allocator(scenario.claims_to_allocate or [], state, share_id=str, step_limit=1)
    assert scenario.node is not None
    (result,) = allocator.allocate(scenario.node) or ()
    assert [row.device for row in result.devices.results] == ["gpu-001", "gpu-000"]

"""The answer of `dra allocate`, with what it gives out verified by the checker."""

from __future__ import annotations

from copy import deepcopy

import msgspec

from drakit.cli.allocate import Scenario, run
from drakit.profile import profile_for
from tests.allocator.checker import Checker, Document


def solve(document: Document, version: str = "1.37") -> Document:
    """The row of a scenario with one node; neither the document nor what was read from it has changed."""
    before = deepcopy(document)
    scenario, same = (msgspec.convert(each, Scenario) for each in (document, before))
    (row,) = run(scenario, profile_for(version), fixed_share_ids=True)
    assert document == before
    assert scenario == same
    assert "gave up" not in row.get("error", "")
    if row["outcome"] == "allocated":
        Checker(document).check(row["results"])
    return row

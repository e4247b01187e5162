"""Whatever is published or asked, the allocator answers or raises its own errors, soon, naming the object."""

from __future__ import annotations

import json
from copy import deepcopy
from random import Random
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drakit.allocator import Allocator
from drakit.cli.allocate import Scenario
from drakit.errors import AllocationError
from drakit.model.meta import Node
from drakit.profile import profile_for
from tests.property.test_allocator_search import cluster

ODD: list[Any] = [
    "", "0", "-1", "1e3", "0.5", "1Ki", "1n", str(10**30), "-9223372036854775809", "NaN", "1e99999",
    "x" * 300, "Ω", "a/b/c", "All", "ExactCount", "Never", 0, -1, 1, 2**63 - 1, -(2**63), 10**30, 1.5, True,
    None, [], {}, ["a"], {"a": "b"}, {"cel": None}, {"cel": {"expression": "device.attributes[''].x"}},
    {"cel": {"expression": "1 +"}}, {"validRange": {"min": "1", "step": "0"}}, {"validValues": ["x"]},
    {"nodeSelectorTerms": [{"matchExpressions": [{"key": "-", "operator": "Is", "values": []}]}]},
]  # fmt: skip


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    found = [path] if path else []
    rows = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in rows:
        found += places(value, (*path, key))
    return found


def damage(random: Random, document: dict[str, Any]) -> None:
    """Put something odd into a few places, or take something away, or say something twice."""
    for _ in range(random.randint(1, 3)):
        path = random.choice([p for p in places(document) if p[0] not in ("name", "features", "node")])
        parent: Any = document
        for key in path[:-1]:
            parent = parent[key]
        what = random.random()
        if what < 0.6:
            parent[path[-1]] = deepcopy(random.choice(ODD))
        elif what < 0.8 or not isinstance(parent, list):
            del parent[path[-1]]
        else:
            parent.append(deepcopy(parent[path[-1]]))


@settings(max_examples=800, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=True))
def test_odd_documents(random: Random) -> None:
    document = cluster(random)
    damage(random, document)
    try:
        scenario = msgspec.convert(document, Scenario)
    except msgspec.ValidationError:
        return
    version = random.choice(["1.32", "1.34", "1.37"])
    profile = profile_for(version, {"all": True} if random.random() < 0.5 else {})
    state = scenario.state(profile)
    allocator = Allocator(scenario.claims_to_allocate or [], state, share_id=str, step_limit=3000)
    assert scenario.node is not None
    texts = [said(allocator, scenario.node) for _ in range(2)]
    assert texts[0] == texts[1]
    assert allocator.steps <= 2 * 3001 * 21


def said(allocator: Allocator, node: Node) -> str:
    """The results, or the error, which must name a claim, a class or a pool."""
    try:
        return json.dumps(msgspec.to_builtins(allocator.allocate(node)))
    except AllocationError as error:
        text = str(error)
    assert any(word in text for word in ("claim ", "class ", "pools were encountered: ")), text
    return text

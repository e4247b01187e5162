"""Partitions that different requests want: counters are shared out exactly."""

from __future__ import annotations

from tests.allocator import make
from tests.allocator.solve import solve


def partition(name: str, memory: str, **attributes: object) -> make.Document:
    return make.device(name, attributes=attributes, consumesCounters=make.consumes("gpu", memory=memory))


def test_one_partition_for_each_of_two_requests() -> None:
    """The first devices lead to a dead end; of those that remain each request can have just one, not the
    same one, and both together use up the counters."""
    devices = [
        make.device("whole", attributes={"root": "x"}),
        partition("first", "2", root="x"),
        make.device("rootless"),
        partition("second", "2", kind="small"),
    ]
    slices = [
        make.resource_slice("devices", devices, count=2),
        make.resource_slice("counters", counters={"gpu": {"memory": "4"}}, count=2),
    ]
    claims = [
        make.claim("a", make.request("one", "any", 1), make.request("two", "any", 2)),
        make.claim(
            "b", make.request("one", "any", 1), constraints=[{"matchAttribute": f"{make.DRIVER}/root"}]
        ),
    ]
    row = solve(make.scenario(slices, claims))
    picked = [[r["device"] for r in result["devices"]["results"]] for result in row["results"]]
    assert picked == [["whole", "rootless", "second"], ["first"]]

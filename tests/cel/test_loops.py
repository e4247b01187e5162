"""Loops: generated statements do what stepping does, and a million units of cost are few steps of work."""

from __future__ import annotations

import random
from typing import Any

import pytest

from drakit import cel
from drakit.cel import warm
from drakit.cel.compile import _compile
from drakit.cel.declare import declared
from drakit.cel.expression import Expression
from drakit.errors import CELError
from drakit.model.resource import Device, DeviceAttribute, DeviceCapacity
from drakit.profile import profile_for

DEVICE = Device(
    name="d",
    attributes={
        "s": DeviceAttribute(string="fish"),
        "i": DeviceAttribute(int_=3),
        "l": DeviceAttribute(ints=[1, 2, 7]),
        "v": DeviceAttribute(version="1.2.3"),
    },
    capacity={"m": DeviceCapacity(value="1Gi")},
)  # fmt: skip
LISTS = ["[1, 2, 3]", "[]", 'device.attributes["x"].l', "lists.range(4)", "[[1], [2, 3]]", "{'a': 1, 'b': 2}",
         "['a', 'bc']", "[dyn(1), dyn('a'), dyn(true)]", 'device.attributes["x"].none',
         "[{'k': 1}, {'k': 2}]",
         "[9223372036854775807, 1]"]  # fmt: skip
INTS = ["1", "0", "-2", 'device.attributes["x"].i', "size('abc')", 'device.attributes["x"].missing']
TESTS = ["true", "false", 'device.attributes["x"].s == "fish"', "1 / 0 == 1", 'has(device.attributes["x"].s)']


class Maker:
    """Random expressions that are mostly loops."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.names: list[str] = []

    def pick(self, *choices: str) -> str:
        return self.random.choice(choices)

    def name(self) -> str:
        return self.random.choice(self.names) if self.names else "1"

    def within(self, name: str, make: Any, depth: int) -> str:
        self.names.append(name)
        text: str = make(depth)
        self.names.remove(name)
        return text

    def number(self, depth: int) -> str:
        if depth <= 0:
            return self.pick(self.name(), self.name(), *INTS)
        left, right = self.number(depth - 1), self.number(depth - 2)
        return self.pick(
            f"({left} + {right})", f"({left} - {right})", f"({left} * {right})", f"({left} % {right})",
            f"({self.test(depth - 1)} ? {left} : {right})", f"size({self.list(depth - 1)})", f"-({left})",
            f"{self.list(depth - 1)}[{right}]", f"dyn({self.name()}).k", f"cel.bind(b, {left}, b + b)",
            f"{self.list(depth - 1)}.map(n, {self.within('n', self.number, depth - 2)})[0]", self.name(),
        )  # fmt: skip

    def list(self, depth: int) -> str:
        if depth <= 0:
            return self.pick(*LISTS)
        inner = self.list(depth - 2)
        name = self.pick("x", "y", "z")
        return self.pick(
            f"{inner}.map({name}, {self.within(name, self.number, depth - 1)})",
            f"{inner}.filter({name}, {self.within(name, self.test, depth - 1)})",
            f"{inner}.transformList(i, {name}, {self.within(name, self.number, depth - 1)})",
            f"{inner}.map({name}, {self.within(name, self.test, depth - 1)}, {name})",
            f"[{self.number(depth - 1)}, {self.number(depth - 2)}]", inner,
        )  # fmt: skip

    def test(self, depth: int) -> str:
        if depth <= 0:
            return self.pick(*TESTS)
        name = self.pick("x", "y", "z")
        inner = self.list(depth - 1)
        body = self.within(name, self.test, depth - 1)
        other = self.within(name, self.number, depth - 1)
        return self.pick(
            f"{inner}.all({name}, {body})", f"{inner}.exists({name}, {body})",
            f"{inner}.exists_one({name}, {other} > 1)", f"{inner}.all(i, {name}, {other} != i)",
            f"{inner}.all({name}, {other} == {self.number(depth - 2)})",
            f"!({body if name in self.names else 'true'})",
            f"({self.test(depth - 1)} && {self.test(depth - 2)})",
            f"({self.test(depth - 1)} || {self.test(depth - 2)})",
            f"{self.number(depth - 1)} < {self.number(depth - 1)}",
            f"{inner}.transformMap(k, {name}, {other}).size() == {self.number(0)}",
            f"cel.bind(c, {self.test(depth - 2)}, c || c)", f"{self.number(0)} in [1, 2, 3]",
            f"string({self.number(0)}) == 'a'",
        )  # fmt: skip


def outcome(text: str) -> Any:
    _compile.cache_clear()
    selector = cel.compile(text)
    verdict = selector.explain(DEVICE, "x")
    try:
        answer: Any = selector.matches(DEVICE, "x")
    except CELError as error:
        answer = error.message
    return verdict.value, verdict.error and verdict.error.message, verdict.cost, answer


def test_generated_statements_do_what_stepping_does(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = 0
    for seed in range(600):
        text = Maker(seed).test(1 + seed % 5)
        monkeypatch.setattr(warm, "_WARM", 1 << 60)
        try:
            expected = outcome(text)
        except CELError:
            continue
        compiled += 1
        monkeypatch.setattr(warm, "_WARM", -1)
        assert outcome(text) == expected, text
    assert compiled > 400


@pytest.mark.parametrize(
    "text",
    ["lists.range(1000).all(x, lists.range(1000).all(y, x + y >= 0))", "lists.range(70000).map(x, [x]) != []",
     "lists.range(9000).all(x, string(x) != 'abc' || x > 0)", "lists.range(999).exists(x, [x, 1] == [-1])"],
)  # fmt: skip
@pytest.mark.parametrize("limit", [3000, 3001, 3002, 3003, 3017])
def test_loops_stop_at_the_cost_at_which_stepping_stops(
    text: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = declared(profile_for("1.37"), {}, {}, is_new=False)
    generated = Expression(text, environment).evaluate({}, limit)
    monkeypatch.setattr(warm, "_WARM", 1 << 60)
    assert Expression(text, environment).evaluate({}, limit) == generated
    assert generated.cost > limit

"""No text makes the engine raise anything but CELError, run anything but its own code, or hang."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drakit import cel
from drakit.errors import CELError
from drakit.model.resource import Device, DeviceAttribute, DeviceCapacity

DEVICE = Device(
    name="d",
    attributes={
        "s": DeviceAttribute(string="fish"),
        "l": DeviceAttribute(ints=[1, 2]),
        "v": DeviceAttribute(version="1.2.3"),
    },
    capacity={"m": DeviceCapacity(value="1Gi")},
)  # fmt: skip
WORDS = [
    "device",
    ".",
    "attributes",
    "capacity",
    "driver",
    '["x"]',
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ":",
    ",",
    "?",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "&&",
    "||",
    "in",
    "true",
    "false",
    "null",
    "1",
    "0",
    "-1",
    "2u",
    "1.5",
    '"a"',
    'b"a"',
    '""',
    "s",
    "l",
    "v",
    "m",
    "x",
    "has",
    "size",
    "all",
    "exists",
    "map",
    "filter",
    "cel",
    "bind",
    "matches",
    "quantity",
    "semver",
    "optional",
    "of",
    "none",
    "orValue",
    ".?",
    "[?",
    "int",
    "string",
    "dyn",
    "type",
    "duration",
    "timestamp",
    "ip",
    "cidr",
    "url",
    "format",
    "sets",
    "lists",
    "range",
    "sort",
    "join",
    "split",
    "replace",
    "__import__",
    "os",
    "lambda",
    "exec",
    '"\\u0041"',
    "'''",
    "//",
    "\n",
    "@",
    "#",
    "$",
    "`",
    "\\",
    "é",
    "😀",
]
SEEDS = [
    'device.attributes["x"].s == "fish" && device.capacity["x"].m.isGreaterThan(quantity("1Ki"))',
    'cel.bind(d, device.attributes["x"], d.l.exists(i, i > 1) ? d.s.startsWith("f") : d.?q.orValue(false))',
    "[1, 2, 3].map(x, x * 2).filter(x, x > 2).all(i, x, i < x) || {'a': 1}.transformMap(k, v, v).size() == 1",
    "'%s'.format([[1, 2]]) == '' || lists.range(10).sortBy(x, -x).slice(0, 2) == [9, 8]",
]
RUNAWAYS = {
    "strings doubled": "cel.bind(a0, 'x', "
    + "".join(f"cel.bind(a{i + 1}, a{i} + a{i}, " for i in range(60))
    + "a60 != ''" + ")" * 61,
    "lists doubled": "cel.bind(a0, [1], "
    + "".join(f"cel.bind(a{i + 1}, a{i} + a{i}, " for i in range(60))
    + "a60 != []" + ")" * 61,
    "lists of lists compared": "cel.bind(a0, [1], "
    + "".join(f"cel.bind(a{i + 1}, [a{i}, a{i}], " for i in range(40))
    + "a40 == a40" + ")" * 41,
    "a huge range": "lists.range(10000000).size() > 0",
    "distinct of many": "lists.range(2000).distinct().size() > 0",
    "a long replacement": f"'{'a' * 4000}'.replace('a', '{'b' * 4000}') != ''",
    "nested loops": "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(x, " * 7 + "true" + ")" * 7,
}  # fmt: skip


def try_out(text: str) -> None:
    try:
        selector = cel.compile(text)
        selector.explain(DEVICE, "x")
        selector.matches(DEVICE, "x")
    except CELError:
        return


@settings(max_examples=150, deadline=1000)
@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    try_out(text)


@settings(max_examples=300, deadline=1000)
@given(st.lists(st.sampled_from(WORDS), max_size=25).map("".join))
def test_words_in_any_order(text: str) -> None:
    try_out(text)


def test_mutated_expressions() -> None:
    source = random.Random(7)
    for _ in range(1500):
        text = source.choice(SEEDS)
        for _ in range(source.randint(1, 4)):
            at = source.randrange(len(text) + 1)
            until = min(len(text), at + source.randint(0, 4))
            text = text[:at] + source.choice(WORDS) + text[until:]
        try_out(text)


@pytest.mark.parametrize("name", RUNAWAYS)
def test_runaways_are_stopped(name: str) -> None:
    selector = cel.compile(RUNAWAYS[name])
    with pytest.raises(CELError, match="operation cancelled"):
        selector.matches(DEVICE, "x")


@pytest.mark.parametrize(
    "text",
    ["(" * 240 + "true" + ")" * 240, "!" * 9001 + "true", "||".join(["false"] * 1000),
     "-(" * 200 + "1" + ")" * 200 + " < 0",
     "dyn(" * 200 + "true" + ")" * 200, "[1].map(x, " * 30 + "1" + ")" * 30 + " == []"],
)  # fmt: skip
def test_deep_expressions_work(text: str) -> None:
    selector = cel.compile(text)
    assert selector.matches(DEVICE, "x") is selector.explain(DEVICE, "x").value


@pytest.mark.parametrize("method", ["matches('a')", "find('a') == ''", "findAll('a') == []"])
def test_half_a_surrogate_pair_is_searched(method: str) -> None:
    assert isinstance(cel.compile(f"'\ud800b'.{method}").matches(DEVICE, "x"), bool)

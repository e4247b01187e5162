"""Corners in which the engine once differed from Kubernetes, found by comparing both on random expressions.

Each row is an expression and what Kubernetes 1.36 says: the value, the error, or the error of compiling.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from drakit import cel
from drakit.errors import CELError
from drakit.model.resource import Device

DEVICE = msgspec.convert(
    {
        "name": "gpu-0",
        "attributes": {
            "x/s": {"string": "fish"}, "x/i": {"int": 3}, "x/b": {"bool": True}, "x/v": {"version": "1.2.3"},
            "x/ints": {"ints": [1, 2, 3]},
        },
        "capacity": {"x/mem": {"value": "2Mi"}},
    },
    Device,
)  # fmt: skip

_RESULT = "CEL result of type {} could not be converted to bool: {}"

FAILING = {
    "int as result": ("dyn(1)", _RESULT.format("int", "unsupported type conversion from 'int' to bool")),
    "string as result": (
        "dyn('a')", _RESULT.format("string", "unsupported native conversion from string to 'bool'"),
    ),
    "bytes as result": ("dyn(b'')", _RESULT.format("bytes", "type conversion error from Bytes to 'bool'")),
    "null as result": (
        "dyn(null)", _RESULT.format("null_type", "type conversion error from 'null_type' to 'bool'"),
    ),
    "type as result": ("dyn(int)", _RESULT.format("type", "type conversion not supported for 'type'")),
    "version as result": (
        "device.attributes['x'].v",
        _RESULT.format("kubernetes.Semver", "type conversion error from 'Semver' to 'bool'"),
    ),
    "no optional value as result": (
        "dyn(optional.none())", _RESULT.format("optional_type", "optional.none() dereference"),
    ),
    "optional int as result": (
        "dyn(optional.of(1))",
        _RESULT.format("optional_type", "unsupported type conversion from 'int' to bool"),
    ),
    "not a string": ("!dyn('a')", "no such overload"),
    "minus a string": ("-dyn('a') == 1", "no such overload"),
    "minus a bool": ("-dyn(true) == 1", "no such overload"),
    "minus null": ("-dyn(null) == 1", "no such overload: -_"),
    "a string modulo": ("dyn('a') % 2 == 1", "no such overload"),
    "a double modulo": ("dyn(1.0) % 2 == 1", "no such overload: _%_"),
    "size of a duration": ("size(dyn(duration('1s'))) == 1", "no such overload"),
    "size of an int": ("size(dyn(1)) == 1", "no such overload: size"),
    "a constant pattern in an int": ("dyn(1).find('a') == ''", "no such overload"),
    "a pattern in an int": ("dyn(1).find(device.driver) == ''", "no such overload: find(int, string)"),
    "an int as pattern": ("device.driver.find(dyn(1)) == ''", "no such overload: find(string, int)"),
    "an int matched by a string": ("dyn(1).matches(device.driver)", "no such overload: matches"),
    "a string matched by an int": ("'a'.matches(device.attributes['x'].i)", "no such overload"),
    "a list as key": (
        "device.attributes['x'].ints[[device.attributes['x'].i]] == 1",
        "invalid qualifier type: *types.baseList",
    ),
    "no normal version": (
        "semver('é', true).major() == 1", 'Invalid character(s) found in major number "0é"',
    ),
}  # fmt: skip


@pytest.mark.parametrize(("expression", "error"), FAILING.values(), ids=FAILING)
def test_what_fails(expression: str, error: str) -> None:
    selector = cel.compile(expression)
    verdict = selector.explain(DEVICE, "x")
    assert verdict.error is not None
    assert verdict.error.message == error
    with pytest.raises(CELError) as caught:
        selector.matches(DEVICE, "x")
    assert caught.value.message == error


TRUE = {
    "an optional bool is a result": "dyn(optional.of(optional.of(true)))",
    "elements of many types are fine for format": "'%s'.format([[1.0, '-5'][1]]) == '-5'",
}


@pytest.mark.parametrize("expression", TRUE.values(), ids=TRUE)
def test_what_is_true(expression: str) -> None:
    selector = cel.compile(expression)
    assert selector.explain(DEVICE, "x").value is True
    assert selector.matches(DEVICE, "x") is True


COSTS = {
    "two of several overloads stop at the first error": (
        "device.attributes['no'].v.isGreaterThan(device.attributes['x'].v)", 4,
    ),
    "the last argument's error is charged": ("'a'.replace('b', device.attributes['no'].k) == 'a'", 6),
    "another argument's is not": ("'a'.replace(device.attributes['no'].k, 'b') == 'a'", 5),
}  # fmt: skip


@pytest.mark.parametrize(("expression", "cost"), COSTS.values(), ids=COSTS)
def test_costs(expression: str, cost: int) -> None:
    assert cel.compile(expression).explain(DEVICE, "x").cost == cost


UNUSABLE = {
    "a constant list as key": ("dyn([2])[[1]] == 2", "invalid qualifier type: *types.baseList"),
    "constant bytes as key": ("{'a': true}[dyn(b'a')]", "invalid qualifier type: types.Bytes"),
}


REFUSED: dict[str, tuple[str, tuple[tuple[int, str], ...]]] = {
    "a field of a quantity": (
        "quantity('1').x", ((14, "unexpected failed resolution of 'kubernetes.Quantity'"),),
    ),
    "elements are compared once the types are right": (
        "[1, true] == nothing", ((14, "undeclared reference to 'nothing' (in container '')"),),
    ),
    "one odd element of a list is told": (
        "[1, true, 'a'] == []", ((5, "expected type 'int' but found 'bool'"),),
    ),
    "all odd entries of a map are told": (
        "{1: 2, true: true} == {}",
        ((8, "expected type 'int' but found 'bool'"), (14, "expected type 'int' but found 'bool'")),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("expression", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_cannot_be_evaluated(expression: str, reason: str) -> None:
    with pytest.raises(CELError) as caught:
        cel.compile(expression)
    assert caught.value.message == f"program instantiation failed: {reason}"


@pytest.mark.parametrize(("expression", "issues"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_compile(expression: str, issues: Any) -> None:
    with pytest.raises(CELError) as caught:
        cel.compile(expression)
    told = [line for line in caught.value.message.splitlines() if "ERROR: " in line]
    assert [line.partition("ERROR: ")[2] for line in told] == [
        f"<input>:1:{at}: {text}" for at, text in issues
    ]

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
    "a pattern made of a constant": ("dyn(1).find(string(0u)) == ''", "no such overload"),
    "a pattern in an int": ("dyn(1).find(device.driver) == ''", "no such overload: find(int, string)"),
    "an int as pattern": ("device.driver.find(dyn(1)) == ''", "no such overload: find(string, int)"),
    "an int matched by a string": ("dyn(1).matches(device.driver)", "no such overload: matches"),
    "a string matched by an int": ("'a'.matches(device.attributes['x'].i)", "no such overload"),
    "a list as key": (
        "device.attributes['x'].ints[[device.attributes['x'].i]] == 1",
        "invalid qualifier type: *types.baseList",
    ),
    "sorting an int": ("dyn(0).sort() == []", "no such overload: sort"),
    "sorting a string": ("dyn('a').sort() == []", "no such overload"),
    "flattening a map": ("dyn({1: 2}).flatten() == []", "no such overload: map(dyn, dyn).flatten()"),
    "flattening an int": ("dyn(0).flatten(1) == []", "no such overload: int.flatten(int)"),
    "a list of others than optionals": (
        "optional.unwrap([optional.of(1)].map(x, dyn(1))) == [1]",
        "no such overload: optional.unwrap(list)",
    ),
    "a duration too long": (
        "duration('9223372036s') + duration('9223372036s') == duration('1s')", "integer overflow",
    ),
    "an int as duration": (
        "duration(device.attributes['x'].i) == duration('3ns')",
        "type conversion error from 'int' to 'google.protobuf.Duration'",
    ),
    "bytes that are no text": (
        r"'%s'.format([[b'\xff']]) == ''",
        'error during formatting: could not convert argument "invalid UTF-8 in bytes, cannot convert to '
        'string" to string',
    ),
    "a zone of words": (
        "timestamp(0).getHours('a:1') == 0", 'strconv.Atoi: parsing "a": invalid syntax',
    ),
    "a zone elsewhere": ("timestamp(0).getHours('../x') == 0", "time: invalid location name"),
    "what cannot be joined": ("[dyn('a'), dyn(1)].join() == 'a'", "join: invalid input: 1"),
    "an index no integer is": (
        "[true][dyn(-9223372036854775808.0)]", "unsupported index value -9.223372036854776e+18 in list",
    ),
    "has() of a choice that costs nothing": (
        "has((dyn(3u) ? {'a': 1} : {'b': 2}).a)", "operation cancelled: actual cost limit exceeded",
    ),
    "a type that is still open": (
        "dyn(optional.of(duration('1s'))).value().getHours() == 0",
        "no such overload: getHours(google.protobuf.Duration)",
    ),
    "the least duration taken away": (
        "timestamp(10) - duration('-2562047h47m16.854775808s') == timestamp(0)", "integer overflow",
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
    "lists are flattened as they are": "[[1], [2]].flatten() == [1, 2] && dyn([1]).flatten(3) == [1]",
    "blocks within blocks": (
        "cidr('10.0.0.1/24').containsCIDR('10.0.0.1/24') && cidr('::/0').containsCIDR(cidr('2001:db8::/32'))"
    ),
    "nothing takes an entry away": "{'a': 1, ?'a': optional.none()} == {}",
    "precision is width in %e": "'%.20e'.format([-0.0]).size() == 20",
    "the least int taken from a quantity": "sign(quantity('1Gi').sub(-9223372036854775808)) == -1",
    "a comma in empty brackets": "[,] == [] && {,} == {}",
    "a dot before a name": ".device.driver == 'x' && .size([1]) == 1 && has(has(device.driver))",
    "types by their full names": (
        "type(duration('1s')) == google.protobuf.Duration && type(null) == null_type"
    ),
    "integers become doubles": (
        "dyn(9007199254740993) == 9007199254740992.0 && 9007199254740993 <= 9007199254740992.0 && "
        "dyn(9007199254740992.0) in [9007199254740993] && "
        "dyn(9007199254740992.0) in [9007199254740993].sort()"
    ),
    "an open type becomes the first that fits": "[].filter(z, z >= 1.5) == [1].filter(z, false)",
    "first and last": "[1, 2].first().value() == 1 && [1, 2].last().value() == 2 && ![].first().hasValue()",
    "what has a value": "[device.attributes['x'].?s, device.attributes['x'].?no].unwrapOpt() == ['fish']",
    "1970 is no zero time": (
        "optional.ofNonZeroValue(timestamp(0)).hasValue() && "
        "!optional.ofNonZeroValue(timestamp('0001-01-01T00:00:00Z')).hasValue()"
    ),
    "zones in numbers of any size": (
        "timestamp('9999-12-31T23:59:59Z').getFullYear('+48:00') == 10000 && "
        "timestamp(0).getHours('-1:-30') == 23 && timestamp(0).getMinutes('2:3') == 3"
    ),
    "local time is UTC": "timestamp(0).getHours('Local') == 0",
    "a local date before the first year": "timestamp('0001-01-01T00:00:00Z').getDate('-01:00') == 31",
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
    "sets with an error": ("sets.contains([1, 2, 3], device.attributes['x'].no)", 8),
    "a reversed error": ("device.attributes['x'].no.reverse() == []", 16),
    "format stops at the first error": (
        "device.attributes['x'].no.format([device.attributes['x'].s]) == ''", 4,
    ),
    "has() of a choice": ("has((true ? device.attributes['x'] : device.attributes['no']).s)", 2),
    "a format checked": ("format.dns1123Label().validate('abcdefghijklmnop').hasValue()", 18),
    "bytes among constants": (r"b'\xff' in [b'x']", 1),
    "an optional element at what is no key": (
        "device.attributes['x'].ints[?device.attributes['x'].v].hasValue()", 8,
    ),
    "what is no list reversed": ("device.attributes['x'].s.reverse() == []", 16),
    "another argument's is not": ("'a'.replace(device.attributes['no'].k, 'b') == 'a'", 5),
}  # fmt: skip


@pytest.mark.parametrize(("expression", "cost"), COSTS.values(), ids=COSTS)
def test_costs(expression: str, cost: int) -> None:
    assert cel.compile(expression).explain(DEVICE, "x").cost == cost


UNUSABLE = {
    "a variable that is a type": ("[type(1)].all(t, t == int)", "reference to undefined type: t"),
    "a constant list as key": ("dyn([2])[[1]] == 2", "invalid qualifier type: *types.baseList"),
    "constant bytes as key": ("{'a': true}[dyn(b'a')]", "invalid qualifier type: types.Bytes"),
}


MOST = {
    "keys beside values of attributes": ("device.attributes['x'].all(k, v, k == k)", 388),
    "keys beside values of domains": ("device.attributes.all(k, v, k == k)", 387),
}


@pytest.mark.parametrize(("expression", "cost"), MOST.values(), ids=MOST)
def test_greatest_costs(expression: str, cost: int) -> None:
    assert cel.compile(expression).max_cost == cost


REFUSED: dict[str, tuple[str, tuple[tuple[int, str], ...]]] = {
    "a field of a quantity": (
        "quantity('1').x", ((14, "unexpected failed resolution of 'kubernetes.Quantity'"),),
    ),
    "elements are compared once the types are right": (
        "[1, true] == nothing", ((14, "undeclared reference to 'nothing' (in container '')"),),
    ),
    "existsOne of one variable": (
        "[1].existsOne(i, true)",
        (
            (14, "undeclared reference to 'existsOne' (in container '')"),
            (15, "undeclared reference to 'i' (in container '')"),
        ),
    ),
    "a constant int as duration": ("duration(3) == duration('3ns')", ((10, "invalid duration argument"),)),
    "null as moment": ("timestamp(null) > timestamp(0)", ((11, "invalid timestamp argument"),)),
    "a moment too late": (
        "timestamp(9007199254740993) > timestamp(0)", ((11, "invalid timestamp argument"),),
    ),
    "the text is taken for the pattern": ("matches('(', 'a')", ((9, "invalid matches argument"),)),
    "what is copied is told twice": (
        "optional.of(timestamp('x')).optMap(t, true).value()", ((23, "invalid timestamp argument"),) * 2,
    ),
    "a name nobody knows, with its dot": ("[.x]", ((3, "undeclared reference to '.x' (in container '')"),)),
    "a macro keeps to names without": (
        ".has(device.driver)", ((5, "undeclared reference to '.has' (in container '')"),),
    ),
    "every wrong number and macro": (
        "[1].all(1, 1e400 > [2].map(3, 4)[5].x)",
        (
            (9, "argument must be a simple name"),
            (12, "invalid double literal"),
            (28, "argument is not an identifier"),
        ),
    ),
    "an escape that is none": (
        r"'\xzz'",
        (
            (1, r"Syntax error: token recognition error at: ''\xz'"),
            (6, "Syntax error: token recognition error at: '''"),
        ),
    ),
    "half a character": (r"'\ud800' == ''", ((1, "invalid unicode code point"),)),
    "a code point in bytes": (r"b'\u0041' == b''", ((1, "unable to unescape string"),)),
    "names in backticks": ("device.`driver`", ((8, "unsupported syntax: '`'"),)),
    "a parenthesis missing": ("((3u)", ((6, "Syntax error: missing ')' at '<EOF>'"),)),
    "a token too many": (
        "[1 2].size(3]) == 1",
        (
            (4, "Syntax error: extraneous input '2' expecting {']', ','}"),
            (13, "Syntax error: extraneous input ']' expecting ')'"),
        ),
    ),
    "a list that does not end": (
        "[1,2", ((5, "Syntax error: mismatched input '<EOF>' expecting {']', ','}"),),
    ),
    "a message of no type": (
        "x.y{a: 1} == z",
        (
            (4, "undeclared reference to 'x.y' (in container '')"),
            (14, "undeclared reference to 'z' (in container '')"),
        ),
    ),
    "a map sorted": (
        "{}.sortBy(x, 1) == []",
        ((1, "sortBy can only be applied to a list, identifier, comprehension, call or select expression"),),
    ),
    "arguments are judged one after the other": (
        "'%d%d'.format([[]]) == ''",
        ((16, "error during formatting: decimal clause can only be used on integers, was given list"),),
    ),
    "a format after all else at its place": (
        "[1, '%s'.format([1, 2])] == []",
        (
            (16, "expected type 'int' but found 'string'"),
            (16, "too many arguments supplied to string.format (expected 1, got 2)"),
        ),
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


NO_BOOL = {
    "timestamp(0)": "google.protobuf.Timestamp",
    "[duration('1s')]": "list(google.protobuf.Duration)",
    "type(null)": "type(null_type)",
}


@pytest.mark.parametrize(("expression", "type_"), NO_BOOL.items())
def test_what_is_no_selector(expression: str, type_: str) -> None:
    with pytest.raises(CELError) as caught:
        cel.compile(expression)
    assert caught.value.message == f"must evaluate to bool or the unknown type, not {type_}"

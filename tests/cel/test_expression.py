"""Expressions over declared variables: plain JSON, declared object types, values found when needed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from drakit.cel import types
from drakit.cel.declare import declared
from drakit.cel.expression import Expression, Outcome
from drakit.cel.library.authz import Authorizer, Decision, ResourceCheck, Wish
from drakit.cel.types import Type
from drakit.cel.value import Fault, Lazy
from drakit.errors import CELError
from drakit.profile import profile_for

USER = Type("object", "test.User")
DECLARED: dict[str, Type] = {
    "object": types.DYN,
    "user": USER,
    "variables.late": types.STRING,
    "variables.broken": types.DYN,
    "authorizer": types.AUTHORIZER,
    "authorizer.requestResource": types.RESOURCE_CHECK,
}
OBJECTS = {USER.name: {"name": types.STRING, "groups": types.list_of(types.STRING)}}


def fail() -> Any:
    raise Fault("it broke")


def may(wish: Wish) -> Decision:
    return Decision(wish.verb == "get" and wish.resource in ("pods", "slices"), f"asked for {wish.verb}")


def outcome(text: str, version: str = "1.37", *, is_new: bool = False) -> Outcome:
    environment = declared(profile_for(version), DECLARED, OBJECTS, is_new=is_new)
    values = {
        "object": {"spec": {"count": 3, "names": ["a", "b"], "size": "2Gi", "none": None}},
        "user": {"name": "ada", "groups": ["dev"]},
        "variables.late": Lazy(lambda: "now"),
        "variables.broken": Lazy(fail),
        "authorizer": Authorizer(may),
        "authorizer.requestResource": ResourceCheck(may, Wish(resource="slices")),
    }
    return Expression(text, environment).evaluate(values)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("object.spec.count + 1 == 4", True),
        ("object.spec.names.exists(n, n == 'b') && size(object.spec) == 4", True),
        ("object.spec.?missing.orValue('x')", "x"),
        ("has(object.spec.none) && object.spec.none == null", True),
        ("quantity(object.spec.size).isGreaterThan(quantity('1Gi'))", True),
        ("user.name + '/' + user.groups[0]", "ada/dev"),
        ("variables.late.size()", 3),
        ("variables.broken == 1 || true", True),
        ("authorizer.requestResource.check('get').allowed()", True),
        ("authorizer.group('').resource('pods').namespace('x').name('y').check('get').allowed()", True),
        ("authorizer.group('').resource('pods').check('list').reason()", "asked for list"),
        ("authorizer.serviceAccount('ns', 'sa').path('/healthz').check('get').errored()", False),
        ("ip('10.0.0.1').family() == 4 && url('https://a/b').getHost() == 'a'", True),
    ],
)
def test_values(text: str, value: Any) -> None:
    found = outcome(text)
    assert (found.value, found.error) == (value, "")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("object.spec.missing > 1", "no such key: missing"),
        ("variables.broken == 1", "it broke"),
        ("authorizer.path(' ').check('get').allowed()", "path must not be empty"),
        (
            "authorizer.serviceAccount('A', 'b').path('/x').check('get').allowed()",
            "service account namespace",
        ),
        (" && ".join(["authorizer.path('/x').check('get').allowed() == false"] * 3), "cost limit exceeded"),
        ("object.spec.names.all(a, a.matches(object.spec.count == 3 ? '(' : ')'))", "error parsing regexp"),
    ],
)
def test_errors(text: str, error: str) -> None:
    assert error in outcome(text).error


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("user.age > 1", "undefined field 'age'"),
        ("device.driver == 'x'", "undeclared reference to 'device'"),
        ("user.name == 1", "found no matching overload for '_==_' applied to '(string, int)'"),
        ("semver('1.0.0').major() == 1 && [3, 1].includes(1)", "undeclared reference to 'includes'"),
    ],
)
def test_what_does_not_compile(text: str, problem: str) -> None:
    with pytest.raises(CELError, match="compilation failed") as raised:
        outcome(text)
    assert problem in raised.value.message


def test_libraries_come_with_versions() -> None:
    assert outcome("semver('1.2.3').major()", "1.34").value == 1
    with pytest.raises(CELError):
        outcome("semver('1.2.3').major()", "1.32")
    assert outcome("[[1], [2]].flatten()", "1.34").value == [1, 2]
    with pytest.raises(CELError):
        outcome("[[1], [2]].flatten()", "1.34", is_new=True)


def test_a_lazy_value_is_found_once() -> None:
    calls: list[int] = []
    lazy = Lazy(lambda: calls.append(1) or "x")
    environment = declared(profile_for("1.37"), {"late": types.STRING}, {}, is_new=False)
    expression = Expression("late + late == 'xx'", environment)
    assert expression.evaluate({"late": lazy}).value is True
    assert (calls, expression.names) == ([1], {"late"})


_PATCHES = declared(profile_for("1.37"), {"object": types.DYN}, {}, is_new=True, has_patches=True)
MADE: list[tuple[str, Any, int]] = [
    ("Object{a: object.n, b: Object.b{c: [1]}}", {"a": 2, "b": {"c": [1]}}, 82),
    ("[JSONPatch{op: 'add', path: jsonpatch.escapeKey('a/b~')}][0].path", "a~1b~0", 54),
    ("Object{?a: object.?n, ?b: object.?no}", {"a": 2}, 43),
    ("Object{a: 1,}.a == 1 && has(Object{a: 1}.a)", True, 84),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value", "cost"), MADE, ids=[row[0] for row in MADE])
def test_objects_that_mutate(text: str, value: Any, cost: int) -> None:
    assert Expression(text, _PATCHES).evaluate({"object": {"n": 2}}) == Outcome(value, "", cost)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Object{'a': 1}", "mismatched input ''a'' expecting IDENTIFIER"),
        ("Object{a: 1", "mismatched input '<EOF>' expecting {'}', ','}"),
        ("Objects{}", "undeclared reference to 'Objects'"),
        ("JSONPatch.a{}", "undeclared reference to 'JSONPatch.a'"),
        ("[Object{}, Object.a{}]", "expected type 'Object' but found 'Object.a'"),
        ("Object{?a: 1}", "expected type 'optional_type(int)' but found 'int'"),
    ],
)
def test_objects_that_cannot_be_made(text: str, error: str) -> None:
    with pytest.raises(CELError, match=re.escape(error)):
        Expression(text, _PATCHES)


def test_only_devices_have_bind() -> None:
    with pytest.raises(CELError, match="undeclared reference to 'bind'"):
        outcome("cel.bind(x, 1, x == 1)")

"""Rules in CEL of custom resources: when they are looked at, what they say, what may be written."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from drakit.apiserver import custom
from drakit.apiserver.custom_cel import check_rules, compile_rules
from drakit.apiserver.custom_declare import declare, escaped
from drakit.apiserver.custom_formats import has_format
from drakit.apiserver.custom_path import find_field
from drakit.apiserver.custom_rules import rule_errors
from drakit.profile import profile_for
from drakit.transport import MERGE_PATCH, Document
from tests.apiserver.served import Served
from tests.apiserver.test_custom_resources import CRDS, THINGS, definition, thing

LATEST = profile_for("1.37")
TEXT = {"type": "string", "maxLength": 20}
NUMBER = {"type": "integer"}


def ruled(schema: Document, *rules: str | Document) -> Document:
    made = [{"rule": rule} if isinstance(rule, str) else rule for rule in rules]
    return {**schema, "x-kubernetes-validations": made}


def obj(properties: Document, **more: Any) -> Document:
    return {"type": "object", "properties": properties, **more}


def errors(schema: Document, value: Any, old: Any = None, warnings: list[str] | None = None) -> list[str]:
    node = compile_rules(schema, LATEST)
    assert node is not None
    return [str(error) for error in check_rules(node, value, old, [] if warnings is None else warnings)]


SPEC = {
    "min": NUMBER,
    "max": NUMBER,
    "namespace": TEXT,
    "a-b": TEXT,
    "when": {"type": "string", "format": "date-time"},
    "wait": {"type": "string", "format": "duration"},
    "bytes": {"type": "string", "format": "byte"},
    "ratio": {"type": "number"},
    "port": {"x-kubernetes-int-or-string": True, "maxLength": 5},
    "labels": {"type": "object", "additionalProperties": TEXT, "maxProperties": 5},
    "names": {"type": "array", "items": TEXT, "maxItems": 5},
    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "maybe": {**TEXT, "nullable": True},
}
HOLDS: list[tuple[str, Document, str]] = [
    ("self.min <= self.max", {"min": 1, "max": 2}, ""),
    ("self.min <= self.max", {"min": 3, "max": 2}, "failed rule: self.min <= self.max"),
    ("has(self.max) || self.min == 0", {"min": 1}, "failed rule"),
    ("self.max > 1", {"min": 1}, "no such key: max evaluating rule: self.max > 1"),
    ("self.__namespace__ == 'x' && self.a__dash__b == 'y'", {"namespace": "x", "a-b": "y"}, ""),
    ("self.when < timestamp('2026-01-01T00:00:00Z')", {"when": "2025-05-05T05:05:05Z"}, ""),
    ("self.wait == duration('90s')", {"wait": "1m30s"}, ""),
    ("self.bytes == b'hi'", {"bytes": "aGk="}, ""),
    ("self.ratio < 1.5", {"ratio": 1}, ""),
    ("type(self.port) == string ? self.port == 'http' : self.port < 9", {"port": "http"}, ""),
    ("type(self.port) == string ? self.port == 'http' : self.port < 9", {"port": 9}, "failed rule"),
    ("self.port < 9", {"port": "http"}, "call arguments did not match a supported operator"),
    ("self.labels.all(k, self.labels[k].startsWith(k))", {"labels": {"a": "ab", "b": "b"}}, ""),
    ("self.names.exists_one(n, n == 'a')", {"names": ["a", "a"]}, "failed rule"),
    ("!has(self.maybe)", {"maybe": None}, ""),
    ("self.metadata.name == 'x'", {"metadata": {"name": "x", "labels": {}}}, ""),
]


@pytest.mark.parametrize(("rule", "value", "problem"), HOLDS)
def test_what_rules_see(rule: str, value: Document, problem: str) -> None:
    found = errors(ruled(obj(SPEC), rule), value)
    assert len(found) == bool(problem)
    assert not problem or problem in found[0]


def test_where_errors_point() -> None:
    schema = obj({"spec": obj({"rows": {"type": "array", "items": ruled(obj({"n": NUMBER}), "self.n > 0")}})})
    found = errors(schema, {"spec": {"rows": [{"n": 1}, {"n": 0}]}})
    assert found == ["spec.rows[1]: Invalid value: failed rule: self.n > 0"]
    assert errors(ruled(obj({}), "false"), {}) == ["<nil>: Invalid value: failed rule: false"]
    by_key = obj({"m": {"type": "object", "additionalProperties": ruled(NUMBER, "self > 0")}})
    assert errors(by_key, {"m": {"k": 0}}) == ["m[k]: Invalid value: 0: failed rule: self > 0"]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"message": " too small "}, "spec: Invalid value: too small"),
        ({"messageExpression": "'n is ' + string(self.n)"}, "spec: Invalid value: n is 0"),
        ({"messageExpression": "''", "message": "m"}, "spec: Invalid value: m"),
        ({"reason": "FieldValueForbidden", "message": "m"}, "spec: Forbidden: m"),
        ({"reason": "FieldValueRequired", "message": "m"}, "spec: Required value: m"),
        ({"reason": "FieldValueDuplicate"}, "spec: Duplicate value"),
        ({"fieldPath": ".n", "message": "m"}, "spec.n: Invalid value: m"),
        ({"fieldPath": "['a.b']", "message": "m"}, "spec.a.b: Invalid value: m"),
        ({"fieldPath": ".m['k']", "message": "m"}, "spec.m[k]: Invalid value: m"),
    ],
)
def test_what_errors_say(more: Document, text: str) -> None:
    fields = {"n": NUMBER, "a.b": TEXT, "m": {"type": "object", "additionalProperties": TEXT}}
    schema = obj({"spec": ruled(obj(fields), {"rule": "self.n > 0", **more})})
    assert errors(schema, {"spec": {"n": 0}}) == [text]


def test_rules_about_changes() -> None:
    schema = obj({"spec": ruled(obj({"n": NUMBER}), "self.n >= oldSelf.n")})
    assert errors(schema, {"spec": {"n": 1}}) == []
    assert errors(schema, {"spec": {"n": 2}}, {"spec": {"n": 1}}) == []
    assert len(errors(schema, {"spec": {"n": 1}}, {"spec": {"n": 2}})) == 1
    assert errors(schema, {"spec": {"n": 1}}, {}) == []
    both = {"rule": "!oldSelf.hasValue() || self.n >= oldSelf.value().n", "optionalOldSelf": True}
    optional = obj({"spec": ruled(obj({"n": NUMBER}), both)})
    assert errors(optional, {"spec": {"n": 1}}) == []
    assert len(errors(optional, {"spec": {"n": 1}}, {"spec": {"n": 2}})) == 1


def test_elements_of_map_lists_are_found_again_and_have_no_order() -> None:
    item = ruled(obj({"k": TEXT, "n": NUMBER}, required=["k"]), "self.n >= oldSelf.n")
    rows = {
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
    }
    schema = ruled(obj({"rows": rows}), "self.rows == oldSelf.rows")
    old = {"rows": [{"k": "a", "n": 1}, {"k": "b", "n": 5}]}
    assert errors(schema, {"rows": [{"k": "b", "n": 5}, {"k": "a", "n": 1}]}, old) == []
    found = errors(schema, {"rows": [{"k": "b", "n": 4}, {"k": "c", "n": 0}]}, old)
    assert [text.partition(":")[0] for text in found] == ["<nil>", "rows[0]"]


def test_what_an_update_leaves_alone_is_warned_of() -> None:
    fields = {"n": ruled(NUMBER, "self > 0"), "m": ruled(NUMBER, "self > 0")}
    schema, warnings = obj({"spec": obj(fields)}), []
    old = {"spec": {"n": 0, "m": 1}}
    assert errors(schema, {"spec": {"n": 0, "m": 2}}, old, warnings) == []
    assert warnings == ["spec.n: Invalid value: 0: failed rule: self > 0"]
    assert len(errors(schema, {"spec": {"n": -1, "m": 2}}, old)) == 1


def test_rules_in_all_of_and_of_embedded_objects() -> None:
    part = {"properties": {"n": {"x-kubernetes-validations": [{"rule": "self < 3"}]}}}
    schema = obj({"n": NUMBER}, allOf=[part])
    assert errors(schema, {"n": 3}) == ["n: Invalid value: 3: failed rule: self < 3"]
    inner = ruled(obj({}), "self.kind == 'Pod' && self.metadata.name != ''")
    embedded = {**inner, "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    assert errors(obj({"pod": embedded}), {"pod": {"kind": "Pod", "metadata": {"name": "a"}}}) == []


def test_unknown_fields_are_part_of_equality() -> None:
    free = {**SPEC["free"], "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}
    schema = obj({"free": free})
    assert errors(schema, {"free": {"x": {"y": 1}}}, {"free": {"x": {"y": 1}}}) == []
    assert len(errors(schema, {"free": {"x": {"y": 2}}}, {"free": {"x": {"y": 1}}})) == 1


def test_the_budget_ends_the_work() -> None:
    heavy = "self.all(a, self.all(b, self.all(c, a + b + c != 'x')))"
    schema = obj({"l": ruled({"type": "array", "items": TEXT}, heavy, heavy)})
    began = time.process_time()
    found = errors(schema, {"l": [str(i) for i in range(2000)]})
    assert len(found) == 1
    assert "no further validation rules will be run due to call cost exceeds limit" in found[0]
    assert time.process_time() - began < 2


# --- what may be written --------------------------------------------------------------------------


def problems(schema: Document, before: frozenset[str] = frozenset()) -> list[str]:
    return [str(error) for error in rule_errors(schema, "S", LATEST, before)]


LIST = {"type": "array", "items": TEXT}
WRONG: list[tuple[Document, str]] = [
    (ruled(obj({}), "self.x"), "undefined field 'x'"),
    (ruled(obj({"n": NUMBER}), "self.n"), "cel expression must evaluate to a bool"),
    (
        ruled(obj({"n": NUMBER}), "self.n == 'a'"),
        "found no matching overload for '_==_' applied to '(int, string)'",
    ),
    (ruled(obj({}), "device.driver == ''"), "undeclared reference to 'device'"),
    (ruled(obj({}), " "), "S.x-kubernetes-validations[0].rule: Required value: rule is not specified"),
    (
        ruled(obj({}), "true &&\ntrue"),
        "message or messageExpression must be specified if rule contains line breaks",
    ),
    (ruled(obj({}), {"rule": "true", "message": "a\nb"}), "message must not contain line breaks"),
    (
        ruled(obj({}), {"rule": "true", "messageExpression": "1"}),
        "messageExpression must evaluate to a string",
    ),
    (ruled(obj({}), {"rule": "true", "messageExpression": "self.x"}), "messageExpression compilation failed"),
    (ruled(obj({}), {"rule": "true", "reason": "Gone"}), "[0].reason: Unsupported value"),
    (ruled(obj({}), {"rule": "true", "fieldPath": ".x"}), "fieldPath must be a valid path"),
    (
        ruled(obj({}), {"rule": "true", "optionalOldSelf": True}),
        "may not be set if oldSelf is not used in rule",
    ),
    (
        obj({"l": {"type": "array", "items": ruled(TEXT, "self == oldSelf")}}),
        "uncorrelatable portion of the schema within S.properties[l]",
    ),
    (
        obj({"l": ruled(LIST, "self.all(a, self.all(b, a == b))")}),
        "estimated rule cost exceeds budget by factor of more than 100x",
    ),
    (
        obj({"l": {"type": "array", "items": ruled({"type": "string"}, "self.contains('a')")}}),
        "estimated rule cost exceeds budget",
    ),
    (
        obj({"l": ruled(LIST, "self.all(a, self.all(b, a == b))")}),
        "cost total for entire OpenAPIv3 schema exceeds budget",
    ),
]


@pytest.mark.parametrize(("schema", "text"), WRONG)
def test_what_makes_rules_invalid(schema: Document, text: str) -> None:
    assert any(text in problem for problem in problems(schema))


@pytest.mark.parametrize(
    "schema",
    [
        obj({"l": ruled({**LIST, "maxItems": 10}, "self.all(a, self.all(b, a == b))")}),
        obj({"l": {"type": "array", "maxItems": 9, "items": ruled(TEXT, "self.contains('a')")}}),
        obj({"m": {"type": "object", "additionalProperties": ruled(NUMBER, "self > oldSelf")}}),
        ruled(obj({"s": {"enum": ["a", "bb"], "type": "string"}}), "self.s.startsWith('a')"),
    ],
)
def test_what_is_not_too_expensive(schema: Document) -> None:
    assert problems(schema) == []


def test_sizes_for_the_estimate() -> None:
    found = declare(obj({"a": TEXT, "b": LIST}, required=["a"]), "t", is_root=False)
    assert found is not None
    assert found.fields is not None
    assert (found.least, found.fields["a"].most) == (2 + 1 + 2 + 4, 80)
    assert found.fields["b"].most == (3 * 1024 * 1024 - 2) // 3


@pytest.mark.parametrize(
    ("name", "identifier"),
    [("a", "a"), ("a-b.c/d", "a__dash__b__dot__c__slash__d"), ("a__b", "a__underscores__b"), ("if", "__if__"),
     ("9a", None), ("a$", None), ("", None)],
)  # fmt: skip
def test_names_of_fields(name: str, identifier: str | None) -> None:
    assert escaped(name) == identifier


# --- the rest of a schema -------------------------------------------------------------------------

FORMATS: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
    (
        "date-time",
        ("2026-11-22T06:00:00Z", "2026-11-22T06:00:00.5+01:00"),
        ("2026-11-22", "2026-13-01T00:00:00Z"),
    ),
    ("date", ("2026-11-22",), ("22.11.2026", "2026-02-30")),
    ("duration", ("1h30m", "3 days"), ("soon", "")),
    ("uuid", ("0aa8d1ab-9ca5-4a38-9d4a-2f5d0d0f4f10",), ("0aa8",)),
    ("ipv4", ("10.0.0.1",), ("::1", "10.0.0")),
    ("ipv6", ("::1",), ("10.0.0.1",)),
    ("cidr", ("10.0.0.1/8",), ("10.0.0.1",)),
    ("email", ("a@b.example",), ("a",)),
    ("hostname", ("a.b-c",), ("-a", "a_b")),
    ("uri", ("https://a/b", "/a"), ("a b", "a")),
    ("byte", ("aGk=",), ("!", "a")),
    ("mac", ("00:11:22:33:44:55", "0011.2233.4455"), ("00:11", "00:11-22:33:44:55")),
    ("nobody-knows", ("",), ()),
]


@pytest.mark.parametrize(("name", "right", "wrong"), FORMATS, ids=[row[0] for row in FORMATS])
def test_formats(name: str, right: tuple[str, ...], wrong: tuple[str, ...]) -> None:
    assert all(has_format(text, name) for text in right)
    assert not any(has_format(text, name) for text in wrong)
    for text in wrong:
        found = custom.validate({"a": text}, obj({"a": {"type": "string", "format": name}}))
        assert [error.reason for error in found] == ["FieldValueTypeInvalid"]


def test_what_an_update_leaves_alone_may_break_later_rules() -> None:
    schema = obj({"a": {"type": "integer", "maximum": 5}, "b": NUMBER})
    assert custom.validate({"a": 9, "b": 2}, schema, {"a": 9, "b": 1}) == []
    assert len(custom.validate({"a": 8, "b": 2}, schema, {"a": 9, "b": 1})) == 1


@pytest.mark.parametrize("make", [str, lambda i: {"k": i}], ids=["set", "map"])
def test_large_lists_are_checked_in_linear_time(make: Callable[[int], Any]) -> None:
    kind = "set" if make is str else "map"
    schema = obj(
        {"l": {"type": "array", "x-kubernetes-list-type": kind, "x-kubernetes-list-map-keys": ["k"]}}
    )
    began = time.process_time()
    found = custom.validate({"l": [make(i) for i in range(100_000)] + [make(5)]}, schema)
    assert [error.field for error in found] == ["l[100000]"]
    assert time.process_time() - began < 5


EMBEDDED = obj({"o": {"type": "object", "x-kubernetes-embedded-resource": True}})
OBJECT = {"apiVersion": "v1", "kind": "Pod"}


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        ({}, ["o.apiVersion", "o.kind"]),
        ({"apiVersion": "a/b/c", "kind": "no kind"}, ["o.apiVersion", "o.kind"]),
        ({**OBJECT, "metadata": {"name": "a/b"}}, ["o.metadata.name"]),
        ({**OBJECT, "metadata": {"labels": {"a": 1}}}, ["o.metadata.labels"]),
        ({**OBJECT, "metadata": {"labels": {"a b": "c"}}}, ["o.metadata.labels"]),
        ({**OBJECT, "metadata": {"name": "a", "annotations": {"x/y": "z"}}}, []),
    ],
)
def test_embedded_objects(value: Document, fields: list[str]) -> None:
    assert [error.field for error in custom.validate({"o": value}, EMBEDDED)] == fields


FIELDS = obj({"a": obj({"b": TEXT}), "m": {"type": "object", "additionalProperties": TEXT}})


@pytest.mark.parametrize(
    ("path", "found"), [(".a.b", "a.b"), (".m['x.y']", "m[x.y]"), ("['a']['b']", "a.b"), ("", "")]
)
def test_paths(path: str, found: str) -> None:
    assert find_field(path, FIELDS)[0] == found


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("a", "expected \\[ or . but got: a"),
        (".a.c", "does not refer to a valid field"),
        (".a[", "unexpected end of JSON path"),
        (".a[b]", "expected single quoted string but got b"),
        (".m['\\q']", "invalid string literal: invalid escape char"),
        (".", "unexpected end of JSON path"),
    ],
)
def test_paths_that_lead_nowhere(path: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        find_field(path, FIELDS)


# --- all of it ------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_rules_are_kept() -> None:
    spec = ruled(obj({"size": NUMBER, "max": NUMBER}), "self.size <= self.max", "self.max >= oldSelf.max")
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}}
    status = ruled(obj({"used": NUMBER}), {"rule": "self.used >= 0", "message": "not less than nothing"})
    version["schema"] = {"openAPIV3Schema": obj({"spec": spec, "status": status})}
    async with Served() as server:
        broken = definition(versions=[{**version, "schema": {"openAPIV3Schema": ruled(obj({}), "self.no")}}])
        code, _, text = await server.refused("POST", CRDS, broken)
        assert code == 422
        assert "spec.validation.openAPIV3Schema.x-kubernetes-validations[0].rule: Invalid value: " in text
        assert "ERROR: <input>:1:5: undefined field 'no'" in text

        await server.ok("POST", CRDS, definition(versions=[version]))
        _, _, text = await server.refused("POST", THINGS, thing(size=3, max=2))
        assert text == (
            'Thing.x.example.com "a" is invalid: spec: Invalid value: failed rule: self.size <= self.max'
        )
        _, _, text = await server.refused("POST", THINGS, thing(size="x", max=2))
        assert text.endswith(
            ', <nil>: Invalid value: "null": some validation rules were not checked because the object was '
            "invalid; correct the existing errors to complete validation]"
        )
        await server.ok("POST", THINGS, thing(size=1, max=2))
        path = f"{THINGS}/a"
        _, _, text = await server.refused("PATCH", path, {"spec": {"max": 1}}, content_type=MERGE_PATCH)
        assert "failed rule: self.max >= oldSelf.max" in text
        used = {"status": {"used": -1}}
        _, _, text = await server.refused("PATCH", f"{path}/status", used, content_type=MERGE_PATCH)
        assert "not less than nothing" in text

"""Broken JSON in Go's words, and broken bodies as errors quote them."""

from __future__ import annotations

import json
import random

import pytest

from drakit.apiserver.body import read_body
from drakit.apiserver.go_json import json_problem, summary
from drakit.errors import BadRequest
from drakit.transport import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH

BROKEN = {
    "": "unexpected end of JSON input",
    '{"a"': "unexpected end of JSON input",
    '{"a": 1,': "unexpected end of JSON input",
    "-": "invalid character ' ' in numeric literal",
    "{a}": "invalid character 'a' looking for beginning of object key string",
    '{"a" 1}': "invalid character '1' after object key",
    '{"a":1 "b"}': "invalid character '\"' after object key:value pair",
    '{"a":1,}': "invalid character '}' looking for beginning of object key string",
    "[1 2]": "invalid character '2' after array element",
    "[1,]": "invalid character ']' looking for beginning of value",
    "{} x": "invalid character 'x' after top-level value",
    "'a'": "invalid character '\\'' looking for beginning of value",
    "trux": "invalid character 'x' in literal true (expecting 'e')",
    "nul": "invalid character ' ' in literal null (expecting 'l')",
    "-a": "invalid character 'a' in numeric literal",
    "1.x": "invalid character 'x' after decimal point in numeric literal",
    "1ex": "invalid character 'x' in exponent of numeric literal",
    "01": "invalid character '1' after top-level value",
    '"a\nb"': "invalid character '\\n' in string literal",
    '"\\x"': "invalid character 'x' in string escape code",
    '"\\u12g4"': "invalid character 'g' in \\u hexadecimal character escape",
    "\x00": "invalid character '\\x00' looking for beginning of value",
    "é": "invalid character 'Ã' looking for beginning of value",
}


@pytest.mark.parametrize(("text", "problem"), BROKEN.items())
def test_broken_json(text: str, problem: str) -> None:
    assert json_problem(text.encode()) == problem


def test_a_text_is_refused_if_and_only_if_it_is_no_json() -> None:
    draw = random.Random(1)
    good = '{"a": [1, -2.5e+3, true, null, "x\\u0041\\n"], "b": {"": []}} '
    for _ in range(3000):
        text = list(good)
        for _ in range(draw.randrange(3)):
            at = draw.randrange(len(text))
            text[at : at + draw.randrange(2)] = draw.choice('{}[],:"\\0e-.tu ')
        try:
            json.loads("".join(text))
            is_json = True
        except ValueError:
            is_json = False
        assert (json_problem("".join(text).encode()) == "") == is_json, "".join(text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "<empty>"),
        (b'{"a"', '{"a"'),
        (b"{" + b"x" * 40, "{" + "x" * 29 + " ..."),
        (b"[]", "5b5d"),
        (b"x" * 31, "78" * 30 + " ..."),
    ],
)
def test_bodies_are_quoted_shortly(body: bytes, text: str) -> None:
    assert summary(body) == text


UNREADABLE = [
    (
        "application/json",
        b'{"a"',
        "the object provided is unrecognized (must be of a known type): couldn't get version/kind; json "
        'parse error: unexpected end of JSON input ({"a")',
    ),
    (
        "application/yaml",
        b"a: [",
        "the object provided is unrecognized (must be of a known type): yaml: line 1: did not find expected "
        "node content (613a205b)",
    ),
    (JSON_PATCH, b"[", "error decoding patch: unexpected end of JSON input"),
    (MERGE_PATCH, b"x", "error decoding patch: invalid character 'x' looking for beginning of value"),
    (STRATEGIC_PATCH, b"x", "invalid character 'x' looking for beginning of value"),
    (
        APPLY_PATCH,
        b"a: b: c",
        "error decoding YAML: error converting YAML to JSON: yaml: mapping values are not allowed in this "
        "context",
    ),
]


@pytest.mark.parametrize(("content_type", "body", "text"), UNREADABLE)
def test_unreadable_bodies(content_type: str, body: bytes, text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_body(body, content_type, is_patch="patch" in content_type)
    assert caught.value.message == text

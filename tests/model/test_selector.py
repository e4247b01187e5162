"""Label, field and node selectors: what they match and how they complain."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.errors import BadRequest
from drakit.model.meta import NodeSelector, NodeSelectorRequirement, NodeSelectorTerm
from drakit.model.selector import parse_fields, parse_labels, read_labels, read_node_selector

LABELS = {"app": "web", "tier": "front", "n": "5", "empty": "", "example.com/x": "y"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("  ", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web , tier=front", True),
        ("app=db", False),
        ("app!=db", True),
        ("app!=web", False),
        ("missing!=x", True),
        ("app", True),
        ("missing", False),
        ("!missing", True),
        ("!app", False),
        ("app in (db, web)", True),
        ("app in (db)", False),
        ("app notin (db)", True),
        ("missing notin (db)", True),
        ("empty=", True),
        ("empty=,app", True),
        ("empty in (a,)", True),
        ("empty in (,a)", True),
        ("empty in ()", True),
        ("n<00000000000000000000000006", True),
        ("n>4", True),
        ("n>5", False),
        ("n<6", True),
        ("app>1", False),
        ("example.com/x=y", True),
        ("app in (in)", False),
    ],
)
def test_label_text(text: str, expected: bool) -> None:
    selector = parse_labels(text)
    assert selector.matches(LABELS) is expected
    assert parse_labels(str(selector)) == selector


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("=web", "found '=', expected: !, identifier, or 'end of string'"),
        ("app=web,", "found '', expected: identifier after ','"),
        ("app=web)", "found ')', expected: ',' or 'end of string'"),
        ("app in web", "unable to parse requirement: found 'web' expected: '('"),
        ("app in (web", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("app in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
        ("app in (,(", "unable to parse requirement: found '(', expected: ',', or identifier"),
        ("app is web", "unable to parse requirement: found 'is', expected: in, notin, =, ==, !=, gt, lt"),
        ("!app=web", "found '=', expected: ',' or 'end of string'"),
        ("n>x", "unable to parse requirement: values[0]: Invalid value"),
        ("n>-1", "unable to parse requirement: values[0][n]: Invalid value"),
        (
            "n>-",
            "unable to parse requirement: [values[0]: Invalid value: \"-\": for 'Gt', 'Lt' operators, the ",
        ),
        ("-app", 'unable to parse requirement: <nil>: Invalid value: "-app": name part must consist of'),
        (
            "/app is",
            'unable to parse requirement: <nil>: Invalid value: "/app": prefix part must be non-empty',
        ),
        ("a/b/c=d", "unable to parse requirement: <nil>: Invalid value"),
        ("app=" + "x" * 64, "unable to parse requirement: values[0][app]: Invalid value"),
    ],
)
def test_label_text_broken(text: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_labels(text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "back"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "gone", "operator": "DoesNotExist"}]}, True),
    ],
)
def test_label_document(document: dict[str, Any], expected: bool) -> None:
    selector = read_labels(document)
    assert selector is not None
    assert selector.matches(LABELS) is expected


def test_label_document_broken() -> None:
    assert read_labels(None) is None
    for operator in ("Gt", "", "in"):
        with pytest.raises(BadRequest, match="not a valid label selector operator"):
            read_labels({"matchExpressions": [{"key": "app", "operator": operator, "values": ["1"]}]})


FIELDS = {"metadata.name": "a,b=c", "spec.nodeName": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        (r"metadata.name=a\,b\=c", True),
        (r"metadata.name==a\,b\=c", True),
        ("metadata.name!=x", True),
        ("metadata.name=x", False),
        ("spec.nodeName=", True),
        ("spec.nodeName!=", False),
        ("spec.nodeName=,metadata.name!=x", True),
        (",,spec.nodeName=", True),
        ("!=", True),
        ("!=,metadata.name!=x", False),
        (r"a\=b", False),
    ],
)
def test_fields(text: str, expected: bool) -> None:
    assert parse_fields(text).matches(lambda field: FIELDS.get(field, "")) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        ("z,a=1,b", "invalid selector: 'z,a=1,b'; can't understand 'b'"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        (r"a=b\x", r"invalid field selector: invalid escape sequence: \x"),
        ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
        ("!", "invalid selector: '!'; can't understand '!'"),
    ],
)
def test_fields_broken(text: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_fields(text)
    assert str(caught.value) == message


def _term(*rows: tuple[str, str, list[str]], fields: bool = False) -> NodeSelectorTerm:
    requirements = [NodeSelectorRequirement(key=k, operator=o, values=v) for k, o, v in rows]
    return (
        NodeSelectorTerm(match_fields=requirements)
        if fields
        else NodeSelectorTerm(match_expressions=requirements)
    )


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ([], False),
        ([_term()], False),
        ([_term(("app", "In", ["web"]))], True),
        ([_term(("app", "In", ["db"])), _term(("tier", "Exists", []))], True),
        ([_term(("app", "In", ["web"]), ("tier", "DoesNotExist", []))], False),
        ([_term(("n", "Gt", ["4"]), ("n", "Lt", ["6"]))], True),
        ([_term(("app", "NotIn", ["web"]))], False),
        ([_term(("metadata.name", "In", ["node-1"]), fields=True)], True),
        ([_term(("metadata.name", "NotIn", ["node-1"]), fields=True)], False),
        ([_term(("metadata.name", "NotIn", ["no name!"]), fields=True)], True),
        ([_term(("spec.x", "NotIn", ["a"]), fields=True)], True),
        ([_term(("spec.x", "In", ["a"]), fields=True)], False),
    ],
)
def test_node_selector(terms: list[NodeSelectorTerm], expected: bool) -> None:
    matcher = read_node_selector(NodeSelector(node_selector_terms=terms))
    assert matcher.matches("node-1", LABELS) is expected


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (
            _term(("app", "Is", ["web"])),
            "nodeSelectorTerms[0].matchExpressions[0].operator: Unsupported value",
        ),
        (_term(("app", "In", [])), "nodeSelectorTerms[0].matchExpressions[0].values: Invalid value"),
        (_term(("app", "Exists", ["x"])), "nodeSelectorTerms[0].matchExpressions[0].values: Invalid value"),
        (_term(("n", "Gt", ["x"])), "nodeSelectorTerms[0].matchExpressions[0].values[0]: Invalid value"),
        (_term(("n", "Gt", ["1", "2"])), "nodeSelectorTerms[0].matchExpressions[0].values: Invalid value"),
        (_term(("", "Exists", [])), "nodeSelectorTerms[0].matchExpressions[0].key: Invalid value"),
        (
            _term(("metadata.name", "Exists", []), fields=True),
            "nodeSelectorTerms[0].matchFields[0].operator: Unsupported",
        ),
        (
            _term(("metadata.name", "In", ["a", "b"]), fields=True),
            "nodeSelectorTerms[0].matchFields[0].values: Invalid",
        ),
    ],
)
def test_node_selector_broken(term: NodeSelectorTerm, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_node_selector(NodeSelector(node_selector_terms=[term]))
    assert str(caught.value).startswith(message)

"""YAML as sigs.k8s.io/yaml reads it: which scalars are numbers, which tags mean something, what is said."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.apiserver.body import from_yaml
from drakit.apiserver.repeats import in_body

SCALARS: dict[str, Any] = {
    "yes": True,
    "Off": False,
    "n": False,
    "~": None,
    "014": 12,
    "0o14": 12,
    "08": 8,
    "0x1F": 31,
    "0b11": 3,
    "1_000": 1000,
    "1.0": 1,
    "1e3": 1000,
    ".5": 0.5,
    "+1": 1,
    "9223372036854775808": 1 << 63,
    "1e400": "1e400",
    "12:30:45": "12:30:45",
    "2026-01-01": "2026-01-01",
    "=": "=",
    "<<": "<<",
    "!!str 5": "5",
    "!!int '5'": 5,
    "!!binary aGk=": "hi",
    "!mine x": "x",
    "!mine {a: 1}": {"a": 1},
}
REFUSED = {
    "a: .nan": "json: unsupported value: NaN",
    "a: -.inf": "json: unsupported value: -Inf",
    "a: !!null x": "yaml: cannot decode !!str `x` as a !!null",
    "a: *b": "yaml: unknown anchor 'b' referenced",
    "a: {<<: 1}": "yaml: map merge requires map or sequence of maps as the value",
    "~: 1": "unsupported map key of type: %!s(<nil>), key: <nil>, value: 1",
    "a: \x01": "yaml: control characters are not allowed",
}


@pytest.mark.parametrize("text", SCALARS)
def test_scalars(text: str) -> None:
    found = from_yaml(f"a: {text}\n".encode())["a"]
    assert (found, type(found)) == (SCALARS[text], type(SCALARS[text]))


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_said(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        from_yaml(text.encode())
    assert str(caught.value) == REFUSED[text]


def test_fields_are_looked_at_in_order_of_their_names() -> None:
    assert list(from_yaml(b"b: 1\na: {d: 1, c: 2}\n")) == ["a", "b"]


def test_repeated_keys_are_shown_as_go_has_them() -> None:
    text = b"a: 1\na: 2\n1.5: x\n1.5: y\n"
    assert in_body(text, from_yaml(text), "application/yaml") == [
        'yaml: unmarshal errors:\n  line 2: key "a" already set in map\n  line 4: key 1.5 already set in map'
    ]

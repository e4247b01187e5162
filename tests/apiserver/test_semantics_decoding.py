"""What a body may look like: types in Go's words, unknown and repeated fields, nulls and empty values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from drakit.apiserver.decoding import decode, encode
from drakit.errors import BadRequest
from tests.apiserver.semantics import Doc, Semantics, claim, resource_slice

GROUP = "resource.k8s.io"
CANNOT = "json: cannot unmarshal"
SLICE = 'ResourceSlice in version "v1" cannot be handled as a ResourceSlice: '
POD = 'Pod in version "v1" cannot be handled as a Pod: '


def _slice(**device: Any) -> Doc:
    return resource_slice({"name": "d", **device})


WRONG: list[tuple[str, str, Any, str]] = [
    (
        GROUP,
        "resourceslices",
        [],
        "the object provided is unrecognized (must be of a known type): couldn't get version/kind; json "
        f"parse error: {CANNOT} array into Go value of type struct {{ APIVersion string "
        r'"json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" } (<empty>)',
    ),
    (
        GROUP,
        "resourceslices",
        {"spec": "x"},
        f"{SLICE}{CANNOT} string into Go struct field ResourceSlice.spec of type v1.ResourceSliceSpec",
    ),
    (
        GROUP,
        "resourceslices",
        _slice(capacity={"m": "5Gi"}),
        f"{SLICE}{CANNOT} string into Go struct field Device.spec.devices.capacity of type v1.DeviceCapacity",
    ),
    (
        GROUP,
        "resourceslices",
        _slice(capacity={"m": {"value": "five"}}),
        SLICE + "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ),
    (
        GROUP,
        "resourceslices",
        _slice(attributes={"a": {"int": 1.5}}),
        f"{SLICE}{CANNOT} number 1.5 into Go struct field DeviceAttribute.spec.devices.attributes.int of "
        "type int64",
    ),
    (
        "",
        "pods",
        {"metadata": {"labels": {"a": 1}}},
        f"{POD}{CANNOT} number into Go struct field ObjectMeta.metadata.labels of type string",
    ),
    (
        "",
        "pods",
        {"spec": {"containers": {"name": "c"}}},
        POD
        + "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
    ),
    (
        "",
        "pods",
        {"spec": {"hostNetwork": "yes"}},
        f"{POD}{CANNOT} string into Go struct field PodSpec.spec.hostNetwork of type bool",
    ),
    (
        "",
        "pods",
        {"kind": "Secret", "apiVersion": "v1"},
        'Secret in version "v1" cannot be handled as a Pod: converting (v1.Secret) to (core.Pod): unknown '
        "conversion",
    ),
]


@pytest.mark.parametrize(("group", "plural", "document", "text"), WRONG)
def test_wrong_types(group: str, plural: str, document: Any, text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        Semantics().decoded(group, plural, document)
    assert caught.value.message == text


ODD: list[tuple[str, str, Any, str]] = [
    ("", "secrets", {"data": {"k": "a b"}}, "illegal base64 data at input byte 1"),
    ("", "secrets", {"data": {"k": "dg="}}, "illegal base64 data at input byte 3"),
    (
        "coordination.k8s.io",
        "leases",
        {"metadata": {"creationTimestamp": 3}},
        "json: cannot unmarshal number into Go value of type string",
    ),
    (
        GROUP,
        "devicetaintrules",
        {"spec": {"taint": {"timeAdded": "2026-13-01T00:00:00Z"}}},
        'parsing time "2026-13-01T00:00:00Z": month out of range',
    ),
    (
        GROUP,
        "devicetaintrules",
        {"spec": {"taint": {"timeAdded": "2026-01-01"}}},
        'parsing time "2026-01-01" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T"',
    ),
    (
        "",
        "services",
        {"spec": {"ports": [{"port": 1, "targetPort": True}]}},
        "json: cannot unmarshal bool into Go value of type int32",
    ),
]


@pytest.mark.parametrize(("group", "plural", "document", "text"), ODD)
def test_values_that_decode_themselves(group: str, plural: str, document: Any, text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        Semantics().decoded(group, plural, document)
    assert caught.value.message.endswith(f": {text}")


def _decode(text: str, validation: str) -> tuple[Doc, list[str]]:
    semantics = Semantics()
    kind = semantics.kind(GROUP, "deviceclasses")
    found = decode(
        json.loads(text), kind, "v1", semantics.profile, field_validation=validation, raw=text.encode()
    )
    return found.document, found.warnings


STRAY = '{"metadata":{"name":"c"},"spec":{"foo":1,"selectors":[{"cel":{"expression":"true","x":2}}]}}'
TWICE = '{"metadata":{"name":"c"},"spec":{"selectors":[],"selectors":[]}}'


def test_unknown_fields_are_dropped_and_told() -> None:
    document, warnings = _decode(STRAY, "Warn")
    assert document["spec"] == {"selectors": [{"cel": {"expression": "true"}}]}
    assert warnings == ['unknown field "spec.foo"', 'unknown field "spec.selectors[0].cel.x"']
    assert _decode(STRAY, "Ignore")[1] == []
    with pytest.raises(BadRequest, match=r"strict decoding error: unknown field"):
        _decode(STRAY, "Strict")


def test_repeated_fields_are_told() -> None:
    assert _decode(TWICE, "Warn")[1] == ['duplicate field "spec.selectors"']
    assert _decode(TWICE, "Ignore")[1] == []
    with pytest.raises(BadRequest, match=r'duplicate field "spec\.selectors"'):
        _decode(TWICE, "Strict")


@pytest.mark.parametrize(
    "text", ['{"metadata":{"name":"a\\\\"},"spec":{}}', '{"metadata":{"name":":\\":\\""}}']
)
def test_quotes_and_colons_in_values_are_no_fields(text: str) -> None:
    assert _decode(text, "Strict")[1] == []


def test_nulls_and_empty_values_go() -> None:
    document = {"metadata": {"name": "c", "labels": {}, "finalizers": None}, "spec": {"selectors": []}}
    made = Semantics().decoded(GROUP, "deviceclasses", document)
    assert (made["metadata"], made["spec"]) == ({"name": "c"}, {})


def test_empty_values_that_mean_something_stay() -> None:
    device = {"name": "d", "attributes": {"a": {"string": ""}, "b": {"ints": []}}}
    made = Semantics().decoded(GROUP, "resourceslices", resource_slice(device, nodeName=""))
    assert made["spec"]["nodeName"] == ""
    assert made["spec"]["devices"][0]["attributes"] == {"a": {"string": ""}, "b": {"ints": []}}


@pytest.mark.parametrize(
    ("given", "canonical"),
    [("1024Mi", "1Gi"), ("0.5", "500m"), ("1.5Gi", "1536Mi"), ("0.0001u", "1n"), (3, "3"), ("1e3", "1e3")],
)
def test_quantities_become_canonical(given: Any, canonical: str) -> None:
    made = Semantics().decoded(GROUP, "resourceslices", _slice(capacity={"m": {"value": given}}))
    assert made["spec"]["devices"][0]["capacity"]["m"]["value"] == canonical


def test_opaque_parameters_stay_as_they_are() -> None:
    parameters = {"b": 1, "a": [1.0, None, {}], "z": {"x": ""}}
    config = [{"opaque": {"driver": "d.example.com", "parameters": parameters}}]
    document = claim({"name": "r", "exactly": {"deviceClassName": "c"}}, config=config)
    made = Semantics().decoded(GROUP, "resourceclaims", document)
    assert made["spec"]["devices"]["config"][0]["opaque"]["parameters"] == parameters


@pytest.mark.parametrize("version", ["v1", "v1beta2", "v1beta1"])
@pytest.mark.parametrize("plural", ["resourceclaims", "resourceclaimtemplates", "resourceslices"])
def test_every_version_reads_back(plural: str, version: str) -> None:
    semantics = Semantics()
    kind = semantics.kind(GROUP, plural)
    exact = {"name": "r", "exactly": {"deviceClassName": "c", "count": 2}}
    spec = claim(exact, {"name": "f", "firstAvailable": [{"name": "s", "deviceClassName": "c"}]})["spec"]
    if plural == "resourceslices":
        spec = resource_slice({"name": "d", "capacity": {"m": {"value": "1"}}}, {"name": "e"})["spec"]
    elif plural == "resourceclaimtemplates":
        spec = {"spec": spec}
    kept = semantics.decoded(GROUP, plural, {"metadata": {"name": "x"}, "spec": spec})
    shown = encode(kept, kind, version)
    assert shown["apiVersion"] == f"{GROUP}/{version}"
    assert semantics.decoded(GROUP, plural, shown, version) == kept


def test_a_claim_of_v1beta1_without_a_class_gets_no_mode() -> None:
    request = {"name": "r", "count": 2}
    made = Semantics().decoded(
        GROUP, "resourceclaims", {"spec": {"devices": {"requests": [request]}}}, "v1beta1"
    )
    assert made["spec"]["devices"]["requests"] == [{"name": "r", "exactly": {"count": 2}}]


def test_deep_nesting_is_refused() -> None:
    node: Doc = {"type": "object"}
    schema = node
    for _ in range(150):
        schema["properties"] = {"x": {"type": "object"}}
        schema = schema["properties"]["x"]
    versions = [{"name": "v1", "schema": {"openAPIV3Schema": node}}]
    with pytest.raises(BadRequest, match="nested too deeply"):
        Semantics().decoded(
            "apiextensions.k8s.io", "customresourcedefinitions", {"spec": {"versions": versions}}
        )

"""The rules of resource.k8s.io, each with the text upstream gives."""

# ruff: noqa: E501

from __future__ import annotations

from typing import Any

import pytest

from drakit.model.validation import claim, resource, slice
from drakit.model.validation.device import MAX_COST, Compiled, share_id
from drakit.model.validation.field import quoted
from drakit.profile import profile_for

Doc = dict[str, Any]
PROFILE = profile_for("1.37", {"all": True})
OLD = profile_for("1.36", {"all": True})
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and "
    "end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
REFERENCE = (
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
)


def _compile(text: str) -> Compiled:
    if text == "expensive":
        return Compiled(cost=MAX_COST + 1)
    return Compiled(problem="compilation failed") if text == "broken" else Compiled(cost=1)


def _slice(profile: Any = PROFILE, **spec: Any) -> list[str]:
    pool = {"name": "p", "generation": 1, "resourceSliceCount": 1}
    base = {"driver": "d.example.com", "pool": pool, "nodeName": "n"}
    document = {"spec": {key: value for key, value in {**base, **spec}.items() if value is not None}}
    return [str(error) for error in slice.resource_slice(document, None, profile)]


def _device(profile: Any = PROFILE, **fields: Any) -> list[str]:
    return _slice(profile, devices=[{"name": "d", **fields}])


def _claim(*requests: Doc, **devices: Any) -> list[str]:
    document = {"spec": {"devices": {"requests": list(requests), **devices}}}
    return [str(error) for error in claim.claim(document, claim.Rules(_compile, PROFILE))]


def _exact(**fields: Any) -> Doc:
    request = {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}
    return {"name": "r", "exactly": {**request, **fields}}


NODES = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
SLICES: list[tuple[Doc, list[str]]] = [
    ({}, []),
    ({"driver": ""}, ["spec.driver: Required value"]),
    ({"driver": "x" * 64}, ["spec.driver: Too long: may not be more than 63 bytes"]),
    ({"nodeName": None}, [f"spec: Required value: {NODES}"]),
    ({"nodeName": None, "allNodes": False}, [
        "spec.allNodes: Invalid value: false: must be either unset or set to true",
        f"spec: Required value: {NODES}",
    ]),
    ({"allNodes": True}, [
        'spec: Invalid value: "{`nodeName`, `allNodes`}": ' + NODES + ", but multiple fields are set"
    ]),
    ({"nodeName": None, "nodeSelector": {}}, [
        "spec.nodeSelector.nodeSelectorTerms: Required value: must have at least one node selector term",
        "spec.nodeSelector.nodeSelectorTerms: Invalid value: null: must have exactly one node selector term",
    ]),
    ({"pool": {"name": "p", "generation": -1, "resourceSliceCount": 0}}, [
        "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
        "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
    ]),
    ({"devices": [{"name": "a"}, {"name": "a"}]}, ['spec.devices[1]: Duplicate value: "a"']),
    ({"devices": [{"name": f"d{i}"} for i in range(129)]}, [
        "spec.devices: Too many: 129: must have at most 128 items"
    ]),
    ({"devices": [{"name": f"d{i}", "taints": [{"key": "k", "effect": "None"}]} for i in range(65)]}, [
        "spec.devices: Too many: 65: must have at most 64 items"
    ]),
    ({"devices": [{"name": "d"}], "sharedCounters": [{"name": "s", "counters": {"m": {"value": "1"}}}]}, [
        'spec: Invalid value: "": only one of `sharedCounters` or `devices` is allowed'
    ]),
    ({"sharedCounters": [{"name": "s"}]}, ["spec.sharedCounters[0].counters: Required value"]),
    ({"sharedCounters": [{"name": "S", "counters": {"M": {}}}]}, [
        f'spec.sharedCounters[0].name: Invalid value: "S": {LABEL}',
        f'spec.sharedCounters[0].counters: Invalid value: "M": {LABEL}',
    ]),
    ({"skipNodeOperations": ["NodePrepareResources"]}, [
        'spec.skipNodeOperations: Invalid value: ["NodePrepareResources"]: NodePrepareResources cannot be '
        "skipped unless NodeUnprepareResources is also skipped"
    ]),
    ({"partitionTypeAttribute": "a.b/c", "devices": [{"name": "d"}]}, [
        'spec.partitionTypeAttribute: Invalid value: "a.b/c": may only be set on a slice which declares '
        "devices that consume counters"
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "expected"), SLICES)
def test_slices(spec: Doc, expected: list[str]) -> None:
    assert _slice(**spec) == expected


AT = "spec.devices[0]"
DEVICES: list[tuple[Doc, list[str]]] = [
    ({"attributes": {"a": {}}}, [f'{AT}.attributes[a]: Invalid value: "": exactly one value must be specified']),
    ({"attributes": {"a": {"string": "x" * 65}}}, [
        f"{AT}.attributes[a].string: Too long: may not be more than 64 bytes"
    ]),
    ({"attributes": {"/a": {"int": 1}}}, [f'{AT}.attributes: Invalid value: "": the domain must not be empty']),
    ({"attributes": {"x" * 33: {"int": 1}}}, [f"{AT}.attributes: Too long: may not be more than 32 bytes"]),
    ({"capacity": {"m": {"value": "1", "requestPolicy": {"default": "1"}}}}, [
        f"{AT}.capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true"
    ]),
    ({"consumesCounters": [{"counterSet": "", "counters": {}}]}, [
        f"{AT}.consumesCounters[0].counterSet: Required value",
        f"{AT}.consumesCounters[0].counters: Required value",
    ]),
    ({"bindingConditions": ["a", "a"], "bindingFailureConditions": ["a"]}, [
        f'{AT}.bindingConditions[1]: Duplicate value: "a"',
        f'{AT}.bindingFailureConditions[0]: Invalid value: "a": bindingFailureConditions must not overlap with '
        "bindingConditions",
    ]),
    ({"nodeAllocatableResources": {"cpu": {}}}, [
        f"{AT}.nodeAllocatableResources[cpu]: Required value: at least one of mapping or overhead must be set"
    ]),
    ({"nodeAllocatableResources": {"cpu": {"mapping": {"capacityKey": "m", "capacityMultiplier": "0"}}}}, [
        f'{AT}.nodeAllocatableResources[cpu].mapping.capacityKey: Not found: "m"',
        f'{AT}.nodeAllocatableResources[cpu].mapping.capacityMultiplier: Invalid value: "0": must be positive',
    ]),
    ({"nodeAllocatableResources": {"memory": {"overhead": {"perPod": "-1"}}}}, [
        f'{AT}.nodeAllocatableResources[memory].overhead.perPod: Invalid value: "-1": must be non-negative'
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), DEVICES)
def test_devices(fields: Doc, expected: list[str]) -> None:
    assert _device(**fields) == expected


def test_what_changed_with_1_37() -> None:
    name = {"attributes": {"a/b/c": {"int": 1}}}
    assert _device(OLD, **name) == []
    assert _device(**name) == [
        f'{AT}.attributes: Invalid value: "a/b/c": must not contain more than one slash'
    ]


POLICY = f"{AT}.capacity[m].requestPolicy"
POLICIES: list[tuple[Doc, list[str]]] = [
    ({"default": "2", "validValues": ["1", "2"]}, []),
    ({"default": "1", "validRange": {"min": "1", "max": "7", "step": "2"}}, []),
    ({"default": "500m", "validRange": {"min": "500m", "step": "250m"}}, []),
    ({"validRange": {"min": "1"}}, [f"{POLICY}.default: Required value: required when validRange is defined"]),
    ({"default": "1", "validValues": ["1"], "validRange": {"min": "1"}}, [
        f'{POLICY}: Forbidden: exactly one policy can be specified, cannot specify "validValues" and '
        '"validRange" at the same time'
    ]),
    ({"default": "3", "validValues": ["1", "1", "9"]}, [
        f'{POLICY}.validValues[2]: Invalid value: "9": option is larger than capacity value: 8',
        f'{POLICY}.validValues[1]: Duplicate value: "1"',
        f'{POLICY}.validValues: Invalid value: "3": default value is not valid according to the requestPolicy',
    ]),
    ({"default": "1", "validRange": {"min": "2", "max": "1", "step": "0"}}, [
        f'{POLICY}.validRange.default: Invalid value: "1": default is less than min: 2',
        f'{POLICY}.validRange.max: Invalid value: "2": min is larger than max: 1',
        f'{POLICY}.validRange.step: Invalid value: "0": must be greater than zero',
    ]),
    ({"default": "2", "validRange": {"min": "1", "step": "2"}}, [
        f'{POLICY}.validRange.step: Invalid value: "2": value is not a multiple of a given step (2) from (1)'
    ]),
    ({"default": "1u", "validRange": {"min": "1u"}}, [
        f'{POLICY}.validRange.{name}: Invalid value: "1u": value cannot be represented as a milli value'
        for name in ("default", "min")
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("policy", "expected"), POLICIES)
def test_request_policies(policy: Doc, expected: list[str]) -> None:
    capacity = {"m": {"value": "8", "requestPolicy": policy}}
    assert _device(allowMultipleAllocations=True, capacity=capacity) == expected


R = "spec.devices.requests[0]"
CLAIMS: list[tuple[list[Doc], Doc, list[str]]] = [
    ([], {}, []),
    ([{"name": "r"}], {}, [f"{R}: Required value: exactly one of `exactly` or `firstAvailable` is required"]),
    ([_exact(selectors=[{"cel": {"expression": "expensive"}}])], {}, [
        f"{R}.exactly.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit"
    ]),
    ([_exact(selectors=[{"cel": {"expression": "broken"}}])], {}, [
        f'{R}.exactly.selectors[0].cel.expression: Invalid value: "broken": compilation failed'
    ]),
    ([{"name": "r", "firstAvailable": [{"name": f"s{i}", "deviceClassName": "c"} for i in range(9)]}], {}, [
        f"{R}.firstAvailable: Too many: 9: must have at most 8 items"
    ]),
    ([_exact(tolerations=[{"operator": "Equal", "value": "a b"}])], {}, [
        f'{R}.exactly.tolerations[0].value: Invalid value: "a b": a valid label must be an empty string or '
        "consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
        "character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
        "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
    ]),
    ([_exact()], {"constraints": [{"requests": ["r", "r"], "matchAttribute": "a.b/c"}]}, [
        'spec.devices.constraints[0].requests[1]: Duplicate value: "r"'
    ]),
    ([_exact()], {"constraints": [{"requests": ["r/s"], "matchAttribute": "a.b/c"}]}, [
        f'spec.devices.constraints[0].requests[0]: Invalid value: "r/s": {REFERENCE}'
    ]),
    ([_exact()], {"config": [{"opaque": {"driver": "d.example.com"}}]}, [
        "spec.devices.config[0].opaque.parameters: Required value"
    ]),
    ([_exact(derivedAttributes=[{"name": "a.b/c", "expression": "1"}])], {}, [
        f'{R}.exactly.derivedAttributes[0].name: Invalid value: "a.b/c": must be referenced by at least one '
        "matchAttribute or distinctAttribute constraint targeting this request"
    ]),
    ([_exact(derivedAttributes=[{"name": "a.b/c", "expression": "1"}])],
     {"constraints": [{"requests": ["r"], "matchAttribute": "a.b/c"}]}, []),
]  # fmt: skip


@pytest.mark.parametrize(("requests", "devices", "expected"), CLAIMS)
def test_claims(requests: list[Doc], devices: Doc, expected: list[str]) -> None:
    assert _claim(*requests, **devices) == expected


def test_subrequests_can_be_named() -> None:
    sub = {"name": "s", "deviceClassName": "c", "allocationMode": "All"}
    request = {"name": "r", "firstAvailable": [sub]}
    constraints = [{"requests": ["r", "r/s"], "distinctAttribute": "a.b/c"}]
    assert _claim(request, constraints=constraints) == []


def test_stored_selectors_are_not_compiled_again() -> None:
    document = {"spec": {"selectors": [{"cel": {"expression": "broken"}}]}}
    assert len(resource.device_class(document, None, _compile)) == 1
    assert resource.device_class(document, document, _compile) == []


@pytest.mark.parametrize(
    ("name", "is_valid"),
    [
        ("example.com/gpu", True),
        ("cpu", False),
        ("kubernetes.io/gpu", False),
        ("x.kubernetes.io/gpu", False),
        ("requests.example.com/gpu", False),
        ("example.com/a b", False),
        ("", False),
    ],
)
def test_extended_resource_names(name: str, is_valid: bool) -> None:
    errors = resource.device_class({"spec": {"extendedResourceName": name}}, None, _compile)
    assert [str(error) for error in errors] == (
        []
        if is_valid
        else [f'spec.extendedResourceName: Invalid value: "{name}": must be a valid extended resource name']
    )


def test_taint_rules() -> None:
    selector = {"driver": "Bad_", "device": "Bad_"}
    document = {"spec": {"deviceSelector": selector, "taint": {"key": "k", "effect": "X"}}}
    fields = [error.field for error in resource.taint_rule(document, None)]
    assert fields == ["spec.deviceSelector.driver", "spec.deviceSelector.device", "spec.taint.effect"]


SHARE_IDS = {
    "11111111-2222-3333-4444-55555555555a": "",
    "11111111-2222-3333-4444-55555555555A": "uid must be in RFC 4122 normalized form",
    "11111111222233334444555555555555": "uid must be in RFC 4122 normalized form",
    "{11111111-2222-3333-4444-555555555555}": "uid must be in RFC 4122 normalized form",
    "urn:uuid:11111111-2222-3333-4444-555555555555": "uid must be in RFC 4122 normalized form",
    "urn-uuid:11111111-2222-3333-4444-555555555555": 'error validating uid: invalid urn prefix: "urn-uuid:"',
    "[11111111-2222-3333-4444-555555555555]": "error validating uid: invalid bracketed UUID format",
    "11111111_2222-3333-4444-555555555555": "error validating uid: invalid UUID format",
    "x1111111-2222-3333-4444-555555555555": "error validating uid: invalid UUID format",
    "1234": "error validating uid: invalid UUID length: 4",
}


@pytest.mark.parametrize(("text", "problem"), SHARE_IDS.items())
def test_share_ids(text: str, problem: str) -> None:
    errors = [str(error) for error in share_id(text, "f")]
    assert [error.startswith(f'f: Invalid value: "{text}": {problem}') for error in errors] == [True][
        : bool(problem)
    ]


QUOTED = [
    ("plain", '"plain"'),
    ('say "a\\b"', '"say \\"a\\\\b\\""'),
    ("tab\t bell\a nul\0 del\x7f", '"tab\\t bell\\a nul\\x00 del\\x7f"'),
    ("é \u200b \U000e0001", '"é \\u200b \\U000e0001"'),
    ({"a": "x < 1 && y > 2"}, '{"a":"x \\u003c 1 \\u0026\\u0026 y \\u003e 2"}'),
    (None, "null"),
    ([], "[]"),
    (True, "true"),
]


@pytest.mark.parametrize(("value", "text"), QUOTED)
def test_values_are_shown_as_go_shows_them(value: Any, text: str) -> None:
    assert quoted(value) == text

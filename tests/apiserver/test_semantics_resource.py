"""resource.k8s.io through the strategies: gates, status, immutability, admin access, advice."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from drakit.apiserver.decoding import deprecation
from drakit.apiserver.strategy import strategy_for
from drakit.errors import BadRequest
from tests.apiserver.semantics import NOW, Doc, Semantics, claim, resource_slice

GROUP = "resource.k8s.io"
EXACT = {"name": "r", "exactly": {"deviceClassName": "c"}}
DEVICE = {"name": "d"}
RESULT = {"request": "r", "driver": "d.example.com", "pool": "p", "device": "x"}


def test_claims_have_no_generation_and_no_status() -> None:
    document = claim(EXACT) | {"status": {"reservedFor": [{"resource": "pods", "name": "x", "uid": "u"}]}}
    made, errors = Semantics().created(GROUP, "resourceclaims", document)
    assert errors == []
    assert made["status"] == {}
    assert "generation" not in made["metadata"]
    assert made["spec"]["devices"]["requests"][0]["exactly"]["count"] == 1


REQUEST: tuple[Any, ...] = ("spec", "devices", "requests", 0, "exactly")
FIRST_DEVICE: tuple[Any, ...] = ("spec", "devices", 0)


def _claim_with(**fields: Any) -> Doc:
    return claim({"name": "r", "exactly": {"deviceClassName": "c", **fields}})


def _slice_with(**fields: Any) -> Doc:
    return resource_slice({"name": "d", **fields})


CONSUMED = [{"counterSet": "s", "counters": {"m": {"value": "1"}}}]
BOUND: Doc = {"bindingConditions": ["a"], "bindingFailureConditions": ["b"]}
CAPACITY = {"requests": {"m": "1"}}
TOLERATED = [{"operator": "Exists"}]
TAINTS = [{"key": "k", "effect": "None"}]
GATED: list[tuple[str, str, Doc, tuple[Any, ...], str]] = [
    ("DRAAdminAccess", "resourceclaims", _claim_with(adminAccess=True), REQUEST, "adminAccess"),
    ("DRAConsumableCapacity", "resourceclaims", _claim_with(capacity=CAPACITY), REQUEST, "capacity"),
    ("DRADeviceTaints", "resourceclaims", _claim_with(tolerations=TOLERATED), REQUEST, "tolerations"),
    ("DRADeviceTaints", "resourceslices", _slice_with(taints=TAINTS), FIRST_DEVICE, "taints"),
    ("DRAPartitionableDevices", "resourceslices", _slice_with(consumesCounters=CONSUMED), FIRST_DEVICE,
     "consumesCounters"),
    ("DRAConsumableCapacity", "resourceslices", _slice_with(allowMultipleAllocations=True), FIRST_DEVICE,
     "allowMultipleAllocations"),
    ("DRADeviceBindingConditions", "resourceslices", _slice_with(**BOUND), FIRST_DEVICE, "bindingConditions"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("gate", "plural", "document", "path", "field"), GATED, ids=[f"{row[0]}-{row[4]}" for row in GATED]
)
def test_fields_of_a_disabled_gate_go(
    gate: str, plural: str, document: Doc, path: tuple[Any, ...], field: str
) -> None:
    def holder(made: Doc) -> Doc:
        value: Any = made
        for step in path:
            value = value[step]
        return dict(value)

    admin = {"resource.kubernetes.io__admin_access": "true"}
    on, off = Semantics(gates={gate: True}, **admin), Semantics(gates={gate: False}, **admin)
    made, errors = on.created(GROUP, plural, document)
    assert (errors, field in holder(made)) == ([], True)
    assert field not in holder(off.created(GROUP, plural, document)[0])
    if plural == "resourceslices":
        kept, _ = off.updated(GROUP, plural, made, made)
        assert field in holder(kept), "an object that uses the field keeps it"


def test_admin_access_needs_a_label() -> None:
    document = claim({"name": "r", "exactly": {"deviceClassName": "c", "adminAccess": True}})
    assert Semantics().created(GROUP, "resourceclaims", document)[1] == [
        "spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires the "
        "`resource.kubernetes.io/admin-access: true` label on the containing namespace"
    ]


def _allocated(*results: Doc, **status: Any) -> Doc:
    devices = {"results": list(results)}
    return {"allocation": {"devices": devices}, **status}


def _with_status(old: Doc, status: Doc) -> Doc:
    return copy.deepcopy(old) | {"status": status}


def test_a_status_write_changes_nothing_else() -> None:
    semantics = Semantics()
    old, _ = semantics.created(GROUP, "resourceclaims", claim(EXACT))
    new = claim({"name": "z", "exactly": {"deviceClassName": "c"}}) | {"status": _allocated(RESULT)}
    new["metadata"]["labels"] = {"a": "b"}
    changed, errors = semantics.updated(GROUP, "resourceclaims", old, new, "status")
    assert errors == []
    assert changed["spec"] == old["spec"]
    assert "labels" not in changed["metadata"]
    assert changed["status"]["allocation"]["devices"]["results"] == [RESULT]


def test_a_plain_write_leaves_the_status() -> None:
    semantics = Semantics()
    old, _ = semantics.created(GROUP, "resourceclaims", claim(EXACT))
    changed, errors = semantics.updated(GROUP, "resourceclaims", old, _with_status(old, _allocated(RESULT)))
    assert (errors, changed["status"]) == ([], {})


def test_the_spec_never_changes() -> None:
    semantics = Semantics("1.36")
    old, _ = semantics.created(GROUP, "resourceclaims", claim(EXACT))
    new = claim({"name": "r", "exactly": {"deviceClassName": "other"}})
    (error,) = semantics.updated(GROUP, "resourceclaims", old, new)[1]
    assert error == (
        'spec: Invalid value: {"Devices":{"Requests":[{"Name":"r","Exactly":{"DeviceClassName":"other",'
        '"Selectors":null,"AllocationMode":"ExactCount","Count":1,"AdminAccess":null,"Tolerations":null,'
        '"Capacity":null},"FirstAvailable":null}],"Constraints":null,"Config":null}}: field is immutable'
    )


STATUS: list[tuple[str, Doc, Doc, list[str]]] = [
    (
        "reserved but not allocated",
        {},
        {"reservedFor": [{"resource": "pods", "name": "x", "uid": "u"}]},
        ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"],
    ),
    (
        "a consumer without anything",
        {},
        _allocated(RESULT, reservedFor=[{}]),
        [f"status.reservedFor[0].{field}: Required value" for field in ("resource", "name", "uid")],
    ),
    (
        "an allocation that changes",
        _allocated(RESULT),
        _allocated({**RESULT, "device": "y"}),
        ["status.allocation"],
    ),
    (
        "a device that is not allocated",
        {},
        _allocated(RESULT, devices=[{"driver": "d.example.com", "pool": "p", "device": "y"}]),
        [
            'status.devices[0]: Invalid value: {"Driver":"d.example.com","Pool":"p","Device":"y",'
            '"ShareID":""}: must be an allocated device in the claim',
        ],
    ),
    (
        "a config of no source",
        {},
        {
            "allocation": {
                "devices": {"results": [RESULT], "config": [{"opaque": {"driver": "d", "parameters": {}}}]}
            }
        },
        ["status.allocation.devices.config[0].source: Required value"],
    ),
    (
        "an address that is none",
        {},
        _allocated(
            RESULT,
            devices=[
                {"driver": "d.example.com", "pool": "p", "device": "x", "networkData": {"ips": ["10.0.0.1"]}}
            ],
        ),
        ["status.devices[0].networkData.ips[0]"],
    ),
]


@pytest.mark.parametrize(
    ("before", "after", "expected"), [row[1:] for row in STATUS], ids=[row[0] for row in STATUS]
)
def test_status_rules(before: Doc, after: Doc, expected: list[str]) -> None:
    semantics = Semantics()
    created, _ = semantics.created(GROUP, "resourceclaims", claim(EXACT))
    old = _with_status(created, before)
    errors = semantics.updated(GROUP, "resourceclaims", old, _with_status(created, after), "status")[1]
    assert len(errors) == len(expected)
    assert all(error.startswith(start) for error, start in zip(errors, expected, strict=True)), errors


def test_a_device_status_goes_with_its_allocation() -> None:
    semantics = Semantics()
    created, _ = semantics.created(GROUP, "resourceclaims", claim(EXACT))
    entry = {"driver": "d.example.com", "pool": "p", "device": "x"}
    old = _with_status(created, _allocated(RESULT, devices=[entry]))
    changed, errors = semantics.updated(
        GROUP, "resourceclaims", old, _with_status(old, {"devices": [entry]}), "status"
    )
    assert (errors, changed["status"]) == ([], {})


def test_slices_count_generations_and_stamp_taints() -> None:
    semantics = Semantics()
    tainted = {"name": "d", "taints": [{"key": "k", "effect": "NoSchedule"}]}
    old, errors = semantics.created(GROUP, "resourceslices", resource_slice(tainted))
    assert (errors, old["metadata"]["generation"]) == ([], 1)
    assert old["spec"]["devices"][0]["taints"][0]["timeAdded"] == NOW
    same, _ = semantics.updated(GROUP, "resourceslices", old, old)
    assert same["metadata"]["generation"] == 1
    other, _ = semantics.updated(GROUP, "resourceslices", old, resource_slice(DEVICE))
    assert other["metadata"]["generation"] == 2


def test_a_changed_effect_starts_a_taint_anew() -> None:
    semantics = Semantics()
    taint = {"key": "k", "effect": "None", "timeAdded": "2020-01-01T00:00:00Z"}
    rule = {"metadata": {"name": "r"}, "spec": {"taint": taint}}
    old, errors = semantics.created(GROUP, "devicetaintrules", rule)
    assert (errors, old["status"]) == ([], {})
    new = copy.deepcopy(old)
    new["spec"]["taint"]["effect"] = "NoExecute"
    changed, _ = semantics.updated(GROUP, "devicetaintrules", old, new)
    assert changed["spec"]["taint"]["timeAdded"] == NOW


def test_old_versions_say_so() -> None:
    semantics = Semantics("1.36")
    kind = semantics.kind(GROUP, "resourceclaims")
    texts = [deprecation(kind, version, semantics.profile) for version in ("v1", "v1beta2", "v1beta1")]
    assert texts == [
        None,
        "resource.k8s.io/v1beta2 ResourceClaim is deprecated in v1.36+, unavailable in v1.39+",
        "resource.k8s.io/v1beta1 ResourceClaim is deprecated in v1.35+, unavailable in v1.38+",
    ]
    older = Semantics("1.32")
    assert deprecation(older.kind(GROUP, "resourceclaims"), "v1beta1", older.profile) is None


def test_misplaced_fields_are_refused_with_advice() -> None:
    semantics = Semantics()
    document = claim({"name": "r", "deviceClassName": "c", "exactly": {"selectors": []}})
    with pytest.raises(BadRequest) as caught:
        semantics.decoded(GROUP, "resourceclaims", document, field_validation="Strict")
    assert caught.value.message == (
        'ResourceClaim in version "v1" cannot be handled as a ResourceClaim: strict decoding error: '
        'unknown field "spec.devices.requests[0].deviceClassName"'
    )
    assert semantics.context.hints == [
        "spec.devices.requests[0]: move deviceClassName under exactly "
        "(spec.devices.requests[0].exactly.deviceClassName)"
    ]


def test_attributes_of_the_wrong_shape_get_advice() -> None:
    semantics = Semantics()
    expression = 'attributes["kitchen.pizza.example/cheese"].string == "mozzarella"'
    selectors = [{"cel": {"expression": expression}}]
    errors = semantics.created(
        GROUP, "deviceclasses", {"metadata": {"name": "p"}, "spec": {"selectors": selectors}}
    )[1]
    assert len(errors) == 1
    assert semantics.context.hints == [
        'CEL expression: write device.attributes["kitchen.pizza.example"].cheese instead of '
        'attributes["kitchen.pizza.example/cheese"].string'
    ]


def test_status_writes_ask_for_permission() -> None:
    semantics = Semantics()
    asked: list[tuple[str, str, str, str]] = []

    def refusal(verb: str, resource: str, namespace: str, name: str) -> str:
        asked.append((verb, resource, namespace, name))
        return "no"

    semantics.context.refusal, semantics.context.verb = refusal, "patch"
    old, _ = semantics.created(GROUP, "resourceclaims", claim(EXACT))
    entry = {"driver": "d.example.com", "pool": "p", "device": "x"}
    new = _with_status(old, _allocated(RESULT, devices=[entry]))
    errors = semantics.updated(GROUP, "resourceclaims", old, new, "status")[1]
    assert asked == [
        ("patch", "resourceclaims/binding", "", ""),
        ("arbitrary-node:patch", "resourceclaims/driver", "default", "d.example.com"),
    ]
    assert [error.partition(":")[0] for error in errors] == ["status", "status.devices"]


def test_pool_status_requests_are_written_once() -> None:
    semantics = Semantics(gates={"DRAResourcePoolStatus": True})
    document = {"metadata": {"name": "r"}, "spec": {"driver": "d.example.com"}}
    old, errors = semantics.created(GROUP, "resourcepoolstatusrequests", document, "v1alpha3")
    assert (errors, old["spec"]["limit"]) == ([], 100)
    wrong = {"metadata": {"name": "r"}, "spec": {"driver": "", "limit": 1001}}
    assert semantics.created(GROUP, "resourcepoolstatusrequests", wrong, "v1alpha3")[1] == [
        "spec.driver: Required value",
        "spec.limit: Invalid value: 1001: must be less than or equal to 1000",
    ]
    other = {**old, "spec": {**old["spec"], "driver": "e.example.com"}}
    assert semantics.updated(GROUP, "resourcepoolstatusrequests", old, other)[1] == [
        'spec: Invalid value: {"driver":"e.example.com","limit":100}: field is immutable'
    ]
    broken = {"poolCount": -1, "pools": [{"driver": "", "poolName": "P", "resourceSliceCount": 0}]}
    found = semantics.updated(GROUP, "resourcepoolstatusrequests", old, _with_status(old, broken), "status")[
        1
    ]
    assert [error.partition(":")[0] for error in found] == [
        "status.poolCount",
        "status.pools[0].driver",
        "status.pools[0].poolName",
        "status.pools[0].resourceSliceCount",
    ]
    first, errors = semantics.updated(
        GROUP, "resourcepoolstatusrequests", old, _with_status(old, {"poolCount": 1}), "status"
    )
    assert errors == []
    strategy = strategy_for("ResourcePoolStatusRequest", GROUP)
    again = _with_status(first, {"poolCount": 2})
    assert [str(e) for e in strategy.validate_update(again, first, "status", semantics.context)] == [
        'status: Invalid value: {"poolCount":2}: field is immutable'
    ]


def test_names_of_drivers_should_be_lower_case() -> None:
    spec = {
        "driver": "D.example.com",
        "pool": {"name": "p", "resourceSliceCount": 1},
        "nodeName": "n",
    }
    for version, expected in (("1.34", 0), ("1.35", 1)):
        semantics = Semantics(version)
        made, errors = semantics.created(GROUP, "resourceslices", {"metadata": {"name": "s"}, "spec": spec})
        warnings = strategy_for("ResourceSlice", GROUP).warnings(made, None, semantics.context)
        assert (errors, len(warnings)) == ([], expected)


def test_broken_metadata_is_named_by_every_check_of_it() -> None:
    semantics = Semantics()
    for plural, times in (("resourceclaims", 4), ("deviceclasses", 4), ("resourceslices", 3)):
        spec = {"driver": "d", "pool": {"name": "p", "resourceSliceCount": 1}, "nodeName": "n"}
        document = {"metadata": {"name": "x"}, "spec": spec if plural == "resourceslices" else {}}
        old, _ = semantics.created(GROUP, plural, document)
        new = {**old, "metadata": {**old["metadata"], "labels": {"a b": ""}}}
        errors = semantics.updated(GROUP, plural, old, new)[1]
        assert len(errors) == times, plural
        assert len(set(errors)) == 1

"""Protobuf request bodies: what kubectl sends, every field of resource.k8s.io, and broken ones."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest

from drakit.apiserver import protobuf
from drakit.errors import BadRequest

SENT = [json.loads(line) for line in Path(__file__).with_name("protobuf.jsonl").read_text().splitlines()]
"""Bodies of kubectl 1.37 and the JSON it would have sent instead."""
DATA = Path(protobuf.__file__).parent / "data"


@pytest.mark.parametrize("sent", SENT, ids=[row["document"]["kind"] for row in SENT])
def test_what_kubectl_sends(sent: dict[str, Any]) -> None:
    assert protobuf.decode(base64.b64decode(sent["body"])) == sent["document"]


# --- a writer, the reader's mirror ----------------------------------------------------------------


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def scalar(kind: int, value: Any) -> bytes | int:
    return str(value).encode() if kind == 9 else int(value)


def double(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


def message(name: str, document: Any) -> bytes:
    if name.endswith("Quantity"):
        return field(1, document.encode())
    if name.endswith(("RawExtension", "v1.JSON")):
        return field(1, json.dumps(document).encode())
    if name.endswith("v1.Time"):
        return field(1, 1_795_262_400)
    out = b""
    rows = protobuf._tables()[name]
    for number, (json_name, how, kind) in rows.items():
        if how == "i":
            out += field(number, message(str(kind), document))
        elif json_name in document:
            value = document[json_name]
            items = value if how == "r" else [value]
            if how == "m":
                items = [field(1, key.encode()) + field(2, part(kind, item)) for key, item in value.items()]
                kind = 12
            for item in items:
                out += field(number, item if kind == 12 else part(kind, item))
    return out


def part(kind: str | int, value: Any) -> bytes | int:
    return message(kind, value) if isinstance(kind, str) else scalar(kind, value)


def body(api_version: str, kind: str, document: Any) -> bytes:
    version = api_version.rpartition("/")[2]
    inner = message(f"api.resource.{version}.{kind}", document)
    return b"k8s\0" + field(1, field(1, api_version.encode()) + field(2, kind.encode())) + field(2, inner)


SELECTOR = {
    "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]
}
DEVICE = {
    "name": "d0",
    "attributes": {
        "a": {"int": -5},
        "b": {"bool": True},
        "c": {"string": "x"},
        "d": {"version": "1.0.0"},
        "e": {"ints": [1, -2]},
        "f": {"bools": [True, False]},
        "g": {"strings": ["x", "y"]},
        "h": {"versions": ["1.0.0"]},
    },
    "capacity": {
        "m": {"value": "1Gi", "requestPolicy": {"default": "1", "validRange": {"min": "1", "step": "1"}}}
    },
    "consumesCounters": [
        {"counterSet": "s", "counters": {"c": {"value": "1"}}, "compatibilityGroups": ["g"]}
    ],
    "nodeName": "n",
    "allNodes": True,
    "taints": [{"key": "k", "value": "v", "effect": "NoExecute", "timeAdded": "2026-11-21T12:00:00Z"}],
    "bindsToNode": True,
    "bindingConditions": ["x"],
    "bindingFailureConditions": ["y"],
    "allowMultipleAllocations": True,
    "nodeAllocatableResources": {"cpu": {"mapping": {"capacityKey": "m", "deviceMultiplier": "2"}}},
    "nodeAllocatableResourceMappings": {"cpu": {"capacityKey": "m", "allocationMultiplier": "2"}},
}
SLICE = {
    "metadata": {"name": "s", "labels": {"a": "b"}},
    "spec": {
        "driver": "d.example.com",
        "pool": {"name": "p", "generation": 0, "resourceSliceCount": 1},
        "nodeName": "n",
        "nodeSelector": SELECTOR,
        "devices": [DEVICE],
        "sharedCounters": [{"name": "s", "counters": {"c": {"value": "4"}}}],
        "partitionTypeAttribute": "p",
        "skipNodeOperations": ["Prepare"],
    },
}
CLAIM = {
    "metadata": {"name": "c", "namespace": "default"},
    "spec": {
        "devices": {
            "requests": [
                {
                    "name": "r",
                    "exactly": {
                        "deviceClassName": "c",
                        "selectors": [{"cel": {"expression": "true"}}],
                        "allocationMode": "ExactCount",
                        "count": 2,
                        "adminAccess": True,
                        "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 0}],
                        "capacity": {"requests": {"m": "1Gi"}},
                        "derivedAttributes": [{"name": "a", "expression": "1"}],
                    },
                }
            ],
            "constraints": [{"requests": ["r"], "distinctAttribute": "a/b"}],
            "config": [{"requests": ["r"], "opaque": {"driver": "d", "parameters": {"a": [1, "b"]}}}],
        }
    },
    "status": {
        "allocation": {
            "devices": {
                "results": [
                    {
                        "request": "r",
                        "driver": "d",
                        "pool": "p",
                        "device": "d0",
                        "shareID": "i",
                        "consumedCapacity": {"m": "1Gi"},
                        "skipNodeOperations": ["Prepare"],
                    }
                ]
            },
            "nodeSelector": SELECTOR,
        },
        "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}],
        "devices": [{"driver": "d", "pool": "p", "device": "d0", "networkData": {"ips": ["192.0.2.1/24"]}}],
    },
}
RULE = {
    "metadata": {"name": "r"},
    "spec": {
        "deviceSelector": {"driver": "d", "pool": "p", "device": "x"},
        "taint": {"key": "k", "effect": "None"},
    },
}


@pytest.mark.parametrize("version", ["v1", "v1beta2"])
@pytest.mark.parametrize(
    ("kind", "document"), [("ResourceSlice", SLICE), ("ResourceClaim", CLAIM), ("DeviceTaintRule", RULE)]
)
def test_every_field_of_a_kind_comes_back(version: str, kind: str, document: dict[str, Any]) -> None:
    api_version = f"resource.k8s.io/{version}"
    expected = {"kind": kind, "apiVersion": api_version, **document}
    assert protobuf.decode(body(api_version, kind, document)) == expected


SCHEMA = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "default": {"a": [1]},
            "x-kubernetes-validations": [{"rule": "self.a > 1", "message": "small"}],
            "additionalProperties": {"schema": {"type": "integer", "maxLength": 3}},
        },
        "list": {"type": "array", "items": {"schema": {"type": "string"}}, "x-kubernetes-list-type": "set"},
        "any": {"additionalProperties": {"allows": True}, "enum": ["x", 1, None]},
    },
}
DEFINITION = {
    "metadata": {"name": "things.x.example.com"},
    "spec": {
        "group": "x.example.com",
        "names": {"plural": "things", "kind": "Thing", "shortNames": ["th"]},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": False,
                "schema": {"openAPIV3Schema": SCHEMA},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas"}},
                "additionalPrinterColumns": [{"name": "A", "type": "string", "jsonPath": ".spec.a"}],
            }
        ],
    },
}


def test_definitions_of_custom_resources() -> None:
    inner = message("api.apiextensions.v1.CustomResourceDefinition", DEFINITION)
    head = field(1, field(1, b"apiextensions.k8s.io/v1") + field(2, b"CustomResourceDefinition"))
    decoded = protobuf.decode(b"k8s\0" + head + field(2, inner))
    version = decoded["spec"]["versions"][0]
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    assert properties["spec"]["additionalProperties"] == {"type": "integer", "maxLength": 3}
    assert properties["list"]["items"] == {"type": "string"}
    assert properties["any"] == {"additionalProperties": True, "enum": ["x", 1, None]}
    assert properties["spec"]["default"] == {"a": [1]}
    assert version["subresources"] == DEFINITION["spec"]["versions"][0]["subresources"]
    assert decoded["spec"]["names"] == DEFINITION["spec"]["names"]
    limits = double(9, 2.5) + field(20, field(1, b"3")) + field(10, 0)
    assert protobuf._message("api.apiextensions.v1.JSONSchemaProps", limits, 0) == {
        "maximum": 2.5,
        "enum": [3],
    }


def test_fields_that_no_table_knows_are_dropped() -> None:
    sent = body("resource.k8s.io/v1", "DeviceTaintRule", RULE)
    assert protobuf.decode(sent + field(9, b"more")) == protobuf.decode(sent)


def test_the_tables_fit_together() -> None:
    made = json.loads(gzip.decompress((DATA / "protobuf.json.gz").read_bytes()))
    new = json.loads((DATA / "protobuf-new.json").read_text())
    known = set(made) | set(new)
    for name, rows in (*made.items(), *new.items()):
        for json_name, _, kind in rows.values():
            assert isinstance(kind, int) or kind in known, f"{name}.{json_name}"
    for name, rows in new.items():
        assert not set(rows) & set(made.get(name, {})), f"{name} has a field twice"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "expected prefix"),
        (b"k8s", "expected prefix"),
        (b"k8s\0", 'no kind ""'),
        (b"k8s\0\xff", "it ends too early"),
        (b"k8s\0" + field(1, field(1, b"v1") + field(2, b"Nonsense")), 'no kind "Nonsense" is registered'),
        (b"k8s\0" + field(1, 3), "a number stands where a message should"),
        (b"k8s\0" + field(1, field(1, b"v1") + field(2, b"Pod")) + field(2, b"\x0b"), "wire type 3"),
        (
            b"k8s\0" + field(1, field(1, b"v1") + field(2, b"Pod")) + field(2, b"\x0a\xff\x01"),
            "ends too early",
        ),
        (b"k8s\0" + b"\xff" * 20, "a number is too long"),
    ],
)
def test_broken_messages_are_explained(data: bytes, text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        protobuf.decode(data)
    assert text in str(refused.value)


def test_any_bytes_are_decoded_or_refused() -> None:
    chance = random.Random(1)
    bodies = [base64.b64decode(row["body"]) for row in SENT]
    for _ in range(3000):
        data = bytearray(chance.choice(bodies))
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with contextlib.suppress(BadRequest):
            protobuf.decode(bytes(data[: chance.randrange(len(data))] if chance.random() < 0.2 else data))

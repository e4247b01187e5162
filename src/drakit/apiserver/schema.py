"""The published OpenAPI of one Kubernetes version, as the tree of types the server works with.

A `Type` says what may stand at one place of an object: which fields, what they hold, how a list is merged
(`x-kubernetes-list-type`, `x-kubernetes-patch-merge-key`) and what Go calls it in an error. Types are
built when first asked for, from the definitions that ship with the kubernetes-validate package, or from
the schema of a CustomResourceDefinition. Nothing here knows a kind by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any, Literal

import msgspec

from drakit.profile import DEFAULT_VERSION

Shape = Literal["object", "map", "list", "scalar", "any"]

_REF = "#/$defs/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_SCALARS: Mapping[str, str] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "intstr",
    f"{_META}Time": "time",
    f"{_META}MicroTime": "microtime",
}
_OPAQUE = frozenset({"io.k8s.apimachinery.pkg.runtime.RawExtension", f"{_META}FieldsV1"})
_GO_SCALARS = {"bool": "bool", "double": "float64", "int32": "int32", "int64": "int64", "bytes": "[]uint8"}


class Type:
    """What may stand at one place of an object.

    `shape` "object" has `fields`, "map" and "list" have `items`, "scalar" has `scalar` (string, int32,
    int64, double, bool, bytes, time, microtime, quantity, intstr), "any" holds whatever JSON there is.
    `list_type` is atomic, set or map (then `keys` names the key fields). `merge_key` and `strategy`
    steer a strategic merge patch. `name` is the last part of the definition's name ("DeviceClassSpec"),
    `go_name` what Go's error texts say ("v1.DeviceClassSpec").
    """

    def __init__(
        self, definitions: _Definitions, name: str, own: Mapping[str, Any], place: Mapping[str, Any]
    ) -> None:
        """`own` is the schema of the type itself, `place` that of the field it stands at."""
        self._definitions = definitions
        self._own = own
        self.definition = name
        self.name = name.rpartition(".")[2]
        self.shape, self.scalar = _shape(name, own)
        self.list_type: str = own.get("x-kubernetes-list-type", "atomic")
        self.keys: tuple[str, ...] = tuple(own.get("x-kubernetes-list-map-keys", ()))
        self.merge_key: str = place.get("x-kubernetes-patch-merge-key", "")
        self.strategy = frozenset(place.get("x-kubernetes-patch-strategy", "").split(",")) - {""}
        self.is_preserving = bool(own.get("x-kubernetes-preserve-unknown-fields"))
        self.is_embedded = bool(own.get("x-kubernetes-embedded-resource"))
        self.required = frozenset(own.get("required") or ())
        map_type = place.get("x-kubernetes-map-type") or own.get("x-kubernetes-map-type")
        self.is_atomic = (
            self.shape == "scalar"
            or (self.shape == "any" and bool(name))
            or map_type == "atomic"
            or (self.shape == "list" and self.list_type == "atomic")
        )

    def __repr__(self) -> str:
        return f"<Type {self.go_name}>"

    @property
    def source(self) -> Mapping[str, Any]:
        """The JSON schema this type was built from."""
        return self._own

    @cached_property
    def fields(self) -> Mapping[str, Type]:
        """The fields of an object by their JSON names; empty for every other shape."""
        properties = self._own.get("properties") or {}
        return {name: self._definitions.type_at(place) for name, place in properties.items()}

    @cached_property
    def items(self) -> Type:
        """What a list or a map holds."""
        inner = self._own.get("items") if self.shape == "list" else self._own.get("additionalProperties")
        return self._definitions.type_at(inner if isinstance(inner, dict) else {})

    @cached_property
    def go_name(self) -> str:
        """The Go type, as it appears in "cannot unmarshal ... of type ..."."""
        if self.shape == "scalar":
            return _GO_SCALARS.get(self.scalar, "string")
        if self.shape == "list":
            return f"[]{self.items.go_name}"
        if self.shape == "map":
            return f"map[string]{self.items.go_name}"
        package = self.definition.split(".")[-2] if "." in self.definition else "v1"
        return f"{package}.{self.name}" if self.name else "map[string]interface {}"


def _shape(name: str, schema: Mapping[str, Any]) -> tuple[Shape, str]:
    if name in _SCALARS:
        return "scalar", _SCALARS[name]
    if name in _OPAQUE:
        return "any", ""
    if schema.get("x-kubernetes-int-or-string"):
        return "scalar", "intstr"
    declared = schema.get("type")
    kind = next((t for t in declared if t != "null"), "") if isinstance(declared, list) else declared
    form = schema.get("format")
    if kind == "object" or (not kind and "properties" in schema):
        if "properties" in schema:
            return "object", ""
        if isinstance(schema.get("additionalProperties"), dict):
            return "map", ""
        return ("object", "") if name else ("any", "")
    if kind == "array":
        return "list", ""
    if kind == "string":
        return "scalar", "bytes" if form == "byte" else "string"
    if kind == "integer":
        return "scalar", "int32" if form == "int32" else "int64"
    if kind == "number":
        return "scalar", "double"
    return ("scalar", "bool") if kind == "boolean" else ("any", "")


class _Definitions:
    """Named schemas and the types built from them; a type of a field with no merge hints is shared."""

    def __init__(self, schemas: Mapping[str, Mapping[str, Any]]) -> None:
        self.schemas = schemas
        self._shared: dict[str, Type] = {}
        self.by_kind: dict[tuple[str, str], str] = {}
        for name, schema in schemas.items():
            for entry in schema.get("x-kubernetes-group-version-kind", ()):
                group, version = entry["group"], entry["version"]
                self.by_kind[f"{group}/{version}" if group else version, entry["kind"]] = name

    def named(self, name: str) -> Type:
        found = self._shared.get(name)
        if found is None:
            found = self._shared[name] = Type(self, name, self.schemas[name], {})
        return found

    def type_at(self, place: Mapping[str, Any]) -> Type:
        reference = place.get("$ref")
        if reference is None:
            return Type(self, "", place, place)
        name = str(reference).removeprefix(_REF)
        if any(key.startswith("x-kubernetes-") for key in place):
            return Type(self, name, self.schemas[name], place)
        return self.named(name)


@lru_cache(maxsize=8)
def _published(version: str) -> _Definitions:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local"
    document = msgspec.json.decode((folder / "_definitions.json").read_bytes())
    return _Definitions(document["$defs"])


def type_for(api_version: str, kind: str, version: str = DEFAULT_VERSION) -> Type | None:
    """The type of `kind` in `api_version` ("apps/v1") as Kubernetes `version` ("1.37") publishes it, or
    None if that version publishes no such kind. The result is shared and immutable."""
    definitions = _published(version)
    name = definitions.by_kind.get((api_version, kind))
    return definitions.named(name) if name else None


def definition(name: str, version: str = DEFAULT_VERSION) -> Type:
    """The published type called `name` ("io.k8s.api.core.v1.PodSpec"). Raises KeyError if there is none."""
    return _published(version).named(name)


def custom_type(schema: Mapping[str, Any], kind: str, version: str = DEFAULT_VERSION) -> Type:
    """The type of a custom resource, from the `openAPIV3Schema` of one version of its definition.

    apiVersion, kind and metadata are those of every object, whatever the schema says about them.
    """
    published = _published(version)
    properties = dict(schema.get("properties") or {})
    properties["apiVersion"] = properties["kind"] = {"type": "string"}
    properties["metadata"] = {"$ref": f"{_REF}{_META}ObjectMeta"}
    own = {**schema, "type": "object", "properties": properties}
    return Type(published, f"unstructured.{kind}", own, {})

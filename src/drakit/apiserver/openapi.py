"""The OpenAPI documents, made from the definitions that ship with the kubernetes-validate package.

That package keeps upstream's definitions of each Kubernetes version under their own names, bent into JSON
Schema and without paths. Here they are bent back (nullable types, references, int-or-string), and paths
are made from the table of kinds: kubectl finds a kind through the paths' group, version and kind, and
looks there for the parameters and patch formats a server takes. Only the definitions a document needs are
in it. Every document is made once, kept as bytes until the kinds in it change, and named by its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from importlib.resources import files
from typing import Any

import msgspec

from drakit.apiserver import openapi_custom, openapi_protobuf
from drakit.apiserver.kinds import Kind, Kinds
from drakit.transport import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH

Schema = dict[str, Any]

_V3 = "#/components/schemas/"
_V2 = "#/definitions/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
_WRITE = ("dryRun", "fieldManager", "fieldValidation")
_LIST: tuple[str, ...] = (
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
)
_VERBATIM = frozenset({"required", "enum", "default"})
_DESCRIPTIONS = {"apiVersion": "APIVersion defines", "kind": "Kind is a string"}


class OpenAPI:
    """The documents of one Kubernetes version and table of kinds. `use` another table when it changes."""

    def __init__(self, version: str, kinds: Kinds) -> None:
        self._version = version
        self._kinds = kinds
        self._documents: dict[tuple[str, str], bytes] = {}
        self._hashes: dict[tuple[str, str], str] = {}
        self._whole: dict[str, bytes] = {}

    def use(self, kinds: Kinds) -> None:
        """Describe these kinds from now on."""
        if kinds is self._kinds:
            return
        before, self._kinds = self._kinds, kinds
        self._whole.clear()
        for where in list(self._documents):
            if before.in_version(*where) != kinds.in_version(*where):
                del self._documents[where]
                self._hashes.pop(where, None)

    @cached_property
    def _definitions(self) -> dict[str, Schema]:
        folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{self._version}.0-local"
        document: Schema = msgspec.json.decode((folder / "_definitions.json").read_bytes())
        definitions: dict[str, Schema] = document["$defs"]
        return definitions

    @cached_property
    def _by_kind(self) -> dict[tuple[str, str, str], str]:
        found: dict[tuple[str, str, str], str] = {}
        for name, schema in self._definitions.items():
            if name.endswith((".DeleteOptions", ".WatchEvent")):
                continue
            for row in schema.get("x-kubernetes-group-version-kind", ()):
                found[row["group"], row["version"], row["kind"]] = name
        return found

    # --- documents --------------------------------------------------------------------------------

    @property
    def index(self) -> bytes:
        """/openapi/v3: where the documents are."""
        if (known := self._whole.get("index")) is not None:
            return known
        paths = {}
        for group, versions in self._kinds.group_versions().items():
            for version in versions:
                path = f"apis/{group}/{version}" if group else f"api/{version}"
                where = f"/openapi/v3/{path}?hash={self.hash(group, version)}"
                paths[path] = {"serverRelativeURL": where}
        self._whole["index"] = msgspec.json.encode({"paths": paths})
        return self._whole["index"]

    def hash(self, group: str, version: str) -> str:
        found = self._hashes.get((group, version))
        if found is None:
            found = hashlib.sha512(self.v3(group, version)).hexdigest().upper()
            self._hashes[group, version] = found
        return found

    def v3(self, group: str, version: str) -> bytes:
        """The document of one group and version. Raises KeyError for one that is not served."""
        found = self._documents.get((group, version))
        if found is None:
            kinds = self._kinds.in_version(group, version)
            if not kinds:
                raise KeyError((group, version))
            paths, roots = self._paths(kinds, version, _V3)
            own = self._own(kinds, _V3)
            document = {
                "openapi": "3.0.0",
                "info": {"title": "Kubernetes", "version": f"v{self._version}.0"},
                "paths": paths,
                "components": {"schemas": self._schemas(roots, _V3, own)},
            }
            found = self._documents[group, version] = msgspec.json.encode(document)
        return found

    @property
    def v2(self) -> bytes:
        """The one document of OpenAPI v2."""
        if "v2" not in self._whole:
            self._whole["v2"] = msgspec.json.encode(self._v2())
        return self._whole["v2"]

    @property
    def v2_protobuf(self) -> bytes:
        """The same as a message, for clients that ask for that."""
        if "protobuf" not in self._whole:
            self._whole["protobuf"] = openapi_protobuf.encode(self._v2())
        return self._whole["protobuf"]

    def _v2(self) -> Schema:
        paths: Schema = {}
        roots: set[str] = set()
        for group, versions in self._kinds.group_versions().items():
            for version in versions:
                found, names = self._paths(self._kinds.in_version(group, version), version, _V2)
                paths |= found
                roots |= names
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": f"v{self._version}.0"},
            "paths": paths,
            "definitions": self._schemas(roots, _V2, self._own(self._kinds.rows, _V2)),
        }

    @staticmethod
    def _own(kinds: Iterable[Kind], prefix: str) -> dict[str, Schema]:
        """The schemas of the custom kinds among `kinds`."""
        found: dict[str, Schema] = {}
        for kind in kinds:
            if kind.custom is not None:
                found |= openapi_custom.schemas(kind, is_v2=prefix == _V2)
        return found

    # --- paths ------------------------------------------------------------------------------------

    def _paths(self, kinds: Iterable[Kind], version: str, prefix: str) -> tuple[Schema, set[str]]:
        paths: Schema = {}
        roots = {f"{_META}{name}" for name in ("DeleteOptions", "Status", "WatchEvent", "APIResourceList")}
        for kind in kinds:
            if kind.custom is not None:
                own = openapi_custom.name_of(kind, kind.kind)
                roots |= {own, openapi_custom.name_of(kind, kind.list_name)}
                paths |= _Paths(kind, version, prefix, own).all()
                continue
            name = self._by_kind.get((kind.group, version, kind.kind))
            if name is None:
                continue
            roots.add(name)
            if listed := self._by_kind.get((kind.group, version, f"{kind.kind}List")):
                roots.add(listed)
            paths |= _Paths(kind, version, prefix, name).all()
        return paths, roots

    # --- schemas ----------------------------------------------------------------------------------

    def _schemas(self, roots: Iterable[str], prefix: str, own: dict[str, Schema]) -> Schema:
        found: Schema = {}
        waiting = list(roots)
        while waiting:
            name = waiting.pop()
            given = own.get(name) or self._definitions.get(name)
            if name in found or given is None:
                continue
            schema = _special(name, prefix) or _upstream(given, prefix)
            found[name] = schema
            waiting += [reference.rpartition("/")[2] for reference in _references(schema)]
        return dict(sorted(found.items()))


class _Paths:
    """The paths of one kind."""

    def __init__(self, kind: Kind, version: str, prefix: str, definition: str) -> None:
        self._kind = kind
        self._is_v2 = prefix == _V2
        self._reference = {"$ref": prefix + definition}
        self._gvk = {"group": kind.group, "kind": kind.kind, "version": version}
        self._base = f"/apis/{kind.group}/{version}" if kind.group else f"/api/{version}"

    def all(self) -> Schema:
        kind, base = self._kind, self._base
        place = f"{base}/namespaces/{{namespace}}" if kind.is_namespaced else base
        collection = f"{place}/{kind.plural}"
        if not kind.is_stored:
            return {collection: {"post": self._operation("post", _WRITE)}}
        paths = {
            collection: {
                "get": self._operation("list", _LIST),
                "post": self._operation("post", _WRITE),
                "delete": self._operation("deletecollection", ("dryRun", *_LIST)),
            },
            f"{collection}/{{name}}": {
                "get": self._operation("get", ()),
                "put": self._operation("put", _WRITE),
                "patch": self._patch(),
                "delete": self._operation(
                    "delete", ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy")
                ),
            },
        }
        if kind.subresource("status"):
            paths[f"{collection}/{{name}}/status"] = {
                "get": self._operation("get", ()),
                "put": self._operation("put", _WRITE),
                "patch": self._patch(),
            }
        if kind.is_namespaced:
            paths[f"{base}/{kind.plural}"] = {"get": self._operation("list", _LIST)}
        return paths

    def _parameter(self, name: str) -> Schema:
        kind = "string"
        if name in ("limit", "timeoutSeconds", "gracePeriodSeconds"):
            kind = "integer"
        elif name in ("watch", "force", "allowWatchBookmarks", "sendInitialEvents", "orphanDependents"):
            kind = "boolean"
        typed: Schema = {"type": kind} if self._is_v2 else {"schema": {"type": kind, "uniqueItems": True}}
        return {"name": name, "in": "query", **typed}

    def _operation(self, action: str, parameters: Iterable[str]) -> Schema:
        content: Schema = {"content": {"application/json": {"schema": self._reference}}}
        answer: Schema = {"schema": self._reference} if self._is_v2 else content
        name = self._base.title().replace("/", "").replace(".", "")
        return {
            "operationId": f"{action}{name}{self._kind.kind}",
            "parameters": [self._parameter(parameter) for parameter in parameters],
            "responses": {"200": {"description": "OK", **answer}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self._gvk,
        }

    def _patch(self) -> Schema:
        operation = self._operation("patch", (*_WRITE, "force"))
        types = [name for name in _PATCH_TYPES if not (self._kind.custom and name == STRATEGIC_PATCH)]
        if self._is_v2:
            return {**operation, "consumes": types}
        body = {"content": {name: {"schema": {"type": "object"}} for name in types}}
        return {**operation, "requestBody": body}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _special(name: str, prefix: str) -> Schema | None:
    """The definitions that the package bent beyond recognition."""
    if name.endswith("util.intstr.IntOrString"):
        if prefix == _V2:
            return {"type": "string", "format": "int-or-string"}
        return {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}
    if name.endswith("api.resource.Quantity"):
        if prefix == _V2:
            return {"type": "string"}
        return {"oneOf": [{"type": "string"}, {"type": "number"}]}
    if name.endswith("JSONSchemaProps"):
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return None


def _upstream(schema: Any, prefix: str) -> Any:
    """One schema as upstream publishes it."""
    if isinstance(schema, list):
        return [_upstream(item, prefix) for item in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str):
        found = {"$ref": prefix + reference.rpartition("/")[2]}
        others = {key: value for key, value in schema.items() if key != "$ref"}
        if not others:
            return found
        return {**found, **others} if prefix == _V2 else {"allOf": [found], **others}
    result: Schema = {}
    for key, value in schema.items():
        if key == "type" and isinstance(value, list):
            result[key] = value[0]
        elif key == "properties" and isinstance(value, dict):
            result[key] = {name: _property(name, item, prefix) for name, item in value.items()}
        elif key in _VERBATIM or key.startswith("x-"):
            result[key] = value
        else:
            result[key] = _upstream(value, prefix)
    return result


def _property(name: str, schema: Any, prefix: str) -> Any:
    result = _upstream(schema, prefix)
    beginning = _DESCRIPTIONS.get(name)
    if beginning and str(schema.get("description", "")).startswith(beginning):
        result.pop("enum", None)
    return result

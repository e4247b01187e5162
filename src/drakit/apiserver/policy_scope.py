"""What the expressions of admission policies and match conditions may use, and its values for one request.

Source: apiserver/pkg/admission/plugin/cel/{compile,condition,activation}.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drakit.apiserver.admission_request import Resource, Review
from drakit.apiserver.auth import Attributes, Authorizer, User
from drakit.cel import types
from drakit.cel.declare import Environment, declared
from drakit.cel.library import authz, moment
from drakit.cel.types import Type, list_of, map_of
from drakit.cel.value import Fault
from drakit.profile import Profile
from drakit.transport import Document

_VARIABLES = Type("object", "kubernetes.variables")
_KIND = Type("object", "kubernetes.GroupVersionKind")
_RESOURCE = Type("object", "kubernetes.GroupVersionResource")
_USER = Type("object", "kubernetes.UserInfo")
_REQUEST = Type("object", "kubernetes.AdmissionRequest")
_NAMESPACE = Type("object", "kubernetes.Namespace")
_METADATA = Type("object", "kubernetes.NamespaceMetadata")
_SPEC = Type("object", "kubernetes.NamespaceSpec")
_STATUS = Type("object", "kubernetes.NamespaceStatus")
_CONDITION = Type("object", "kubernetes.NamespaceCondition")
_TEXT, _TEXTS = types.STRING, list_of(types.STRING)
_LABELS = map_of(types.STRING, types.STRING)
_OBJECTS: Mapping[str, Mapping[str, Type]] = {
    _KIND.name: dict.fromkeys(("group", "version", "kind"), _TEXT),
    _RESOURCE.name: dict.fromkeys(("group", "version", "resource"), _TEXT),
    _USER.name: {"username": _TEXT, "uid": _TEXT, "groups": _TEXTS, "extra": map_of(types.STRING, _TEXTS)},
    _REQUEST.name: {
        "kind": _KIND,
        "resource": _RESOURCE,
        "subResource": _TEXT,
        "requestKind": _KIND,
        "requestResource": _RESOURCE,
        "requestSubResource": _TEXT,
        "name": _TEXT,
        "namespace": _TEXT,
        "operation": _TEXT,
        "userInfo": _USER,
        "dryRun": types.BOOL,
        "options": types.DYN,
    },
    _NAMESPACE.name: {"metadata": _METADATA, "spec": _SPEC, "status": _STATUS},
    _METADATA.name: {
        **dict.fromkeys(("name", "generateName", "namespace", "UID", "resourceVersion"), _TEXT),
        **dict.fromkeys(("labels", "annotations"), _LABELS),
        **dict.fromkeys(("creationTimestamp", "deletionTimestamp"), types.TIMESTAMP),
        **dict.fromkeys(("generation", "deletionGracePeriodSeconds"), types.INT),
        "finalizers": _TEXTS,
    },
    _SPEC.name: {"finalizers": _TEXTS},
    _STATUS.name: {"phase": _TEXT, "conditions": list_of(_CONDITION)},
    _CONDITION.name: {
        **dict.fromkeys(("status", "type", "message", "reason"), _TEXT),
        "lastTransitionTime": types.TIMESTAMP,
    },
}


def scope(
    profile: Profile,
    *,
    has_params: bool = False,
    has_authorizer: bool = True,
    variables: Mapping[str, Type] | None = None,
    is_new: bool = False,
    has_patches: bool = False,
) -> Environment:
    """The environment of an expression; `variables` are those that a policy composes, by name. With
    `has_patches` it may make what mutates objects."""
    own = {"object": types.DYN, "oldObject": types.DYN, "namespaceObject": _NAMESPACE, "request": _REQUEST}
    if has_params:
        own["params"] = types.DYN
    if has_authorizer:
        own |= {"authorizer": types.AUTHORIZER, "authorizer.requestResource": types.RESOURCE_CHECK}
    if variables is None:
        return declared(profile, own, _OBJECTS, is_new=is_new, has_patches=has_patches)
    own["variables"] = _VARIABLES
    own |= {f"variables.{name}": type_ for name, type_ in variables.items()}
    objects = {**_OBJECTS, _VARIABLES.name: variables}
    return declared(profile, own, objects, is_new=is_new, has_patches=has_patches)


def composed_type(type_: Type) -> Type:
    """The type that a variable has for the expressions after it: of objects nothing is known any more."""
    if type_.kind in ("list", "map"):
        return Type(type_.kind, type_.name, tuple(map(composed_type, type_.params)))
    is_known = type_.kind in _SIMPLE
    return type_ if is_known else types.DYN


_SIMPLE = frozenset(
    ("bool", "bytes", "double", "duration", "int", "null", "string", "timestamp", "uint", "any")
)


def shown_type(type_: Type) -> str:
    """A type as cel-go writes it."""
    names = {"timestamp": "google.protobuf.Timestamp", "duration": "google.protobuf.Duration"}
    names |= {"null": "null_type"}
    name = names.get(type_.kind, type_.name)
    return f"{name}({', '.join(map(shown_type, type_.params))})" if type_.params else name


# --- values ---------------------------------------------------------------------------------------


def values_of(
    review: Review,
    resource: Resource,
    objects: tuple[Document | None, Document | None],
    namespace: Document | None,
    authorizer: Authorizer,
) -> dict[str, Any]:
    """The values of everything but `params` and `variables`. `resource` is what the request counts as,
    `objects` the new and the old object in that version."""
    decide = _decider(review.user, authorizer)
    target = review.target
    asked = authz.Wish(
        group=resource.group,
        resource=resource.plural,
        subresource=resource.subresource,
        namespace=review.namespace,
        name=review.name,
    )
    return {
        "object": objects[0],
        "oldObject": objects[1],
        "namespaceObject": None if namespace is None else _namespace(namespace, target.namespace),
        "request": request_of(review, resource),
        "params": None,
        "authorizer": authz.Authorizer(decide),
        "authorizer.requestResource": authz.ResourceCheck(decide, asked),
    }


def request_of(review: Review, resource: Resource) -> Document:
    """The AdmissionRequest without uid and objects."""
    own = review.resource()
    request: Document = {
        "kind": _kind(resource),
        "resource": _resource(resource),
        "subResource": resource.subresource,
        "requestKind": _kind(own),
        "requestResource": _resource(own),
        "requestSubResource": own.subresource,
        "name": review.name,
        "namespace": review.namespace,
        "operation": review.operation,
        "userInfo": review.user.info(),
        "dryRun": review.is_dry_run,
        "options": review.options,
    }
    omitted = ("subResource", "requestSubResource", "name", "namespace")
    return {key: value for key, value in request.items() if value or key not in omitted}


def _kind(resource: Resource) -> Document:
    return {"group": resource.kind_group, "version": resource.kind_version, "kind": resource.kind}


def _resource(resource: Resource) -> Document:
    return {"group": resource.group, "version": resource.version, "resource": resource.plural}


def _decider(user: User, authorizer: Authorizer) -> authz.Decide:
    def decide(wish: authz.Wish) -> authz.Decision:
        asking = user
        if wish.account is not None:
            namespace, name = wish.account
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
            asking = User(f"system:serviceaccount:{namespace}:{name}", groups)
        attributes = Attributes(
            wish.verb,
            wish.group,
            wish.resource,
            wish.subresource,
            wish.namespace,
            wish.name,
            path=wish.path,
            field_selector=wish.field_selector,
        )
        reason = authorizer.decide(asking, attributes)
        return authz.Decision(reason is None, reason or "")

    return decide


def _namespace(stored: Document, name: str) -> Document:
    metadata = {key: value for key, value in stored["metadata"].items() if key != "managedFields"}
    metadata |= {"UID": metadata.pop("uid", ""), "name": name}
    for field in ("creationTimestamp", "deletionTimestamp"):
        if field in metadata:
            metadata[field] = _moment(metadata[field])
    status = dict(stored.get("status") or {})
    if "conditions" in status:
        status["conditions"] = [
            {**row, "lastTransitionTime": _moment(row.get("lastTransitionTime"))}
            for row in status["conditions"]
        ]
    return {"metadata": metadata, "spec": stored.get("spec") or {}, "status": status}


def _moment(text: Any) -> Any:
    try:
        return moment.parse_timestamp(text) if isinstance(text, str) else None
    except Fault:
        return None

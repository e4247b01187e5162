"""POST serviceaccounts/NAME/token: a token for a service account, bound to a pod, a secret or a node.

A token bound to a pod says which node the pod is on: by that the server knows where a driver runs.
Source: kubernetes pkg/registry/core/serviceaccount/storage/token.go.
"""

from __future__ import annotations

import datetime

import msgspec

from drakit.apiserver.auth import ISSUER, Bound, Tokens
from drakit.apiserver.node_restriction import check_token
from drakit.apiserver.registry import Call, Registry
from drakit.apiserver.view import Plain, stored_document
from drakit.errors import BadRequest, Conflict, FieldError, Invalid, NotFound
from drakit.transport import Document

_SHORTEST, _LONGEST = 600, 1 << 32
_DEFAULT = 3600
_PLURALS = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


def token(registry: Registry, call: Call, tokens: Tokens) -> Plain:
    """A token for the account of the call."""
    spec = _spec(call)
    account = stored_document(registry.head(msgspec.structs.replace(call.target, subresource="")))
    seconds = spec.get("expirationSeconds", _DEFAULT)
    audiences = spec.get("audiences") or [ISSUER]
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise BadRequest("spec.expirationSeconds must be a number of seconds")
    if not _SHORTEST <= seconds <= _LONGEST:
        bound = "less than 10 minutes" if seconds < _SHORTEST else "larger than 1<<32 seconds"
        text = f"Invalid value: {seconds}: may not specify a duration {bound}"
        raise _invalid("FieldValueInvalid", "spec.expirationSeconds", text)
    if not isinstance(audiences, list) or not all(isinstance(name, str) for name in audiences):
        raise BadRequest("spec.audiences must be a list of strings")
    reference = spec.get("boundObjectRef")
    if reference is not None and not isinstance(reference, dict):
        raise BadRequest("spec.boundObjectRef must be an object")
    check_token(registry.find, call.user, call.target, reference)
    namespace, name = call.target.namespace, call.target.name
    signed = tokens.issue(
        namespace,
        (name, account["metadata"]["uid"]),
        seconds,
        audiences,
        _bound(registry, namespace, name, reference) if reference else (),
    )
    until = registry.time() + datetime.timedelta(seconds=seconds)
    return Plain(
        document={
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": registry.now()},
            "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": reference},
            "status": {"token": signed, "expirationTimestamp": until.strftime("%Y-%m-%dT%H:%M:%SZ")},
        },
        status=201,
    )


def _spec(call: Call) -> Document:
    if not isinstance(call.document, dict):
        raise BadRequest("the request has no body: an object was expected")
    spec = call.document.get("spec")
    if not isinstance(spec, dict | None):
        raise BadRequest(f"json: cannot unmarshal {type(spec).__name__} into field spec")
    return spec or {}


def _bound(registry: Registry, namespace: str, account: str, reference: Document) -> list[Bound]:
    """What the token is bound to: the object, and for a pod also its node."""
    kind, name = str(reference.get("kind", "")), str(reference.get("name", ""))
    if kind not in _PLURALS or reference.get("apiVersion") != "v1":
        text = f"cannot bind token for serviceaccount {_quoted(account)} to object type {kind}"
        raise BadRequest(text)
    found = registry.find(kind, "" if kind == "Node" else namespace, name)
    plural = _PLURALS[kind]
    if found is None:
        raise NotFound(f'{plural} "{name}" not found', details={"name": name, "kind": plural})
    uid = found["metadata"].get("uid", "")
    if reference.get("uid") not in (None, "", uid):
        text = (
            f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
            "The object might have been deleted and then recreated"
        )
        raise Conflict(
            f'Operation cannot be fulfilled on {plural} "{name}": {text}',
            details={"name": name, "kind": plural},
        )
    bound = [Bound(kind, name, uid)]
    spec = found.get("spec") or {}
    if kind == "Pod":
        if (spec.get("serviceAccountName") or "default") != account:
            which = "pod running with different serviceaccount name"
            raise BadRequest(f"cannot bind token for serviceaccount {_quoted(account)} to {which}")
        if node := spec.get("nodeName"):
            uid = (registry.find("Node", "", node) or {}).get("metadata", {}).get("uid", "")
            bound.append(Bound("Node", node, uid))
    return bound


def _quoted(value: str) -> str:
    return msgspec.json.encode(value).decode()


def _invalid(reason: str, field: str, text: str) -> Invalid:
    return Invalid.of("authentication.k8s.io", "TokenRequest", "", [FieldError(reason, field, text)])

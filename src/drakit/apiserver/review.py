"""Questions about oneself and others that are answered at once: who am I, may I, is this token good.

Source: kubernetes pkg/registry/authentication and pkg/registry/authorization.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakit.apiserver.auth import Attributes, User
from drakit.apiserver.registry import Call, Registry
from drakit.apiserver.view import Plain
from drakit.errors import APIError, BadRequest
from drakit.transport import Document


def answer(registry: Registry, call: Call, user_of: Callable[[str], User]) -> Plain:
    """The review in the body with its status filled in. `user_of` finds the user of a token."""
    if call.document is None:
        raise BadRequest("the request has no body: an object was expected")
    document = registry.decode(call, call.document, call.raw)
    kind, spec = call.target.kind.kind, document.get("spec") or {}
    if kind == "SelfSubjectReview":
        document["status"] = {"userInfo": call.user.info()}
    elif kind == "TokenReview":
        document["status"] = _token(str(spec.get("token", "")), user_of)
    elif kind == "SelfSubjectRulesReview":
        document["status"] = _rules(registry, call.user, str(spec.get("namespace", "")))
    elif kind == "SelfSubjectAccessReview":
        document["status"] = _access(registry, call.user, spec)
    else:
        user = User(str(spec.get("user", "")), tuple(map(str, spec.get("groups") or ())))
        if not user.name and not user.groups:
            raise BadRequest(f"{kind}: spec.user or spec.groups must be set")
        document["status"] = _access(registry, user, spec)
    document.setdefault("metadata", {})
    return Plain(document=document, status=201)


def _access(registry: Registry, user: User, spec: Document) -> Document:
    wanted = spec.get("resourceAttributes")
    path = spec.get("nonResourceAttributes")
    if (wanted is None) == (path is None):
        raise BadRequest("exactly one of spec.resourceAttributes and spec.nonResourceAttributes must be set")
    if path is not None:
        attributes = Attributes(str(path.get("verb", "")), path=str(path.get("path", "")) or "/")
    else:
        attributes = _attributes(wanted or {})
    is_allowed = registry.authorizer.allows(user, attributes)
    return {"allowed": is_allowed} if is_allowed else {"allowed": False, "reason": ""}


def _attributes(wanted: Document) -> Attributes:
    def text(name: str) -> str:
        return str(wanted.get(name) or "")

    return Attributes(
        text("verb"), text("group"), text("resource"), text("subresource"), text("namespace"), text("name")
    )


def _token(token: str, user_of: Callable[[str], User]) -> Document:
    try:
        return {"authenticated": True, "user": user_of(token).info()}
    except APIError as error:
        return {"authenticated": False, "user": {}, "error": error.message}


def _rules(registry: Registry, user: User, namespace: str) -> Document:
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    anywhere = {"verbs": ["*"], "nonResourceURLs": ["*"]}
    rules: list[dict[str, Any]] = (
        [everything, anywhere] if user.is_admin else list(registry.rbac.rules(user, namespace))
    )
    return {
        "resourceRules": [rule for rule in rules if rule.get("resources")],
        "nonResourceRules": [
            {"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]}
            for rule in rules
            if rule.get("nonResourceURLs")
        ],
        "incomplete": False,
    }

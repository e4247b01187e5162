"""Questions about oneself and others that are answered at once: who am I, may I, is this token good.

Source: kubernetes pkg/registry/authentication and pkg/registry/authorization.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drakit.apiserver.auth import ISSUER, Attributes, User
from drakit.apiserver.registry import Call, Registry
from drakit.apiserver.view import Plain
from drakit.errors import APIError, BadRequest
from drakit.transport import Document

UserOf = Callable[[str, Sequence[str]], User]


def answer(registry: Registry, call: Call, user_of: UserOf) -> Plain:
    """The review in the body with its status filled in. `user_of` finds the user of a token that is meant
    for one of some audiences."""
    if call.document is None:
        raise BadRequest("the request has no body: an object was expected")
    document = registry.decode(call, call.document, call.raw)
    kind, spec = call.target.kind.kind, document.get("spec") or {}
    if kind == "SelfSubjectReview":
        document["status"] = {"userInfo": call.user.info()}
    elif kind == "TokenReview":
        document["status"] = _token(spec, user_of)
    elif kind == "SelfSubjectRulesReview":
        if not spec.get("namespace"):
            raise BadRequest("no namespace on request")
        document["status"] = _rules(registry, call.user, str(spec["namespace"]))
    elif kind == "SelfSubjectAccessReview":
        document["status"] = _access(registry, call.user, spec)
    else:
        extra = {str(key): list(map(str, values or ())) for key, values in (spec.get("extra") or {}).items()}
        user = User(str(spec.get("user", "")), tuple(map(str, spec.get("groups") or ())), extra=extra)
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
    refusal = registry.authorizer.decide(user, attributes)
    reason = refusal if refusal is not None else "" if user.is_admin else registry.rbac.why(user, attributes)
    return {"allowed": refusal is None} | ({"reason": reason} if reason else {})


def _attributes(wanted: Document) -> Attributes:
    def text(name: str) -> str:
        return str(wanted.get(name) or "")

    return Attributes(
        text("verb"),
        text("group"),
        text("resource"),
        text("subresource"),
        text("namespace"),
        text("name"),
        field_selector=str((wanted.get("fieldSelector") or {}).get("rawSelector") or ""),
    )


def _token(spec: Document, user_of: UserOf) -> Document:
    audiences = [str(name) for name in spec.get("audiences") or (ISSUER,)]
    try:
        user = user_of(str(spec.get("token", "")), audiences)
        return {"authenticated": True, "user": user.info(), "audiences": audiences}
    except APIError as error:
        return {"authenticated": False, "user": {}, "error": error.message}


def _rules(registry: Registry, user: User, namespace: str) -> Document:
    """Every rule that holds, those of one authorizer after the other, as upstream's union has it."""
    rules: list[Document] = list(registry.rbac.rules(user, namespace))
    if user.is_admin:
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        rules = [everything, {"verbs": ["*"], "nonResourceURLs": ["*"]}, *rules]
    fields = ("verbs", "apiGroups", "resources", "resourceNames")
    status: Document = {
        "resourceRules": [
            {key: rule[key] for key in fields if rule.get(key)} for rule in rules if rule.get("resources")
        ],
        "nonResourceRules": [
            {"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]}
            for rule in rules
            if rule.get("nonResourceURLs")
        ],
        "incomplete": False,
    }
    if user.node_credentials:
        status["incomplete"] = True
        status["evaluationError"] = "node authorizer does not support user rule resolution"
    return status

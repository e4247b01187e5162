"""Role-based access control, from the Role and ClusterRole objects in the store.

Everything is additive: a request is allowed if any rule of any role bound to the user or one of its groups
covers it. The decoded rules are kept until an RBAC object changes.
Source: kubernetes plugin/pkg/auth/authorizer/rbac, pkg/registry/rbac/validation/rule.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from drakit.apiserver.auth import Attributes, User
from drakit.apiserver.view import stored_document
from drakit.store import Change, Store
from drakit.transport import Document

_GROUP = "rbac.authorization.k8s.io"
_SELF = (
    Attributes("create", "authentication.k8s.io", "selfsubjectreviews"),
    Attributes("create", "authorization.k8s.io", "selfsubjectaccessreviews"),
    Attributes("create", "authorization.k8s.io", "selfsubjectrulesreviews"),
)
"""What every authenticated user may do (system:basic-user)."""


class RBAC:
    """The rules in `store`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, dict[str, Document]] = {}
        for plural in ("roles", "clusterroles", "rolebindings", "clusterrolebindings"):
            store.subscribe(f"{plural}.{_GROUP}", partial(self._forget, plural))

    def _forget(self, plural: str, changes: Sequence[Change]) -> None:
        self._kept.pop(plural, None)

    def _objects(self, plural: str) -> dict[str, Document]:
        found = self._kept.get(plural)
        if found is None:
            entries = self._store.page(f"{plural}.{_GROUP}")
            found = self._kept[plural] = {entry.key: stored_document(entry) for entry in entries}
        return found

    def allows(self, user: User, attributes: Attributes) -> bool:
        """Whether some rule lets `user` do that."""
        if "system:authenticated" in user.groups and any(_is_same(own, attributes) for own in _SELF):
            return True
        return any(_covers(rule, attributes) for rule in self.rules(user, attributes.namespace))

    def rules(self, user: User, namespace: str) -> Iterator[Document]:
        """Every rule that holds for `user` in `namespace`, cluster-wide ones among them."""
        for binding in self._objects("clusterrolebindings").values():
            if _is_bound(binding, user, ""):
                yield from self._role(binding, "")
        if not namespace:
            return
        for key, binding in self._objects("rolebindings").items():
            if key.startswith(f"{namespace}/") and _is_bound(binding, user, namespace):
                yield from self._role(binding, namespace)

    def _role(self, binding: Document, namespace: str) -> list[Document]:
        reference = binding.get("roleRef") or {}
        name = reference.get("name", "")
        if reference.get("kind") == "ClusterRole":
            role = self._objects("clusterroles").get(name)
        else:
            role = self._objects("roles").get(f"{namespace}/{name}") if namespace else None
        rules: list[Document] = (role or {}).get("rules") or []
        return rules


def _is_same(own: Attributes, wanted: Attributes) -> bool:
    return (own.verb, own.group, own.resource) == (wanted.verb, wanted.group, wanted.resource)


def _is_bound(binding: Document, user: User, namespace: str) -> bool:
    for subject in binding.get("subjects") or ():
        kind, name = subject.get("kind"), subject.get("name", "")
        if kind == "User" and name == user.name:
            return True
        if kind == "Group" and name in user.groups:
            return True
        if kind == "ServiceAccount":
            place = subject.get("namespace") or namespace
            if user.name == f"system:serviceaccount:{place}:{name}":
                return True
    return False


def _covers(rule: dict[str, Any], wanted: Attributes) -> bool:
    if not _has(rule, "verbs", wanted.verb):
        return False
    if wanted.path:
        urls = rule.get("nonResourceURLs") or ()
        return any(url in ("*", wanted.path) or _is_below(url, wanted.path) for url in urls)
    if not _has(rule, "apiGroups", wanted.group) or not _has_resource(rule, wanted):
        return False
    names = rule.get("resourceNames") or ()
    return not names or wanted.name in names


def _is_below(url: str, path: str) -> bool:
    return url.endswith("*") and path.startswith(url[:-1])


def _has(rule: dict[str, Any], field: str, value: str) -> bool:
    values = rule.get(field) or ()
    return "*" in values or value in values


def _has_resource(rule: dict[str, Any], wanted: Attributes) -> bool:
    resources = rule.get("resources") or ()
    if "*" in resources:
        return True
    if not wanted.subresource:
        return wanted.resource in resources
    known = (f"{wanted.resource}/{wanted.subresource}", f"*/{wanted.subresource}")
    return any(name in resources for name in known)

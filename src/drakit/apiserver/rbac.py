"""Role-based access control, from the Role and ClusterRole objects in the store.

Everything is additive: a request is allowed if any rule of any role bound to the user or one of its groups
covers it. A ClusterRole with an aggregationRule has the rules of all roles that its selectors take, whether
or not they are written down in it yet. Objects and answers are kept until an RBAC object changes.
Source: kubernetes plugin/pkg/auth/authorizer/rbac, pkg/registry/rbac/validation/rule.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from drakit.apiserver.auth import Attributes, User
from drakit.apiserver.view import stored_document
from drakit.errors import BadRequest
from drakit.model.selector import read_labels
from drakit.store import Change, Store
from drakit.transport import Document

_GROUP = "rbac.authorization.k8s.io"
_PLURALS = ("roles", "clusterroles", "rolebindings", "clusterrolebindings")
_MAX_KEPT = 50_000
_EVERY: frozenset[str] = frozenset({"*"})

Question = tuple[str, tuple[str, ...], str, str, str, str, str]


class RBAC:
    """The rules in `store`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, dict[str, Document]] = {}
        self._answers: dict[Question, frozenset[str]] = {}
        for plural in _PLURALS:
            store.subscribe(f"{plural}.{_GROUP}", partial(self._forget, plural))

    def _forget(self, plural: str, changes: Sequence[Change]) -> None:
        self._kept.pop(plural, None)
        self._answers.clear()

    def _objects(self, plural: str) -> dict[str, Document]:
        found = self._kept.get(plural)
        if found is None:
            entries = self._store.page(f"{plural}.{_GROUP}")
            found = self._kept[plural] = {entry.key: stored_document(entry) for entry in entries}
        return found

    def allows(self, user: User, wanted: Attributes) -> bool:
        """Whether some rule lets `user` do that."""
        if wanted.path:
            return any(covers(rule, wanted) for rule in self.rules(user, ""))
        names = self._names(user, wanted)
        return names is _EVERY or wanted.name in names

    def _names(self, user: User, wanted: Attributes) -> frozenset[str]:
        """The names of objects for which the answer is yes, or `_EVERY`."""
        what = (wanted.namespace, wanted.verb, wanted.group, wanted.resource, wanted.subresource)
        question = (user.name, user.groups, *what)
        found = self._answers.get(question)
        if found is None:
            names: set[str] = set()
            found = _EVERY
            for rule in self.rules(user, wanted.namespace):
                if _covers_kind(rule, wanted):
                    if not rule.get("resourceNames"):
                        break
                    names.update(rule["resourceNames"])
            else:
                found = frozenset(names)
            if len(self._answers) >= _MAX_KEPT:
                self._answers.clear()
            self._answers[question] = found
        return found

    def why(self, user: User, wanted: Attributes) -> str:
        """What a review says about a yes: the binding and the role that allow it; "" if none does."""
        for binding, subject, rules in self._bound(user, wanted.namespace):
            if any(covers(rule, wanted) for rule in rules):
                kind, name = binding["roleRef"].get("kind"), binding["roleRef"].get("name")
                meta = binding["metadata"]
                place = f"{meta['name']}/{meta['namespace']}" if meta.get("namespace") else meta["name"]
                which = "RoleBinding" if meta.get("namespace") else "ClusterRoleBinding"
                who = f'{subject["kind"]} "{_subject_name(subject, wanted.namespace)}"'
                return f'RBAC: allowed by {which} "{place}" of {kind} "{name}" to {who}'
        return ""

    def rules(self, user: User, namespace: str) -> Iterator[Document]:
        """Every rule that holds for `user` in `namespace`, cluster-wide ones among them."""
        for _, _, rules in self._bound(user, namespace):
            yield from rules

    def _bound(self, user: User, namespace: str) -> Iterator[tuple[Document, Document, list[Document]]]:
        """The bindings that hold, each with the subject that it holds for and the rules of its role."""
        for binding in self._objects("clusterrolebindings").values():
            if subject := _bound_subject(binding, user, ""):
                yield binding, subject, self.rules_of(binding.get("roleRef") or {}, "")
        if not namespace:
            return
        for key, binding in self._objects("rolebindings").items():
            if key.startswith(f"{namespace}/") and (subject := _bound_subject(binding, user, namespace)):
                yield binding, subject, self.rules_of(binding.get("roleRef") or {}, namespace)

    def role(self, reference: Document, namespace: str) -> Document | None:
        """The role that the `roleRef` of a binding in `namespace` means."""
        name = reference.get("name", "")
        if reference.get("kind") == "ClusterRole":
            return self._objects("clusterroles").get(name)
        return self._objects("roles").get(f"{namespace}/{name}") if namespace else None

    def rules_of(self, reference: Document, namespace: str) -> list[Document]:
        """The rules behind a `roleRef`; none if the role is not there."""
        role = self.role(reference, namespace) or {}
        if role.get("aggregationRule") and reference.get("kind") == "ClusterRole":
            return list(self._aggregated(role, {str(reference.get("name"))}))
        rules: list[Document] = role.get("rules") or []
        return rules

    def _aggregated(self, role: Document, seen: set[str]) -> Iterator[Document]:
        selectors = _selectors(role)
        for name, other in self._objects("clusterroles").items():
            labels = other["metadata"].get("labels") or {}
            if name in seen or not any(selector.matches(labels) for selector in selectors):
                continue
            seen.add(name)
            if other.get("aggregationRule"):
                yield from self._aggregated(other, seen)
            else:
                yield from other.get("rules") or []


def _selectors(role: Document) -> list[Any]:
    found = []
    for document in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
        try:
            selector = read_labels(document)
        except BadRequest:
            continue
        if selector is not None:
            found.append(selector)
    return found


def _bound_subject(binding: Document, user: User, namespace: str) -> Document | None:
    for subject in binding.get("subjects") or ():
        kind = subject.get("kind")
        if kind == "Group":
            if subject.get("name", "") in user.groups:
                return dict(subject)
        elif kind in ("User", "ServiceAccount") and _user_name(subject, namespace) == user.name:
            return dict(subject)
    return None


def _user_name(subject: Document, namespace: str) -> str:
    name = str(subject.get("name", ""))
    if subject.get("kind") != "ServiceAccount":
        return name
    return f"system:serviceaccount:{subject.get('namespace') or namespace}:{name}"


def _subject_name(subject: Document, namespace: str) -> str:
    name = str(subject.get("name", ""))
    if subject.get("kind") != "ServiceAccount":
        return name
    return f"{name}/{subject.get('namespace') or namespace}"


def covers(rule: dict[str, Any], wanted: Attributes) -> bool:
    """Whether `rule` allows what is wanted."""
    if wanted.path:
        urls = rule.get("nonResourceURLs") or ()
        return _has(rule, "verbs", wanted.verb) and any(_is_at(url, wanted.path) for url in urls)
    names = rule.get("resourceNames") or ()
    return _covers_kind(rule, wanted) and (not names or wanted.name in names)


def any_covers(rules: Iterable[Document], wanted: Attributes) -> bool:
    """Whether any of `rules` allows what is wanted."""
    return any(covers(rule, wanted) for rule in rules)


def _covers_kind(rule: dict[str, Any], wanted: Attributes) -> bool:
    return (
        _has(rule, "verbs", wanted.verb)
        and _has(rule, "apiGroups", wanted.group)
        and _has_resource(rule, wanted)
    )


def _is_at(url: str, path: str) -> bool:
    return url in ("*", path) or (url.endswith("*") and path.startswith(url.rstrip("*")))


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

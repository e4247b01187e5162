"""A write as admission sees it, and the rules and selectors that say whom it concerns.

Policies and webhooks name groups, versions, resources and operations. With matchPolicy Equivalent a rule for
one version of a resource also takes requests in another; the object is then shown in the version of the rule.
Source: apiserver/pkg/admission/plugin/policy/matching, plugin/webhook/predicates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from drakit.apiserver.auth import User
from drakit.apiserver.kinds import Kinds
from drakit.apiserver.route import Target
from drakit.apiserver.view import represent
from drakit.errors import APIError
from drakit.model.selector import read_labels
from drakit.model.validation.field import listed, mapped
from drakit.transport import Document

_CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413}
NamespaceLabels = Callable[[str], Mapping[str, str]]


class Resource(Struct, frozen=True):
    """What a rule is matched against: a resource in one version, and the kind of the object in it."""

    group: str
    version: str
    plural: str
    subresource: str
    kind_group: str
    kind_version: str
    kind: str


class Review(Struct, kw_only=True):
    """One write. `new` and `old` are objects as stored, with apiVersion and kind (None: not there); `given`
    (and `given_old`) is the object of a subresource with a kind of its own, such as a Binding or Scale, which
    no version changes.
    `name` is "" where the server makes it up. Texts for `Warning` headers gather in `warnings`."""

    user: User
    target: Target
    operation: str
    name: str
    new: Document | None = None
    old: Document | None = None
    given: Document | None = None
    given_old: Document | None = None
    options: Document | None = None
    is_dry_run: bool = False
    warnings: list[str] = msgspec.field(default_factory=list)

    @property
    def namespace(self) -> str:
        """The namespace; a namespace counts as being in itself."""
        target = self.target
        return target.name if is_namespace(target) else target.namespace

    @property
    def shown_name(self) -> str:
        """The name for error texts."""
        metadata = mapped((self.new or self.given or self.old or {}).get("metadata"))
        return self.name or metadata.get("name") or metadata.get("generateName") or "Unknown"

    def resource(self) -> Resource:
        """The resource of the request itself."""
        target = self.target
        row = target.kind.subresource(target.subresource) if target.subresource else None
        group, version, kind = target.kind.group, target.version, target.kind.kind
        if row is not None and row.kind != kind:
            group, version, kind = row.group, row.version or version, row.kind
        return Resource(
            target.kind.group, target.version, target.kind.plural, target.subresource, group, version, kind
        )

    def equivalents(self, kinds: Kinds) -> Iterator[Resource]:
        """The same resource in the other versions that are served."""
        own = self.resource()
        for row in kinds.rows:
            if row.collection != self.target.kind.collection or row.group != own.group:
                continue
            for version in row.versions:
                if version == own.version or row.plural != own.plural:
                    continue
                is_own_kind = own.kind == self.target.kind.kind
                kind_version = version if is_own_kind else own.kind_version
                yield msgspec.structs.replace(own, version=version, kind_version=kind_version)

    def object_in(self, resource: Resource, kinds: Kinds) -> Document | None:
        """The new object in the version of `resource`."""
        return self.given if self.given is not None else self._in(self.new, resource, kinds)

    def old_in(self, resource: Resource, kinds: Kinds) -> Document | None:
        """The old object in the version of `resource`."""
        return self.given_old if self.given_old is not None else self._in(self.old, resource, kinds)

    def _in(self, document: Document | None, resource: Resource, kinds: Kinds) -> Document | None:
        if document is None:
            return None
        kind = kinds.find(resource.group, resource.version, resource.plural) or self.target.kind
        return represent(document, Target(kind, resource.version, self.target.namespace, self.target.name))


def is_namespace(target: Target) -> bool:
    return target.kind.plural == "namespaces" and not target.kind.group


# --- rules ----------------------------------------------------------------------------------------


def find_rule(
    review: Review, rules: list[Any], match_policy: str | None, kinds: Kinds, *, by_rule: bool = False
) -> Resource | None:
    """The resource under which one of `rules` takes the request, or None. `by_rule` is the order of
    webhooks, which look through the rules first; policies look through the versions."""
    own = review.resource()
    rules = [rule for rule in rules if _takes(rule, own, review)]
    if any(_has(rule.get("apiVersions"), own.version) for rule in rules):
        return own
    if match_policy != "Equivalent" or not rules:
        return None
    others = list(review.equivalents(kinds))
    pairs = ((rule, other) for rule in rules for other in others)
    if not by_rule:
        pairs = ((rule, other) for other in others for rule in rules)
    return next((other for rule, other in pairs if _has(rule.get("apiVersions"), other.version)), None)


def _takes(rule: Mapping[str, Any], resource: Resource, review: Review) -> bool:
    """Whether the rule is for such requests in some version."""
    names = listed(rule.get("resourceNames"))
    return (
        _in_scope(rule.get("scope"), review)
        and _has(rule.get("operations"), review.operation)
        and _has(rule.get("apiGroups"), resource.group)
        and any(_is_resource(text, resource) for text in listed(rule.get("resources")))
        and (not names or review.name in names)
    )


def _has(values: Any, wanted: str) -> bool:
    return "*" in listed(values) or wanted in listed(values)


def _is_resource(text: str, resource: Resource) -> bool:
    plural, _, subresource = text.partition("/")
    return plural in ("*", resource.plural) and subresource in ("*", resource.subresource)


def _in_scope(scope: Any, review: Review) -> bool:
    is_namespaced = not is_namespace(review.target) and bool(review.namespace)
    if scope == "Namespaced":
        return is_namespaced
    return not is_namespaced if scope == "Cluster" else True


# --- selectors ------------------------------------------------------------------------------------


def is_selected(review: Review, match: Mapping[str, Any], labels_of: NamespaceLabels) -> bool:
    """Whether the namespaceSelector and the objectSelector of `match` take the request. Raises BadRequest for
    a selector that cannot be read."""
    return _namespace_is_selected(review, match, labels_of) and _object_is_selected(review, match)


def _namespace_is_selected(review: Review, match: Mapping[str, Any], labels_of: NamespaceLabels) -> bool:
    selector = read_labels(match.get("namespaceSelector"))
    if selector is None or not selector.requirements or not review.namespace:
        return True
    if is_namespace(review.target) and not review.target.subresource and review.new is not None:
        return selector.matches(_labels(review.new))
    return selector.matches(labels_of(review.namespace))


def _object_is_selected(review: Review, match: Mapping[str, Any]) -> bool:
    selector = read_labels(match.get("objectSelector"))
    if selector is None or not selector.requirements:
        return True
    documents = (review.given or review.new, review.old)
    return any(selector.matches(_labels(document)) for document in documents if document is not None)


def _labels(document: Document) -> Mapping[str, str]:
    return mapped(mapped(document.get("metadata")).get("labels"))


# --- refusals -------------------------------------------------------------------------------------


class Denied(APIError):
    """A request that admission refuses, with the reason that the policy or webhook gives."""

    def __init__(self, message: str, *, code: int, why: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message, code=code, details=details)
        self._why = why

    def status(self) -> dict[str, Any]:
        document = super().status()
        code = document.pop("code")
        details = document.pop("details", None)
        document |= {"reason": self._why} if self._why else {}
        document |= {"details": details} if details is not None else {}
        return document | {"code": code}


def denied(review: Review, message: str, reason: str, causes: list[Document] | None = None) -> Denied:
    """The error for a request that admission refuses."""
    kind, name = review.target.kind, review.shown_name
    details = {"name": name, "group": kind.group, "kind": kind.plural, "causes": causes}
    return Denied(
        f'{kind.resource} "{name}" is forbidden: {message}',
        code=_CODES.get(reason, 422),
        why=reason,
        details={key: value for key, value in details.items() if value},
    )

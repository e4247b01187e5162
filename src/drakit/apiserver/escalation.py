"""Nobody gives away rights that he does not have, unless he may `escalate` or `bind`.

Source: kubernetes pkg/registry/rbac/{escalation_check,helpers}.go, */policybased/storage.go,
validation/{rule,policy_compact}.go; component-helpers/auth/rbac/validation/policy_comparator.go.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from drakit.apiserver.auth import Attributes, Authorizer, User
from drakit.apiserver.rbac import RBAC
from drakit.apiserver.roles import GROUP
from drakit.apiserver.route import Target
from drakit.errors import Forbidden, NotFound
from drakit.transport import Document

_ROLES = ("Role", "ClusterRole")
_BINDINGS = ("RoleBinding", "ClusterRoleBinding")
_COLLECTED = ("ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation")
"""Metadata that the garbage collector changes, which gives nobody anything."""

_EVERYTHING: list[Document] = [
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
]
_CLUSTER_ADMIN = "must have cluster-admin privileges to use the aggregationRule"


def check_grant(
    rbac: RBAC, authorizer: Authorizer, user: User, target: Target, new: Document, old: Document | None
) -> None:
    """Raises Forbidden if `new`, an RBAC object that `user` wants to write, gives more than he has."""
    kind = target.kind
    if kind.group != GROUP or kind.kind not in (*_ROLES, *_BINDINGS) or user.is_admin:
        return
    if old is not None and _same_but_collected(new, old):
        return
    if _may(authorizer, user, "escalate", target):
        return
    if kind.kind in _ROLES:
        _check(rbac, user, target, new.get("rules") or [])
        if _is_aggregated(new) or _is_aggregated(old or {}):
            _check(rbac, user, target, _EVERYTHING, _CLUSTER_ADMIN)
        return
    reference = new.get("roleRef") or {}
    plural = "clusterroles" if reference.get("kind") == "ClusterRole" else "roles"
    name = str(reference.get("name", ""))
    if authorizer.allows(user, Attributes("bind", GROUP, plural, "", target.namespace, name)):
        return
    if rbac.role(reference, target.namespace) is None:
        raise NotFound(
            f'{plural}.{GROUP} "{name}" not found', details={"name": name, "group": GROUP, "kind": plural}
        )
    _check(rbac, user, target, rbac.rules_of(reference, target.namespace))


def _may(authorizer: Authorizer, user: User, verb: str, target: Target) -> bool:
    kind = target.kind
    wanted = Attributes(verb, kind.group, kind.plural, "", target.namespace, target.name)
    return kind.kind in _ROLES and authorizer.allows(user, wanted)


def _is_aggregated(role: Document) -> bool:
    return bool((role.get("aggregationRule") or {}).get("clusterRoleSelectors"))


def _same_but_collected(new: Document, old: Document) -> bool:
    def bare(document: Document) -> Document:
        metadata = {key: value for key, value in document["metadata"].items() if key not in _COLLECTED}
        return {
            **{k: v for k, v in document.items() if k not in ("kind", "apiVersion")},
            "metadata": metadata,
        }

    return bare(new) == bare(old)


def _check(rbac: RBAC, user: User, target: Target, wanted: Iterable[Document], problem: str = "") -> None:
    owned = list(rbac.rules(user, target.namespace))
    missing = [part for rule in wanted for part in _parts(rule) if not any(_includes(r, part) for r in owned)]
    if not missing:
        return
    lines = sorted({_text(rule) for rule in _compact(missing)})
    groups = " ".join(json.dumps(group) for group in user.groups)
    problem = problem or (
        f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions '
        "not currently held:\n" + "\n".join(lines)
    )
    kind = target.kind
    details = {"name": target.name, "group": kind.group, "kind": kind.plural}
    text = f'{kind.resource} "{target.name}" is forbidden: {problem}'
    raise Forbidden(text, details={key: value for key, value in details.items() if value})


def _parts(rule: Document) -> Iterator[Document]:
    """A rule as rules for one verb, group, resource and name each (BreakdownRule)."""
    for verb in rule.get("verbs") or ():
        for url in rule.get("nonResourceURLs") or ():
            yield {"verbs": [verb], "nonResourceURLs": [url]}
        for group in rule.get("apiGroups") or ():
            for resource in rule.get("resources") or ():
                part = {"verbs": [verb], "apiGroups": [group], "resources": [resource]}
                names = rule.get("resourceNames") or ()
                if not names:
                    yield part
                for name in names:
                    yield {**part, "resourceNames": [name]}


def _includes(owned: Document, part: Document) -> bool:
    """Whether `owned` covers `part`, a rule with one of each (ruleCovers)."""

    def has(field: str) -> bool:
        values = owned.get(field) or ()
        return "*" in values or all(value in values for value in part.get(field) or ())

    if not has("verbs"):
        return False
    if urls := part.get("nonResourceURLs"):
        known = owned.get("nonResourceURLs") or ()
        return all(any(_is_below(url, mine) for mine in known) for url in urls)
    names, asked = owned.get("resourceNames") or (), part.get("resourceNames") or ()
    if names and (not asked or any(name not in names for name in asked)):
        return False
    return has("apiGroups") and _has_resource(owned.get("resources") or (), part["resources"][0])


def _is_below(url: str, mine: str) -> bool:
    return mine in ("*", url) or (mine.endswith("*") and url.startswith(mine.rstrip("*")))


def _has_resource(known: Iterable[str], resource: str) -> bool:
    _, slash, subresource = resource.partition("/")
    return any(one in ("*", resource) or (slash and one == f"*/{subresource}") for one in known)


def _compact(rules: list[Document]) -> list[Document]:
    """Rules that differ in their verb alone become one (CompactRules)."""
    found: dict[str, Document] = {}
    for rule in rules:
        key = json.dumps({name: value for name, value in rule.items() if name != "verbs"}, sort_keys=True)
        known = found.setdefault(key, {**rule, "verbs": []})
        known["verbs"] += [verb for verb in rule["verbs"] if verb not in known["verbs"]]
    return list(found.values())


def _text(rule: Document) -> str:
    """A rule as upstream's messages write it."""
    names = ("apiGroups", "resources", "nonResourceURLs", "resourceNames", "verbs")
    titles = ("APIGroups", "Resources", "NonResourceURLs", "ResourceNames", "Verbs")
    parts = []
    for name, title in zip(names, titles, strict=True):
        if values := rule.get(name):
            parts.append(f"{title}:[{' '.join(json.dumps(value) for value in values)}]")
    return "{" + ", ".join(parts) + "}"

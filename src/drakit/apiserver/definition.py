"""CustomResourceDefinitions: the kinds they add, the names they get, and what becomes of them at the end.

Everything here is a function of documents; `custom_resources` carries out what they say.
Source: apiextensions-apiserver/pkg/controller/{status,establish,finalizer}.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from drakit.apiserver.custom_version import CustomVersion, priority
from drakit.apiserver.kinds import Kind, Subresource
from drakit.model.validation.field import listed, mapped
from drakit.transport import Document

COLLECTION = "customresourcedefinitions.apiextensions.k8s.io"
KIND = "CustomResourceDefinition"
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_EDIT = ("get", "patch", "update")
_NAMES = (
    ("plural", "PluralConflict"),
    ("singular", "SingularConflict"),
    ("kind", "KindConflict"),
    ("listKind", "ListKindConflict"),
)


def condition(definition: Document, type_: str) -> Document | None:
    rows = listed(mapped(definition.get("status")).get("conditions"))
    return next((row for row in rows if row.get("type") == type_), None)


def is_true(definition: Document, type_: str) -> bool:
    found = condition(definition, type_)
    return found is not None and found.get("status") == "True"


def with_condition(status: Document, type_: str, value: str, reason: str, message: str, now: str) -> Document:
    """`status` with the condition; its time changes only with its value."""
    rows = listed(status.get("conditions"))
    old: Document = next((row for row in rows if row.get("type") == type_), {})
    row = {
        "type": type_,
        "status": value,
        "lastTransitionTime": old.get("lastTransitionTime") if old.get("status") == value else now,
        "reason": reason,
        "message": message,
    }
    if old:
        return {**status, "conditions": [row if other is old else other for other in rows]}
    return {**status, "conditions": [*rows, row]}


# --- kinds ----------------------------------------------------------------------------------------


def kinds_of(definition: Document, kubernetes: str) -> list[Kind]:
    """One kind for each served version, the preferred first; none before the definition is established.
    Where a webhook would convert between versions, only the stored one can be served."""
    if not is_true(definition, "Established"):
        return []
    versions = [row for row in definition["spec"]["versions"] if row.get("served")]
    if mapped(definition["spec"].get("conversion")).get("strategy") == "Webhook":
        versions = [row for row in versions if row.get("storage")]
    versions.sort(key=lambda row: priority(row["name"]))
    return [_kind(definition, row, kubernetes) for row in versions]


def storage_kind(definition: Document, kubernetes: str) -> Kind:
    """The kind in its storage version, served or not: what its stored objects are handled as."""
    row = next(row for row in definition["spec"]["versions"] if row.get("storage"))
    return _kind(definition, row, kubernetes)


def _kind(definition: Document, version: Document, kubernetes: str) -> Kind:
    spec = definition["spec"]
    names = {**spec["names"], **mapped(mapped(definition.get("status")).get("acceptedNames"))}
    found = CustomVersion(definition, version, kubernetes)
    subresources = []
    if found.has_status:
        subresources.append(Subresource("status", names["kind"], _EDIT))
    if found.scale is not None:
        subresources.append(Subresource("scale", "Scale", _EDIT, "autoscaling", "v1"))
    return Kind(
        group=spec["group"],
        plural=spec["names"]["plural"],
        kind=names["kind"],
        list_kind=names["listKind"],
        versions=(version["name"],),
        storage_version=next(row["name"] for row in spec["versions"] if row.get("storage")),
        is_namespaced=spec["scope"] == "Namespaced",
        singular=names["singular"],
        short_names=tuple(listed(names.get("shortNames"))),
        categories=tuple(listed(names.get("categories"))),
        subresources=tuple(subresources),
        collection=definition["metadata"]["name"],
        custom=found,
    )


# --- names ----------------------------------------------------------------------------------------


def has_its_names(definition: Document) -> bool:
    """Whether there is nothing left to decide about the names."""
    accepted = mapped(definition.get("status")).get("acceptedNames")
    is_served = is_true(definition, "NamesAccepted") and is_true(definition, "Established")
    return is_served and accepted == definition["spec"]["names"]


def accept_names(definition: Document, others: Iterable[Document], now: str) -> Document:
    """The status of `definition` with the names it may have beside `others`, all definitions there are.
    A name is taken by the definition of the same group that was first to have it accepted."""
    wanted, group = definition["spec"]["names"], definition["spec"]["group"]
    status = mapped(definition.get("status"))
    own = mapped(status.get("acceptedNames"))
    resources, kinds = _taken(group, definition["metadata"]["name"], others)
    accepted: dict[str, Any] = {**own}
    reason, message = "NoConflicts", "no conflicts found"
    for field, problem in _NAMES:
        name = wanted.get(field, "")
        if name != own.get(field) and name in (kinds if "ind" in field else resources):
            reason, message = problem, f'"{name}" is already in use'
        else:
            accepted[field] = name
    clashes = [
        f'"{name}" is already in use' for name in listed(wanted.get("shortNames")) if name in resources
    ]
    if clashes:
        reason = "ShortNamesConflict"
        message = clashes[0] if len(clashes) == 1 else f"[{', '.join(clashes)}]"
    for field in ("shortNames", "categories"):
        if field == "shortNames" and clashes:
            continue
        accepted.pop(field, None)
        if wanted.get(field):
            accepted[field] = wanted[field]
    value = "True" if reason == "NoConflicts" else "False"
    status = {**status, "acceptedNames": accepted}
    status = with_condition(status, "NamesAccepted", value, reason, message, now)
    if not is_true(definition, "Established"):
        established = ("True", "InitialNamesAccepted", "the initial names have been accepted")
        refused = ("False", "NotAccepted", "not all names are accepted")
        status = with_condition(status, "Established", *(established if value == "True" else refused), now)
    return status


def _taken(group: str, name: str, others: Iterable[Document]) -> tuple[set[str], set[str]]:
    resources: set[str] = set()
    kinds: set[str] = set()
    for other in others:
        if other["spec"]["group"] != group or other["metadata"]["name"] == name:
            continue
        names = mapped(mapped(other.get("status")).get("acceptedNames"))
        resources |= {names.get("plural", ""), names.get("singular", ""), *listed(names.get("shortNames"))}
        kinds |= {names.get("kind", ""), names.get("listKind", "")}
    return resources - {""}, kinds - {""}


# --- the end --------------------------------------------------------------------------------------


def begin_end(definition: Document, now: str) -> None:
    """Mark `definition`, which is being deleted, for the removal of its objects."""
    metadata = definition["metadata"]
    metadata["finalizers"] = list(dict.fromkeys([*listed(metadata.get("finalizers")), CLEANUP]))
    definition["status"] = with_condition(
        mapped(definition.get("status")),
        "Terminating",
        "True",
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        now,
    )


def is_to_be_emptied(definition: Document) -> bool:
    metadata = definition["metadata"]
    return bool(metadata.get("deletionTimestamp")) and CLEANUP in listed(metadata.get("finalizers"))


def ended(definition: Document, now: str) -> Document:
    """`definition` once none of its objects is left."""
    metadata = definition["metadata"]
    left = [name for name in listed(metadata.get("finalizers")) if name != CLEANUP]
    status = with_condition(
        mapped(definition.get("status")),
        "Terminating",
        "False",
        "InstanceDeletionCompleted",
        "removed all instances",
        now,
    )
    return {**definition, "metadata": {**metadata, "finalizers": left}, "status": status}

"""What the API server does about one kind beyond storing it: the seam between verbs and rules.

The order of a write is upstream's (registry/rest/create.go, update.go):

    create   decoding.decode -> prepare_create -> validate_create -> track_managed_fields -> store
    update   decoding.decode -> prepare_update -> validate_update -> track_managed_fields -> store

Documents are in the version the server keeps (`decoding.kept_version`). Strategies hold no state. The
modules a verb calls, with their signatures:

    schema.type_for(api_version, kind, version) -> Type | None;  schema.custom_type(schema, kind, version)
    decoding.decode(document, *, api_version, kind, profile, field_validation, raw, type_) -> Decoded
    decoding.encode(document, version, profile) -> Document;  decoding.deprecation(api_version, kind, profile)
    strategy_for(kind, group) -> Strategy;  custom_strategy(type_, has_status) -> Strategy
    patch.apply_patch(current, patch, content_type, type_) -> Document
    apply.server_side_apply(live, applied, *, manager, force, type_, api_version, subresource, now) -> Document
    apply.track_managed_fields(old, new, *, manager, type_, api_version, subresource, now) -> None
    table.table(kind, objects, *, group, version, now, resource_version, include_object, columns, ...) -> Document

A patch: encode -> apply_patch -> decode(raw=None) -> prepare_update -> ... ; managedFields are computed on
encoded documents (the request's version) and `metadata.managedFields` is copied over to the kept one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct

from drakit.errors import FieldError
from drakit.profile import Profile
from drakit.transport import Document


class Context(Struct, kw_only=True):
    """What a strategy may ask about the request and the cluster around it.

    `now` is RFC 3339 with seconds. `namespace_labels(name)` gives a namespace's labels ({} without one);
    `find(kind, namespace, name)` another object ("PriorityClass", "", "high") or None; `authorize(verb,
    resource, namespace, name)` says whether the user may do that on resource.k8s.io (None: no
    authorization is done, everything is allowed).
    """

    profile: Profile
    now: str
    user: str = ""
    groups: tuple[str, ...] = ()
    version: str = ""
    namespace_labels: Callable[[str], Mapping[str, str]]
    find: Callable[[str, str, str], Document | None]
    authorize: Callable[[str, str, str, str], bool] | None = None


class Strategy(Protocol):
    """The rules of one kind. Documents given to prepare_* belong to the caller and are changed in place."""

    def prepare_create(self, document: Document, context: Context) -> None:
        """Reset what a client may not set on create (status, generation), drop fields of disabled gates,
        do what upstream's built-in admission does (service account, priority, tolerations)."""

    def validate_create(self, document: Document, context: Context) -> list[FieldError]:
        """Every rule the new object breaks, in upstream's order."""

    def prepare_update(self, new: Document, old: Document, subresource: str, context: Context) -> None:
        """Take from `old` what this request may not change (status on a plain update, all but status on
        `status`), count `generation` up if the spec changed. `old` stays unchanged."""

    def validate_update(
        self, new: Document, old: Document, subresource: str, context: Context
    ) -> list[FieldError]:
        """Every rule the changed object or the change breaks."""

    def warnings(self, document: Document, old: Document | None, context: Context) -> list[str]:
        """Texts for `Warning` headers, deprecated versions aside (`decoding.deprecation`)."""

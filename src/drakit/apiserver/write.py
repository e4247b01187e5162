"""create, update, patch and apply: from a request to the object's next state.

One path for all: take the object as the request means it, let the kind's strategy prepare and check it,
note who manages which fields, store it if nobody was faster. Between reading the old state and offering
the new one to the store there is no await, so nobody can be faster; a client's own resourceVersion is
what makes conflicts.
Source: apiserver/pkg/registry/rest/{create,update}.go, pkg/endpoints/handlers/{create,update,patch}.go.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from drakit.apiserver import apply
from drakit.apiserver.admission_request import Review
from drakit.apiserver.apply_check import check_fits
from drakit.apiserver.body import NO_KIND, unrecognized
from drakit.apiserver.identity import check_identity, check_name, keep_system_fields, place
from drakit.apiserver.options import check_options
from drakit.apiserver.patch import apply_patch
from drakit.apiserver.patch_refusal import refused
from drakit.apiserver.registry import Call, Registry
from drakit.apiserver.repeats import as_warnings
from drakit.apiserver.route import Target
from drakit.apiserver.view import One, stored_document
from drakit.errors import (
    AlreadyExists,
    APIError,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    MethodNotAllowed,
)
from drakit.store import Entry
from drakit.transport import APPLY_PATCH, Document

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX = 5
_MAX_GENERATED_BASE = 63 - _SUFFIX
_ATTEMPTS = 8
_UPSERTS = frozenset(
    {"Lease", "Endpoints", "Event", "LimitRange", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
)
"""Kinds that a PUT or apply to a missing name may create (AllowCreateOnUpdate)."""


def random_suffix() -> str:
    """Five characters as upstream appends them to generated names: no vowels, no words by accident."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_SUFFIX))


# --- create ---------------------------------------------------------------------------------------


async def create(registry: Registry, call: Call) -> One:
    """POST: store a new object."""
    check_options(call)
    document = registry.decode(call, _body(call), call.raw)
    return await create_document(registry, call, document)


def _body(call: Call) -> Any:
    if call.document is None and not call.raw:
        raise unrecognized(f"{NO_KIND}unexpected end of JSON input", b"")
    return call.document


async def create_document(registry: Registry, call: Call, document: Document) -> One:
    """Store `document` (decoded, the caller's own) under the name it has or asks for."""
    metadata = document["metadata"]
    if call.target.kind.custom and call.target.kind.custom.is_terminating:
        raise MethodNotAllowed("create not allowed while custom resource definition is terminating")
    if metadata.get("resourceVersion"):
        raise APIError("resourceVersion should not be set on objects to be created", code=500)
    place(call.target, metadata)
    _check_namespace(registry, call)
    is_generated = not metadata.get("name") and bool(metadata.get("generateName"))
    for attempt in range(_ATTEMPTS):
        own: Document = msgspec.to_builtins(document) if is_generated else document
        if is_generated:
            own["metadata"]["name"] = metadata["generateName"][:_MAX_GENERATED_BASE] + random_suffix()
        try:
            return await _create_named(registry, call, own)
        except AlreadyExists:
            if not is_generated or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


async def _create_named(registry: Registry, call: Call, document: Document) -> One:
    metadata = document["metadata"]
    target = msgspec.structs.replace(call.target, name=str(metadata.get("name") or ""), subresource="")
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "uid", "creationTimestamp"):
        metadata.pop(field, None)
    context, strategy = registry.context(call), registry.strategy(target.kind)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = context.now
    registry.admit(call.user, target, document, None)
    if call.content_type != APPLY_PATCH:
        _track(registry, call, None, document, context.now)
    review = registry.review(call, target, "CREATE", document, None)
    if review is not None:
        await _mutate(registry, call, review)
        if review.new is not None and review.new is not document:
            document = review.new
            check_name(target, document)
    strategy.prepare_create(document, context)
    errors = strategy.validate_create(document, context)
    if errors:
        raise Invalid.of(target.kind.group, target.kind.kind, target.name, errors)
    if registry.store.head(target.kind.collection, target.key) is not None:
        raise registry.exists(target)
    call.warnings += strategy.warnings(document, None, context)
    if review is not None:
        await registry.admission.validate(msgspec.structs.replace(review, new=document))
    with registry.quota.charge(target, document):
        entry = await registry.write(target, None, document, is_dry_run=call.is_dry_run)
    return One(target=target, entry=entry, status=201)


def _check_namespace(registry: Registry, call: Call) -> None:
    """The namespace must be there and not be on its way out (NamespaceLifecycle)."""
    target = call.target
    if not target.kind.is_namespaced:
        return
    namespaces = registry.kinds.resource("", "namespaces")
    assert namespaces is not None
    namespace = registry.find("Namespace", "", target.namespace)
    if namespace is None:
        raise Target(namespaces, "v1", "", target.namespace).missing()
    if namespace["metadata"].get("deletionTimestamp"):
        name = call.target.name or (call.document.get("metadata") or {}).get("name", "")
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {target.namespace} is being terminated",
            "field": "metadata.namespace",
        }
        details = {"name": name, "group": target.kind.group, "kind": target.kind.plural, "causes": [cause]}
        raise Forbidden(
            f'{target.kind.resource} "{name}" is forbidden: unable to create new content in namespace '
            f"{target.namespace} because it is being terminated",
            details={key: value for key, value in details.items() if value},
        )


async def _mutate(registry: Registry, call: Call, review: Review) -> bool:
    """Have the new object of `review` changed by admission; whether others were waited for."""

    def decode(document: Document, version: str) -> Document:
        kind = registry.kinds.find(call.target.kind.group, version, call.target.kind.plural)
        target = msgspec.structs.replace(call.target, version=version, kind=kind or call.target.kind)
        query = {"fieldValidation": "Ignore"}
        return registry.decode(
            msgspec.structs.replace(call, target=target, query=query, warnings=[]), document
        )

    return await registry.admission.mutate(review, decode)


def _track(registry: Registry, call: Call, old: Document | None, new: Document, now: str) -> None:
    """Note in `new` which fields the request set. Both are as stored; the notes are in the terms of the
    request's version."""
    target = call.target
    before = registry.represent(old, target) if old else None
    after = registry.represent(new, target)
    apply.track_managed_fields(
        before,
        after,
        manager=call.manager,
        type_=registry.type_of(target),
        api_version=target.api_version,
        subresource=target.subresource,
        ignored=registry.strategy(target.kind).reset_fields(target.subresource),
        now=now,
    )
    fields = after["metadata"].get("managedFields")
    if fields is not None:
        new["metadata"]["managedFields"] = fields
    else:
        new["metadata"].pop("managedFields", None)


# --- update ---------------------------------------------------------------------------------------

Change = Callable[[Document], Document]
"""From the object as stored to its next state (with apiVersion and kind); the old one stays as it is."""


async def update(registry: Registry, call: Call) -> One:
    """PUT: replace the object, or its status."""
    check_options(call)
    body = _body(call)
    target = call.target
    if registry.store.head(target.kind.collection, target.key) is None:
        if target.kind.custom or target.kind.kind not in _UPSERTS or target.subresource:
            raise target.missing()
        new = registry.decode(call, body, call.raw)
        check_name(target, new)
        return await create_document(registry, call, new)
    new = registry.decode(call, body, call.raw)
    check_name(target, new)
    return await change(registry, call, lambda old: new)


async def change(registry: Registry, call: Call, next_state: Change, *, is_admitted: bool = False) -> One:
    """Bring the object of the call from its newest state to `next_state` of it.

    Where a webhook was waited for somebody else may have been faster: then all of it is done again.
    `is_admitted`: admission was asked already, about what the request really says.
    """
    said = len(call.warnings)
    for attempt in range(_ATTEMPTS):
        is_last = attempt == _ATTEMPTS - 1
        done = await _change_once(registry, call, next_state, is_last=is_last, is_admitted=is_admitted)
        if done is not None:
            return done
        del call.warnings[said:]
    raise AssertionError("unreachable")


async def _change_once(
    registry: Registry, call: Call, next_state: Change, *, is_last: bool, is_admitted: bool
) -> One | None:
    """None if somebody else was faster while a webhook was waited for."""
    target = call.target
    entry = registry.head(target)
    old = stored_document(entry)
    if target.kind.custom is not None:
        old = target.kind.custom.read(old)
    new = next_state(old)
    check_name(target, new)
    check_identity(registry, target, entry, old, new)
    keep_system_fields(entry, old, new)
    registry.admit(call.user, target, new, old)
    context, strategy = registry.context(call), registry.strategy(target.kind)
    if call.content_type != APPLY_PATCH:
        _track(registry, call, old, new, context.now)
    review = None if is_admitted else registry.review(call, target, "UPDATE", new, old)
    has_waited = False
    if review is not None:
        has_waited = await _mutate(registry, call, review)
        new = review.new or new
        check_name(target, new)
        keep_system_fields(entry, old, new)
    strategy.prepare_update(new, old, target.subresource, context)
    errors = strategy.validate_update(new, old, target.subresource, context)
    if errors:
        raise Invalid.of(target.kind.group, target.kind.kind, target.name, errors)
    call.warnings += strategy.warnings(new, old, context)
    apply.restore_times(old, new)
    if review is not None:
        has_waited |= await registry.admission.validate(msgspec.structs.replace(review, new=new))
    try:
        if is_finished(new) and not call.is_dry_run:
            deleted = await registry.commit(target, entry, None)
            return One(target=target, entry=with_version(new, target.key, deleted.revision))
        written = await registry.write(target, entry, new, is_dry_run=call.is_dry_run)
    except Conflict:
        if is_last or not has_waited:
            raise
        return None
    return One(target=target, entry=written)


def with_version(document: Document, key: str, revision: int) -> Entry:
    """`document` as an entry that is not in the store any more."""
    stored = {name: value for name, value in document.items() if name not in ("kind", "apiVersion")}
    stored["metadata"] = {**stored["metadata"], "resourceVersion": str(revision)}
    return Entry(key, revision, msgspec.json.encode(stored))


def is_finished(document: Document) -> bool:
    """Whether a deleted object has nothing left to wait for (ShouldDeleteDuringUpdate)."""
    metadata = document["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if metadata.get("deletionGracePeriodSeconds"):
        return False
    return document.get("kind") != "Namespace" or not (document.get("spec") or {}).get("finalizers")


# --- patch ----------------------------------------------------------------------------------------


async def patch(registry: Registry, call: Call) -> One:
    """PATCH in any of the four formats."""
    check_options(call)
    if call.content_type == APPLY_PATCH:
        return await _apply(registry, call)
    target = call.target
    registry.head(target)
    body = _body(call)
    merge_type = None if target.kind.custom else registry.type_of(target)

    def patched(old: Document) -> Document:
        current = registry.represent(old, target)
        try:
            return registry.decode(call, apply_patch(current, body, call.content_type, merge_type))
        except BadRequest as error:
            # Decoding has changed the outcome: it is made again to be shown.
            outcome = apply_patch(current, body, call.content_type, merge_type)
            raise refused(error, body, outcome, call.content_type) from None

    return await change(registry, call, patched)


async def _apply(registry: Registry, call: Call) -> One:
    """Server-side apply, which creates what is not there."""
    target, query = call.target, call.query
    manager = query["fieldManager"]
    applied = call.document
    if not isinstance(applied, dict):
        raise BadRequest("error decoding YAML: an object was expected")
    head = registry.store.head(target.kind.collection, target.key)
    if head is None and target.subresource:
        raise target.missing()
    apply.check_head(applied, target.api_version)
    check_fits(applied, registry.type_of(target))
    odd = call.odd
    call = msgspec.structs.replace(call, odd=())
    registry.decode(call, applied)

    def merged(old: Document | None) -> Document:
        live = registry.represent(old, target) if old else None
        result = apply.server_side_apply(
            live,
            applied,
            manager=manager,
            force=query.get("force", "false").lower() in ("true", "1"),
            type_=registry.type_of(target),
            api_version=target.api_version,
            subresource=target.subresource,
            ignored=registry.strategy(target.kind).reset_fields(target.subresource),
            now=registry.now(),
        )
        if odd and call.field_validation == "Strict":
            raise BadRequest(f"error strict decoding YAML: error converting YAML to JSON: {odd[0]}")
        quiet = msgspec.structs.replace(call, warnings=[])
        return registry.decode(quiet, result)

    if call.field_validation == "Warn":
        call.warnings += as_warnings(odd)
    if head is not None:
        return await change(registry, call, merged)
    new = merged(None)
    check_name(target, new)
    return await create_document(registry, call, new)

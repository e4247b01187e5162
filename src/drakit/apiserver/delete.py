"""delete and deletecollection: now, or a mark that others act upon.

An object with finalizers, or a pod with time to stop, stays with a deletionTimestamp until those who hold
it are done; the last update then removes it (`write.change`). How its dependents go is left to the
garbage collector by a finalizer.
Source: apiserver/pkg/registry/rest/delete.go, registry/generic/registry/store.go, core/pod/strategy.go.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from drakit.apiserver import definition, read
from drakit.apiserver.options import check_dry_run
from drakit.apiserver.registry import Call, Registry
from drakit.apiserver.route import Target
from drakit.apiserver.view import Many, One, Plain, stored_document
from drakit.apiserver.write import is_finished, with_version
from drakit.errors import BadRequest, Conflict, FieldError, Forbidden, Invalid, NotFound
from drakit.store import Entry
from drakit.transport import Document

_FINALIZERS = {"Orphan": "orphan", "Foreground": "foregroundDeletion"}
_RETURNED = frozenset(
    {
        "Pod",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "PodTemplate",
        "ResourceQuota",
        "Service",
        "ServiceAccount",
    }
)
_KEPT_NAMESPACES = ("default", "kube-system", "kube-public")
_DEFAULT_GRACE = 30


class Preconditions(Struct, rename="camel"):
    uid: str | None = None
    resource_version: str | None = None


class Options(Struct, rename="camel"):
    """DeleteOptions."""

    grace_period_seconds: int | None = None
    preconditions: Preconditions | None = None
    orphan_dependents: bool | None = None
    propagation_policy: str | None = None
    dry_run: list[str] | None = None


def options_of(call: Call) -> Options:
    """The options in the body, else in the query. Raises BadRequest or Invalid for broken ones."""
    body: Any = call.document
    if body is None:
        body = _from_query(call.query)
    try:
        options = msgspec.convert(body, Options)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the DeleteOptions cannot be read: {error}") from None
    policy = options.propagation_policy
    if policy is not None and policy not in ("Background", "Foreground", "Orphan"):
        choices = '"Foreground", "Background", "Orphan", "nil"'
        text = f'Unsupported value: "{policy}": supported values: {choices}'
        raise _invalid("FieldValueNotSupported", text)
    if policy is not None and options.orphan_dependents is not None:
        text = f'Invalid value: "{policy}": orphanDependents and deletionPropagation cannot be both set'
        raise _invalid("FieldValueInvalid", text)
    if options.grace_period_seconds is not None and options.grace_period_seconds < 0:
        options.grace_period_seconds = 1
    if call.is_dry_run:
        options.dry_run = ["All"]
    check_dry_run({"dryRun": (options.dry_run or [""])[0]}, "DeleteOptions")
    return options


def _invalid(reason: str, text: str) -> Invalid:
    error = FieldError(reason, "propagationPolicy", text)
    return Invalid.of("meta.k8s.io", "DeleteOptions", "", [error])


def _from_query(query: Mapping[str, str]) -> Document:
    body: Document = {}
    if text := query.get("gracePeriodSeconds"):
        if not (text.lstrip("-").isdigit() and text.isascii() and len(text) < 19):
            raise BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax')
        body["gracePeriodSeconds"] = int(text)
    if policy := query.get("propagationPolicy"):
        body["propagationPolicy"] = policy
    if "orphanDependents" in query:
        body["orphanDependents"] = read.is_true(query, "orphanDependents")
    return body


async def delete(registry: Registry, call: Call) -> One | Plain:
    """DELETE one object."""
    return await remove(registry, call.target, options_of(call), call)


async def remove(
    registry: Registry, target: Target, options: Options, call: Call | None = None
) -> One | Plain:
    """Delete the object of `target` as `options` say, for the user of `call` (None: for the server, which
    asks nobody)."""
    if target.kind.kind == "Namespace" and target.name in _KEPT_NAMESPACES:
        details = {"name": target.name, "kind": "namespaces"}
        text = f'namespaces "{target.name}" is forbidden: this namespace may not be deleted'
        raise Forbidden(text, details=details)
    entry = registry.head(target)
    old = stored_document(entry)
    if call is not None:
        registry.admit(call.user, target, None, old)
    _check_preconditions(registry, target, entry, old, options.preconditions)
    new = _marked(registry, target, old, options)
    is_gone = is_finished({**new, "kind": target.kind.kind})
    review = registry.review(call, target, "DELETE", None, old) if call is not None else None
    if review is not None:
        review.is_dry_run = bool(options.dry_run)
        has_waited = await registry.admission.mutate(review, lambda document, version: document)
        has_waited |= await registry.admission.validate(review)
        if has_waited and registry.head(target).revision != entry.revision:
            return await remove(registry, target, options, call)
    if options.dry_run:
        return _answer(target, with_version(new, target.key, entry.revision), new, is_gone)
    if is_gone:
        deleted = await registry.commit(target, entry, None)
        return _answer(target, with_version(old, target.key, deleted.revision), new, True)
    written = await registry.write(target, entry, new, is_dry_run=False)
    return One(target=target, entry=written)


def _answer(target: Target, entry: Entry, document: Document, is_gone: bool) -> One | Plain:
    kind = target.kind
    if not is_gone or kind.kind in _RETURNED or kind.group == "resource.k8s.io":
        return One(target=target, entry=entry)
    uid = document["metadata"].get("uid", "")
    details = {"name": target.name, "group": kind.group, "kind": kind.plural, "uid": uid}
    return Plain(
        document={
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {key: value for key, value in details.items() if value},
        }
    )


def _check_preconditions(
    registry: Registry, target: Target, entry: Entry, old: Document, wanted: Preconditions | None
) -> None:
    if wanted is None:
        return
    uid, kind = old["metadata"].get("uid", ""), target.kind
    problem = ""
    if wanted.uid is not None and wanted.uid != uid:
        problem = (
            f"the UID in the precondition ({wanted.uid}) does not match the UID in record ({uid}). "
            "The object might have been deleted and then recreated"
        )
    elif wanted.resource_version is not None and wanted.resource_version != str(entry.revision):
        problem = (
            f"the ResourceVersion in the precondition ({wanted.resource_version}) does not match the "
            f"ResourceVersion in record ({entry.revision}). The object might have been modified"
        )
    if problem:
        details = {"name": target.name, "group": kind.group, "kind": kind.kind}
        raise Conflict(
            f'Operation cannot be fulfilled on {kind.group_kind} "{target.name}": {problem}',
            details={key: value for key, value in details.items() if value},
        )


def _marked(registry: Registry, target: Target, old: Document, options: Options) -> Document:
    """The object with the marks of its deletion; finished (see `is_finished`) if it can go at once."""
    metadata = dict(old["metadata"])
    new = {**old, "metadata": metadata}
    finalizers = _finalizers(metadata.get("finalizers") or [], options)
    metadata["finalizers"] = finalizers
    if not finalizers:
        del metadata["finalizers"]
    grace = _grace(old, options) if target.kind.kind == "Pod" else 0
    left = metadata.get("deletionGracePeriodSeconds")
    if metadata.get("deletionTimestamp") and (left is None or grace >= left):
        return new
    now = registry.time().replace(microsecond=0)
    began = metadata.get("deletionTimestamp")
    if began and left is not None:
        now = min(now, _parse(began) - datetime.timedelta(seconds=left))
    moment = now + datetime.timedelta(seconds=grace)
    metadata["deletionTimestamp"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata["deletionGracePeriodSeconds"] = grace
    if target.kind.kind == definition.KIND and not target.kind.custom:
        definition.begin_end(new, registry.now())
    if metadata.get("generation"):
        metadata["generation"] += 1
    if target.kind.kind == "Namespace":
        new["status"] = {**(old.get("status") or {}), "phase": "Terminating"}
    return new


def _parse(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def _finalizers(present: list[str], options: Options) -> list[str]:
    policy = options.propagation_policy
    if options.orphan_dependents is not None:
        policy = "Orphan" if options.orphan_dependents else "Background"
    if policy is None:
        return list(present)
    kept = [name for name in present if name not in _FINALIZERS.values()]
    wanted = _FINALIZERS.get(policy)
    return [*kept, wanted] if wanted else kept


def _grace(pod: Document, options: Options) -> int:
    """Seconds a pod gets to stop: none if it never ran anywhere or has ended."""
    spec = pod.get("spec") or {}
    grace = options.grace_period_seconds
    if grace is None:
        grace = spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE)
    is_ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return 0 if is_ended or not spec.get("nodeName") else max(0, int(grace))


async def delete_collection(registry: Registry, call: Call) -> Many:
    """DELETE everything a list would give."""
    options = options_of(call)
    found = read.list_objects(registry, call)
    entries = []
    for entry in found.entries:
        namespace, _, name = entry.key.rpartition("/")
        target = msgspec.structs.replace(call.target, namespace=namespace, name=name)
        try:
            answer = await remove(registry, target, options, call)
        except NotFound:
            continue
        entries.append(answer.entry if isinstance(answer, One) else entry)
    return Many(target=call.target, entries=entries, revision=registry.store.revision)

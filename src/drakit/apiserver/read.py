"""get, list and watch: what a request may ask for, and how its resourceVersion is understood.

A list without a resourceVersion, with 0 or with one that is not newer than the store gives what is there
now. `Exact` and the later pages of a limited list give what was there at that revision, as long as the
history reaches back; a continue token says revision and last key.
Source: apiserver/pkg/storage/etcd3/store.go, pkg/registry/rest validation of ListOptions.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from drakit.apiserver.registry import Call, Registry
from drakit.apiserver.selection import select
from drakit.apiserver.view import Many, One, stored_document
from drakit.apiserver.watch import Watch
from drakit.errors import APIError, BadRequest, Expired, FieldError, Invalid, Timeout
from drakit.model.validation.field import quoted
from drakit.store import Entry

_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new "
    "list without the continue parameter, or use the continue token in this response to retrieve the "
    "remainder of the results. Continuing with the provided token results in an inconsistent list - objects "
    "that were created, modified, or deleted between the time the first chunk was returned and now may "
    "show up in the list."
)
_INCONSISTENT = -1
"""In place of a token's revision: what is there now."""
_TOKEN_VERSION = "meta.k8s.io/v1"


class _Continue(Struct, rename={"version": "v", "revision": "rv"}):
    """A page's end: upstream's token, with the key behind the last one, relative to what is listed."""

    version: str = ""
    revision: int = 0
    start: str = ""


def get(registry: Registry, call: Call) -> One:
    """The object a GET names."""
    target = call.target
    version(call.query.get("resourceVersion", ""))
    entry = registry.store.get(target.kind.collection, target.key)
    if entry is None:
        raise target.missing()
    return One(target=target, entry=entry)


def version(text: str) -> int:
    """A resourceVersion as a number, 0 for none. Raises BadRequest for anything else."""
    if not text:
        return 0
    shown = quoted(text)
    why = "value out of range" if text.isascii() and text.isdigit() else "invalid syntax"
    if why == "invalid syntax" or int(text[:25]) >= 1 << 64:
        raise BadRequest(
            f"resourceVersion: Invalid value: {shown}: strconv.ParseUint: parsing {shown}: {why}"
        )
    return int(text)


def _whole_number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "")
    if not text:
        return 0
    if not (text.lstrip("+-").isdigit() and text.isascii() and len(text) < 19):
        raise BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def is_true(query: Mapping[str, str], name: str) -> bool:
    """A boolean parameter as Kubernetes reads them: there, and not false or 0."""
    return query.get(name, "false").lower() not in ("false", "0")


def _options_invalid(reason: str, field: str, message: str) -> Invalid:
    return Invalid.of("meta.k8s.io", "ListOptions", "", [FieldError(reason, field, message)])


def _check_match(query: Mapping[str, str], is_watch: bool) -> None:
    match, given = query.get("resourceVersionMatch", ""), query.get("resourceVersion", "")
    field = "resourceVersionMatch"
    if "sendInitialEvents" in query:
        if not is_watch:
            field = "sendInitialEvents"
            text = "Forbidden: sendInitialEvents is forbidden for list"
            raise _options_invalid("FieldValueForbidden", field, text)
        if match != "NotOlderThan":
            text = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise _options_invalid("FieldValueForbidden", field, text)
        return
    if not match:
        return
    if is_watch:
        text = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        raise _options_invalid("FieldValueForbidden", field, text)
    if not given:
        text = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise _options_invalid("FieldValueForbidden", field, text)
    if query.get("continue"):
        text = "Forbidden: resourceVersionMatch is forbidden when continue is provided"
        raise _options_invalid("FieldValueForbidden", field, text)
    if match not in ("Exact", "NotOlderThan"):
        text = f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan", ""'
        raise _options_invalid("FieldValueNotSupported", field, text)
    if match == "Exact" and given == "0":
        text = 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        raise _options_invalid("FieldValueForbidden", field, text)


def list_objects(registry: Registry, call: Call) -> Many:
    """The list a GET asks for."""
    query, store = call.query, registry.store
    _check_match(query, is_watch=False)
    selection = select(call.target, query)
    limit = _whole_number(query, "limit")
    if limit < 0:
        raise BadRequest("limit must not be negative")
    revision, after = store.revision, ""
    try:
        wanted = version(query.get("resourceVersion", ""))
    except BadRequest as error:
        raise BadRequest(f"invalid resource version: {error.message}") from None
    if token := query.get("continue"):
        if wanted:
            raise BadRequest("specifying resource version is not allowed when using continue")
        revision, after = _read_token(token, selection.space)
        revision = revision if revision > 0 else store.revision
    elif query.get("resourceVersionMatch") == "Exact":
        revision = wanted
    if wanted > store.revision or revision > store.revision:
        raise _too_new(max(wanted, revision), store.revision)
    try:
        entries = store.page_at(call.target.kind.collection, selection.prefix, after, revision)
    except Expired:
        if not token:
            raise Expired(f"too old resource version: {revision}") from None
        expired = Expired(_TOO_OLD)
        expired.continue_token = _token(_INCONSISTENT, after, selection.space)
        raise expired from None
    page: list[Entry] = []
    for entry in entries:
        if not selection.is_everything and not selection.matches(stored_document(entry)):
            continue
        if limit and len(page) == limit:
            left = 1 + sum(1 for _ in entries) if selection.is_everything else None
            return Many(
                target=call.target,
                entries=page,
                revision=revision,
                continue_token=_token(revision, page[-1].key, selection.space),
                remaining=left,
            )
        page.append(entry)
    return Many(target=call.target, entries=page, revision=revision)


def _token(revision: int, after: str, space: str) -> str:
    start = f"{after.removeprefix(space)}\0"
    data = msgspec.json.encode(_Continue(_TOKEN_VERSION, revision, f"/{start}" if space else start))
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _read_token(token: str, space: str) -> tuple[int, str]:
    """The revision of a continued list, and the key it goes on behind. Raises BadRequest."""
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        found = msgspec.json.decode(data, type=_Continue)
    except (ValueError, msgspec.DecodeError):
        raise _invalid_token("it was not made by this server") from None
    if found.version != _TOKEN_VERSION:
        raise _invalid_token(f"server does not recognize this encoded version {quoted(found.version)}")
    if not found.revision:
        raise _invalid_token(f"incorrect encoded start resourceVersion (version {_TOKEN_VERSION})")
    if not found.start:
        raise _invalid_token(f"encoded start key empty (version {_TOKEN_VERSION})")
    start = found.start.removeprefix("/")
    if any(part in ("", ".", "..") for part in start.split("/")) or (space and "/" in start):
        raise _invalid_token(found.start)
    return found.revision, space + start.removesuffix("\0")


def _invalid_token(why: str) -> BadRequest:
    return BadRequest(f"invalid continue token: continue key is not valid: {why}")


def _too_new(wanted: int, current: int) -> APIError:
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return Timeout(
        f"Too large resource version: {wanted}, current: {current}",
        details={"causes": [cause], "retryAfterSeconds": 1},
    )


def watch(registry: Registry, call: Call) -> Watch:
    """The watch a GET asks for. Raises Expired when its version is forgotten."""
    query = call.query
    _check_match(query, is_watch=True)
    selection = select(call.target, query)
    since = version(query.get("resourceVersion", ""))
    wants_initial = is_true(query, "sendInitialEvents")
    is_from_now = not since and "sendInitialEvents" in query and not wants_initial
    start = since if since and not wants_initial else registry.store.revision if is_from_now else None
    return registry.hub(call.target.kind).watch(
        call.target,
        selection,
        start,
        with_end_mark=wants_initial and is_true(query, "allowWatchBookmarks"),
    )


def watch_seconds(query: Mapping[str, str], default: float) -> float:
    """How long a watch may last."""
    seconds = _whole_number(query, "timeoutSeconds")
    return float(seconds) if seconds > 0 else default

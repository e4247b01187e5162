"""The API server as one object: requests in, answers out, whoever carries them.

`http` brings requests from sockets, `API.transport` from the same process. Both come through `API.call`,
so the same authorization, admission, validation and storage apply; only bytes and TLS differ.
"""

from __future__ import annotations

import asyncio
import datetime
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from drakit.apiserver import bootstrap, delete, read, review, subresource, token_request, write
from drakit.apiserver.auth import ANONYMOUS, AUTHENTICATED, ISSUER, Attributes, Tokens, User
from drakit.apiserver.custom_resources import CustomResources
from drakit.apiserver.decoding import deprecation
from drakit.apiserver.definition import KIND as DEFINITION
from drakit.apiserver.discovery import document_at, version_info
from drakit.apiserver.expiry import EventExpiry
from drakit.apiserver.openapi import OpenAPI
from drakit.apiserver.registry import Call, Registry
from drakit.apiserver.route import find_target, verb_of
from drakit.apiserver.view import Answer, to_document, view_for
from drakit.apiserver.watch import Watch, expired_event
from drakit.errors import APIError, BadRequest, Expired, InternalError, Unauthorized
from drakit.podio import PodIO
from drakit.profile import Profile
from drakit.store import Store
from drakit.transport import Document, Request, Response

__all__ = ["API", "User"]

WATCH_SECONDS = (1800.0, 3600.0)
BOOKMARK_SECONDS = 60.0
SWEEP_SECONDS = 60.0
_KEYS = "drakit/keys"

Handler = Callable[[Registry, Call], Awaitable[Answer]]
_VERBS: Mapping[str, Handler] = {
    "create": write.create,
    "update": write.update,
    "patch": write.patch,
    "delete": delete.delete,
    "deletecollection": delete.delete_collection,
}


class API:
    """One API server over one store. `start` before use; `close` also closes the store."""

    def __init__(
        self,
        store: Store,
        profile: Profile,
        tokens: Mapping[str, User],
        pod_io: Callable[[str], PodIO | None],
        clock: Callable[[], datetime.datetime],
    ) -> None:
        self.profile = profile
        self.store = store
        self.registry = Registry(store, profile, clock, pod_io)
        self.authorizer = self.registry.authorizer
        self.custom_resources = CustomResources(self.registry)
        self._openapi = OpenAPI(profile.version, self.registry.kinds)
        self.pod_io = pod_io
        self._known = dict(tokens)
        self._tokens = Tokens(tokens, secrets.token_bytes(32), self._is_there)
        self._clock = clock
        self._expiry: EventExpiry | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self.requests: dict[tuple[str, int], int] = {}
        self.more_metrics: Callable[[], Mapping[str, float]] = dict
        """What others in this process count, by metric name; shown at /metrics."""

    @classmethod
    def open(
        cls,
        store: Store,
        profile: Profile,
        *,
        tokens: Mapping[str, User] | None = None,
        pod_io: Callable[[str], PodIO | None] = lambda node: None,
        clock: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> API:
        """A server of the Kubernetes version `profile` over `store`. `tokens` are its bearer tokens,
        `pod_io(node_name)` finds the node that answers for logs, exec and the like."""
        return cls(store, profile, tokens or {}, pod_io, clock)

    async def start(self) -> None:
        """Make the objects that every cluster has, as far as they are missing."""
        entry = self.store.get(_KEYS, "service-account")
        if entry is None:
            key = secrets.token_bytes(32)
            entry = await self.store.write(_KEYS, "service-account", 0, lambda revision: key)
        self._tokens = Tokens(self._known, entry.value, self._is_there)
        await bootstrap.make_objects(self.registry)
        self.custom_resources.start()
        await self.custom_resources.settle()
        self._expiry = EventExpiry(self.store, self._clock)
        self._sweeper = asyncio.create_task(self._sweep(self._expiry), name="event expiry")

    async def _sweep(self, expiry: EventExpiry) -> None:
        while True:
            await asyncio.sleep(0 if await expiry.sweep() else SWEEP_SECONDS)

    def end_watches(self) -> None:
        """End every watch; clients come back or see that the server is gone."""
        for hub in self.registry.hubs():
            hub.close()

    async def close(self) -> None:
        """End watches, commit what is queued, close the store."""
        if self._sweeper and self._expiry:
            self._sweeper.cancel()
            self._expiry.close()
        await self.custom_resources.close()
        self.end_watches()
        await self.store.close()

    # --- who ----------------------------------------------------------------------------------------

    def authenticate(
        self, authorization: str, certificate: tuple[str, tuple[str, ...]] | None = None
    ) -> User:
        """The user of a client's certificate (name and groups), else of an Authorization header; anonymous
        without either. Raises Unauthorized."""
        if certificate is not None:
            name, groups = certificate
            return User(name, (*groups, AUTHENTICATED))
        if not authorization:
            return ANONYMOUS
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized("Unauthorized")
        return self.user_of(token.strip())

    def user_of(self, token: str, audiences: Sequence[str] = (ISSUER,)) -> User:
        """Raises Unauthorized for a token that is not valid now, or not meant for any of `audiences`."""
        try:
            return self._tokens.user(token, audiences)
        except (ValueError, KeyError, TypeError, msgspec.DecodeError):
            raise Unauthorized("Unauthorized") from None

    def _is_there(self, kind: str, namespace: str, name: str, uid: str) -> bool:
        found = self.registry.find(kind, namespace, name)
        return found is not None and found["metadata"].get("uid") == uid

    # --- what ---------------------------------------------------------------------------------------

    def route(self, user: User, method: str, path: str, query: Mapping[str, str]) -> Call:
        """The call a request makes. Raises NotFound, MethodNotAllowed or Forbidden."""
        is_watch = method == "GET" and read.is_true(query, "watch")
        try:
            target = find_target(path, self.registry.kinds)
            verb = verb_of(method, target, is_watch)
        except APIError:
            self.authorizer.check(user, Attributes(_http_verb(method), path=path))
            raise
        self.authorizer.check(user, target.attributes(verb, query.get("fieldSelector", "")))
        call = Call(user=user, verb=verb, target=target, query=query)
        if text := deprecation(target.kind, target.version, self.profile):
            call.warnings.append(text)
        return call

    async def call(self, call: Call) -> Answer:
        """Carry out anything but a watch or a stream. Raises APIError."""
        target = call.target
        if target.subresource in ("log", "exec", "attach", "portforward"):
            raise BadRequest(f"{target.subresource} is a stream: it is served over HTTP alone")
        special = subresource.HANDLERS.get((target.kind.plural, target.subresource))
        special = special or subresource.HANDLERS.get(("*", target.subresource))
        if special is not None:
            return await special(self.registry, call)
        if not target.kind.is_stored:
            return review.answer(self.registry, call, self.user_of)
        if target.subresource == "token":
            return token_request.token(self.registry, call, self._tokens)
        if call.verb == "get":
            return read.get(self.registry, call)
        if call.verb == "list":
            return read.list_objects(self.registry, call)
        answer = await _VERBS[call.verb](self.registry, call)
        if target.kind.kind == DEFINITION:
            await self.custom_resources.settle()
        return answer

    @property
    def openapi(self) -> OpenAPI:
        """The OpenAPI documents of what is served now."""
        self._openapi.use(self.registry.kinds)
        return self._openapi

    def metrics(self) -> bytes:
        """What /metrics says, in Prometheus' text format."""
        lines = [
            "# HELP drakit_store_revision The newest committed revision.",
            "# TYPE drakit_store_revision counter",
        ]
        lines.append(f"drakit_store_revision {self.store.revision}")
        lines.append("# HELP apiserver_storage_objects Number of stored objects.")
        lines.append("# TYPE apiserver_storage_objects gauge")
        for kind in {row.resource: row for row in self.registry.kinds.rows if row.is_stored}.values():
            count = self.store.count(kind.collection)
            lines.append(f'apiserver_storage_objects{{resource="{kind.resource}"}} {count}')
        lines.append("# HELP apiserver_longrunning_requests Number of open watches.")
        lines.append("# TYPE apiserver_longrunning_requests gauge")
        watches = sum(len(hub) for hub in self.registry.hubs())
        lines.append(f'apiserver_longrunning_requests{{verb="WATCH"}} {watches}')
        lines.append("# HELP apiserver_request_total HTTP requests by method and status.")
        lines.append("# TYPE apiserver_request_total counter")
        for (method, code), count in sorted(self.requests.items()):
            lines.append(f'apiserver_request_total{{method="{method}",code="{code}"}} {count}')
        for name, number in self.more_metrics().items():
            lines += [f"# TYPE {name} counter", f"{name} {number}"]
        return ("\n".join(lines) + "\n").encode()

    def transport(self, user: User) -> InProcess:
        """A transport for a component in this process that acts as `user`."""
        if "system:authenticated" not in user.groups:
            user = msgspec.structs.replace(user, groups=(*user.groups, "system:authenticated"))
        return InProcess(self, user)


def _http_verb(method: str) -> str:
    return {"POST": "post", "PUT": "put", "PATCH": "patch", "DELETE": "delete"}.get(method, "get")


def watch_limit(query: Mapping[str, str]) -> float:
    """How many seconds a watch lasts: what was asked for, or half an hour to an hour."""
    low, high = WATCH_SECONDS
    return read.watch_seconds(query, low + secrets.randbelow(int(high - low)))


class InProcess:
    """See `API.transport`. Documents go over as they are."""

    def __init__(self, api: API, user: User) -> None:
        self._api = api
        self._user = user

    async def send(self, request: Request) -> Response:
        """Carry out `request`; failures come back as a Status."""
        warnings: list[str] = []
        try:
            if request.path.startswith("/version"):
                return Response(status=200, document=version_info(self._api.profile))
            found = document_at(self._api.registry.kinds, request.path, request.accept, "")
            if found is not None:
                return Response(status=200, document=found)
            call = self._call(request)
            warnings = call.warnings
            answer = await self._api.call(call)
            view = view_for(request.accept, request.query.get("includeObject", ""))
            status = 200 if not hasattr(answer, "status") else answer.status
            return Response(status=status, document=to_document(answer, view), warnings=warnings)
        except APIError as error:
            return Response(status=error.code, document=error.status(), warnings=warnings)

    def _call(self, request: Request) -> Call:
        call = self._api.route(self._user, request.method, request.path, request.query)
        call.document = request.document
        call.content_type = request.content_type
        call.user_agent = self._user.name.rpartition(":")[2]
        return call

    async def watch(self, request: Request) -> AsyncIterator[Document]:
        """The events of a watch, shared documents that must not be changed."""
        call = self._call(request)
        try:
            watch = read.watch(self._api.registry, call)
        except Expired as error:
            yield expired_event(error)
            return
        async for item in stream(watch, call.query):
            yield watch.document(item)

    async def close(self) -> None:
        """Nothing to let go of."""


async def stream(watch: Watch, query: Mapping[str, str]) -> AsyncIterator[Any]:
    """The items of `watch` until its time is up, with bookmarks if the query allows them."""
    loop = asyncio.get_running_loop()
    end = loop.time() + watch_limit(query)
    with_bookmarks = read.is_true(query, "allowWatchBookmarks")
    try:
        while (left := end - loop.time()) > 0:
            items = await watch.take(min(left, BOOKMARK_SECONDS))
            if items is None:
                return
            if not items and with_bookmarks:
                items = [watch.bookmark()]
            for item in items:
                yield item
    finally:
        watch.close()


def internal(error: Exception) -> InternalError:
    """What the client learns of a bug."""
    return InternalError(f"Internal error occurred: {type(error).__name__}", details={})

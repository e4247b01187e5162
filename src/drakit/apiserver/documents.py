"""What the server answers beside resources: health, version, metrics, OpenAPI, discovery, backups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from drakit.apiserver import discovery, openapi_protobuf
from drakit.apiserver.app import API
from drakit.apiserver.auth import Attributes, User
from drakit.apiserver.backup import BACKUP_PATH, BACKUP_TYPE, copy_of, parts
from drakit.apiserver.incoming import JSON, Incoming
from drakit.apiserver.route import no_such_path
from drakit.apiserver.view import accepted, view_for

_TEXT = "text/plain; charset=utf-8"
_HEALTH = ("/healthz", "/livez", "/readyz")


class Documents:
    """The documents of `api`."""

    def __init__(self, api: API) -> None:
        self._api = api

    async def answer(self, request: Incoming, user: User) -> bool:
        """Answer what is no resource; False if the path is none of these."""
        path = request.path.rstrip("/") or "/"
        self._api.authorizer.check(user, Attributes(request.method.lower().replace("head", "get"), path=path))
        if request.method not in ("GET", "HEAD"):
            return False
        if path.startswith(_HEALTH):
            await self._health(request, path)
        elif path == "/version":
            await request.answer(200, msgspec.json.encode(discovery.version_info(self._api.profile)))
        elif path == "/metrics":
            await request.answer(200, self._api.metrics(), "text/plain; version=0.0.4; charset=utf-8")
        elif path.startswith("/openapi"):
            await self._openapi(request, path)
        elif path == BACKUP_PATH:
            await self._backup(request)
        else:
            return await self._discovery(request, path)
        return True

    async def _health(self, request: Incoming, path: str) -> None:
        name = path.split("/")[1]
        if "verbose" in request.query:
            checks = ("ping", "log", "etcd")
            lines = [f"[+]{check} ok" for check in checks]
            body = "\n".join([*lines, f"{name} check passed", ""])
            await request.answer(200, body.encode(), _TEXT)
        else:
            await request.answer(200, b"ok", _TEXT)

    async def _backup(self, request: Incoming) -> None:
        async with copy_of(self._api.store) as copy:
            await request.start(200, BACKUP_TYPE, length=copy.stat().st_size)
            if request.method == "GET":
                async for part in parts(copy):
                    await request.write(part)
            await request.write(b"", is_last=True)

    async def _openapi(self, request: Incoming, path: str) -> None:
        openapi, accept = self._api.openapi, request.header(b"accept")
        if path == "/openapi/v2":
            if any(name in openapi_protobuf.ACCEPTED for name, _ in accepted(accept)):
                await request.answer(200, openapi.v2_protobuf, openapi_protobuf.CONTENT_TYPE)
                return
            view_for(accept)
            await request.answer(200, openapi.v2)
            return
        if path == "/openapi/v3":
            await request.answer(200, openapi.index)
            return
        parts = path.removeprefix("/openapi/v3/").split("/")
        group, version = ("", parts[1]) if len(parts) == 2 and parts[0] == "api" else ("", "")
        if len(parts) == 3 and parts[0] == "apis":
            group, version = parts[1], parts[2]
        try:
            body = openapi.v3(group, version)
        except KeyError:
            raise no_such_path() from None
        etag = f'"{openapi.hash(group, version)}"'.encode()
        if request.header(b"if-none-match").encode() == etag:
            await request.answer(304, b"", more=[(b"etag", etag)])
            return
        await request.answer(200, body, more=[(b"etag", etag)])

    async def _discovery(self, request: Incoming, path: str) -> bool:
        kinds, accept = self._api.registry.kinds, request.header(b"accept")
        document: Mapping[str, Any] | None = discovery.document_at(
            kinds, path, accept, request.header(b"host")
        )
        content_type = JSON
        if path in ("/api", "/apis") and (version := discovery.wants_aggregated(accept)):
            content_type = discovery.content_type(version)
        if path == "/":
            document = {"paths": self._paths()}
        if document is None:
            return False
        await request.answer(200, msgspec.json.encode(document), content_type)
        return True

    def _paths(self) -> list[str]:
        paths = ["/api", "/api/v1", "/apis", *_HEALTH, "/metrics", "/openapi/v2", "/openapi/v3", "/version"]
        for group, versions in self._api.registry.kinds.group_versions().items():
            if group:
                paths += [f"/apis/{group}", *(f"/apis/{group}/{version}" for version in versions)]
        return sorted(paths)

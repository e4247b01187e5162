"""Speaking resource.k8s.io/v1 to servers that only know older versions of it.

Everything in drakit says v1. Kubernetes 1.32 and 1.33 serve v1beta1 and v1beta2, and some kinds live in
yet other versions (taint rules: v1alpha3 until 1.35, v1beta2 in 1.36). `Dialect` wraps a transport, asks
the server once which versions it has, and turns paths and documents both ways. Where the server has v1
nothing is touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from drakit.errors import from_status
from drakit.model.conversion import convert
from drakit.transport import Document, Request, Response, Transport

_GROUP = "resource.k8s.io"
_PREFIX = f"/apis/{_GROUP}/v1/"
_ORDER = ("v1", "v1beta2", "v1beta1", "v1alpha3")


class Dialect:
    """A transport to the same server as `transport`, on which resource.k8s.io/v1 always works."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._versions: dict[str, tuple[str, str]] | None = None
        self._lock = asyncio.Lock()

    async def send(self, request: Request) -> Response:
        version, kind = await self._spoken(request)
        if version == "v1":
            return await self._transport.send(request)
        response = await self._transport.send(_translated(request, version))
        if response.status >= 400:
            return response
        return Response(
            status=response.status, document=_understood(response.document, kind), warnings=response.warnings
        )

    async def watch(self, request: Request) -> AsyncIterator[Document]:
        version, kind = await self._spoken(request)
        if version == "v1":
            async for event in self._transport.watch(request):
                yield event
            return
        async for event in self._transport.watch(_translated(request, version)):
            if event.get("type") == "ERROR":
                yield event
            else:
                yield {**event, "object": _understood(event["object"], kind)}

    async def close(self) -> None:
        await self._transport.close()

    async def _spoken(self, request: Request) -> tuple[str, str]:
        """The version and kind in which the server knows what `request` is about."""
        if not request.path.startswith(_PREFIX):
            return "v1", ""
        parts = request.path.removeprefix(_PREFIX).split("/")
        plural = parts[2] if parts[0] == "namespaces" and len(parts) > 2 else parts[0]
        if self._versions is None:
            async with self._lock:
                if self._versions is None:
                    self._versions = await self._ask()
        return self._versions.get(plural, ("v1", ""))

    async def _ask(self) -> dict[str, tuple[str, str]]:
        """Version and kind of every resource of the group, the newest version that has it."""
        group = await self._get(f"/apis/{_GROUP}")
        served = {row.get("version") for row in group.get("versions") or ()}
        found: dict[str, tuple[str, str]] = {}
        for version in _ORDER:
            if version not in served:
                continue
            for row in (await self._get(f"/apis/{_GROUP}/{version}")).get("resources") or ():
                found.setdefault(row["name"], (version, row["kind"]))
        return found

    async def _get(self, path: str) -> Document:
        response = await self._transport.send(Request(method="GET", path=path))
        if response.status == 404:
            return {}
        if response.status >= 400:
            raise from_status(response.document, response.status)
        document: Document = response.document
        return document


def _translated(request: Request, version: str) -> Request:
    document = request.document
    if isinstance(document, dict) and document.get("apiVersion") == f"{_GROUP}/v1":
        document = convert(document, version)
    return Request(
        method=request.method,
        path=f"/apis/{_GROUP}/{version}/{request.path.removeprefix(_PREFIX)}",
        query=request.query,
        content_type=request.content_type,
        accept=request.accept,
        document=document,
    )


def _understood(document: Any, kind: str) -> Any:
    """An object or a list of objects in v1."""
    if not isinstance(document, dict) or not str(document.get("apiVersion", "")).startswith(_GROUP):
        return document
    if "items" not in document:
        return convert(document, "v1")
    typed = {"apiVersion": document["apiVersion"], "kind": kind}
    items = [convert(item if "kind" in item else typed | item, "v1") for item in document["items"] or ()]
    return {**document, "apiVersion": f"{_GROUP}/v1", "items": items}

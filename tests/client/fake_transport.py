"""A server at the edge of the client: a collection of documents in memory, with versions and watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from drakit.errors import APIError, Expired, NotFound
from drakit.transport import Document, Request, Response


class FakeServer:
    """One namespaced collection. `broken` answers the next requests;
    with `forget_pages` a list cannot be continued."""

    def __init__(self) -> None:
        self.version = 0
        self.oldest = 0
        self.objects: dict[str, Document] = {}
        self.history: list[tuple[int, Document]] = []
        self.requests: list[Request] = []
        self.broken: list[APIError] = []
        self.forget_pages = False
        self._changed = asyncio.Event()
        self._generation = 0

    def put(self, name: str, **fields: Any) -> Document:
        self.version += 1
        kind = "MODIFIED" if name in self.objects else "ADDED"
        uid = self.objects[name]["metadata"]["uid"] if name in self.objects else f"uid-{self.version}"
        meta = {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": str(self.version)}
        self.objects[name] = {"metadata": meta, **fields}
        self._record(kind, self.objects[name])
        return self.objects[name]

    def remove(self, name: str) -> None:
        self.version += 1
        gone = self.objects.pop(name)
        meta = gone["metadata"] | {"resourceVersion": str(self.version)}
        self._record("DELETED", gone | {"metadata": meta})

    def bookmark(self) -> None:
        self.version += 1
        self._record("BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})

    def compact(self) -> None:
        """Forget all history, as a server does after a while."""
        self.oldest = self.version
        self.history.clear()

    def hang_up(self) -> None:
        """End every watch."""
        self._generation += 1
        self._wake()

    def _record(self, kind: str, document: Document) -> None:
        typed = {"apiVersion": "v1", "kind": "Pod"} | document
        self.history.append((self.version, {"type": kind, "object": typed}))
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def send(self, request: Request) -> Response:
        self.requests.append(request)
        if self.broken:
            error = self.broken.pop(0)
            return Response(status=error.code, document=error.status())
        if request.method == "GET":
            return self._list(request)
        return self._write(request)

    def _list(self, request: Request) -> Response:
        names = sorted(self.objects)
        after = request.query.get("continue", "")
        if after and self.forget_pages:
            return Response(status=410, document=Expired("the continue token is too old").status())
        rest = [name for name in names if name > after]
        limit = int(request.query.get("limit", "0")) or len(rest)
        page = rest[:limit]
        meta = {"resourceVersion": str(self.version)}
        if len(rest) > limit:
            meta["continue"] = page[-1]
        return Response(
            status=200, document={"metadata": meta, "items": [self.objects[name] for name in page]}
        )

    def _write(self, request: Request) -> Response:
        if request.method == "POST":
            name = request.document["metadata"]["name"]
        else:
            name = request.path.rsplit("/", 1)[1]
            if name not in self.objects:
                return Response(status=404, document=NotFound(f"no {name}").status())
        fields = {key: value for key, value in request.document.items() if key != "metadata"}
        before = {key: value for key, value in self.objects.get(name, {}).items() if key != "metadata"}
        return Response(status=200, document=self.put(name, **(before | fields)))

    async def watch(self, request: Request) -> AsyncIterator[Document]:
        self.requests.append(request)
        seen, generation = int(request.query["resourceVersion"]), self._generation
        if seen < self.oldest:
            raise Expired("too old resource version")
        while generation == self._generation:
            for version, event in list(self.history):
                if version > seen:
                    seen = version
                    yield event
            await self._changed.wait()

    async def close(self) -> None:
        self.hang_up()

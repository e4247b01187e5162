"""An API server in memory and its verbs, for tests."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Mapping
from typing import Any

from drakit.apiserver.app import API, User
from drakit.profile import profile_for
from drakit.store import Store
from drakit.transport import Document, Request, Response

ADMIN = User("admin", ("system:masters",))


class Clock:
    """Stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = datetime.datetime(2026, 11, 22, 12, 0, 0, tzinfo=datetime.UTC)

    def __call__(self) -> datetime.datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += datetime.timedelta(seconds=seconds)


class Served:
    """`send` and friends act as the administrator unless told another user."""

    def __init__(
        self, version: str = "1.37", *, store: Store | None = None, tokens: Mapping[str, User] | None = None
    ) -> None:
        self.clock = Clock()
        self.api = API.open(store or Store(), profile_for(version), tokens=tokens, clock=self.clock)

    async def __aenter__(self) -> Served:
        await self.api.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.api.close()

    async def send(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        user: User = ADMIN,
        **query: str,
    ) -> Response:
        transport = self.api.transport(user)
        return await transport.send(
            Request(
                method=method,
                path=path,
                query={key.rstrip("_"): value for key, value in query.items()},
                content_type=content_type,
                accept=accept,
                document=document,
            )
        )

    async def ok(self, method: str, path: str, document: Any = None, **more: Any) -> Document:
        response = await self.send(method, path, document, **more)
        assert response.status < 300, response.document
        result: Document = response.document
        return result

    async def refused(
        self, method: str, path: str, document: Any = None, **more: Any
    ) -> tuple[int, str, str]:
        """Code, reason and message of a failure."""
        response = await self.send(method, path, document, **more)
        assert response.status >= 400, response.document
        assert response.document["kind"] == "Status"
        assert response.document["code"] == response.status
        return response.status, response.document.get("reason", ""), response.document["message"]

    def watch(self, path: str, **query: str) -> AsyncIterator[Document]:
        """The events of a watch."""
        request = Request(method="GET", path=path, query={"watch": "true", **query})
        return self.api.transport(ADMIN).watch(request)


def config_map(name: str, labels: Mapping[str, str] | None = None, **data: str) -> Document:
    metadata: Document = {"name": name}
    if labels:
        metadata["labels"] = dict(labels)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def pod(name: str, **spec: Any) -> Document:
    containers = [{"name": "c", "image": "busybox"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": containers, **spec},
    }

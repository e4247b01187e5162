"""One request to the Kubernetes API, whatever carries it.

The client speaks to a `Transport`; the API server is one when both live in the same process, a socket
is the other. Documents travel decoded, so nobody encodes JSON for a neighbour. A document that has been
handed over belongs to nobody: neither side may change it afterwards.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from msgspec import Struct, field

Document = dict[str, Any]
"""A JSON object of the API, keys as on the wire."""

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class Request(Struct, kw_only=True):
    """`path` starts with /api or /apis and is not percent-encoded; `query` holds the last value of each
    parameter; `document` is the decoded body (a list for a JSON patch), None without one."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    content_type: str = JSON
    accept: str = JSON
    document: Any = None


class Response(Struct, kw_only=True):
    """`document` is the decoded body; a failure is a Status document with `status` >= 400."""

    status: int
    document: Any
    warnings: list[str] = field(default_factory=list)


class Transport(Protocol):
    """How requests reach an API server. Raises `drakit.errors.ServiceUnavailable` if none answers."""

    async def send(self, request: Request) -> Response:
        """Carry out `request` and return what the server said, failures included."""
        ...

    def watch(self, request: Request) -> AsyncIterator[Document]:
        """The watch events (`{"type": ..., "object": ...}`) of a GET with `watch=true`, as they come.

        Ends when the server ends the watch; raises APIError if it refuses it.
        """
        ...

    async def close(self) -> None: ...

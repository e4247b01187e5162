"""What stands before the API server notes which permissions a driver needs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from drakit.apiserver.app import API, User
from drakit.conformance.front import Front
from drakit.profile import profile_for
from drakit.store import Store

pytestmark = pytest.mark.anyio

SLICES, CLAIMS = (
    "/apis/resource.k8s.io/v1/resourceslices",
    "/apis/resource.k8s.io/v1/namespaces/d/resourceclaims",
)
ASKED = {
    "list": ("GET", SLICES, "", {"resourceslices list"}),
    "watch": ("GET", SLICES, "watch=true&resourceVersion=5", {"resourceslices watch"}),
    "watch from the start": (
        "GET",
        SLICES,
        "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
        {"resourceslices list", "resourceslices watch"},
    ),
    "get": ("GET", f"{CLAIMS}/c", "", {"resourceclaims get"}),
    "status": ("PATCH", f"{CLAIMS}/c/status", "", {"resourceclaims/status patch"}),
    "no resource": ("GET", "/version", "", set()),
}


@pytest.mark.parametrize("case", ASKED)
async def test_uses(case: str) -> None:
    method, path, query, uses = ASKED[case]
    api = API.open(Store(None), profile_for())
    front = Front(api)
    front.hang()
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
    asking = asyncio.ensure_future(front(scope, _never, _never))
    await asyncio.sleep(0)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    await api.close()
    assert {f"{use.resource} {use.verb}" for use in front.uses} == uses


@pytest.mark.parametrize(
    ("arrives", "refused"),
    [({"type": "http.request", "body": b"{"}, [400]), ({"type": "http.disconnect"}, [])],
    ids=["nonsense", "half a request of a driver that died"],
)
async def test_refusals(arrives: dict[str, Any], refused: list[int]) -> None:
    api = API.open(Store(None), profile_for(), tokens={"secret": User("driver", ("system:masters",))})
    await api.start()
    front = Front(api)
    headers = [(b"authorization", b"Bearer secret"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": SLICES, "query_string": b"", "headers": headers}
    await front(scope, lambda: _soon(arrives), lambda message: _soon(None))
    await api.close()
    assert [refusal.code for refusal in front.refusals] == refused


async def _soon(value: Any) -> Any:
    return value


async def _never(*_: Any) -> Any:
    raise AssertionError("nothing is answered")

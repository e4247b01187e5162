"""Requests to a real API server and what it answered, replayed against ours.

Compared are status, body and warnings, but for what differs from run to run: uids, versions, times.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from drakit.apiserver.app import API, User
from drakit.apiserver.http import Application
from drakit.profile import profile_for
from drakit.store import Store
from tests.conformance.asgi import exchange
from tests.recorded import cases

CASES = cases("api/requests")
IDS = [case["id"] for case in CASES]
Answer = tuple[int, Any, str]

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_RECORD = re.compile(r"in record \(\d+\)")


def _masked(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _masked(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    if key == "resourceVersion":
        return "VERSION"
    if isinstance(value, str):
        return _RECORD.sub("in record (N)", _UID.sub("UID", _TIME.sub("TIME", value)))
    return value


async def _ask(application: Application, request: dict[str, Any]) -> Answer:
    body = request["body"]
    raw = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    headers = {"accept": request["accept"], "content-type": request["contentType"] or ""}
    headers["authorization"] = "Bearer admin" if request["user"] == "admin" else "Bearer wrong"
    headers = {name: value for name, value in headers.items() if value}
    status, received, data = await exchange(application, request["method"], request["path"], headers, raw)
    try:
        document = json.loads(data)
    except ValueError:
        document = data.decode()
    return status, document, received.get("warning", "")


async def _prepare(application: Application, case: dict[str, Any]) -> dict[str, Any]:
    """Create what the case needs; the request with the current resourceVersion in it."""
    request = dict(case["request"])
    for document in case["setup"] or ():
        api_version, name = document["apiVersion"], document["metadata"].get("namespace")
        plural = document["kind"].lower() + ("es" if document["kind"].endswith("s") else "s")
        space = f"/namespaces/{name}" if name else ""
        path = f"/apis/{api_version}{space}/{plural}"
        post = {"method": "POST", "path": path, "body": document, "user": "admin"}
        status, created, _ = await _ask(
            application, post | {"accept": "*/*", "contentType": "application/json"}
        )
        assert status == 201, created
        body = request["body"]
        if isinstance(body, dict) and request["method"] == "PUT" and case["response"]["status"] != 409:
            version = created["metadata"]["resourceVersion"]
            metadata = {**body["metadata"], "resourceVersion": version}
            request["body"] = {**body, "metadata": metadata}
    return request


async def _replay() -> dict[str, Answer]:
    """Every case's answer. Cases that build on another's object come after all others."""
    api = API.open(
        Store(), profile_for("1.36", {"all": True}), tokens={"admin": User("admin", ("system:masters",))}
    )
    await api.start()
    application = Application(api)
    device_class = {"method": "POST", "path": "/apis/resource.k8s.io/v1/deviceclasses", "user": "admin"}
    body = {"metadata": {"name": "c"}, "spec": {}}
    await _ask(application, device_class | {"accept": "*/*", "contentType": "application/json", "body": body})
    answers: dict[str, Answer] = {}
    for case in sorted(CASES, key=lambda case: case["id"] == "rc-status-alloc-immutable"):
        answers[case["id"]] = await _ask(application, await _prepare(application, case))
    await api.close()
    return answers


@pytest.fixture(scope="module")
def answers() -> dict[str, Answer]:
    return asyncio.run(_replay())


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_request_as_recorded(case: dict[str, Any], answers: dict[str, Answer]) -> None:
    expected = case["response"]
    status, document, warning = answers[case["id"]]
    if isinstance(expected["body"], str):
        first = json.loads(str(document).splitlines()[0]) if document else {}
        assert (status, first["type"]) == (
            expected["status"],
            json.loads(expected["body"].splitlines()[0])["type"],
        )
        return
    assert _masked(document) == _masked(expected["body"])
    assert (status, warning) == (expected["status"], expected["headers"].get("Warning", ""))

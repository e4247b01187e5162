"""Objects written in one version of resource.k8s.io and read in all, as a real API server gives them."""

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

VERSIONS = ("v1", "v1beta2", "v1beta1")
CASES = [(case, version) for case in cases("api/conversion") for version in VERSIONS]
IDS = [f"{case['object']}-{version}" for case, version in CASES]
HEADERS = {"authorization": "Bearer admin", "accept": "application/json", "content-type": "application/json"}
_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_VARYING = ("uid", "resourceVersion", "creationTimestamp")


def _masked(document: dict[str, Any]) -> Any:
    metadata = {key: value for key, value in document["metadata"].items() if key not in _VARYING}
    return json.loads(_TIME.sub("TIME", json.dumps({**document, "metadata": metadata})))


async def _written_and_read(recorded: dict[str, Any]) -> dict[str, Any]:
    api = API.open(
        Store(), profile_for("1.36", {"all": True}), tokens={"admin": User("admin", ("system:masters",))}
    )
    await api.start()
    application, document = Application(api), recorded["request"]
    plural = document["kind"].lower() + ("es" if document["kind"].endswith("s") else "s")
    namespace = document["metadata"].get("namespace")
    rest = (f"namespaces/{namespace}/" if namespace else "") + plural
    path = f"/apis/{document['apiVersion']}/{rest}"
    status, _, data = await exchange(application, "POST", path, HEADERS, json.dumps(document).encode())
    found = {"create_status": status, "create_response": json.loads(data)}
    for version in VERSIONS:
        path = f"/apis/resource.k8s.io/{version}/{rest}/{document['metadata']['name']}"
        _, _, data = await exchange(application, "GET", path, HEADERS, b"")
        found[f"read_{version}"] = json.loads(data)
    await api.close()
    return found


@pytest.mark.parametrize(("case", "version"), CASES, ids=IDS)
def test_conversion_as_recorded(case: dict[str, Any], version: str) -> None:
    recorded = case[version]
    found = asyncio.run(_written_and_read(recorded))
    assert found["create_status"] == recorded["create_status"]
    for name in ("create_response", *(f"read_{version}" for version in VERSIONS)):
        assert _masked(found[name]) == _masked(recorded[name]), name

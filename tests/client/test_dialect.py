from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from drakit.client.api import DEVICE_CLASSES, DEVICE_TAINT_RULES, PODS, RESOURCE_CLAIMS, Client
from drakit.client.dialect import Dialect
from drakit.errors import ServiceUnavailable
from drakit.transport import Document, Request, Response

pytestmark = pytest.mark.anyio

V1 = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaim",
    "metadata": {"name": "c", "namespace": "ns"},
    "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "x"}}]}},
}
V1BETA1 = V1 | {
    "apiVersion": "resource.k8s.io/v1beta1",
    "spec": {"devices": {"requests": [{"name": "r", "deviceClassName": "x"}]}},
}


class OldServer:
    """Serves claims in v1beta1 and taint rules in v1alpha3, and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.is_down = False

    async def send(self, request: Request) -> Response:
        if self.is_down:
            raise ServiceUnavailable("down")
        self.requests.append(request)
        group = "/apis/resource.k8s.io"
        answers: dict[str, Document] = {
            group: {"versions": [{"version": "v1beta1"}, {"version": "v1alpha3"}]},
            f"{group}/v1beta1": {"resources": [{"name": "resourceclaims", "kind": "ResourceClaim"}]},
            f"{group}/v1alpha3": {"resources": [{"name": "devicetaintrules", "kind": "DeviceTaintRule"}]},
        }
        if request.path in answers:
            return Response(status=200, document=answers[request.path])
        if request.method == "POST":
            return Response(status=201, document=request.document)
        listed = {key: value for key, value in V1BETA1.items() if key not in ("kind", "apiVersion")}
        kind = {"apiVersion": "resource.k8s.io/v1beta1", "kind": "ResourceClaimList"}
        return Response(status=200, document={**kind, "metadata": {}, "items": [listed]})

    async def watch(self, request: Request) -> AsyncIterator[Document]:
        self.requests.append(request)
        yield {"type": "ADDED", "object": V1BETA1}
        yield {"type": "ERROR", "object": {"kind": "Status"}}

    async def close(self) -> None:
        pass


async def test_old_servers_understand_v1() -> None:
    server = OldServer()
    client = Client(Dialect(server))
    made = await client.create(RESOURCE_CLAIMS, V1)
    assert server.requests[-1].path == "/apis/resource.k8s.io/v1beta1/namespaces/ns/resourceclaims"
    request = server.requests[-1].document["spec"]["devices"]["requests"][0]
    assert (request["deviceClassName"], "exactly" in request) == ("x", False)
    assert made == V1
    (listed,) = (await client.list(RESOURCE_CLAIMS)).items
    assert listed == V1
    events = [event async for event in client.watch(RESOURCE_CLAIMS)]
    assert events == [{"type": "ADDED", "object": V1}, {"type": "ERROR", "object": {"kind": "Status"}}]


async def test_each_kind_has_its_version() -> None:
    server = OldServer()
    client = Client(Dialect(server))
    for resource, path in (
        (DEVICE_TAINT_RULES, "/apis/resource.k8s.io/v1alpha3/devicetaintrules"),
        (DEVICE_CLASSES, "/apis/resource.k8s.io/v1/deviceclasses"),
        (PODS, "/api/v1/pods"),
    ):
        await client.list(resource)
        assert server.requests[-1].path == path
    assert [r.path for r in server.requests].count("/apis/resource.k8s.io") == 1


async def test_a_server_that_is_down_is_asked_again() -> None:
    server = OldServer()
    client = Client(Dialect(server))
    server.is_down = True
    with pytest.raises(ServiceUnavailable):
        await client.list(RESOURCE_CLAIMS)
    server.is_down = False
    assert (await client.list(RESOURCE_CLAIMS)).items == [V1]

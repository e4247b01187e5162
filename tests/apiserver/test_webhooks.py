"""Admission webhooks: a real HTTPS server is asked, by URL and in a pod behind a service."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from drakit.apiserver.app import API
from drakit.apiserver.tls import certificates
from drakit.profile import profile_for
from drakit.store import Store
from drakit.transport import MERGE_PATCH, Document
from tests.apiserver.served import Clock, Served, config_map

pytestmark = pytest.mark.anyio

GROUP = "/apis/admissionregistration.k8s.io/v1"
VALIDATING = f"{GROUP}/validatingwebhookconfigurations"
MUTATING = f"{GROUP}/mutatingwebhookconfigurations"
MAPS = "/api/v1/namespaces/default/configmaps"
Respond = Callable[[Document], Document]


class Hooks:
    """An HTTPS server whose paths answer as `answers` say; `asked` has the requests by path."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[tuple[str, Document]] = []
        self.answers: dict[str, Respond] = {}
        files = certificates(folder, ("hook.default.svc",))
        self.bundle = base64.b64encode(files.ca.read_bytes()).decode()
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(files.certificate, files.key)
        self.port = 0

    async def __aenter__(self) -> Hooks:
        application = web.Application()
        application.router.add_post("/{name}", self._handle)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        review = await request.json()
        name = request.match_info["name"]
        self.asked.append((name, review["request"]))
        answer = self.answers[name](review["request"])
        if "raw" in answer:
            return web.Response(body=answer["raw"], status=answer.get("status", 200))
        if "sleep" in answer:
            await asyncio.sleep(answer["sleep"])
        response = {"uid": review["request"]["uid"], **answer}
        return web.json_response({**{k: review[k] for k in ("kind", "apiVersion")}, "response": response})

    def client(self, name: str) -> Document:
        return {"url": f"https://127.0.0.1:{self.port}/{name}", "caBundle": self.bundle}


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[Hooks]:
    async with Hooks(tmp_path) as made:
        yield made


@pytest.fixture
async def server() -> AsyncIterator[Served]:
    async with Served() as served:
        yield served


def webhook(client: Document, name: str = "check.x.example.com", **more: Any) -> Document:
    operations = more.pop("operations", ["CREATE", "UPDATE", "DELETE"])
    what = more.pop("what", {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]})
    return {
        "name": name,
        "clientConfig": client,
        "rules": [{**what, "operations": operations}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 5,
        **more,
    }


def configuration(*webhooks: Document, name: str = "hooks") -> Document:
    return {"metadata": {"name": name}, "webhooks": list(webhooks)}


def allow(request: Document) -> Document:
    return {"allowed": True}


def patch(*operations: Document) -> Document:
    text = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": text}


async def test_what_a_webhook_is_asked(server: Served, hooks: Hooks) -> None:
    hooks.answers["check"] = allow
    await server.ok("POST", VALIDATING, configuration(webhook(hooks.client("check"))))
    await server.ok("POST", MAPS, config_map("a", x="1"))
    await server.ok("PATCH", f"{MAPS}/a", {"data": {"x": "2"}}, content_type=MERGE_PATCH, dryRun="All")
    await server.ok("DELETE", f"{MAPS}/a")
    created, updated, deleted = [request for _, request in hooks.asked]
    assert created["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert created["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (created["operation"], created["name"], created["namespace"]) == ("CREATE", "a", "default")
    assert (created["object"]["data"], created["oldObject"], created["dryRun"]) == ({"x": "1"}, None, False)
    assert created["userInfo"]["username"] == "admin"
    assert created["options"]["kind"] == "CreateOptions"
    assert (updated["object"]["data"], updated["oldObject"]["data"]) == ({"x": "2"}, {"x": "1"})
    assert updated["dryRun"] is True
    assert (deleted["object"], deleted["oldObject"]["data"]) == (None, {"x": "1"})


async def test_a_refusal_is_passed_on(server: Served, hooks: Hooks) -> None:
    hooks.answers["check"] = lambda request: {
        "allowed": False,
        "warnings": ["look out"],
        "status": {"message": "not so", "code": 403, "reason": "Forbidden"},
    }
    await server.ok("POST", VALIDATING, configuration(webhook(hooks.client("check"))))
    response = await server.send("POST", MAPS, config_map("a"))
    text = 'admission webhook "check.x.example.com" denied the request: not so'
    assert (response.status, response.document["message"]) == (403, text)
    assert response.document["reason"] == "Forbidden"
    assert response.warnings == ["look out"]
    hooks.answers["check"] = lambda request: {"allowed": False}
    code, _, text = await server.refused("POST", MAPS, config_map("a"))
    assert (code, text) == (
        400,
        'admission webhook "check.x.example.com" denied the request without explanation',
    )


BROKEN: list[tuple[str, Document, str]] = [
    ("no JSON", {"raw": b"hello"}, "failed to call webhook: the answer is no JSON"),
    ("an error", {"raw": b"oh", "status": 500}, "the server responded with the status code 500: oh"),
    ("a redirect", {"raw": b"", "status": 302}, "the server responded with the status code 302"),
    ("another kind", {"raw": b'{"kind":"X"}'}, "expected webhook response of admission.k8s.io/v1, Kind=Adm"),
    ("no response", {"raw": b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}'}, "was absent"),
    ("another uid", {"allowed": True, "uid": "x"}, 'expected response.uid="'),
    ("too slow", {"allowed": True, "sleep": 1.2}, "context deadline exceeded"),
]


@pytest.mark.parametrize(("answer", "text"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
async def test_a_webhook_that_fails(server: Served, hooks: Hooks, answer: Document, text: str) -> None:
    hooks.answers["check"] = lambda request: answer
    strict = webhook(hooks.client("check"), timeoutSeconds=1)
    await server.ok("POST", VALIDATING, configuration(strict))
    code, reason, found = await server.refused("POST", MAPS, config_map("a"))
    assert (code, reason) == (500, "InternalError")
    assert 'Internal error occurred: failed calling webhook "check.x.example.com": ' in found
    assert text in found
    mild = configuration({**strict, "failurePolicy": "Ignore"})
    mild["metadata"]["resourceVersion"] = (await server.ok("GET", f"{VALIDATING}/hooks"))["metadata"][
        "resourceVersion"
    ]
    await server.ok("PUT", f"{VALIDATING}/hooks", mild)
    await server.ok("POST", MAPS, config_map("a"))


async def test_a_server_that_is_not_trusted_or_not_there(server: Served, hooks: Hooks) -> None:
    hooks.answers["check"] = allow
    client = hooks.client("check")
    await server.ok("POST", VALIDATING, configuration(webhook({"url": client["url"]})))
    _, _, text = await server.refused("POST", MAPS, config_map("a"))
    assert f'Post "{client["url"]}?timeout=5s"' in text
    assert "tls: failed to verify certificate: " in text
    assert hooks.asked == []
    gone = {"spec": None, "webhooks": [webhook({"url": "https://127.0.0.1:1/x", "caBundle": hooks.bundle})]}
    await server.ok("PATCH", f"{VALIDATING}/hooks", gone, content_type=MERGE_PATCH)
    _, _, text = await server.refused("POST", MAPS, config_map("a"))
    assert text.endswith("dial tcp 127.0.0.1:1: connect: connection refused")


async def test_mutation(server: Served, hooks: Hooks) -> None:
    hooks.answers["first"] = lambda request: patch(
        {"op": "add", "path": "/metadata/labels", "value": {"first": str(len(request["object"]["data"]))}}
    )
    hooks.answers["second"] = lambda request: patch({"op": "add", "path": "/data/more", "value": "2"})
    rows = [
        webhook(hooks.client("first"), "first.x.example.com", reinvocationPolicy="IfNeeded"),
        webhook(hooks.client("second"), "second.x.example.com", operations=["CREATE"]),
    ]
    await server.ok("POST", MUTATING, configuration(*rows))
    made = await server.ok("POST", MAPS, config_map("a", x="1"))
    assert [name for name, _ in hooks.asked] == ["first", "second", "first"]
    assert made["data"] == {"x": "1", "more": "2"}
    assert made["metadata"]["labels"] == {"first": "2"}
    hooks.answers["first"] = lambda request: patch({"op": "add", "path": "/data/bad", "value": 1})
    code, _, text = await server.refused("PATCH", f"{MAPS}/a", {"data": {"y": "1"}}, content_type=MERGE_PATCH)
    assert (code, "cannot unmarshal number" in text) == (500, True)
    hooks.answers["first"] = lambda request: patch({"op": "test", "path": "/data/no", "value": 1})
    code, _, text = await server.refused("PATCH", f"{MAPS}/a", {"data": {"y": "1"}}, content_type=MERGE_PATCH)
    assert (code, text.startswith("Internal error occurred: ")) == (500, True)
    _, _, text = await server.refused("DELETE", f"{MAPS}/a")
    assert "attempted to modify the object, which is not supported for this operation" in text


async def test_match_conditions(server: Served, hooks: Hooks) -> None:
    hooks.answers["check"] = lambda request: {"allowed": False}
    conditions = [{"name": "mine", "expression": "'team' in object.metadata.labels"}]
    row = webhook(hooks.client("check"), matchConditions=conditions, operations=["CREATE"])
    await server.ok("POST", VALIDATING, configuration(row))
    await server.ok("POST", MAPS, config_map("a", {"other": "x"}))
    assert (await server.send("POST", MAPS, config_map("b", {"team": "x"}))).status == 400
    code, _, text = await server.refused("POST", MAPS, config_map("c"))
    assert (code, "no such key: labels" in text) == (403, True)
    assert len(hooks.asked) == 1


async def test_another_version_is_converted(server: Served, hooks: Hooks) -> None:
    hooks.answers["check"] = allow
    what = {"apiGroups": ["resource.k8s.io"], "apiVersions": ["v1beta1"], "resources": ["resourceclaims"]}
    await server.ok("POST", VALIDATING, configuration(webhook(hooks.client("check"), what=what)))
    exactly = {"deviceClassName": "x"}
    claim = {
        "metadata": {"name": "c"},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}},
    }
    await server.ok("POST", "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims", claim)
    request = hooks.asked[0][1]
    assert (request["kind"]["version"], request["requestKind"]["version"]) == ("v1beta1", "v1")
    assert request["object"]["spec"]["devices"]["requests"][0]["deviceClassName"] == "x"


async def test_somebody_is_faster_while_a_webhook_thinks(server: Served, hooks: Hooks) -> None:
    await server.ok("POST", MAPS, config_map("a", n="0"))
    calls = 0

    def interfere(request: Document) -> Document:
        nonlocal calls
        calls += 1
        if calls == 1:
            entry = server.api.store.head("configmaps", "default/a")
            assert entry is not None
            document = json.loads(entry.value)
            document["data"] = {"n": "9"}

            def changed(revision: int) -> bytes:
                document["metadata"]["resourceVersion"] = str(revision)
                return json.dumps(document).encode()

            server.api.store.write("configmaps", "default/a", entry.revision, changed)
        return {"allowed": True}

    hooks.answers["check"] = interfere
    await server.ok("POST", VALIDATING, configuration(webhook(hooks.client("check"))))
    made = await server.ok("PATCH", f"{MAPS}/a", {"data": {"m": "1"}}, content_type=MERGE_PATCH)
    assert (made["data"], calls) == ({"n": "9", "m": "1"}, 2)


class Reach:
    """A node whose pods' ports are those of this machine."""

    def __init__(self, ports: dict[int, int]) -> None:
        self._ports = ports

    async def connect(self, pod: Document, port: int) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._ports[port])
        return Wire(reader, writer)


class Wire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        return await self._reader.read(1 << 16)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def end(self) -> None:
        if self._writer.can_write_eof():
            self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()


async def test_a_service_leads_to_a_ready_pod(hooks: Hooks) -> None:
    hooks.answers["check"] = allow
    node: Any = Reach({8443: hooks.port})
    served = Served()
    served.api = API.open(Store(), profile_for("1.37"), pod_io=lambda name: node, clock=Clock())
    async with served as server:
        service = {"namespace": "default", "name": "hook", "path": "/check"}
        row = webhook({"service": service, "caBundle": hooks.bundle})
        await server.ok("POST", VALIDATING, configuration(row))
        begin = (
            'Internal error occurred: failed calling webhook "check.x.example.com": failed to call webhook: '
        )
        _, _, text = await server.refused("POST", MAPS, config_map("a"))
        assert text == f'{begin}service "hook" not found'
        ports = [{"port": 443, "targetPort": "tls"}]
        body = {"metadata": {"name": "hook"}, "spec": {"selector": {"app": "hook"}, "ports": ports}}
        await server.ok("POST", "/api/v1/namespaces/default/services", body)
        _, _, text = await server.refused("POST", MAPS, config_map("a"))
        assert text == f'{begin}no endpoints available for service "hook"'
        container = {"name": "c", "image": "x", "ports": [{"name": "tls", "containerPort": 8443}]}
        pods = "/api/v1/namespaces/default/pods"
        metadata = {"name": "hook-1", "labels": {"app": "hook"}}
        await server.ok(
            "POST", pods, {"metadata": metadata, "spec": {"nodeName": "n", "containers": [container]}}
        )
        ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        await server.ok("PATCH", f"{pods}/hook-1/status", ready, content_type=MERGE_PATCH)
        await server.ok("POST", MAPS, config_map("a"))
        assert [name for name, _ in hooks.asked] == ["check"]


PROBLEMS: list[tuple[Document, str]] = [
    ({"name": "short"}, "webhooks[0].name: Invalid value"),
    ({"sideEffects": "Some"}, "webhooks[0].sideEffects: Unsupported value"),
    ({"clientConfig": {}}, "webhooks[0].clientConfig: Required value: exactly one of url or service"),
    ({"clientConfig": {"url": "http://x"}}, "'https' is the only allowed URL scheme"),
    ({"clientConfig": {"url": "https://a@x/?q#f"}}, "user information is not permitted in the URL"),
    ({"timeoutSeconds": 31}, "the timeout value must be between 1 and 30 seconds"),
    ({"admissionReviewVersions": ["v2"]}, "must include at least one of v1, v1beta1"),
    ({"rules": [{"operations": ["*", "CREATE"], "resources": ["a"]}]}, "must not specify other operations"),
    ({"rules": [{"operations": ["*"], "resources": ["a/*", "a/b"]}]}, "if 'a/*' is present, must not"),
    ({"matchConditions": [{"name": "a", "expression": "object.x"}]}, "must evaluate to bool but got dyn"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "text"), PROBLEMS)
async def test_what_makes_a_configuration_invalid(server: Served, change: Document, text: str) -> None:
    row = {**webhook({"url": "https://127.0.0.1/x"}), **change}
    code, _, found = await server.refused("POST", VALIDATING, configuration(row))
    assert code == 422
    assert text in found

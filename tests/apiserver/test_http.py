"""The HTTP edge: who gets in, what bodies may be, how answers look, and that it stops."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest

from drakit.apiserver.auth import User
from drakit.apiserver.body import MAX_BODY
from drakit.apiserver.http import serve
from drakit.apiserver.tls import certificates
from drakit.errors import UsageError
from tests.apiserver.asgi import request
from tests.apiserver.served import ADMIN, Served, config_map

pytestmark = pytest.mark.anyio

MAPS = "/api/v1/namespaces/default/configmaps"
JSON = {"content-type": "application/json"}


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    tokens = {"secret": ADMIN, "plain": User("someone")}
    async with Served(tokens=tokens) as server:
        yield server


# --- who gets in ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [
        ("/healthz", None, 200),
        ("/livez", None, 200),
        ("/readyz", None, 200),
        ("/version", None, 200),
        ("/api", None, 403),
        ("/apis", None, 403),
        ("/metrics", None, 403),
        ("/", None, 403),
        ("/openapi/v3", None, 403),
        (MAPS, None, 403),
        (MAPS, "wrong", 401),
        ("/healthz", "wrong", 401),
        ("/api", "plain", 200),
        ("/openapi/v3", "plain", 200),
        ("/metrics", "plain", 403),
        (MAPS, "plain", 403),
        ("/api/v1/nodes", None, 403),
        ("/api/v1/nodes", "plain", 403),
        ("/api/v1/", "secret", 200),
        ("/", "secret", 200),
        ("/metrics", "secret", 200),
        ("/nonsense", "secret", 404),
        ("/nonsense", "plain", 403),
        ("/apis/nonsense", "secret", 404),
        ("/api/v1", "secret", 200),
        ("/apis/apps/v1", "secret", 200),
        ("/apis/apps/v9", "secret", 404),
        ("/openapi/v2", "secret", 200),
        ("/openapi/v3/api/v1", "secret", 200),
        ("/openapi/v3/apis/resource.k8s.io/v1", "secret", 200),
        ("/openapi/v3/apis/nonsense/v1", "secret", 404),
    ],
)
async def test_who_may_read_what(served: Served, path: str, token: str | None, status: int) -> None:
    assert (await request(served.api, "GET", path, token=token)).status == status


async def test_acting_as_somebody_else(served: Served) -> None:
    path, body = "/apis/authentication.k8s.io/v1/selfsubjectreviews", b"{}"
    headers = JSON | {"impersonate-user": "jane", "impersonate-group": "dev", "impersonate-extra-a%2fb": "c"}
    known = (await request(served.api, "POST", path, body, headers=headers)).document["status"]["userInfo"]
    groups = ["dev", "system:authenticated"]
    assert known == {"username": "jane", "groups": groups, "extra": {"a/b": ["c"]}}
    answer = await request(served.api, "POST", path, body, headers=headers, token="plain")
    assert answer.document["message"] == (
        'users "jane" is forbidden: User "someone" cannot impersonate resource "users" in API group "" '
        "at the cluster scope"
    )
    headers = JSON | {"impersonate-group": "system:masters"}
    assert (await request(served.api, "POST", path, body, headers=headers)).status == 400


async def test_refusals_are_statuses(served: Served) -> None:
    unknown = await request(served.api, "GET", MAPS, token="wrong")
    assert unknown.document["reason"] == "Unauthorized"
    nobody = await request(served.api, "GET", MAPS, token=None)
    assert nobody.document["message"] == (
        'configmaps is forbidden: User "system:anonymous" cannot list resource "configmaps" in API group "" '
        'in the namespace "default"'
    )
    root = await request(served.api, "GET", "/", token=None)
    assert root.document["message"] == 'forbidden: User "system:anonymous" cannot get path "/"'


@pytest.mark.parametrize("header", ["Basic c2VjcmV0", "Bearer", "Bearer  ", "secret", "Bearer \xff\xfe"])
async def test_other_authorization_is_refused(served: Served, header: str) -> None:
    reply = await request(served.api, "GET", MAPS, token=None, headers={"authorization": header})
    assert reply.status == 401


# --- bodies ---------------------------------------------------------------------------------------


async def test_json_yaml_and_protobuf_bodies_mean_the_same(served: Served) -> None:
    object_ = b"\x0a\x07\x0a\x05three" + b"\x12\x06\x0a\x01x\x12\x011"
    unknown = b"\x0a\x0f\x0a\x02v1\x12\x09ConfigMap" + b"\x12" + bytes([len(object_)]) + object_
    bodies = {
        "application/json": b'{"metadata":{"name":"one"},"data":{"x":"1"}}',
        "application/yaml": b"metadata: {name: two}\ndata: {x: '1'}\n",
        "application/vnd.kubernetes.protobuf": b"k8s\0" + unknown,
    }
    for content_type, body in bodies.items():
        reply = await request(served.api, "POST", MAPS, body, headers={"content-type": content_type}, chunk=7)
        assert reply.status == 201, reply.body
        assert reply.document["data"] == {"x": "1"}


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b"[]", 400),
        ("application/json", b"3", 400),
        ("application/json", b"null", 400),
        ("application/json", b"\xff\xfe", 400),
        ("application/json", b'{"metadata":[]}', 400),
        ("application/json", b'{"metadata":{"name":"\\ud800"}}', 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b'{"a":' * 50_000, 400),
        ("application/yaml", b"{", 400),
        ("application/yaml", b"a: &a [*a]", 400),
        ("application/yaml", b"- a\n- b", 400),
        ("application/yaml", b"!!python/object:os.system {}", 400),
        ("application/yaml", b"? {a: b}\n: c", 400),
        ("application/yaml", b"[" * MAX_BODY, 400),
        ("application/yaml", b"{a: " * 100_000 + b"b" + b"}" * 100_000, 400),
        ("application/yaml", b"- " * 100_000, 400),
        ("application/vnd.kubernetes.protobuf", b"k8s\0", 400),
        ("application/vnd.kubernetes.protobuf", b"nonsense", 400),
        ("application/vnd.kubernetes.protobuf", b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\xff", 400),
        ("application/x-unknown", b"{}", 415),
        ("text/html", b"{}", 415),
    ],
)
async def test_broken_bodies(served: Served, content_type: str, body: bytes, status: int) -> None:
    reply = await request(served.api, "POST", MAPS, body, headers={"content-type": content_type})
    assert reply.status == status, reply.body
    assert reply.document["kind"] == "Status"


async def test_a_yaml_bomb_is_refused_soon(served: Served) -> None:
    lines = [b"a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for number in range(1, 10):
        lines.append(b"a%d: &a%d [%s]" % (number, number, b", ".join([b"*a%d" % (number - 1)] * 9)))
    async with asyncio.timeout(20):
        reply = await request(
            served.api, "POST", MAPS, b"\n".join(lines), headers={"content-type": "application/yaml"}
        )
    assert reply.status == 400


async def test_a_body_too_large_is_refused(served: Served) -> None:
    body = b'{"metadata":{"name":"a"},"data":{"x":"' + b"x" * MAX_BODY + b'"}}'
    reply = await request(served.api, "POST", MAPS, body, headers=JSON)
    assert (reply.status, reply.document["reason"]) == (413, "RequestEntityTooLarge")


# --- answers --------------------------------------------------------------------------------------


async def test_strict_lenient_and_silent_about_unknown_fields(served: Served) -> None:
    body = b'{"metadata":{"name":"a"},"dta":{"x":"1"},"data":{"x":"1"},"data":{"x":"2"}}'
    strict = await request(served.api, "POST", MAPS, body, headers=JSON, query=b"fieldValidation=Strict")
    assert strict.status == 400
    assert 'unknown field "dta"' in strict.document["message"]
    warned = await request(served.api, "POST", MAPS, body, headers=JSON)
    assert warned.status == 201
    assert '299 - "unknown field \\"dta\\""' in warned.header("warning")
    assert '299 - "duplicate field \\"data\\""' in warned.header("warning")
    body = body.replace(b'"name":"a"', b'"name":"b"')
    silent = await request(served.api, "POST", MAPS, body, headers=JSON, query=b"fieldValidation=Ignore")
    assert (silent.status, silent.header("warning")) == (201, [])


async def test_old_versions_warn(served: Served) -> None:
    reply = await request(served.api, "GET", "/apis/resource.k8s.io/v1beta1/deviceclasses")
    assert "is deprecated in v1.35+, unavailable in v1.38+" in reply.header("warning")[0]


async def test_yaml_answers_and_heads(served: Served) -> None:
    await served.ok("POST", MAPS, config_map("a", x="1"))
    reply = await request(served.api, "GET", f"{MAPS}/a", headers={"accept": "application/yaml"})
    assert reply.header("content-type") == ["application/yaml"]
    assert b"kind: ConfigMap\n" in reply.body
    head = await request(served.api, "HEAD", f"{MAPS}/a")
    assert (head.status, head.body) == (200, b"")


async def test_documents_are_named_by_their_hash(served: Served) -> None:
    index = (await request(served.api, "GET", "/openapi/v3")).document["paths"]
    where = index["apis/resource.k8s.io/v1"]["serverRelativeURL"]
    assert where.startswith("/openapi/v3/apis/resource.k8s.io/v1?hash=")
    reply = await request(served.api, "GET", where.partition("?")[0])
    etag = reply.header("etag")[0]
    assert etag.strip('"') == where.partition("=")[2]
    again = await request(served.api, "GET", where.partition("?")[0], headers={"if-none-match": etag})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("version", ["1.32", "1.34", "1.37"])
async def test_openapi_refers_only_to_what_it_has(version: str) -> None:
    async with Served(version) as served:
        openapi = served.api.openapi
        documents = [
            openapi.v3(group, row)
            for group, rows in served.api.registry.kinds.group_versions().items()
            for row in rows
        ]
        for document in (*documents, openapi.v2):
            decoded = msgspec.json.decode(document)
            known = set(decoded.get("definitions") or decoded["components"]["schemas"])
            wanted = set(_references(decoded))
            assert wanted <= known
            assert decoded["paths"]


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        found = [value["$ref"].rpartition("/")[2]] if isinstance(value.get("$ref"), str) else []
        return found + [name for item in value.values() for name in _references(item)]
    if isinstance(value, list):
        return [name for item in value for name in _references(item)]
    return []


async def test_metrics(served: Served) -> None:
    await served.ok("POST", MAPS, config_map("a"))
    await request(served.api, "GET", MAPS)
    text = (await request(served.api, "GET", "/metrics")).body.decode()
    assert 'apiserver_storage_objects{resource="configmaps"} 1\n' in text
    assert 'apiserver_request_total{method="GET",code="200"} 1\n' in text


# --- sockets --------------------------------------------------------------------------------------


async def test_over_tls_and_stopping_with_open_watches(served: Served, tmp_path: Path) -> None:
    files = certificates(tmp_path)
    server = await serve(served.api, "127.0.0.1", 0, certfile=files.certificate, keyfile=files.key)
    context = ssl.create_default_context(cafile=files.ca)
    headers = {"Authorization": "Bearer secret"}
    base = f"https://127.0.0.1:{server.port}"
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(base, connector=connector, headers=headers) as session:
        watch = await session.get(MAPS, params={"watch": "true", "resourceVersion": "0"})
        async with session.post(MAPS, json=config_map("a")) as response:
            assert response.status == 201
        line = msgspec.json.decode(await watch.content.readline())
        assert (line["type"], line["object"]["metadata"]["name"]) == ("ADDED", "a")
        with pytest.raises(UsageError, match=r"cannot listen on 127\.0\.0\.1 port"):
            await serve(served.api, "127.0.0.1", server.port, certfile=files.certificate, keyfile=files.key)
        async with asyncio.timeout(5):
            await server.stop()
            assert await watch.content.read() == b""
        watch.close()


async def test_a_client_that_goes_leaves_no_watch_behind(served: Served, tmp_path: Path) -> None:
    files = certificates(tmp_path)
    server = await serve(served.api, "127.0.0.1", 0, certfile=files.certificate, keyfile=files.key)
    context = ssl.create_default_context(cafile=files.ca)
    headers = {"Authorization": "Bearer secret"}
    connector = aiohttp.TCPConnector(ssl=context)
    base = f"https://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession(base, connector=connector, headers=headers) as session:
        watch = await session.get(MAPS, params={"watch": "true"})
        assert sum(len(hub) for hub in served.api.registry.hubs()) == 1
        watch.close()
    async with asyncio.timeout(5):
        while sum(len(hub) for hub in served.api.registry.hubs()):
            await asyncio.sleep(0)
    await server.stop()


async def test_certificates_are_kept_and_made_again_when_they_do_not_fit(tmp_path: Path) -> None:
    files = certificates(tmp_path)
    first = files.certificate.read_bytes()
    assert certificates(tmp_path).certificate.read_bytes() == first
    assert files.key.stat().st_mode & 0o777 == 0o600
    other = certificates(tmp_path, hosts=["node.example.com", "192.0.2.1"]).certificate.read_bytes()
    assert other != first
    files.certificate.write_bytes(b"broken")
    assert certificates(tmp_path).certificate.read_bytes() != b"broken"

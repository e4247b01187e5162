"""The client against the real API server over TLS, and TLS with a client certificate."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from drakit.apiserver.app import API, User
from drakit.apiserver.http import serve
from drakit.apiserver.tls import certificates
from drakit.client import kubeconfig
from drakit.client.api import CONFIG_MAPS, Client
from drakit.client.http import HTTPTransport
from drakit.client.informer import Informer
from drakit.client.kubeconfig import Config
from drakit.errors import AlreadyExists, NotFound, ServiceUnavailable, Unauthorized, UsageError
from drakit.profile import profile_for
from drakit.store import Store
from drakit.transport import Document

pytestmark = pytest.mark.anyio

TOKEN = "secret"


@asynccontextmanager
async def api_server(folder: Path) -> AsyncIterator[Path]:
    """A server; yields the path of a kubeconfig for it."""
    admin = User("admin", ("system:masters",))
    api = API.open(Store(), profile_for(), tokens={TOKEN: admin})
    await api.start()
    files = certificates(folder)
    server = await serve(api, "127.0.0.1", 0, certfile=files.certificate, keyfile=files.key)
    config = {
        "current-context": "x",
        "clusters": [
            {
                "name": "x",
                "cluster": {
                    "server": f"https://127.0.0.1:{server.port}",
                    "certificate-authority": files.ca.name,
                },
            }
        ],
        "users": [{"name": "x", "user": {"token": TOKEN}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(config))
    try:
        yield path
    finally:
        await server.stop()
        await api.close()


def config_map(name: str, size: int = 0) -> Document:
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"x": "y" * size}}


async def test_verbs_and_an_informer_over_tls(tmp_path: Path) -> None:
    async with api_server(tmp_path) as path:
        client = Client(HTTPTransport(kubeconfig.load(path)))
        informer = Informer(client, CONFIG_MAPS, "default")
        seen: asyncio.Queue[str] = asyncio.Queue()
        informer.add_handler(
            lambda old, new: seen.put_nowait("-" if new is None else "~" if old else new["metadata"]["name"])
        )
        following = asyncio.create_task(informer.run())
        try:
            await client.create(CONFIG_MAPS, config_map("a", 500_000))
            with pytest.raises(AlreadyExists):
                await client.create(CONFIG_MAPS, config_map("a"))
            await client.patch(CONFIG_MAPS, "a", {"data": {"x": "z"}}, "default")
            await client.delete(CONFIG_MAPS, "a", "default")
            with pytest.raises(NotFound):
                await client.get(CONFIG_MAPS, "a", "default")
            changes = [await asyncio.wait_for(seen.get(), 5)]
            while changes[-1] != "-":
                changes.append(await asyncio.wait_for(seen.get(), 5))
            assert changes in (["a", "~", "-"], ["a", "-"])
        finally:
            following.cancel()
            await asyncio.wait([following])
            await client.close()


async def test_a_wrong_token_and_a_wrong_authority(tmp_path: Path) -> None:
    async with api_server(tmp_path) as path:
        config = kubeconfig.load(path)
        wrong = Client(HTTPTransport(Config(server=config.server, ca_data=config.ca_data, token="no")))
        with pytest.raises(Unauthorized):
            await wrong.list(CONFIG_MAPS)
        await wrong.close()
        stranger = Client(HTTPTransport(Config(server=config.server, token=TOKEN)))
        with pytest.raises(ServiceUnavailable, match="certificate"):
            await stranger.list(CONFIG_MAPS)
        await stranger.close()
        careless = Client(
            HTTPTransport(Config(server=config.server, token=TOKEN, insecure_skip_tls_verify=True))
        )
        await careless.list(CONFIG_MAPS)
        await careless.close()


def pair(name: str) -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private


async def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    certificate, key = pair("me")
    files = certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=certificate.decode())
    context.load_cert_chain(files.certificate, files.key)
    context.verify_mode = ssl.CERT_REQUIRED

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        shown = request.transport.get_extra_info("peercert")
        return web.json_response({"items": [{"subject": shown["subject"][0][0][1]}]})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    config = Config(
        server=f"https://127.0.0.1:{runner.addresses[0][1]}",
        ca_data=files.ca.read_bytes(),
        client_certificate=certificate,
        client_key=key,
    )
    client = Client(HTTPTransport(config))
    try:
        assert (await client.list(CONFIG_MAPS)).items == [{"subject": "me"}]
    finally:
        await client.close()
        await runner.cleanup()


async def test_certificates_that_are_none() -> None:
    for config, message in (
        (Config(server="https://h", ca_data=b"x"), "authority of https://h is not PEM"),
        (
            Config(server="https://h", client_certificate=b"x", client_key=b"y"),
            "client certificate for https://h is no good",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            await Client(HTTPTransport(config)).list(CONFIG_MAPS)

"""Certificates of clients: asked for, approved, signed, and believed."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from drakit.apiserver.auth import User
from drakit.apiserver.http import serve
from drakit.apiserver.tls import Authority, Files, certificates
from drakit.transport import MERGE_PATCH, Document
from tests.apiserver.served import Served

pytestmark = pytest.mark.anyio

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
JANE = User("jane", ("devs",))
CLIENT = "kubernetes.io/kube-apiserver-client"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return certificates(tmp_path / "pki")


@pytest.fixture
async def served(files: Files) -> AsyncIterator[Served]:
    async with Served() as server:
        server.api.registry.certificate_authority = Authority.load(files)
        yield server


def asked(
    signer: str = CLIENT, group: str = "devs", key: ec.EllipticCurvePrivateKey | None = None
) -> Document:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, group),
            x509.NameAttribute(NameOID.COMMON_NAME, "jane"),
        ]
    )
    key = key or ec.generate_private_key(ec.SECP256R1())
    pem = x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256())
    text = base64.b64encode(pem.public_bytes(serialization.Encoding.PEM)).decode()
    spec = {"request": text, "signerName": signer, "usages": ["client auth"]}
    return {"metadata": {"name": "jane"}, "spec": spec}


def approved(document: Document, type_: str = "Approved") -> Document:
    row = {"type": type_, "status": "True", "reason": "Test", "message": "yes"}
    return {**document, "status": {"conditions": [row]}}


async def test_who_made_a_request_is_not_for_the_request_to_say(served: Served) -> None:
    document = asked()
    document["spec"] |= {"username": "admin", "groups": ["system:masters"]}
    document["status"] = {"certificate": "bWluZQ=="}
    made = await served.ok("POST", REQUESTS, document)
    assert (made["spec"]["username"], made["spec"]["groups"]) == (
        "admin",
        ["system:masters", "system:authenticated"],
    )
    assert made["status"] == {}


BROKEN = [
    ({"request": "bm8="}, "spec.request: Invalid value"),
    ({"usages": []}, "spec.usages: Required value"),
    ({"signerName": "mine"}, "spec.signerName: Invalid value"),
    ({"expirationSeconds": 5}, "spec.expirationSeconds: Invalid value: 5"),
]


@pytest.mark.parametrize(("change", "text"), BROKEN)
async def test_broken_requests(served: Served, change: Document, text: str) -> None:
    document = asked()
    document["spec"] |= change
    code, _, message = await served.refused("POST", REQUESTS, document)
    assert (code, text in message) == (422, True)


async def test_approval_signs_for_the_signers_of_this_server(served: Served) -> None:
    for signer, group, type_, is_signed in (
        (CLIENT, "devs", "Approved", True),
        (CLIENT, "devs", "Denied", False),
        (CLIENT, "system:masters", "Approved", False),
        ("example.com/other", "devs", "Approved", False),
    ):
        made = await served.ok("POST", REQUESTS, asked(signer, group))
        done = await served.ok("PUT", f"{REQUESTS}/jane/approval", approved(made, type_))
        assert done["status"]["conditions"][0]["lastUpdateTime"]
        assert ("certificate" in done["status"]) == is_signed
        await served.ok("DELETE", f"{REQUESTS}/jane")


async def test_approving_is_a_right_of_its_own(served: Served) -> None:
    await served.ok("POST", REQUESTS, asked())
    rule = {
        "apiGroups": ["certificates.k8s.io"],
        "resources": ["certificatesigningrequests/approval"],
        "verbs": ["patch"],
    }
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    await served.ok("POST", f"{rbac}/clusterroles", {"metadata": {"name": "r"}, "rules": [rule]})
    binding = {
        "metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    await served.ok("POST", f"{rbac}/clusterrolebindings", binding)
    body = {"status": approved({})["status"]}
    path = f"{REQUESTS}/jane/approval"
    code, _, text = await served.refused("PATCH", path, body, user=JANE, content_type=MERGE_PATCH)
    assert (code, "user not permitted to approve requests with signerName" in text) == (403, True)
    done = await served.ok("PATCH", path, body, content_type=MERGE_PATCH)
    assert done["status"]["certificate"]


async def test_a_certificate_says_who_comes(served: Served, files: Files, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    made = await served.ok("POST", REQUESTS, asked(key=key))
    done = await served.ok("PUT", f"{REQUESTS}/jane/approval", approved(made))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both = tmp_path / "jane.pem"
    both.write_bytes(private + base64.b64decode(done["status"]["certificate"]))
    server = await serve(
        served.api, "127.0.0.1", 0, certfile=files.certificate, keyfile=files.key, client_ca=files.ca
    )
    base = f"https://127.0.0.1:{server.port}"
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    seen = []
    for certificate in (both, None):
        context = ssl.create_default_context(cafile=files.ca)
        if certificate:
            context.load_cert_chain(certificate)
        connector = aiohttp.TCPConnector(ssl=context)
        async with (
            aiohttp.ClientSession(base, connector=connector) as session,
            session.post(path, json={}) as response,
        ):
            seen.append((response.status, await response.json()))
    await server.stop()
    assert (seen[0][0], seen[1][0]) == (201, 403)
    assert seen[0][1]["status"]["userInfo"] == {
        "username": "jane",
        "groups": ["devs", "system:authenticated"],
    }


async def test_a_stranger_is_turned_away(served: Served, files: Files, tmp_path: Path) -> None:
    other = certificates(tmp_path / "other")
    server = await serve(
        served.api, "127.0.0.1", 0, certfile=files.certificate, keyfile=files.key, client_ca=files.ca
    )
    context = ssl.create_default_context(cafile=files.ca)
    context.load_cert_chain(other.certificate, other.key)
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"https://127.0.0.1:{server.port}/version")
    await server.stop()


def test_the_authority_stays_when_the_server_gets_a_name_more(tmp_path: Path) -> None:
    first = certificates(tmp_path)
    ca, certificate = first.ca.read_bytes(), first.certificate.read_bytes()
    assert first.ca_key.stat().st_mode & 0o777 == 0o600
    again = certificates(tmp_path, ["node.example.com"])
    assert again.ca.read_bytes() == ca
    assert again.certificate.read_bytes() != certificate
    first.ca_key.write_bytes(b"broken")
    assert certificates(tmp_path).ca.read_bytes() != ca

"""Reaching a webhook: a POST over TLS to a URL, or to a pod behind a service.

Services have no addresses of their own here. The pod is chosen as a service would, and reached through its
node, which connects to a port in the pod's network; TLS goes from end to end and is checked against the
service's name.
Source: apiserver/pkg/util/webhook/client.go, pkg/util/proxy/proxy.go.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from drakit.apiserver.view import stored_document
from drakit.errors import APIError
from drakit.model.selector import read_labels
from drakit.model.validation.field import listed, mapped
from drakit.podio import Connection, PodIO
from drakit.transport import Document

if TYPE_CHECKING:
    from drakit.apiserver.registry import Registry

_MAX_ANSWER = 3 << 20
PodIOs = Callable[[str], PodIO | None]
"""Finds the node of that name."""


class CallFailed(Exception):
    """A webhook that could not be asked, or did not answer as it must; the text says why."""


class Caller:
    """Calls webhooks."""

    def __init__(self, registry: Registry, pod_io: PodIOs) -> None:
        self._registry = registry
        self._pod_io = pod_io

    async def post(self, client: Mapping[str, Any], document: Document, seconds: int) -> Any:
        """The JSON that the webhook of a `clientConfig` answers to `document`. Raises CallFailed."""
        service = client.get("service")
        if service is None:
            url = str(client.get("url") or "")
            shown = _with_timeout(url, seconds)
            return await self._sent(shown, shown, None, client, document, seconds)
        name, namespace = service.get("name") or "", service.get("namespace") or ""
        host, port = f"{name}.{namespace}.svc", service.get("port") or 443
        path = str(service.get("path") or "/")
        shown = _with_timeout(f"https://{host}:{port}{path}", seconds)
        try:
            pod, pod_port = self._behind(namespace, name, port)
            async with self._relay(pod, pod_port) as local:
                url = _with_timeout(f"https://127.0.0.1:{local}{path}", seconds)
                return await self._sent(url, shown, host, client, document, seconds)
        except APIError as error:
            raise CallFailed(f'failed to call webhook: Post "{shown}": {error}') from None

    async def _sent(
        self,
        url: str,
        shown: str,
        host: str | None,
        client: Mapping[str, Any],
        document: Document,
        seconds: int,
    ) -> Any:
        try:
            context = _trust(client.get("caBundle"))
            status, body = await asyncio.wait_for(_post(url, host, context, document), seconds)
        except TimeoutError:
            text = "context deadline exceeded"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            text = _why(error)
        else:
            return _answer(status, body)
        raise CallFailed(f'failed to call webhook: Post "{shown}": {text}')

    # --- services ---------------------------------------------------------------------------------

    def _behind(self, namespace: str, name: str, port: int) -> tuple[Document, int]:
        """A pod that a service leads to, and the port in it. Raises CallFailed."""
        service = self._registry.find("Service", namespace, name)
        if service is None:
            raise CallFailed(f'failed to call webhook: service "{name}" not found')
        spec = mapped(service.get("spec"))
        row = next((row for row in listed(spec.get("ports")) if row.get("port") == port), None)
        if row is None:
            raise CallFailed(f'failed to call webhook: no service port {port} found for service "{name}"')
        selector = read_labels({"matchLabels": spec.get("selector") or {}})
        if spec.get("selector") and selector is not None:
            for entry in self._registry.store.page("pods", f"{namespace}/"):
                pod = stored_document(entry)
                if not selector.matches(pod["metadata"].get("labels") or {}) or not _is_ready(pod):
                    continue
                target = _pod_port(pod, row.get("targetPort") or port)
                if target is not None:
                    return pod, target
        raise CallFailed(f'failed to call webhook: no endpoints available for service "{name}"')

    @contextlib.asynccontextmanager
    async def _relay(self, pod: Document, port: int) -> AsyncIterator[int]:
        """A port on this machine, open for the time of the call, that leads into the pod."""
        node = self._pod_io(pod["spec"].get("nodeName") or "")
        if node is None:
            name = pod["metadata"]["name"]
            raise CallFailed(f"failed to call webhook: the node of pod {name} cannot be reached")
        connection = await node.connect(pod, port)
        tasks: list[asyncio.Task[None]] = []

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if tasks:
                writer.close()
                return
            tasks.append(asyncio.create_task(_into_pod(reader, connection)))
            tasks.append(asyncio.create_task(_out_of_pod(connection, writer)))

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            connection.close()


async def _into_pod(reader: asyncio.StreamReader, connection: Connection) -> None:
    while data := await reader.read(1 << 16):
        await connection.write(data)
    await connection.end()


async def _out_of_pod(connection: Connection, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await connection.read():
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def _is_ready(pod: Document) -> bool:
    conditions = listed(mapped(pod.get("status")).get("conditions"))
    is_ready = any(row.get("type") == "Ready" and row.get("status") == "True" for row in conditions)
    return is_ready and not pod["metadata"].get("deletionTimestamp")


def _pod_port(pod: Document, port: int | str) -> int | None:
    """The number of a service's targetPort in a pod."""
    if isinstance(port, int):
        return port
    for container in listed(pod["spec"].get("containers")):
        for row in listed(container.get("ports")):
            if row.get("name") == port:
                return int(row["containerPort"])
    return None


# --- HTTP -----------------------------------------------------------------------------------------


def _why(error: Exception) -> str:
    """What went wrong, in the words that Go's client has for it."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"tls: failed to verify certificate: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        problem = error.os_error
        why = os.strerror(problem.errno).lower() if problem.errno else str(problem)
        return f"dial tcp {error.host}:{error.port}: connect: {why}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    return " ".join(str(error).split()) or type(error).__name__


def _with_timeout(url: str, seconds: int) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}timeout={seconds}s"


def _trust(bundle: Any) -> ssl.SSLContext:
    """Trust in the certificates of a caBundle, or in those of the system. Raises ValueError."""
    if not bundle:
        return ssl.create_default_context()
    try:
        text = base64.b64decode(bundle, validate=True).decode("ascii")
        return ssl.create_default_context(cadata=text)
    except (binascii.Error, UnicodeError, ssl.SSLError):
        raise ValueError(
            "unable to load root certificates from caBundle: no PEM certificates in it"
        ) from None


async def _post(url: str, host: str | None, context: ssl.SSLContext, document: Document) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if host is not None:
        headers["Host"] = host
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            url,
            data=msgspec.json.encode(document),
            headers=headers,
            ssl=context,
            server_hostname=host,
            allow_redirects=False,
        ) as response,
    ):
        body = await response.content.read(_MAX_ANSWER + 1)
        while len(body) <= _MAX_ANSWER and (more := await response.content.read(_MAX_ANSWER)):
            body += more
        return response.status, body


def _answer(status: int, body: bytes) -> Any:
    if status >= 300:
        text = body[:1000].decode("utf-8", "replace").strip()
        said = f": {text}" if text else ""
        raise CallFailed(f"failed to call webhook: the server responded with the status code {status}{said}")
    if len(body) > _MAX_ANSWER:
        raise CallFailed(f"failed to call webhook: the answer is longer than {_MAX_ANSWER} bytes")
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise CallFailed(f"failed to call webhook: the answer is no JSON: {error}") from None

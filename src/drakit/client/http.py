"""Requests over HTTP: the transport to any Kubernetes API server.

A request is sent again where doing it twice is doing it once: when the connection drops under a GET,
PUT, DELETE, merge or apply patch, and when the server turned it away with Retry-After. Everything else,
and a server that is not there, comes back to the caller, who knows better.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from drakit.client.api import url
from drakit.client.clock import Clock
from drakit.client.credential import Credential, CredentialSource, basic
from drakit.client.kubeconfig import Config
from drakit.errors import ServiceUnavailable, Timeout, UsageError, from_status
from drakit.transport import APPLY_PATCH, MERGE_PATCH, Document, Request, Response

IN_FLIGHT = 128
"""Requests at a time, watches apart."""
CONNECT_SECONDS, REQUEST_SECONDS = 10.0, 60.0
WATCH_GRACE_SECONDS = 30.0
"""Silence on a watch beyond the time it was asked to last, before the connection counts as dead."""
ATTEMPTS = 5
LONGEST_WAIT = 30.0

_REPEATABLE = {"GET", "HEAD", "PUT", "DELETE"}
_REPEATABLE_PATCHES = {MERGE_PATCH, APPLY_PATCH}
_KEEP_ALIVE = 4.0


class HTTPTransport:
    """A `drakit.transport.Transport` to `config.server`; made anywhere, used on one event loop."""

    def __init__(self, config: Config, *, clock: Clock | None = None) -> None:
        self._config = config
        self._clock = clock or Clock()
        self._credentials = CredentialSource(config, self._clock)
        self._session: aiohttp.ClientSession | None = None
        self._retired: list[aiohttp.ClientSession] = []
        self._shown: bytes | None = None
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)

    async def send(self, request: Request) -> Response:
        async with self._in_flight:
            return await self._send(request)

    async def watch(self, request: Request) -> AsyncIterator[Document]:
        seconds = float(request.query.get("timeoutSeconds", 0))
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=CONNECT_SECONDS,
            sock_read=seconds + WATCH_GRACE_SECONDS if seconds else None,
        )
        try:
            async with await self._open(request, timeout) as answer:
                if answer.status >= 400:
                    raise from_status(_decode(answer, await answer.read()), answer.status)
                lines = Lines()
                async for chunk in answer.content.iter_any():
                    for line in lines.feed(chunk):
                        yield msgspec.json.decode(line)
        except (TimeoutError, aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError):
            return
        except aiohttp.ClientError as error:
            raise self._unreachable(error) from None
        except msgspec.DecodeError as error:
            raise ServiceUnavailable(f"{self._config.server} sent a broken watch event: {error}") from None

    async def close(self) -> None:
        self._retire()
        while self._retired:
            await self._retired.pop().close()

    def _retire(self) -> None:
        """Use the session for nothing new; what is under way on it may end in peace."""
        if self._session is not None:
            self._retired.append(self._session)
            self._session = None

    async def _send(self, request: Request) -> Response:
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
        repeatable = request.method in _REPEATABLE or request.content_type in _REPEATABLE_PATCHES
        attempt = 0
        while True:
            attempt += 1
            try:
                async with await self._open(request, timeout) as answer:
                    body = await answer.read()
            except TimeoutError:
                raise Timeout(
                    f"{self._config.server} did not answer within {REQUEST_SECONDS:.0f} s"
                ) from None
            except aiohttp.ClientConnectorError as error:
                raise self._unreachable(error) from None
            except (aiohttp.ClientError, ConnectionError) as error:
                if not repeatable or attempt >= 3:
                    raise self._unreachable(error) from None
                await self._clock.sleep(0.05 * 2**attempt * random.uniform(0.5, 1.0))
                continue
            wait = _retry_after(answer)
            if wait is not None and attempt < ATTEMPTS:
                await self._clock.sleep(wait)
                continue
            return Response(
                status=answer.status, document=_decode(answer, body), warnings=list(_warnings(answer))
            )

    async def _open(self, request: Request, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """The server's answer up to its headers, asked once more with fresh credentials after a 401."""
        credential = await self._credentials.get()
        answer = await self._ask(request, timeout, credential)
        if answer.status == 401 and self._credentials.refuse(credential):
            answer.release()
            answer = await self._ask(request, timeout, await self._credentials.get())
        return answer

    async def _ask(
        self, request: Request, timeout: aiohttp.ClientTimeout, credential: Credential
    ) -> aiohttp.ClientResponse:
        session = self._connected(credential)
        headers = self._identity(credential)
        headers["Accept"] = request.accept
        body = None
        if request.document is not None:
            body = msgspec.json.encode(request.document)
            headers["Content-Type"] = request.content_type
        return await session.request(
            request.method,
            URL(self._config.server + url(request), encoded=True),
            data=body,
            headers=headers,
            timeout=timeout,
            proxy=self._config.proxy_url,
            server_hostname=self._config.tls_server_name,
            allow_redirects=False,
        )

    def _identity(self, credential: Credential) -> CIMultiDict[str]:
        config = self._config
        headers: CIMultiDict[str] = CIMultiDict()
        if credential.token:
            headers["Authorization"] = f"Bearer {credential.token}"
        elif config.username is not None:
            headers["Authorization"] = basic(config.username, config.password or "")
        if config.impersonate_user:
            headers["Impersonate-User"] = config.impersonate_user
        for group in config.impersonate_groups:
            headers.add("Impersonate-Group", group)
        return headers

    def _connected(self, credential: Credential) -> aiohttp.ClientSession:
        """The session, made anew when the certificate to show has changed."""
        if self._session is not None and credential.certificate == self._shown:
            return self._session
        self._retire()
        self._shown = credential.certificate
        connector = aiohttp.TCPConnector(
            ssl=_tls(self._config, credential) if self._config.server.startswith("https:") else True,
            limit=0,
            keepalive_timeout=_KEEP_ALIVE,
        )
        self._session = aiohttp.ClientSession(
            connector=connector, headers={"User-Agent": "drakit"}, cookie_jar=aiohttp.DummyCookieJar()
        )
        return self._session

    def _unreachable(self, error: Exception) -> ServiceUnavailable:
        return ServiceUnavailable(f"cannot reach {self._config.server}: {error or type(error).__name__}")


class Lines:
    """Cuts a stream into lines, however it is chunked, looking at every byte once."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that `chunk` completes, without their ends; empty ones are left out."""
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._parts.append(chunk[start:end])
            line = b"".join(self._parts)
            self._parts.clear()
            if line:
                yield line
            start = end + 1
        if start < len(chunk):
            self._parts.append(chunk[start:])


def _tls(config: Config, credential: Credential) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cadata=config.ca_data.decode("ascii") if config.ca_data else None
        )
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise UsageError(f"the certificate authority of {config.server} is not PEM: {error}") from None
    if config.insecure_skip_tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if credential.certificate and credential.key:
        # load_cert_chain reads files only.
        with tempfile.TemporaryDirectory(prefix="drakit-") as folder:
            certificate, key = Path(folder, "cert.pem"), Path(folder, "key.pem")
            certificate.write_bytes(credential.certificate)
            key.write_bytes(credential.key)
            try:
                context.load_cert_chain(certificate, key)
            except ssl.SSLError as error:
                raise UsageError(f"the client certificate for {config.server} is no good: {error}") from None
    return context


def _decode(answer: aiohttp.ClientResponse, body: bytes) -> Any:
    if answer.content_type == "application/json" or answer.content_type.endswith("+json"):
        try:
            return msgspec.json.decode(body) if body else {}
        except msgspec.DecodeError:
            pass
    return body.decode("utf-8", "replace")


def _warnings(answer: aiohttp.ClientResponse) -> Iterator[str]:
    for header in answer.headers.getall("Warning", []):
        parts = header.split(" ", 2)
        if len(parts) == 3 and parts[0] == "299":
            text = parts[2].strip()
            if text.startswith('"') and '"' in text[1:]:
                text = text[1 : text.rindex('"')].replace('\\"', '"')
            yield text


def _retry_after(answer: aiohttp.ClientResponse) -> float | None:
    """The seconds a server that is too busy asks us to wait; None if it asked for nothing."""
    if answer.status not in (429, 503):
        return None
    try:
        return min(max(float(answer.headers["Retry-After"]), 0.0), LONGEST_WAIT)
    except (KeyError, ValueError):
        return None

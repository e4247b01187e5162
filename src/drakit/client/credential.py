"""Who we are, for every request: tokens that change on disk and programs that print credentials.

A token file is read again a minute after it was last read, a program is run again shortly before what
it printed expires, or when the server no longer accepts it.
Source: client.authentication.k8s.io/v1 and client-go's exec plugin.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from drakit.client.clock import Clock, parse_timestamp
from drakit.client.kubeconfig import Config, ExecPlugin
from drakit.errors import UsageError

TOKEN_FILE_SECONDS = 60.0
EXEC_SECONDS = 120.0
_EARLY = 10.0


class Credential(Struct, frozen=True):
    """What a request carries and a connection shows. `expires` is in seconds since the epoch, or never."""

    token: str | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    expires: float | None = None


class CredentialSource:
    """The credentials of `config`, fresh whenever asked for."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self._config = config
        self._clock = clock or Clock()
        self._cached: Credential | None = None
        self._lock = asyncio.Lock()

    async def get(self) -> Credential:
        """Raises UsageError when the token file or the program gives nothing usable."""
        config = self._config
        if config.token_file is None and config.exec_plugin is None:
            return Credential(config.token, config.client_certificate, config.client_key)
        async with self._lock:
            cached = self._cached
            if cached is None or (cached.expires is not None and self._clock.now() >= cached.expires):
                self._cached = cached = await self._fetch()
            return cached

    def refuse(self, credential: Credential) -> bool:
        """The server refused `credential`; returns whether asking again may give another."""
        if credential is self._cached:
            self._cached = None
            return True
        return self._config.token_file is not None or self._config.exec_plugin is not None

    async def _fetch(self) -> Credential:
        config = self._config
        if config.token_file is not None:
            token = _read_token(config.token_file)
            return Credential(
                token, config.client_certificate, config.client_key, self._clock.now() + TOKEN_FILE_SECONDS
            )
        assert config.exec_plugin is not None
        return await run_plugin(config.exec_plugin)


def _read_token(file: Path) -> str:
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read token file {file}: {error}") from None
    if not token:
        raise UsageError(f"token file {file} is empty")
    return token


async def run_plugin(plugin: ExecPlugin) -> Credential:
    """Run the program and read what it prints. Raises UsageError saying what went wrong and where."""
    spec: dict[str, Any] = {"interactive": sys.stdin is not None and sys.stdin.isatty()}
    if plugin.cluster is not None:
        spec["cluster"] = plugin.cluster
    info = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    environ = os.environ | dict(plugin.env) | {"KUBERNETES_EXEC_INFO": msgspec.json.encode(info).decode()}
    try:
        process = await asyncio.create_subprocess_exec(
            plugin.command,
            *plugin.args,
            env=environ,
            stdin=None if spec["interactive"] else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        hint = f"; {plugin.install_hint}" if plugin.install_hint else ""
        raise UsageError(f"{plugin.where}: cannot run {plugin.command}: {error.strerror}{hint}") from None
    try:
        output, _ = await asyncio.wait_for(process.communicate(), EXEC_SECONDS)
    except TimeoutError:
        raise UsageError(f"{plugin.where}: {plugin.command} took over {EXEC_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise UsageError(f"{plugin.where}: {plugin.command} ended with exit code {process.returncode}")
    return _parse(plugin, output)


def _parse(plugin: ExecPlugin, output: bytes) -> Credential:
    try:
        document = msgspec.json.decode(output)
    except msgspec.DecodeError:
        raise UsageError(f"{plugin.where}: {plugin.command} printed no JSON") from None
    status = document.get("status") if isinstance(document, dict) else None
    if not isinstance(status, dict) or document.get("kind") != "ExecCredential":
        raise UsageError(f"{plugin.where}: {plugin.command} printed no ExecCredential with a status")
    token = status.get("token")
    certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
    if not token and not certificate:
        raise UsageError(f"{plugin.where}: {plugin.command} gave neither token nor client certificate")
    if bool(certificate) != bool(key):
        raise UsageError(f"{plugin.where}: {plugin.command} gave only half of a client certificate")
    expires = None
    if status.get("expirationTimestamp"):
        try:
            expires = parse_timestamp(str(status["expirationTimestamp"])) - _EARLY
        except ValueError:
            raise UsageError(
                f"{plugin.where}: {plugin.command} gave expirationTimestamp {status['expirationTimestamp']!r}"
            ) from None
    return Credential(
        token, certificate.encode() if certificate else None, key.encode() if key else None, expires
    )


def basic(username: str, password: str) -> str:
    """The Authorization header of a user and password."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

"""The API server that the driver under test talks to: ours, in this process, on a real HTTPS port."""

from __future__ import annotations

import asyncio
import json
import secrets
from base64 import b64encode
from pathlib import Path

from drakit.apiserver.app import API, User
from drakit.apiserver.http import serve
from drakit.apiserver.tls import certificates
from drakit.client.api import NODES, RESOURCE_SLICES, Client
from drakit.client.informer import Informer
from drakit.conformance.front import Door, Front
from drakit.profile import profile_for
from drakit.store import Store
from drakit.transport import Document

_CLOSING_SECONDS = 0.05
"""Connections that were cut are closed on later turns of the loop."""

DRIVER_USER = "system:serviceaccount:conformance:driver"


class ControlPlane:
    """`client` is an administrator's. `kubeconfig` is for the driver, which may do everything; what it does
    is noted in `front`."""

    def __init__(self, folder: Path) -> None:
        self.kubeconfig = folder / "kubeconfig"
        self._pki = folder / "pki"
        self._token = secrets.token_urlsafe(24)
        self.profile = profile_for()
        driver = User(DRIVER_USER, ("system:masters",))
        self.api = API.open(Store(None), self.profile, tokens={self._token: driver})
        self.client = Client(self.api.transport(User("conformance", ("system:masters",))))
        self.front = Front(self.api)
        self.slices = Informer(self.client, RESOURCE_SLICES)

    async def start(self, node_name: str) -> None:
        """Serve, and have the node `node_name`."""
        await self.api.start()
        files = certificates(self._pki)
        self._server = await serve(
            self.api, "127.0.0.1", 0, certfile=files.certificate, keyfile=files.key, app=self.front
        )
        self.door = Door(self._server.port)
        await self.door.open()
        self._write_kubeconfig(files.ca)
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node_name}}
        await self.client.create(NODES, node)

    async def stop(self) -> None:
        self.front.clear()
        if hasattr(self, "door"):
            await self.door.shut()
        if hasattr(self, "_server"):
            await self._server.stop()
            await asyncio.sleep(_CLOSING_SECONDS)
        await self.api.close()

    @property
    def revision(self) -> int:
        """The newest resourceVersion."""
        return self.api.store.revision

    async def repair(self) -> None:
        """End all faults."""
        self.front.clear()
        await self.door.open()

    def _write_kubeconfig(self, ca: Path) -> None:
        cluster: Document = {
            "server": f"https://127.0.0.1:{self.door.port}",
            "certificate-authority-data": b64encode(ca.read_bytes()).decode(),
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "conformance", "cluster": cluster}],
            "users": [{"name": "driver", "user": {"token": self._token}}],
            "contexts": [{"name": "conformance", "context": {"cluster": "conformance", "user": "driver"}}],
            "current-context": "conformance",
        }
        self.kubeconfig.write_text(json.dumps(document, indent=2))

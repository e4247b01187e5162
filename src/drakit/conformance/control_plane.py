"""The API server that the driver under test talks to: ours, in this process, on a real HTTPS port."""

from __future__ import annotations

import asyncio
import json
import secrets
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from drakit.apiserver.app import API, User
from drakit.apiserver.http import serve
from drakit.apiserver.tls import certificates
from drakit.client.api import NODES, RESOURCE_SLICES, Client, Resource
from drakit.client.informer import Informer
from drakit.conformance.front import Door, Front
from drakit.profile import profile_for
from drakit.store import Store
from drakit.transport import Document

CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", False)
CLUSTER_ROLE_BINDINGS = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", False
)
_CLOSING_SECONDS = 0.05
"""Connections that were cut are closed on later turns of the loop."""

DRIVER_USER = "system:serviceaccount:conformance:driver"
_DRA = "resource.k8s.io"
_READ = ["get", "list", "watch"]

RULES: Sequence[Document] = (
    {
        "apiGroups": [_DRA],
        "resources": ["resourceslices"],
        "verbs": [*_READ, "create", "update", "patch", "delete"],
    },
    {"apiGroups": [_DRA], "resources": ["resourceclaims", "deviceclasses"], "verbs": _READ},
    {"apiGroups": [_DRA], "resources": ["resourceclaims/status"], "verbs": ["get", "update", "patch"]},
    {
        "apiGroups": [_DRA],
        "resources": ["resourceclaims/driver"],
        "verbs": ["associated-node:update", "associated-node:patch"],
    },
    {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": _READ},
    {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "update", "patch"]},
)
"""What drivers need, and no more: the rules of the ClusterRole that a driver has here."""


class ControlPlane:
    """`client` is an administrator's. `kubeconfig` is for the driver: a service account on its node that may
    do what `rules` say, or everything (None). What it asks for is noted in `front`."""

    def __init__(self, folder: Path, node_name: str, rules: Sequence[Document] | None) -> None:
        self.kubeconfig = folder / "kubeconfig"
        self._pki = folder / "pki"
        self._token = secrets.token_urlsafe(24)
        self.profile = profile_for()
        self._rules = rules
        self._node_name = node_name
        self.api = API.open(Store(None), self.profile, tokens={self._token: self._driver()})
        self.client = Client(self.api.transport(User("conformance", ("system:masters",))))
        self.front = Front(self.api)
        self.slices = Informer(self.client, RESOURCE_SLICES)

    async def start(self) -> None:
        """Serve, and have the node."""
        await self.api.start()
        files = certificates(self._pki)
        self._server = await serve(
            self.api, "127.0.0.1", 0, certfile=files.certificate, keyfile=files.key, app=self.front
        )
        self.door = Door(self._server.port)
        await self.door.open()
        self._write_kubeconfig(files.ca)
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._node_name}}
        await self.client.create(NODES, node)
        await self._grant()

    def _driver(self) -> User:
        if self._rules is None:
            return User(DRIVER_USER, ("system:masters",))
        groups = ("system:serviceaccounts", "system:serviceaccounts:conformance", "system:authenticated")
        return User(DRIVER_USER, groups, extra={"authentication.kubernetes.io/node-name": [self._node_name]})

    async def _grant(self) -> None:
        if self._rules is None:
            return
        name, api = "conformance-driver", {"apiVersion": CLUSTER_ROLES.api_version}
        role = {
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": [dict(rule) for rule in self._rules],
        }
        subject = {"kind": "User", "apiGroup": CLUSTER_ROLES.group, "name": DRIVER_USER}
        reference = {"apiGroup": CLUSTER_ROLES.group, "kind": "ClusterRole", "name": name}
        binding = {"kind": "ClusterRoleBinding", "metadata": {"name": name}, "roleRef": reference}
        await self.client.create(CLUSTER_ROLES, {**api, **role})
        await self.client.create(CLUSTER_ROLE_BINDINGS, {**api, **binding, "subjects": [subject]})

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

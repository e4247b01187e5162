"""The kubeconfig that points kubectl, helm and every other client at an embedded cluster."""

from __future__ import annotations

import base64

import yaml


def kubeconfig(server: str, ca: bytes, token: str, *, name: str = "drakit", user: str = "admin") -> bytes:
    """A kubeconfig for the API at `server` with the CA certificate `ca` (PEM) and the token of `user`."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(ca).decode(),
                },
            }
        ],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user, "namespace": "default"}}],
        "current-context": name,
    }
    return yaml.safe_dump(document, sort_keys=False).encode()

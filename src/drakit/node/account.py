"""The service account of a pod: its token, the API's CA and the namespace, where clients look for them.

Upstream's admission writes this volume into every pod. Here the node adds it to those that reach the API
server, and pods are stored as they were written. Source: plugin/pkg/admission/serviceaccount.
"""

from __future__ import annotations

from drakit.client.api import SERVICE_ACCOUNTS, Client
from drakit.errors import APIError
from drakit.node.env import ConfigFailed, Facts
from drakit.transport import Document

ACCOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
ACCOUNT_VOLUME: Document = {
    "name": "kube-api-access",
    "projected": {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {
                "downwardAPI": {
                    "items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]
                }
            },
        ],
    },
}


async def wants_account(client: Client, pod: Document, facts: Facts) -> bool:
    """Whether `pod` is to have its service account. Raises ConfigFailed when that account is not there."""
    spec = pod.get("spec") or {}
    if not (facts.api_address and (spec.get("hostNetwork") or facts.has_account)):
        return False
    if (wanted := spec.get("automountServiceAccountToken")) is not None:
        return bool(wanted)
    name = spec.get("serviceAccountName") or "default"
    try:
        account = await client.get(SERVICE_ACCOUNTS, name, pod["metadata"]["namespace"])
    except APIError as error:
        raise ConfigFailed(f"service account {name}: {error}") from None
    return bool(account.get("automountServiceAccountToken", True))


def lacks_account(container: Document) -> bool:
    """Whether nothing of the container's own is mounted where the service account belongs."""
    paths = {str(entry.get("mountPath")).rstrip("/") for entry in container.get("volumeMounts") or []}
    return ACCOUNT_PATH not in paths

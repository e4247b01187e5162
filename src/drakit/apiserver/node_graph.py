"""What the pods of a node use: the claims, secrets, configmaps and service accounts their node may read.

Kept for all nodes at once, and brought up to date when somebody asks: until then a changed pod costs its
key in a set.
Source: kubernetes plugin/pkg/auth/authorizer/node/graph.go, pkg/api/v1/pod/util.go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from drakit.apiserver.view import stored_document
from drakit.store import Change, Store
from drakit.transport import Document

_PODS = "pods"

Use = tuple[str, str]
"""A plural and the key of an object."""


class NodeGraph:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed: set[str] | None = None
        self._of_pod: dict[str, tuple[str, frozenset[Use]]] = {}
        self._used: Counter[tuple[str, Use]] = Counter()
        store.subscribe(_PODS, self._note)

    def _note(self, changes: Sequence[Change]) -> None:
        if self._changed is not None:
            self._changed.update(change.key for change in changes)

    def is_used(self, node: str, plural: str, key: str) -> bool:
        """Whether a pod of `node` is or uses the object `plural` `key`."""
        self._settle()
        return (node, (plural, key)) in self._used

    def _settle(self) -> None:
        if self._changed is None:
            self._changed = {entry.key for entry in self._store.page(_PODS)}
        while self._changed:
            self._learn(self._changed.pop())

    def _learn(self, key: str) -> None:
        entry = self._store.get(_PODS, key)
        pod = stored_document(entry) if entry is not None else {}
        node = (pod.get("spec") or {}).get("nodeName") or ""
        new = (node, frozenset(_uses(pod, key))) if node else None
        old = self._of_pod.pop(key, None)
        if new is not None:
            self._of_pod[key] = new
        if new == old:
            return
        for state, step in ((old, -1), (new, 1)):
            for use in state[1] if state else ():
                self._count((state[0] if state else "", use), step)

    def _count(self, edge: tuple[str, Use], step: int) -> None:
        self._used[edge] += step
        if not self._used[edge]:
            del self._used[edge]


def _uses(pod: Document, key: str) -> Iterator[Use]:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    place = key.partition("/")[0]
    yield "pods", key
    yield "serviceaccounts", f"{place}/{spec.get('serviceAccountName') or 'default'}"
    if spec.get("automountServiceAccountToken") is not False:  # the node itself adds it, see node.account
        yield "configmaps", f"{place}/kube-root-ca.crt"
    for entry in spec.get("resourceClaims") or ():
        if entry.get("resourceClaimName"):
            yield "resourceclaims", f"{place}/{entry['resourceClaimName']}"
    known = [*(status.get("resourceClaimStatuses") or ()), status.get("extendedResourceClaimStatus") or {}]
    for entry in known:
        if entry.get("resourceClaimName"):
            yield "resourceclaims", f"{place}/{entry['resourceClaimName']}"
    for secret in spec.get("imagePullSecrets") or ():
        yield "secrets", f"{place}/{secret.get('name')}"
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            for plural, name in _of_container(container):
                yield plural, f"{place}/{name}"
    for volume in spec.get("volumes") or ():
        for plural, name in _of_volume(volume):
            yield plural, f"{place}/{name}"


def _of_container(container: Document) -> Iterator[tuple[str, Any]]:
    for source in container.get("envFrom") or ():
        yield "configmaps", (source.get("configMapRef") or {}).get("name")
        yield "secrets", (source.get("secretRef") or {}).get("name")
    for variable in container.get("env") or ():
        value = variable.get("valueFrom") or {}
        yield "configmaps", (value.get("configMapKeyRef") or {}).get("name")
        yield "secrets", (value.get("secretKeyRef") or {}).get("name")


def _of_volume(volume: Document) -> Iterator[tuple[str, Any]]:
    yield "configmaps", (volume.get("configMap") or {}).get("name")
    yield "secrets", (volume.get("secret") or {}).get("secretName")
    yield "persistentvolumeclaims", (volume.get("persistentVolumeClaim") or {}).get("claimName")
    for source in (volume.get("projected") or {}).get("sources") or ():
        yield "configmaps", (source.get("configMap") or {}).get("name")
        yield "secrets", (source.get("secret") or {}).get("name")

"""Documents through decoding and strategies as the verbs put them through, for tests."""

from __future__ import annotations

import copy
import json
from typing import Any

from drakit.apiserver.decoding import decode
from drakit.apiserver.kinds import Kind, kinds_for
from drakit.apiserver.strategy import Context, strategy_for
from drakit.profile import profile_for

NOW = "2026-11-22T12:00:00Z"
Doc = dict[str, Any]


class Semantics:
    """What a server of one version makes of a document; every namespace has `labels`."""

    def __init__(self, version: str = "1.37", gates: dict[str, bool] | None = None, **labels: str) -> None:
        self.profile = profile_for(version, gates or {})
        self.kinds = kinds_for(self.profile)
        self.objects: dict[tuple[str, str, str], Doc] = {}
        self.labels = {key.replace("__", "/").replace("_", "-"): value for key, value in labels.items()}
        self.context = Context(
            profile=self.profile,
            now=NOW,
            namespace_labels=lambda name: self.labels,
            find=lambda kind, namespace, name: self.objects.get((kind, namespace, name)),
        )

    def kind(self, group: str, plural: str) -> Kind:
        found = self.kinds.resource(group, plural)
        assert found is not None
        return found

    def decoded(self, group: str, plural: str, document: Any, version: str = "v1", **more: Any) -> Doc:
        own = copy.deepcopy(document)
        kind = self.kind(group, plural)
        return decode(own, kind, version, self.profile, hints=self.context.hints, **more).document

    def created(self, group: str, plural: str, document: Doc, version: str = "v1") -> tuple[Doc, list[str]]:
        """The new object and its errors, as texts."""
        result = self.decoded(group, plural, document, version, raw=json.dumps(document).encode())
        if self.kind(group, plural).is_namespaced:
            result["metadata"].setdefault("namespace", "default")
        result["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555"
        strategy = strategy_for(self.kind(group, plural).kind, group)
        strategy.prepare_create(result, self.context)
        return result, [str(error) for error in strategy.validate_create(result, self.context)]

    def updated(
        self, group: str, plural: str, old: Doc, new: Doc, subresource: str = ""
    ) -> tuple[Doc, list[str]]:
        """`old` after a write of `new` (both in the storage version), and the errors."""
        kind = self.kind(group, plural)
        document = self.decoded(group, plural, new, kind.storage_version)
        document["metadata"].setdefault("resourceVersion", "1")
        before = copy.deepcopy(old)
        strategy = strategy_for(kind.kind, group)
        strategy.prepare_update(document, old, subresource, self.context)
        errors = strategy.validate_update(document, old, subresource, self.context)
        assert old == before, "the old object stays as it is"
        return document, [str(error) for error in errors]


def pod(name: str = "p", *containers: Doc, **spec: Any) -> Doc:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": list(containers) or [{"name": "c", "image": "busybox:1"}], **spec},
    }


def claim(*requests: Doc, name: str = "c", **devices: Any) -> Doc:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"devices": {"requests": list(requests), **devices}},
    }


def resource_slice(*devices: Doc, **spec: Any) -> Doc:
    pool = {"name": "p", "generation": 1, "resourceSliceCount": 1}
    base = {"driver": "d.example.com", "pool": pool, "nodeName": "n", "devices": list(devices)}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": "s"},
        "spec": {key: value for key, value in {**base, **spec}.items() if value is not None},
    }

"""ResourceQuota admission: a new object must fit into what its namespace may use.

What is used is counted from the objects themselves, those whose write is under way included, so two
creations at once cannot both take the last place.
Source: apiserver/pkg/admission/plugin/resourcequota, pkg/quota/v1/evaluator/core.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from drakit.apiserver.route import Target
from drakit.apiserver.view import stored_document
from drakit.errors import Forbidden
from drakit.model.quantity import Quantity
from drakit.model.quota import REQUESTS, Usage, usage_of
from drakit.model.quota_pod import has_scope, in_scope, unset
from drakit.model.resource import EXTENDED_CLAIM_ANNOTATION
from drakit.store import Store
from drakit.transport import Document

_QUOTAS = "resourcequotas"
_CLAIMS, _CLASSES, _PODS = "resourceclaims.resource.k8s.io", "deviceclasses.resource.k8s.io", "pods"
_NONE = Quantity.of(0)


class QuotaAdmission:
    """Over the objects of `store`, for one event loop."""

    def __init__(self, store: Store, clock: Callable[[], datetime.datetime]) -> None:
        self._store = store
        self._clock = clock
        self._under_way: dict[str, list[tuple[str, Document]]] = {}

    @contextmanager
    def charge(self, target: Target, document: Document) -> Iterator[None]:
        """Hold what the new `document` uses while it is being written. Raises Forbidden if it is too much."""
        namespace, kind = target.namespace, target.kind
        if not kind.is_namespaced or next(self._store.page(_QUOTAS, f"{namespace}/"), None) is None:
            yield
            return
        self._check(target, document)
        held = self._under_way.setdefault(namespace, [])
        row = (kind.collection, document)
        held.append(row)
        try:
            yield
        finally:
            held.remove(row)
            if not held:
                self._under_way.pop(namespace, None)

    def _check(self, target: Target, document: Document) -> None:
        wanted = self._usage(target, document)
        is_pod = target.kind.collection == _PODS
        rows: list[Document] | None = None
        for entry in self._store.page(_QUOTAS, f"{target.namespace}/"):
            quota = stored_document(entry)
            spec, name = quota.get("spec") or {}, quota["metadata"]["name"]
            if has_scope(spec) and not (is_pod and in_scope(spec, document)):
                continue
            hard = spec.get("hard") or {}
            if is_pod and (missing := unset(document, set(hard))):
                raise self._refused(target, f"failed quota: {name}: must specify {missing}")
            limits = {limit: value for limit, value in hard.items() if limit in wanted}
            if not limits:
                continue
            if rows is None:
                rows = self._rows(target)
            used = self._used(target, rows, spec, limits)
            over = sorted(n for n, value in limits.items() if used[n] + wanted[n] > Quantity.of(value))
            if over:
                raise self._exceeded(target, name, over, wanted, used, limits)

    def _usage(self, target: Target, document: Document) -> Usage:
        kind = target.kind
        return usage_of(document, kind.plural, kind.group, self, now=self._clock().timestamp())

    def _rows(self, target: Target) -> list[Document]:
        """The objects of the kind that are there, or will be in a moment."""
        kind = target.kind
        rows = [d for c, d in self._under_way.get(target.namespace, ()) if c == kind.collection]
        stored = self._store.page(kind.collection, f"{target.namespace}/")
        return rows + [stored_document(entry) for entry in stored]

    def _used(self, target: Target, rows: list[Document], spec: Document, names: Iterable[str]) -> Usage:
        """What `rows` use of `names`, and the other kind that counts for the same extended resources."""
        total = dict.fromkeys(names, _NONE)
        counted = [self._usage(target, row) for row in rows if not has_scope(spec) or in_scope(spec, row)]
        if not has_scope(spec) and any(name.startswith(REQUESTS) and "/" in name for name in total):
            counted += self._others(target)
        for used in counted:
            for name in total.keys() & used.keys():
                total[name] = total[name] + used[name]
        return total

    def _others(self, target: Target) -> Iterator[Usage]:
        """Extended resources are used by pods, and by claims for the same devices."""
        for collection in {_PODS, _CLAIMS} - {target.kind.collection}:
            plural, _, group = collection.partition(".")
            for entry in self._store.page(collection, f"{target.namespace}/"):
                yield usage_of(stored_document(entry), plural, group, self, now=self._clock().timestamp())

    # --- what else decides what a claim counts for (model.quota.Around) -----------------------------

    def extended_resource(self, class_name: str) -> str:
        entry = self._store.get(_CLASSES, class_name)
        spec = (stored_document(entry).get("spec") or {}) if entry is not None else {}
        return str(spec.get("extendedResourceName") or "")

    def pod(self, namespace: str, name: str) -> Document | None:
        entry = self._store.get(_PODS, f"{namespace}/{name}")
        return stored_document(entry) if entry is not None else None

    def special_claims(self, namespace: str, pod_uid: str) -> Iterator[Document]:
        for entry in self._store.page(_CLAIMS, f"{namespace}/"):
            meta = stored_document(entry)["metadata"]
            if (meta.get("annotations") or {}).get(EXTENDED_CLAIM_ANNOTATION) == "true" and any(
                row.get("controller") and row.get("uid") == pod_uid
                for row in meta.get("ownerReferences") or ()
            ):
                yield stored_document(entry)

    # --- words ------------------------------------------------------------------------------------

    def _exceeded(
        self,
        target: Target,
        quota: str,
        over: list[str],
        wanted: Usage,
        used: Usage,
        limits: dict[str, str],
    ) -> Forbidden:
        def texts(amounts: Usage | dict[str, str]) -> str:
            return ",".join(f"{name}={amounts[name]}" for name in over)

        return self._refused(
            target,
            f"exceeded quota: {quota}, requested: {texts(wanted)}, used: {texts(used)}, "
            f"limited: {texts(limits)}",
        )

    @staticmethod
    def _refused(target: Target, text: str) -> Forbidden:
        details = {"name": target.name, "group": target.kind.group, "kind": target.kind.plural}
        return Forbidden(
            f'{target.kind.resource} "{target.name}" is forbidden: {text}',
            details={key: value for key, value in details.items() if value},
        )

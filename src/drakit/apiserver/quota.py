"""ResourceQuota admission: a new object must fit into what its namespace may use.

What is used is counted from the objects themselves (`drakit.apiserver.quota_tally`), those whose write is
under way included, so two creations at once cannot both take the last place.
Source: apiserver/pkg/admission/plugin/resourcequota, pkg/quota/v1/evaluator/core.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from drakit.apiserver.quota_tally import Tallies
from drakit.apiserver.route import Target
from drakit.apiserver.view import stored_document
from drakit.errors import Forbidden
from drakit.model.quantity import Quantity
from drakit.model.quota import REQUESTS, Usage, usage_of
from drakit.model.quota_pod import has_scope, in_scope, unset
from drakit.model.resource import EXTENDED_CLAIM_ANNOTATION
from drakit.store import Change, Store
from drakit.transport import Document

_QUOTAS = "resourcequotas"
_CLAIMS, _CLASSES, _PODS = "resourceclaims.resource.k8s.io", "deviceclasses.resource.k8s.io", "pods"
_NONE = Quantity.of(0)
_Write = tuple[str, str, Document]
"""Collection, key and document of an object that is being written."""


class QuotaAdmission:
    """Over the objects of `store`, for one event loop."""

    def __init__(self, store: Store, clock: Callable[[], datetime.datetime]) -> None:
        self._store = store
        self._clock = clock
        self._under_way: dict[str, list[_Write]] = {}
        self._tallies = Tallies(store, self._usage)
        store.subscribe(_QUOTAS, self._quotas_changed)
        store.subscribe(_CLASSES, lambda changes: self._tallies.forget(collections=[_CLAIMS]))

    def _quotas_changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._tallies.forget(change.key.partition("/")[0])

    @contextmanager
    def charge(self, target: Target, document: Document) -> Iterator[None]:
        """Hold what the new `document` uses while it is being written. Raises Forbidden if it is too much."""
        namespace, kind = target.namespace, target.kind
        if not kind.is_namespaced or next(self._store.page(_QUOTAS, f"{namespace}/"), None) is None:
            yield
            return
        self._check(target, document)
        held = self._under_way.setdefault(namespace, [])
        row = (kind.collection, target.key, document)
        held.append(row)
        try:
            yield
        finally:
            held.remove(row)
            if not held:
                self._under_way.pop(namespace, None)

    def _check(self, target: Target, document: Document) -> None:
        collection = target.kind.collection
        wanted = self._usage(collection, document)
        for entry in self._store.page(_QUOTAS, f"{target.namespace}/"):
            quota = stored_document(entry)
            spec, name = quota.get("spec") or {}, quota["metadata"]["name"]
            if has_scope(spec) and not (collection == _PODS and in_scope(spec, document)):
                continue
            hard = spec.get("hard") or {}
            if collection == _PODS and (missing := unset(document, set(hard))):
                raise self._refused(target, f"failed quota: {name}: must specify {missing}")
            limits = {limit: value for limit, value in hard.items() if limit in wanted}

            def over(used: Usage, limits: dict[str, str] = limits) -> list[str]:
                return sorted(n for n, v in limits.items() if used[n] + wanted[n] > Quantity.of(v))

            used = self._used(target, spec, limits)
            if over(used):
                self._tallies.forget(target.namespace)
                used = self._used(target, spec, limits)
                if names := over(used):
                    raise self._exceeded(target, name, names, wanted, used, limits)

    def _usage(self, collection: str, document: Document) -> Usage:
        plural, _, group = collection.partition(".")
        return usage_of(document, plural, group, self, now=self._clock().timestamp())

    def _used(self, target: Target, spec: Document, names: Iterable[str]) -> Usage:
        """How much of `names` is used by objects that a quota with `spec` looks at, those under way included.
        Extended resources are used by pods, and by claims for the same devices."""
        total = dict.fromkeys(names, _NONE)
        collections = {target.kind.collection}
        if not has_scope(spec) and any(name.startswith(REQUESTS) and "/" in name for name in total):
            collections |= {_PODS, _CLAIMS}
        for collection in collections if total else ():
            tally = self._tallies.of(collection, target.namespace, spec)
            for name in total:
                total[name] = total[name] + tally.used(name)
            for kind, key, document in self._under_way.get(target.namespace, ()):
                if kind != collection or key in tally or (has_scope(spec) and not in_scope(spec, document)):
                    continue
                for name, quantity in self._usage(kind, document).items():
                    if name in total:
                        total[name] = total[name] + quantity
        return total

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

"""ResourceQuota admission: a new object must fit into what its namespace may use.

What is used is counted from the objects themselves, those whose write is under way included, so two
creations at once cannot both take the last place. Quotas with scopes are not looked at.
Source: apiserver/pkg/admission/plugin/resourcequota, pkg/quota/v1/evaluator/core.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from drakit.apiserver.route import Target
from drakit.apiserver.view import stored_document
from drakit.errors import Forbidden
from drakit.model.quantity import Quantity
from drakit.model.quota import usage_of
from drakit.store import Store
from drakit.transport import Document

_QUOTAS = "resourcequotas"


class QuotaAdmission:
    """Over the objects of `store`, for one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._under_way: dict[str, Counter[str]] = {}

    @contextmanager
    def charge(self, target: Target, document: Document) -> Iterator[None]:
        """Hold what the new `document` uses while it is being written. Raises Forbidden if it is too much."""
        namespace, kind = target.namespace, target.kind
        wanted: dict[str, int] = {}
        if kind.is_namespaced and next(self._store.page(_QUOTAS, f"{namespace}/"), None) is not None:
            wanted = usage_of(document, kind.plural, kind.group)
            self._check(target, wanted)
        if not wanted:
            yield
            return
        held = self._under_way.setdefault(namespace, Counter())
        held.update(wanted)
        try:
            yield
        finally:
            held.subtract(wanted)
            if not +held:
                self._under_way.pop(namespace, None)

    def _check(self, target: Target, wanted: dict[str, int]) -> None:
        used: Counter[str] | None = None
        for entry in self._store.page(_QUOTAS, f"{target.namespace}/"):
            quota = stored_document(entry)
            spec = quota.get("spec") or {}
            limits = {name: limit for name, limit in (spec.get("hard") or {}).items() if name in wanted}
            if not limits or spec.get("scopes") or spec.get("scopeSelector"):
                continue
            if used is None:
                used = self._used(target)
            over = sorted(
                name
                for name, limit in limits.items()
                if Quantity.of(used[name] + wanted[name]) > Quantity.of(limit)
            )
            if over:
                raise self._exceeded(target, quota["metadata"]["name"], over, wanted, used, limits)

    def _used(self, target: Target) -> Counter[str]:
        """What the namespace uses of everything that objects of this kind count for."""
        kind = target.kind
        used: Counter[str] = Counter(self._under_way.get(target.namespace, ()))
        for entry in self._store.page(kind.collection, f"{target.namespace}/"):
            used.update(usage_of(stored_document(entry), kind.plural, kind.group))
        return used

    @staticmethod
    def _exceeded(
        target: Target,
        quota: str,
        over: list[str],
        wanted: dict[str, int],
        used: Counter[str],
        limits: dict[str, str],
    ) -> Forbidden:
        def texts(amounts: dict[str, int] | dict[str, str] | Counter[str]) -> str:
            return ",".join(f"{name}={amounts[name]}" for name in over)

        details = {"name": target.name, "group": target.kind.group, "kind": target.kind.plural}
        return Forbidden(
            f'{target.kind.resource} "{target.name}" is forbidden: exceeded quota: {quota}, '
            f"requested: {texts(wanted)}, used: {texts(used)}, limited: {texts(limits)}",
            details={key: value for key, value in details.items() if value},
        )

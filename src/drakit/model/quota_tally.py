"""Sums of what objects count for, kept up object by object."""

from __future__ import annotations

from drakit.model.quantity import Quantity
from drakit.model.quota import Object, Usage
from drakit.model.quota_pod import has_scope, in_scope

_NONE = Quantity.of(0)


class Tally:
    """Usage by the key of each object, and the sum."""

    __slots__ = ("_rows", "_total", "spec")

    def __init__(self, spec: Object) -> None:
        """For the objects that a quota with `spec` looks at."""
        self.spec = spec
        self._rows: dict[str, Usage] = {}
        self._total: Usage = {}

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def put(self, key: str, document: Object | None, usage: Usage) -> None:
        """The object is like that now and counts for `usage`; None: it is gone."""
        for name, quantity in self._rows.pop(key, {}).items():
            self._total[name] = self._total[name] - quantity
        if document is not None and (not has_scope(self.spec) or in_scope(self.spec, document)):
            self._rows[key] = usage
            for name, quantity in usage.items():
                self._total[name] = self._total.get(name, _NONE) + quantity

    def used(self, name: str) -> Quantity:
        return self._total.get(name, _NONE)

"""The strategy of every kind: the seam between the verbs and the rules (see `strategy_rules`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drakit.apiserver import custom
from drakit.apiserver.strategy_certificate import CERTIFICATE_RULES
from drakit.apiserver.strategy_core import CORE_RULES
from drakit.apiserver.strategy_pod import POD_RULES
from drakit.apiserver.strategy_resource import RESOURCE_RULES
from drakit.apiserver.strategy_rules import Context, Rules, Strategy
from drakit.apiserver.strategy_workload import WORKLOAD_RULES
from drakit.model.validation.field import Errors
from drakit.transport import Document

__all__ = ["Context", "Strategy", "custom_strategy", "strategy_for"]

_STRATEGIES: dict[tuple[str, str], Strategy] = {
    key: Strategy(rules)
    for key, rules in {
        **CERTIFICATE_RULES,
        **CORE_RULES,
        **POD_RULES,
        **RESOURCE_RULES,
        **WORKLOAD_RULES,
    }.items()
}
_PLAIN = Strategy(Rules())


def strategy_for(kind: str, group: str = "") -> Strategy:
    """The strategy of a built-in kind; one that only knows metadata for a kind without rules of its own."""
    return _STRATEGIES.get((group, kind), _PLAIN)


def custom_strategy(schema: Mapping[str, Any], *, is_namespaced: bool, has_status: bool) -> Strategy:
    """The strategy of a custom resource: `schema` is the openAPIV3Schema of its storage version,
    `has_status` says whether it declares the status subresource."""

    def check(document: Document, old: Document | None, context: Context) -> Errors:
        return custom.validate(document, schema)

    return Strategy(
        Rules(
            is_namespaced=is_namespaced,
            has_status=has_status,
            counts_generation=True,
            check=check,
            check_status=check,
        )
    )

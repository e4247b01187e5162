"""The strategy of every kind: the seam between the verbs and the rules (see `strategy_rules`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from drakit.apiserver import custom
from drakit.apiserver.custom_cel import Node, check_rules
from drakit.apiserver.strategy_aggregation import AGGREGATION_RULES
from drakit.apiserver.strategy_certificate import CERTIFICATE_RULES
from drakit.apiserver.strategy_core import CORE_RULES
from drakit.apiserver.strategy_pod import POD_RULES
from drakit.apiserver.strategy_resource import RESOURCE_RULES
from drakit.apiserver.strategy_rules import Context, Rules, Strategy
from drakit.apiserver.strategy_workload import WORKLOAD_RULES
from drakit.errors import FieldError
from drakit.model.validation.field import Errors
from drakit.transport import Document

__all__ = ["Context", "Strategy", "custom_strategy", "strategy_for"]

_STRATEGIES: dict[tuple[str, str], Strategy] = {
    key: Strategy(rules)
    for key, rules in {
        **AGGREGATION_RULES,
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


_BLOCKING = frozenset(
    {
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    }
)
_NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to "
    "complete validation"
)


def custom_strategy(
    schema: Mapping[str, Any], rules: Callable[[], Node | None], *, is_namespaced: bool, has_status: bool
) -> Strategy:
    """The strategy of a custom resource: `schema` is the openAPIV3Schema of its version, `rules` gives what
    the schema says in CEL, `has_status` says whether it declares the status subresource."""

    def check(document: Document, old: Document | None, context: Context) -> Errors:
        errors = custom.validate(document, schema, old)
        node = rules()
        if node is None:
            return errors
        if any(error.reason in _BLOCKING for error in errors):
            return [
                *errors,
                FieldError("FieldValueInvalid", "<nil>", f'Invalid value: "null": {_NOT_CHECKED}'),
            ]
        return errors + check_rules(node, document, old, context.hints)

    return Strategy(
        Rules(
            is_namespaced=is_namespaced,
            has_status=has_status,
            counts_generation=True,
            check=check,
            check_status=check,
        )
    )

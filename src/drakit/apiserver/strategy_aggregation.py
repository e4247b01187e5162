"""APIServices: who serves a group and version. Here this server does, or nobody: it does not aggregate.

Source: kube-aggregator/pkg/registry/apiservice, pkg/controllers/status.
"""

from __future__ import annotations

from drakit.apiserver.strategy_rules import Context, Rules
from drakit.model.validation.field import Errors, invalid, mapped
from drakit.transport import Document


def _prepare(document: Document, context: Context) -> None:
    document["status"] = {"conditions": [_available(document, context.now)]}


def _change(new: Document, old: Document, subresource: str, context: Context) -> None:
    if not subresource and mapped(new.get("spec")).get("service") != mapped(old.get("spec")).get("service"):
        new["status"] = {"conditions": [_available(new, context.now)]}


def _available(document: Document, now: str) -> Document:
    row = {"type": "Available", "lastTransitionTime": now}
    if mapped(document.get("spec")).get("service"):
        text = "requests are not passed on to other API servers here"
        return row | {"status": "False", "reason": "NotAggregated", "message": text}
    text = "Local APIServices are always available"
    return row | {"status": "True", "reason": "Local", "message": text}


def _check(document: Document, old: Document | None, context: Context) -> Errors:
    spec, name = mapped(document.get("spec")), document["metadata"].get("name") or ""
    wanted = f"{spec.get('version') or ''}.{spec.get('group') or ''}"
    return (
        []
        if name == wanted
        else [invalid("metadata.name", name, f'must be `spec.version+"."+spec.group`: `{wanted}`')]
    )


AGGREGATION_RULES: dict[tuple[str, str], Rules] = {
    ("apiregistration.k8s.io", "APIService"): Rules(
        is_namespaced=False,
        has_status=True,
        name=lambda name: [],
        prepare=_prepare,
        change=_change,
        check=_check,
    )
}

"""Taints of a device against tolerations of a request.

Source: k8s.io/dynamic-resource-allocation/resourceclaim (ToleratesTaint).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from drakit.model.resource import DeviceTaint, DeviceTaintRule, DeviceToleration

_PREVENTS = ("NoSchedule", "NoExecute")


def tolerates(toleration: DeviceToleration, taint: DeviceTaint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return toleration.operator in ("", "Equal") and toleration.value == taint.value


def untolerated(taints: Iterable[DeviceTaint], tolerations: Sequence[DeviceToleration]) -> DeviceTaint | None:
    """The first taint that keeps the device from being allocated, or None. Unknown effects keep nothing."""
    for taint in taints:
        if taint.effect in _PREVENTS and not any(tolerates(t, taint) for t in tolerations):
            return taint
    return None


def rule_applies(rule: DeviceTaintRule, driver: str, pool: str, device: str) -> bool:
    """Whether `rule` taints the device. A rule without a selector taints nothing, an empty one everything."""
    selector = rule.spec.device_selector
    return (
        selector is not None
        and selector.driver in (None, driver)
        and selector.pool in (None, pool)
        and selector.device in (None, device)
    )

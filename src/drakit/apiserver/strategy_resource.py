"""resource.k8s.io: what upstream's strategies do. Source: pkg/registry/resource/*/strategy.go."""

from __future__ import annotations

from drakit.apiserver.strategy_rules import Rules

RESOURCE_RULES: dict[tuple[str, str], Rules] = {
    ("resource.k8s.io", "DeviceClass"): Rules(is_namespaced=False, counts_generation=True),
    ("resource.k8s.io", "DeviceTaintRule"): Rules(
        is_namespaced=False, has_status=True, status={}, counts_generation=True
    ),
    ("resource.k8s.io", "ResourceClaim"): Rules(has_status=True, status={}),
    ("resource.k8s.io", "ResourceClaimTemplate"): Rules(),
    ("resource.k8s.io", "ResourcePoolStatusRequest"): Rules(is_namespaced=False, has_status=True),
    ("resource.k8s.io", "ResourceSlice"): Rules(is_namespaced=False, counts_generation=True),
}

"""What a CRI runtime says of itself, and what follows for this node."""

from __future__ import annotations

import json
from typing import Any

from drakit.node.runtime import Info

_SYSTEMD = 0


def configuration(status: Any) -> dict[str, Any]:
    """The runtime's own configuration, as containerd shows it; empty where there is none."""
    try:
        config = json.loads(status.info["config"])
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}


def why_no_cdi(info: Info, config: dict[str, Any]) -> str:
    """Why the runtime would start containers without their CDI devices; "" where it gives them."""
    if info.name == "cri-o":  # always does, and does not show it
        return ""
    # A setting of containerd: off by default in 1.7, on from 2.0 on, and gone in 2.4, which always does.
    major = info.version.removeprefix("v").partition(".")[0]
    is_new = info.name == "containerd" and major.isdecimal() and int(major) >= 2
    if config.get("enableCDI", is_new):
        return ""
    section = "io.containerd.cri.v1.runtime" if is_new else "io.containerd.grpc.v1.cri"
    return (
        f"{info.name} {info.version} does not give containers CDI devices: containerd needs "
        f'enable_cdi = true in its configuration ([plugins."{section}"]), and cannot before 1.7'
    )


def why_not_ready(info: Info, status: Any) -> str:
    """What the runtime says that it lacks."""
    wrong = [
        c for c in status.status.conditions if not c.status and c.type in ("RuntimeReady", "NetworkReady")
    ]
    return "; ".join(f"{info.name}: {c.type} is false: {c.message or c.reason}" for c in wrong)


def uses_systemd(config: dict[str, Any], wanted: Any) -> bool:
    """Whether pods' cgroups are named for systemd. `wanted` is the answer to RuntimeConfig, None where the
    runtime does not know that call: then its configuration says it."""
    if wanted is not None and wanted.HasField("linux"):
        return bool(wanted.linux.cgroup_driver == _SYSTEMD)
    containerd: dict[str, Any] = config.get("containerd") or {}
    runtimes = containerd.get("runtimes") or {}
    chosen = runtimes.get(containerd.get("defaultRuntimeName") or "runc") or {}
    return bool((chosen.get("options") or {}).get("SystemdCgroup"))

"""What a runtime is asked to run for a container of a pod: command, limits, security."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from drakit.errors import DRAError
from drakit.model.quantity import Quantity
from drakit.node.env import ConfigFailed, expand
from drakit.node.image import Image
from drakit.node.runtime import ContainerSpec, Limits, Mount, Security
from drakit.transport import Document

_UNITS = {30: "G", 20: "M", 10: "K", 0: ""}
SECCOMP_FOLDER = "/var/lib/kubelet/seccomp"
"""Where a pod's `localhostProfile` is looked for, as with the kubelet."""


def build_spec(
    pod: Document,
    container: Document,
    *,
    attempt: int,
    image: Image,
    env: Mapping[str, str],
    mounts: Sequence[Mount],
    cdi_devices: Sequence[str],
    log_path: str,
    target: str = "",
) -> ContainerSpec:
    """The ContainerSpec of `container`. Raises ConfigFailed for what no runtime could run."""
    spec = ContainerSpec(
        name=container["name"],
        attempt=attempt,
        image=image,
        command=[expand(text, env) for text in container.get("command") or []],
        args=[expand(text, env) for text in container.get("args") or []],
        env=[f"{name}={value}" for name, value in env.items()],
        cwd=container.get("workingDir") or image.cwd,
        mounts=list(mounts),
        limits=_limits(container),
        security=_security(pod, container, image),
        cdi_devices=list(cdi_devices),
        log_path=log_path,
        has_terminal=bool(container.get("tty")),
        has_stdin=bool(container.get("stdin")),
        is_stdin_once=bool(container.get("stdinOnce")),
        sees_processes_of=target,
    )
    if not spec.argv and not image.is_opaque:
        why = f" ({image.origin}): give it a command" if image.origin else ""
        raise ConfigFailed(f"container {spec.name}: neither it nor its image names a command{why}")
    return spec


def _limits(container: Document) -> Limits:
    resources = container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    try:
        return Limits(
            cpu_request=_milli(requests.get("cpu")),
            cpu_limit=_milli(limits.get("cpu")),
            memory_limit=Quantity.of(limits["memory"]).value() if "memory" in limits else None,
            huge_pages={
                _page_size(name): Quantity.of(value).value()
                for name, value in limits.items()
                if name.startswith("hugepages-")
            },
        )
    except (DRAError, ValueError) as error:
        raise ConfigFailed(f"container {container['name']}: {error}") from None


def _page_size(resource: str) -> str:
    """`hugepages-2Mi` -> `2MB`, the kernel's name for it."""
    size = Quantity.of(resource.removeprefix("hugepages-")).value()
    unit = next(unit for unit in _UNITS if size >> unit)
    return f"{size >> unit}{_UNITS[unit]}B"


def _milli(value: str | int | float | None) -> int | None:
    return None if value is None else Quantity.of(value).milli_value()


def _security(pod: Document, container: Document, image: Image) -> Security:
    shared = (pod.get("spec") or {}).get("securityContext") or {}
    own = container.get("securityContext") or {}
    user = own.get("runAsUser", shared.get("runAsUser"))
    if own.get("runAsNonRoot", shared.get("runAsNonRoot")):
        _check_not_root(user, image.user.partition(":")[0])
    capabilities = own.get("capabilities") or {}
    groups = [*(shared.get("supplementalGroups") or [])]
    if shared.get("fsGroup") is not None:
        groups.append(shared["fsGroup"])
    return Security(
        user=user,
        group=own.get("runAsGroup", shared.get("runAsGroup")),
        groups=groups,
        is_privileged=bool(own.get("privileged")),
        is_root_read_only=bool(own.get("readOnlyRootFilesystem")),
        allows_escalation=own.get("allowPrivilegeEscalation", True) is not False,
        added_capabilities=list(capabilities.get("add") or []),
        dropped_capabilities=list(capabilities.get("drop") or []),
        seccomp=_seccomp(own.get("seccompProfile") or shared.get("seccompProfile") or {}),
    )


def _check_not_root(user: int | None, of_image: str) -> None:
    """Raises ConfigFailed for a container that must not run as root and would, or may."""
    if user == 0:
        raise ConfigFailed("container's runAsUser breaks non-root policy")
    if user is None and of_image in ("", "0", "root"):
        raise ConfigFailed("container has runAsNonRoot and image will run as root")
    if user is None and not of_image.isdigit():
        raise ConfigFailed(
            f"container has runAsNonRoot and image has non-numeric user ({of_image}), "
            "cannot verify user is non-root: give it a runAsUser"
        )


def _seccomp(profile: Document) -> str:
    if profile.get("type") == "Localhost":
        return os.path.join(SECCOMP_FOLDER, str(profile.get("localhostProfile") or ""))
    return str(profile.get("type") or "Unconfined")

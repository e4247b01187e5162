"""What a runtime is asked to run for a container of a pod: command, limits, security."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drakit.errors import DRAError
from drakit.model.quantity import Quantity
from drakit.node.env import ConfigFailed, expand
from drakit.node.image import Image
from drakit.node.runtime import ContainerSpec, Limits, Mount, Security
from drakit.transport import Document


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
) -> ContainerSpec:
    """The ContainerSpec of `container`. Raises ConfigFailed for what no runtime could run."""
    command = [expand(text, env) for text in container.get("command") or []]
    args = [expand(text, env) for text in container.get("args") or []]
    entrypoint = command or image.entrypoint
    argv = [*entrypoint, *(args or ([] if command else image.cmd))]
    if not argv:
        why = f" ({image.origin}): give it a command" if image.origin else ""
        raise ConfigFailed(f"container {container['name']}: neither it nor its image names a command{why}")
    return ContainerSpec(
        name=container["name"],
        attempt=attempt,
        image=image,
        args=argv,
        env=[f"{name}={value}" for name, value in env.items()],
        cwd=container.get("workingDir") or image.cwd,
        mounts=list(mounts),
        limits=_limits(container),
        security=_security(pod, container, image),
        cdi_devices=list(cdi_devices),
        log_path=log_path,
        has_terminal=bool(container.get("tty")),
    )


def _limits(container: Document) -> Limits:
    resources = container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    try:
        return Limits(
            cpu_request=_milli(requests.get("cpu")),
            cpu_limit=_milli(limits.get("cpu")),
            memory_limit=Quantity.of(limits["memory"]).value() if "memory" in limits else None,
        )
    except (DRAError, ValueError) as error:
        raise ConfigFailed(f"container {container['name']}: {error}") from None


def _milli(value: str | int | float | None) -> int | None:
    return None if value is None else Quantity.of(value).milli_value()


def _security(pod: Document, container: Document, image: Image) -> Security:
    shared = (pod.get("spec") or {}).get("securityContext") or {}
    own = container.get("securityContext") or {}
    user = own.get("runAsUser", shared.get("runAsUser"))
    if own.get("runAsNonRoot", shared.get("runAsNonRoot")) and (
        user == 0 or (user is None and not image.user)
    ):
        raise ConfigFailed("container has runAsNonRoot and image will run as root")
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
    )

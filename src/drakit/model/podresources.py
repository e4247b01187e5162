"""How the needs of a pod's containers add up to the needs of the pod."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar


class _Number(Protocol):
    def __add__(self, other: Any, /) -> Any: ...

    def __gt__(self, other: Any, /) -> bool: ...


N = TypeVar("N", bound=_Number)


def peak(spec: Mapping[str, Any], need: Callable[[dict[str, Any]], Mapping[str, N]]) -> dict[str, N]:
    """What the pod needs at its most demanding moment: its containers and sidecars together, or one init
    container beside the sidecars started before it. `need` says what one container needs."""
    total: dict[str, N] = {}
    for container in spec.get("containers") or ():
        add(total, need(container))
    sidecars: dict[str, N] = {}
    most: dict[str, N] = {}
    for container in spec.get("initContainers") or ():
        moment: dict[str, N] = dict(sidecars)
        add(moment, need(container))
        if container.get("restartPolicy") == "Always":
            add(total, need(container))
            sidecars = moment
        _raise(most, moment)
    _raise(total, most)
    return total


def add(total: dict[str, N], more: Mapping[str, N]) -> None:
    """Count `more` into `total`."""
    for resource, number in more.items():
        total[resource] = total[resource] + number if resource in total else number


def _raise(total: dict[str, N], floor: Mapping[str, N]) -> None:
    for resource, number in floor.items():
        if resource not in total or number > total[resource]:
            total[resource] = number


def is_pod_level(resource: str) -> bool:
    """Whether a pod can ask for the resource as a whole."""
    return resource in ("cpu", "memory") or resource.startswith("hugepages-")

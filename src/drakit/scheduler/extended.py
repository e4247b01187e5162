"""Extended resources that devices stand behind: `example.com/gpu: 2` in a container, no claim in the pod.

A DeviceClass offers its devices under `spec.extendedResourceName`, and always under
`deviceclass.resource.kubernetes.io/CLASS`. On a node that does not count the resource itself, the
scheduler allocates devices through one special claim per pod, with a request per container and resource.
Containers that run side by side have requests of their own; init containers, which run one after the
other before them, use those again and add one request for the largest need beyond. Source: KEP-5004,
pkg/scheduler/framework/plugins/dynamicresources/extendeddynamicresources.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from drakit.model.resource import IMPLICIT_PREFIX
from drakit.scheduler.pod import PodInfo
from drakit.scheduler.request import Amounts, amount
from drakit.transport import Document


class ExtendedResources:
    """Which DeviceClass stands behind an extended resource: none where the feature is off. `name in
    resources` asks whether one does."""

    def __init__(self, *, is_on: bool = True) -> None:
        self._is_on = is_on
        self._classes: dict[str, tuple[str, str]] = {}
        self._by_resource: dict[str, str] = {}

    def put(self, name: str, created: str, resource: str | None) -> None:
        """The class `name`, created at `created` (RFC 3339), offers `resource`."""
        if self._is_on:
            self._classes[name] = (created, resource or "")
            self._index()

    def remove(self, name: str) -> None:
        self._classes.pop(name, None)
        self._index()

    def _index(self) -> None:
        """The newest class wins a name; of those equally old the first by name."""
        rows = sorted(self._classes.items(), key=lambda row: row[0], reverse=True)
        rows.sort(key=lambda row: row[1][0])
        self._by_resource = {resource: name for name, (_, resource) in rows if resource}

    def __contains__(self, resource: object) -> bool:
        return isinstance(resource, str) and self.device_class(resource) is not None

    def device_class(self, resource: str) -> str | None:
        """The name of the class behind `resource`."""
        if resource.startswith(IMPLICIT_PREFIX):
            name = resource.removeprefix(IMPLICIT_PREFIX)
            return name if name in self._classes else None
        return self._by_resource.get(resource)

    def wanted_by(self, pod: PodInfo) -> Amounts:
        """The resources `pod` asks for that a class stands behind."""
        if not self._classes:
            return {}
        return {name: number for name, number in pod.requests.items() if number and name in self}

    def requests(self, pod: PodInfo, resources: Iterable[str]) -> tuple[list[Document], list[Document]]:
        """The requests of the special claim of `pod` for `resources`, in order of their names, and the
        mappings (`containerName`, `resourceName`, `requestName`) for the pod's status."""
        requests: list[Document] = []
        mappings: list[Document] = []
        for resource in sorted(resources):
            device_class = self.device_class(resource)
            if device_class is not None:
                more, mapped = _requests_for(pod.spec, resource, device_class)
                requests += more
                mappings += mapped
        requests.sort(key=lambda request: str(request["name"]))
        return requests, mappings


def _requests_for(spec: Document, resource: str, device_class: str) -> tuple[list[Document], list[Document]]:
    inits = spec.get("initContainers") or []
    containers: list[Document] = [*inits, *(spec.get("containers") or [])]
    lasting: dict[int, Document] = {}
    passing: list[int] = []
    mappings: list[Document] = []
    for index, container in enumerate(containers):
        if index < len(inits) and container.get("restartPolicy") != "Always":
            passing.append(index)
        elif need := _need(container, resource):
            name = _request_name(index, container, resource)
            lasting[index] = _request(name, device_class, need)
            mappings.append(_mapping(container, resource, name))
    largest: Document | None = None
    short: list[Document] = []
    names: set[str] = set()
    for index in passing:
        container = containers[index]
        missing = _need(container, resource)
        if not missing:
            continue
        for later in (request for at, request in lasting.items() if at >= index):
            short.append(_mapping(container, resource, later["name"]))
            missing -= later["exactly"]["count"]
            if missing <= 0:
                break
        if missing > 0:
            name = _request_name(index, container, resource)
            names.add(name)
            short.append(_mapping(container, resource, name))
            if largest is None or largest["exactly"]["count"] < missing:
                largest = _request(name, device_class, missing)
    if largest is not None:
        for mapping in short:
            if mapping["requestName"] in names:
                mapping["requestName"] = largest["name"]
    return [*([largest] if largest else []), *lasting.values()], mappings + short


def _need(container: Document, resource: str) -> int:
    wanted: Mapping[str, str] = (container.get("resources") or {}).get("requests") or {}
    return amount(resource, wanted[resource]) if resource in wanted else 0


def _request_name(index: int, container: Document, resource: str) -> str:
    names = sorted((container.get("resources") or {}).get("requests") or {})
    return f"container-{index}-request-{names.index(resource)}"


def _request(name: str, device_class: str, count: int) -> Document:
    exact = {"deviceClassName": device_class, "allocationMode": "ExactCount", "count": count}
    return {"name": name, "exactly": exact}


def _mapping(container: Document, resource: str, request: str) -> Document:
    return {"containerName": container.get("name", ""), "resourceName": resource, "requestName": request}

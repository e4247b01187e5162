"""Defaults of pods and of the pod templates in workloads. Source: pkg/apis/core/v1/defaults.go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from drakit.transport import Document

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_FILE_MODE = 0o644


def objects(value: Any) -> Iterator[Document]:
    """The objects in what should be a list."""
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def fill(document: Document, **values: Any) -> None:
    """Set the fields that are absent."""
    for key, value in values.items():
        document.setdefault(key, value)


def pod_defaults(pod: Document) -> None:
    spec = pod.setdefault("spec", {})
    pod_spec_defaults(spec)
    fill(spec, enableServiceLinks=True)
    for container in _containers(spec):
        resources = container["resources"]
        limits = resources.get("limits")
        if limits and container.get("name") is not None:
            resources["requests"] = {**limits, **(resources.get("requests") or {})}
    if spec.get("hostNetwork"):
        for container in _containers(spec):
            for port in objects(container.get("ports")):
                if not port.get("hostPort") and port.get("containerPort"):
                    port["hostPort"] = port["containerPort"]
    pod.setdefault("status", {})


def template_defaults(template: Document) -> None:
    """A pod template: the pod's defaults but for what only a pod gets."""
    template.setdefault("metadata", {})
    pod_spec_defaults(template.setdefault("spec", {}))


def pod_spec_defaults(spec: Document) -> None:
    fill(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
    )
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    elif spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"]
    for volume in objects(spec.get("volumes")):
        _volume(volume)
    for container in _containers(spec):
        _container(container)


def _containers(spec: Document) -> Iterator[Document]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from objects(spec.get(field))


def _container(container: Document) -> None:
    fill(
        container,
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
    )
    container.setdefault("imagePullPolicy", _pull_policy(str(container.get("image") or "")))
    for port in objects(container.get("ports")):
        fill(port, protocol="TCP")
    for variable in objects(container.get("env")):
        source = variable.get("valueFrom") or {}
        if isinstance(source.get("fieldRef"), dict):
            fill(source["fieldRef"], apiVersion="v1")
        if isinstance(source.get("resourceFieldRef"), dict):
            fill(source["resourceFieldRef"], divisor="0")
    for name in _PROBES:
        probe = container.get(name)
        if isinstance(probe, dict):
            fill(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            _handler(probe)
    for handler in (container.get("lifecycle") or {}).values():
        if isinstance(handler, dict):
            _handler(handler)


def _handler(handler: Document) -> None:
    if isinstance(handler.get("httpGet"), dict):
        fill(handler["httpGet"], path="/", scheme="HTTP")
    if isinstance(handler.get("grpc"), dict):
        fill(handler["grpc"], service="")


def _pull_policy(image: str) -> str:
    """Always for the tag "latest" and for none, else IfNotPresent (a digest counts as a tag)."""
    name = image.rpartition("/")[2]
    if "@" in name:
        return "IfNotPresent"
    return "Always" if name.partition(":")[2] in ("", "latest") else "IfNotPresent"


def _volume(volume: Document) -> None:
    if not [key for key in volume if key != "name"]:
        volume["emptyDir"] = {}
    for name in ("secret", "configMap", "downwardAPI", "projected"):
        if isinstance(volume.get(name), dict):
            fill(volume[name], defaultMode=_FILE_MODE)
    if isinstance(volume.get("hostPath"), dict):
        fill(volume["hostPath"], type="")
    for item in objects((volume.get("downwardAPI") or {}).get("items")):
        _downward(item)
    for source in objects((volume.get("projected") or {}).get("sources")):
        for item in objects((source.get("downwardAPI") or {}).get("items")):
            _downward(item)
        if isinstance(source.get("serviceAccountToken"), dict):
            fill(source["serviceAccountToken"], expirationSeconds=3600)
    claim = (volume.get("ephemeral") or {}).get("volumeClaimTemplate") or {}
    if isinstance(claim.get("spec"), dict):
        fill(claim["spec"], volumeMode="Filesystem")


def _downward(item: Document) -> None:
    if isinstance(item.get("fieldRef"), dict):
        fill(item["fieldRef"], apiVersion="v1")

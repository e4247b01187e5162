"""The verbs of the Kubernetes API over any transport, with documents in and documents out.

A document that a verb returns may be shared with others in the process: copy before changing it.
Every verb raises the `drakit.errors.APIError` class of the Status the server answered with.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal
from urllib.parse import quote

from msgspec import Struct

from drakit.errors import from_status
from drakit.transport import APPLY_PATCH, MERGE_PATCH, Document, Request, Response, Transport


class Resource(Struct, frozen=True):
    """A kind of object as the API addresses it: group "", version "v1", plural "pods", kind "Pod"."""

    group: str
    version: str
    plural: str
    kind: str
    is_namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(
        self, namespace: str | None = None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """The request path of the collection, of one object, or of its subresource."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.is_namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node", False)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", False)
EVENTS = Resource("", "v1", "events", "Event")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS = Resource("", "v1", "secrets", "Secret")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
DAEMON_SETS = Resource("apps", "v1", "daemonsets", "DaemonSet")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
JOBS = Resource("batch", "v1", "jobs", "Job")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
RESOURCE_CLAIMS = Resource("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim")
RESOURCE_CLAIM_TEMPLATES = Resource(
    "resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate"
)
RESOURCE_SLICES = Resource("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", False)
DEVICE_CLASSES = Resource("resource.k8s.io", "v1", "deviceclasses", "DeviceClass", False)
DEVICE_TAINT_RULES = Resource("resource.k8s.io", "v1", "devicetaintrules", "DeviceTaintRule", False)

Propagation = Literal["Background", "Foreground", "Orphan"]


class ListResult(Struct, frozen=True):
    """`items` without apiVersion and kind where the server leaves them out of lists."""

    items: list[Document]
    resource_version: str
    continue_token: str = ""


class Client:
    """Verbs over `transport`. `field_manager` names this client in managedFields."""

    def __init__(self, transport: Transport, *, field_manager: str = "drakit") -> None:
        self.transport = transport
        self.field_manager = field_manager

    async def request(self, request: Request) -> Response:
        """Send `request` as it is; raises the APIError of a failure."""
        response = await self.transport.send(request)
        if response.status >= 400:
            raise from_status(response.document, response.status)
        return response

    async def get(
        self, resource: Resource, name: str, namespace: str | None = None, *, subresource: str | None = None
    ) -> Document:
        request = Request(method="GET", path=resource.path(namespace, name, subresource))
        return await self._document(request)

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        limit: int = 0,
        continue_token: str = "",
    ) -> ListResult:
        query = _query(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            resourceVersion=resource_version,
            limit=str(limit or ""),
            **{"continue": continue_token},
        )
        request = Request(method="GET", path=resource.path(namespace), query=query)
        document = await self._document(request)
        meta = document.get("metadata") or {}
        return ListResult(
            document.get("items") or [], meta.get("resourceVersion", ""), meta.get("continue", "")
        )

    async def create(
        self,
        resource: Resource,
        document: Document,
        namespace: str | None = None,
        *,
        name: str | None = None,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Document:
        """POST `document`. `name` and `subresource` address things like pods/NAME/binding."""
        namespace = namespace or (document.get("metadata") or {}).get("namespace")
        request = Request(
            method="POST",
            path=resource.path(namespace, name, subresource),
            query=self._write_query(dry_run),
            document=document,
        )
        return await self._document(request)

    async def update(
        self, resource: Resource, document: Document, *, subresource: str | None = None
    ) -> Document:
        """PUT `document` under its own name and namespace."""
        meta = document["metadata"]
        request = Request(
            method="PUT",
            path=resource.path(meta.get("namespace"), meta["name"], subresource),
            query=self._write_query(False),
            document=document,
        )
        return await self._document(request)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        content_type: str = MERGE_PATCH,
        subresource: str | None = None,
    ) -> Document:
        """PATCH with a merge patch (the default), JSON patch or strategic merge patch."""
        request = Request(
            method="PATCH",
            path=resource.path(namespace, name, subresource),
            query=self._write_query(False),
            content_type=content_type,
            document=patch,
        )
        return await self._document(request)

    async def apply(
        self,
        resource: Resource,
        document: Document,
        *,
        subresource: str | None = None,
        force: bool = True,
        field_manager: str | None = None,
    ) -> Document:
        """Server-side apply of `document`, which names itself."""
        meta = document["metadata"]
        query = self._write_query(False) | {"force": "true" if force else "false"}
        if field_manager:
            query["fieldManager"] = field_manager
        request = Request(
            method="PATCH",
            path=resource.path(meta.get("namespace"), meta["name"], subresource),
            query=query,
            content_type=APPLY_PATCH,
            document=document,
        )
        return await self._document(request)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_period_seconds: int | None = None,
        propagation: Propagation | None = None,
    ) -> Document:
        """DELETE one object, only if it still is `uid` at `resource_version` where these are given."""
        options: Document = {"kind": "DeleteOptions", "apiVersion": "v1"}
        preconditions = _query(uid=uid or "", resourceVersion=resource_version or "")
        if preconditions:
            options["preconditions"] = preconditions
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        if propagation is not None:
            options["propagationPolicy"] = propagation
        request = Request(method="DELETE", path=resource.path(namespace, name), document=options)
        return await self._document(request)

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        timeout_seconds: int | None = None,
    ) -> AsyncIterator[Document]:
        """Events after `resource_version`, bookmarks among them. Raises `Expired` when that is too old."""
        query = _query(
            resourceVersion=resource_version,
            labelSelector=label_selector,
            fieldSelector=field_selector,
            timeoutSeconds=str(timeout_seconds or ""),
        )
        query |= {"watch": "true", "allowWatchBookmarks": "true"}
        return self.transport.watch(Request(method="GET", path=resource.path(namespace), query=query))

    async def close(self) -> None:
        await self.transport.close()

    async def _document(self, request: Request) -> Document:
        document: Document = (await self.request(request)).document
        return document

    def _write_query(self, dry_run: bool) -> dict[str, str]:
        query = {"fieldManager": self.field_manager}
        if dry_run:
            query["dryRun"] = "All"
        return query


def url(request: Request) -> str:
    """Path and query of `request`, percent-encoded."""
    query = "&".join(f"{quote(key)}={quote(value, safe='')}" for key, value in request.query.items())
    path = quote(request.path, safe="/:")
    return f"{path}?{query}" if query else path


def _query(**values: str) -> dict[str, str]:
    return {key: value for key, value in values.items() if value}

"""Claims for the checks: from manifests or of the simplest kind, allocated as the scheduler would."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import Struct

from drakit.allocator import Allocator, State
from drakit.client.api import DEVICE_CLASSES, RESOURCE_CLAIMS, Client
from drakit.conformance.check import Skipped
from drakit.errors import AllocationError, DRAError, NotFound, UsageError
from drakit.model.meta import Node, ObjectMeta
from drakit.model.resource import AllocationResult, DeviceClass, ResourceClaim, ResourceSlice
from drakit.pluginapi import dra
from drakit.profile import Profile
from drakit.transport import Document

NAMESPACE = "default"
_CLASS = "conformance"


class Made(Struct, frozen=True):
    """A claim on the API server with its allocation; `reference` is how the kubelet names it."""

    reference: dra.Claim
    allocation: AllocationResult
    document: Document

    @property
    def uid(self) -> str:
        return self.reference.uid

    def devices(self, driver: str) -> set[tuple[str, str]]:
        """The pool and name of each device of `driver`."""
        return {(r.pool, r.device) for r in self.allocation.devices.results if r.driver == driver}


class Manifests(Struct, frozen=True):
    """What a file says to use: the specs of claims, in turn, and classes to make first."""

    specs: tuple[Document, ...] = ()
    classes: tuple[Document, ...] = ()


def read_manifests(path: Path) -> Manifests:
    """The claims, claim templates and classes in the YAML file `path`. Raises UsageError."""
    try:
        documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read claims from {path}: {' '.join(str(error).split())}") from None
    specs: list[Document] = []
    classes: list[Document] = []
    for document in documents:
        kind = document.get("kind") if isinstance(document, dict) else None
        spec: Any = document.get("spec") if isinstance(document, dict) else None
        if kind == "ResourceClaimTemplate" and isinstance(spec, dict):
            spec = spec.get("spec")
        if kind == "DeviceClass":
            classes.append(document)
        elif kind in ("ResourceClaim", "ResourceClaimTemplate") and isinstance(spec, dict):
            specs.append(spec)
        else:
            raise UsageError(f"{path}: {kind or 'a document'} is no ResourceClaim, template or DeviceClass")
    if not specs:
        raise UsageError(f"{path}: there is no ResourceClaim and no ResourceClaimTemplate")
    return Manifests(tuple(specs), tuple(classes))


def read_rules(path: Path) -> list[Document]:
    """The rules of all ClusterRoles in the YAML file `path`. Raises UsageError."""
    try:
        documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read roles from {path}: {' '.join(str(error).split())}") from None
    roles = [role for role in documents if isinstance(role, dict) and role.get("kind") == "ClusterRole"]
    if not roles:
        raise UsageError(f"{path}: there is no ClusterRole")
    return [rule for role in roles for rule in role.get("rules") or ()]


class Claims:
    """Makes and removes claims for devices of `driver` on `node_name`."""

    def __init__(
        self, client: Client, profile: Profile, node_name: str, driver: str, manifests: Manifests
    ) -> None:
        self._client = client
        self._profile = profile
        self._node = Node(metadata=ObjectMeta(name=node_name, labels={"kubernetes.io/hostname": node_name}))
        self._driver = driver
        self._manifests = manifests
        self._specs = itertools.cycle(manifests.specs or (_spec(),))
        self._numbers = itertools.count(1)
        self._classes: list[DeviceClass] = []
        self.live: dict[str, Made] = {}
        """Claims that were made and not removed, by UID."""

    async def start(self) -> None:
        """Make the classes. Raises DRAError where the API server refuses one."""
        for document in (*self._manifests.classes, _class(self._driver)):
            made = await self._client.create(DEVICE_CLASSES, document)
            self._classes.append(msgspec.convert(made, DeviceClass))

    async def make(
        self,
        count: int,
        slices: Iterable[Document],
        change: Callable[[Document], Document] = lambda spec: spec,
    ) -> list[Made]:
        """`count` new claims with devices of `slices`, their specs changed by `change`. Raises Skipped where
        there are not that many devices."""
        state = State(self._profile)
        for document in slices:
            state.apply_slice(msgspec.convert(document, ResourceSlice))
        for device_class in self._classes:
            state.apply_class(device_class)
        for other in self.live.values():
            state.take(other.uid, other.allocation, owner=other.reference.name)
        documents = [await self._create(change(next(self._specs))) for _ in range(count)]
        try:
            results = self._allocate(documents, state)
            made = [
                await self._write(document, result)
                for document, result in zip(documents, results, strict=True)
            ]
        except BaseException:
            for document in documents:
                await self._delete(document)
            raise
        self.live |= {claim.uid: claim for claim in made}
        return made

    async def remove(self, claim: Made) -> None:
        """Delete `claim` from the API; its devices are free."""
        self.live.pop(claim.uid, None)
        await self._delete(claim.document)

    def _allocate(self, documents: Sequence[Document], state: State) -> list[AllocationResult]:
        claims = [msgspec.convert(document, ResourceClaim) for document in documents]
        try:
            results = Allocator(claims, state, share_id=lambda: str(uuid.uuid4())).allocate(self._node)
        except AllocationError as error:
            raise Skipped(f"the claim cannot be allocated: {error}") from None
        if results is None:
            what = "a claim" if len(claims) == 1 else f"{len(claims)} claims at a time"
            raise Skipped(f"{self._driver} has no devices for {what}")
        if any(r.driver != self._driver for result in results for r in result.devices.results):
            raise Skipped(f"the claim asks for devices of drivers other than {self._driver}")
        return results

    async def _create(self, spec: Document) -> Document:
        name = f"conformance-{next(self._numbers)}"
        document = {
            "apiVersion": RESOURCE_CLAIMS.api_version,
            "kind": RESOURCE_CLAIMS.kind,
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": spec,
        }
        try:
            return await self._client.create(RESOURCE_CLAIMS, document)
        except DRAError as error:
            raise UsageError(f"the API server refuses the claim: {error}") from None

    async def _write(self, document: Document, result: AllocationResult) -> Made:
        meta = document["metadata"]
        pod = {"resource": "pods", "name": meta["name"], "uid": str(uuid.uuid4())}
        status = {"allocation": msgspec.to_builtins(result), "reservedFor": [pod]}
        stored = await self._client.update(
            RESOURCE_CLAIMS, {**document, "status": status}, subresource="status"
        )
        return Made(dra.Claim(meta["namespace"], meta["uid"], meta["name"]), result, stored)

    async def _delete(self, document: Document) -> None:
        meta = document["metadata"]
        try:
            await self._client.delete(RESOURCE_CLAIMS, meta["name"], meta["namespace"])
        except NotFound:
            return


def _class(driver: str) -> Document:
    return {
        "apiVersion": DEVICE_CLASSES.api_version,
        "kind": DEVICE_CLASSES.kind,
        "metadata": {"name": _CLASS},
        "spec": {"selectors": [{"cel": {"expression": f'device.driver == "{driver}"'}}]},
    }


def _spec() -> Document:
    request = {"deviceClassName": _CLASS, "tolerations": [{"operator": "Exists"}]}
    return {"devices": {"requests": [{"name": "device", "exactly": request}]}}

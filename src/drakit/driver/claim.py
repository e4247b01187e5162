"""What a driver is handed to prepare, and what it hands back.

Configuration: a class and a claim may carry opaque parameters for a driver. A driver names the models it
understands (`Config` subclasses) and gets a decoded value, the claim's over the class's; a parameter that
no model knows fails the claim with the place of the trouble, since a wrong word that goes unnoticed is a
device that is not set up as somebody wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct, field

from drakit.driver.device import AttributeValue, attribute
from drakit.errors import DRAError
from drakit.model.cdi import NO_EDITS, ContainerEdits, DeviceNode, Hook, Mount
from drakit.model.resource import (
    DeviceAllocationConfiguration,
    DeviceAttribute,
    DeviceRequestAllocationResult,
    NetworkDeviceData,
    ResourceClaim,
)
from drakit.transport import Document


class Config(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, tag_field="kind"):
    """A model of opaque parameters:

    class GpuConfig(Config, tag="GpuConfig"):
        api_version: Literal["gpu.resource.example.com/v1alpha1"]
        sharing: Sharing = Sharing()
    """


class ConfigPart(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A part of a `Config`."""


C = TypeVar("C", bound=Config)


class OpaqueConfig(Struct, frozen=True):
    """Parameters for this driver; `where` names them in errors."""

    where: str
    parameters: Any


class DeviceCondition(Struct, frozen=True, omit_defaults=True):
    """A condition of a device in its claim's status; `reason` is a CamelCase word, by default the type."""

    type: str
    status: Literal["True", "False", "Unknown"] = "True"
    reason: str = ""
    message: str = ""


class AllocatedDevice(Struct, frozen=True, kw_only=True):
    """A device of this driver that the claim was given for `request` (`main` or `main/sub`).

    With `admin_access` the claim may look after the device but not use it up. `consumed_capacity` are
    quantities by name where the device is shared, and `share_id` tells such shares apart. The conditions
    are those that a pod with the device waits for (see `Driver.bind`).
    """

    request: str
    pool: str
    name: str
    admin_access: bool = False
    share_id: str | None = None
    consumed_capacity: Mapping[str, str] = field(default_factory=dict)
    configs: Sequence[OpaqueConfig] = ()
    binding_conditions: Sequence[str] = ()
    binding_failure_conditions: Sequence[str] = ()

    def config(self, model: type[C]) -> C | None:
        """The parameters for this device: the last of the claim's, else the last of the class's.

        None if there are none. Raises DRAError if any of them is not a valid `model`.
        """
        found: C | None = None
        for config in self.configs:
            try:
                found = msgspec.convert(config.parameters, model)
            except msgspec.ValidationError as error:
                raise DRAError(f"{config.where}: {error}") from None
        return found

    def prepared(
        self,
        *,
        env: Mapping[str, str] | None = None,
        device_nodes: Sequence[DeviceNode] = (),
        mounts: Sequence[Mount] = (),
        hooks: Sequence[Hook] = (),
        edits: ContainerEdits = NO_EDITS,
        cdi_device_ids: Sequence[str] = (),
        annotations: Mapping[str, str] | None = None,
        conditions: Sequence[DeviceCondition] = (),
        data: Any = None,
        network_data: NetworkDeviceData | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> PreparedDevice:
        """This device, ready. Containers of the claim get `env`, `device_nodes`, `mounts` and `hooks`, or any
        `edits`; `cdi_device_ids` names devices of CDI files that exist already. `annotations` go to the
        runtime with the edits. `conditions`, `data` (JSON, up to 10 KiB) and
        `network_data` go to the claim's status. `attributes` are for the device's metadata file alone, beside
        those that are published. `state` is JSON to remember until the claim is unprepared."""
        if env or device_nodes or mounts or hooks:
            edits = ContainerEdits(
                env=[*edits.env, *(f"{key}={value}" for key, value in (env or {}).items())],
                device_nodes=[*edits.device_nodes, *device_nodes],
                net_devices=edits.net_devices,
                hooks=[*edits.hooks, *hooks],
                mounts=[*edits.mounts, *mounts],
                intel_rdt=edits.intel_rdt,
                additional_gids=edits.additional_gids,
            )
        return PreparedDevice(
            request=self.request,
            pool=self.pool,
            name=self.name,
            share_id=self.share_id,
            is_admin=self.admin_access,
            edits=edits,
            cdi_device_ids=list(cdi_device_ids),
            annotations=dict(annotations or {}),
            conditions=list(conditions),
            data=data,
            network_data=network_data,
            attributes={key: attribute(value) for key, value in (attributes or {}).items()},
            state=dict(state or {}),
        )


class Claim(Struct, frozen=True, kw_only=True):
    """A claim to prepare, with its devices of this driver. `document` is the whole ResourceClaim."""

    namespace: str
    name: str
    uid: str
    devices: Sequence[AllocatedDevice]
    document: Document

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def allocated(self) -> list[str]:
        """What it was given, to compare with what it is given later."""
        return sorted(f"{d.request} {d.pool}/{d.name} {d.share_id or ''}".strip() for d in self.devices)

    @classmethod
    def of(cls, document: Document, driver: str) -> Claim:
        """The allocated claim `document` as `driver` sees it. Raises DRAError if it has nothing of it."""
        try:
            claim = msgspec.convert(document, ResourceClaim)
        except msgspec.ValidationError as error:
            raise DRAError(f"the claim cannot be read: {error}") from None
        allocation = claim.status.allocation
        if allocation is None:
            raise DRAError("the claim is not allocated")
        configs = [
            (index, config)
            for index, config in enumerate(allocation.devices.config)
            if config.opaque is not None and config.opaque.driver == driver
        ]
        devices = [
            _allocated(result, configs) for result in allocation.devices.results if result.driver == driver
        ]
        if not devices:
            raise DRAError(f"the claim has no device of driver {driver}")
        meta = claim.metadata
        return cls(namespace=meta.namespace, name=meta.name, uid=meta.uid, devices=devices, document=document)


def _allocated(
    result: DeviceRequestAllocationResult, configs: Sequence[tuple[int, DeviceAllocationConfiguration]]
) -> AllocatedDevice:
    main = result.request.partition("/")[0]
    applying = [
        (index, config)
        for index, config in configs
        if not config.requests or main in config.requests or result.request in config.requests
    ]
    # The class's come first whatever their order in the allocation: what the claim says wins.
    applying.sort(key=lambda item: item[1].source == "FromClaim")
    return AllocatedDevice(
        request=result.request,
        pool=result.pool,
        name=result.device,
        admin_access=bool(result.admin_access),
        share_id=result.share_id,
        consumed_capacity=result.consumed_capacity,
        binding_conditions=result.binding_conditions,
        binding_failure_conditions=result.binding_failure_conditions,
        configs=[
            OpaqueConfig(f"config {index} ({config.source})", config.opaque.parameters)
            for index, config in applying
            if config.opaque is not None
        ],
    )


class PreparedDevice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A device that is ready, as the checkpoint keeps it. Made by `AllocatedDevice.prepared`."""

    request: str
    pool: str
    name: str
    share_id: str | None = None
    edits: ContainerEdits = NO_EDITS
    cdi_device_ids: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    conditions: list[DeviceCondition] = field(default_factory=list)
    data: Any = None
    network_data: NetworkDeviceData | None = None
    attributes: dict[str, DeviceAttribute] = field(default_factory=dict)
    is_admin: bool = False
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def has_status(self) -> bool:
        """Whether there is something to say of it in the claim's status."""
        return bool(self.conditions) or self.data is not None or self.network_data is not None


class PreparedClaim(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A claim that was prepared, or whose preparation began and may have stopped anywhere (`is_complete`
    False; devices only if it was complete before the machine started again). `allocated` is what it was
    prepared for."""

    namespace: str
    name: str
    uid: str
    is_complete: bool = False
    pod_claim_name: str | None = None
    allocated: list[str] = field(default_factory=list)
    devices: list[PreparedDevice] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

"""What the kubelet asks of a DRA driver on its node (dra v1 and v1beta1: equal but for the name).

A request names several claims; the answer has an entry for each, by claim UID, and a failed claim is a
value there, not a failed call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio
from msgspec import Struct

from drakit.errors import DRAError, RecoverableError
from drakit.pluginapi import wire

T = TypeVar("T")

DRA_V1 = "v1.DRAPlugin"
DRA_V1BETA1 = "v1beta1.DRAPlugin"
DRA_SERVICES = (DRA_V1, DRA_V1BETA1)
"""The names a plugin lists in `PluginInfo.supported_versions`, the newest first."""


class Claim(Struct, frozen=True):
    """Which ResourceClaim is meant; `uid` tells it from another of the same name."""

    namespace: str
    uid: str
    name: str


class PreparedDevice(Struct, frozen=True):
    """One device that is ready. No `requests`: it belongs to all of the claim's. `share_id` is the one of the
    allocation result where the device is shared."""

    requests: Sequence[str]
    pool: str
    device: str
    cdi_device_ids: Sequence[str] = ()
    share_id: str | None = None


class PrepareResult(Struct, frozen=True):
    """How one claim went: its devices, or an `error` with none."""

    devices: Sequence[PreparedDevice] = ()
    error: str = ""


class DRAPlugin(Protocol):
    """The driver's end. Both return an entry for each claim asked for, by UID."""

    async def prepare(self, claims: Sequence[Claim]) -> Mapping[str, PrepareResult]: ...

    async def unprepare(self, claims: Sequence[Claim]) -> Mapping[str, str]:
        """The error of each claim, "" where there was none."""
        ...


class _Version:
    """The messages of one version."""

    def __init__(self, version: str) -> None:
        package = f"k8s.io.kubelet.pkg.apis.dra.{version}"
        self.service = wire.service(f"{package}.DRAPlugin")
        self.claim = wire.message(f"{package}.Claim")
        self.device = wire.message(f"{package}.Device")
        self.prepare_request = wire.message(f"{package}.NodePrepareResourcesRequest")
        self.prepare_response = wire.message(f"{package}.NodePrepareResourcesResponse")
        self.prepare_entry = wire.message(f"{package}.NodePrepareResourceResponse")
        self.unprepare_request = wire.message(f"{package}.NodeUnprepareResourcesRequest")
        self.unprepare_response = wire.message(f"{package}.NodeUnprepareResourcesResponse")


_VERSIONS = {DRA_V1: _Version("v1"), DRA_V1BETA1: _Version("v1beta1")}


def dra_handlers(plugin: DRAPlugin) -> list[grpc.GenericRpcHandler]:
    """What `wire.serve` needs to serve `plugin` in every version."""
    return [_handlers(plugin, version) for version in _VERSIONS.values()]


def _handlers(plugin: DRAPlugin, version: _Version) -> grpc.GenericRpcHandler:
    async def prepare(request: Any, context: Any) -> Any:
        claims = [Claim(c.namespace, c.uid, c.name) for c in request.claims]
        results = await _or_abort(plugin.prepare(claims), context)
        response = version.prepare_response()
        for uid, result in results.items():
            response.claims[uid].error = result.error
            response.claims[uid].devices.extend(_to_message(version, device) for device in result.devices)
        return response

    async def unprepare(request: Any, context: Any) -> Any:
        claims = [Claim(c.namespace, c.uid, c.name) for c in request.claims]
        errors = await _or_abort(plugin.unprepare(claims), context)
        response = version.unprepare_response()
        for uid, error in errors.items():
            response.claims[uid].error = error
        return response

    methods = {"NodePrepareResources": prepare, "NodeUnprepareResources": unprepare}
    return wire.handlers(version.service, methods)


async def _or_abort(work: Awaitable[T], context: grpc.aio.ServicerContext[Any, Any]) -> T:
    """What `work` returns; a DRAError fails the call with its text, for all claims alike."""
    try:
        return await work
    except DRAError as error:
        is_later = isinstance(error, RecoverableError)
        code = grpc.StatusCode.UNAVAILABLE if is_later else grpc.StatusCode.FAILED_PRECONDITION
        await context.abort(code, str(error))


def _to_message(version: _Version, device: PreparedDevice) -> Any:
    return version.device(
        request_names=list(device.requests),
        pool_name=device.pool,
        device_name=device.device,
        cdi_device_ids=list(device.cdi_device_ids),
        share_id=device.share_id,
    )


def _from_message(device: Any) -> PreparedDevice:
    return PreparedDevice(
        tuple(device.request_names),
        device.pool_name,
        device.device_name,
        tuple(device.cdi_device_ids),
        device.share_id if device.HasField("share_id") else None,
    )


class DRAStub:
    """The kubelet's end, over `channel`, in the version that the plugin's `service` name stands for.

    Every call raises RecoverableError when the driver fails it as a whole or needs over `timeout` seconds.
    """

    def __init__(self, channel: grpc.aio.Channel, service: str = DRA_V1) -> None:
        self._channel = channel
        self._version = _VERSIONS[service]

    async def prepare(self, claims: Sequence[Claim], timeout: float = 45.0) -> dict[str, PrepareResult]:
        request = self._version.prepare_request(claims=[self._claim(claim) for claim in claims])
        answer = await self._call("NodePrepareResources", request, timeout)
        return {
            uid: PrepareResult(tuple(_from_message(device) for device in entry.devices), entry.error)
            for uid, entry in answer.claims.items()
        }

    async def unprepare(self, claims: Sequence[Claim], timeout: float = 45.0) -> dict[str, str]:
        request = self._version.unprepare_request(claims=[self._claim(claim) for claim in claims])
        answer = await self._call("NodeUnprepareResources", request, timeout)
        return {uid: entry.error for uid, entry in answer.claims.items()}

    async def _call(self, method: str, request: Any, timeout: float) -> Any:
        return await wire.unary(self._channel, self._version.service, method, request, timeout)

    def _claim(self, claim: Claim) -> Any:
        return self._version.claim(namespace=claim.namespace, uid=claim.uid, name=claim.name)


def choose_service(supported_versions: Sequence[str]) -> str | None:
    """The first of a plugin's `supported_versions` that is a DRA service, as the kubelet chooses: a plugin
    lists the newest first. None if it has none."""
    return next((name for name in supported_versions if name in DRA_SERVICES), None)

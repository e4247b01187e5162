"""What the kubelet asks of a container runtime: CRI v1, over the runtime's socket.

The messages have CRI's own names and fields; a call takes the request's fields by name, with dictionaries for
the messages in them, and returns the answer as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from drakit.pluginapi import wire

_SERVICES = (wire.service("runtime.v1.RuntimeService"), wire.service("runtime.v1.ImageService"))
_METHODS: Mapping[str, tuple[ServiceDescriptor, MethodDescriptor]] = {
    method.name: (service, method) for service in _SERVICES for method in service.methods
}


class CRI:
    """The runtime at `socket`; connects when first used, and again after a loss."""

    def __init__(self, socket: Path | str) -> None:
        self.socket = str(socket)
        self._channel = wire.connect(socket, max_message=4 * wire.MAX_MESSAGE)

    async def call(self, method: str, seconds: float = 120.0, /, **fields: Any) -> Any:
        """The answer to `method`, awaited for `seconds`. Raises CallFailed."""
        service, descriptor = _METHODS[method]
        request = message_factory.GetMessageClass(descriptor.input_type)(**fields)
        return await wire.unary(self._channel, service, method, request, seconds)

    async def close(self) -> None:
        await self._channel.close()

"""A device plugin as vendors write them, knowing nothing of drakit.

    plugin_program.py FOLDER RESOURCE SOCKET

Each line on stdin is a JSON list of devices `{"id", "health", "numa"}` to report from now on, the line
"leave" ends it like a crash. Calls that it gets are lines of JSON on stdout.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src" / "drakit" / "pluginapi" / "protos"))
messages, services = grpc.protos_and_services("deviceplugin_v1beta1.proto")  # type: ignore[attr-defined]

OPTIONS = {"pre_start_required": True, "get_preferred_allocation_available": True}


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


class Plugin(services.DevicePluginServicer):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        self.devices: list[dict[str, Any]] = []
        self.serial = 0
        self.changed = threading.Condition()

    def report(self, devices: list[dict[str, Any]]) -> None:
        with self.changed:
            self.devices, self.serial = devices, self.serial + 1
            self.changed.notify_all()

    def GetDevicePluginOptions(self, request: Any, context: Any) -> Any:
        return messages.DevicePluginOptions(**OPTIONS)

    def ListAndWatch(self, request: Any, context: Any) -> Iterator[Any]:
        seen = 0
        while True:
            with self.changed:
                while self.serial == seen:
                    self.changed.wait()
                seen, devices = self.serial, list(self.devices)
            answer = messages.ListAndWatchResponse()
            for device in devices:
                made = answer.devices.add(ID=device["id"], health=device.get("health", "Healthy"))
                for number in device.get("numa", []):
                    made.topology.nodes.add(ID=number)
            yield answer

    def GetPreferredAllocation(self, request: Any, context: Any) -> Any:
        """The last ones first."""
        (wanted,) = request.container_requests
        required = list(wanted.must_include_deviceIDs)
        others = sorted(set(wanted.available_deviceIDs) - set(required), reverse=True)
        ids = (required + others)[: wanted.allocation_size]
        return messages.PreferredAllocationResponse(container_responses=[{"deviceIDs": ids}])

    def Allocate(self, request: Any, context: Any) -> Any:
        (wanted,) = request.container_requests
        ids = list(wanted.devices_ids)
        say(call="Allocate", ids=ids)
        if any("refuse" in device_id for device_id in ids):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "firmware is too old")
        given = messages.ContainerAllocateResponse(
            envs={"WIDGETS": ",".join(ids)},
            mounts=[{"container_path": "/opt/widget", "host_path": "/usr", "read_only": True}],
            devices=[{"container_path": "/dev/widget", "host_path": "/dev/null", "permissions": "rw"}],
            annotations={"widget.example.com/ids": "-".join(ids)},
            cdi_devices=[{"name": f"widget.example.com/extra={device_id}"} for device_id in ids],
        )
        return messages.AllocateResponse(container_responses=[given])

    def PreStartContainer(self, request: Any, context: Any) -> Any:
        say(call="PreStartContainer", ids=list(request.devices_ids))
        return messages.PreStartContainerResponse()


def main(folder: str, resource: str, name: str) -> None:
    plugin = Plugin()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    services.add_DevicePluginServicer_to_server(plugin, server)
    server.add_insecure_port(f"unix://{folder}/{name}")
    server.start()
    channel = grpc.insecure_channel(f"unix://{folder}/kubelet.sock")
    registration = services.RegistrationStub(channel)
    try:
        registration.Register(
            messages.RegisterRequest(
                version="v1beta1", endpoint=name, resource_name=resource, options=OPTIONS
            ),
            timeout=10,
            wait_for_ready=True,
        )
        say(registered=resource)
    except grpc.RpcError as error:
        say(refused=error.details())  # type: ignore[attr-defined]
        os._exit(1)
    for line in sys.stdin:
        if line.strip() == "leave":
            break
        plugin.report(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])

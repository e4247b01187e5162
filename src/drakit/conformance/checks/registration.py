"""How the driver makes itself known to the kubelet."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from drakit.conformance.check import Evidence, Failed, check
from drakit.conformance.lab import Lab
from drakit.errors import DRAError
from drakit.pluginapi.dra import DRA_SERVICES, DRA_V1, DRAStub
from drakit.pluginapi.health import HEALTH_SERVICES

KUBELET = "kubelet, pkg/kubelet/cm/dra/plugin (registration handler)"
MAX_SOCKET_PATH = 107


@check("registration", source="pluginregistration.v1 GetInfo; " + KUBELET)
async def registers(lab: Lab) -> str:
    """The driver puts a socket into the kubelet's registry folder, says there that it is a DRAPlugin with a
    driver's name, and is taken."""
    lab.process = await lab.new_process(lab.pod_uid)

    def problem() -> str:
        failures = "; ".join(f"{name}: {text}" for name, text in lab.kubelet.failures.items())
        return failures or "no socket appears in the registry folder"

    await lab.until(lambda: lab.kubelet.count, problem)
    instance = lab.instance()
    lab.driver = instance.info.name
    return f"{instance.info.name} at {instance.socket.name}"


@check("registration-endpoint", source="pluginregistration.v1 PluginInfo.endpoint", needs=("registration",))
async def endpoint(lab: Lab) -> str:
    """The endpoint is the absolute path of a unix socket, short enough for the kernel, that answers."""
    instance = lab.instance()
    path = instance.info.endpoint or str(instance.socket)
    if not path.startswith("/"):
        raise Failed(f"endpoint {path!r} is not an absolute path")
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise Failed(f"endpoint {path!r} is longer than {MAX_SOCKET_PATH} bytes")
    try:
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            raise Failed(f"endpoint {path} is no socket")
    except OSError as error:
        raise Failed(f"endpoint {path}: {error.strerror}") from None
    await lab.prepare()
    return path


@check("registration-versions", source="KEP-4381; " + KUBELET, needs=("registration-endpoint",))
async def versions(lab: Lab) -> Evidence:
    """Every version of the DRA service that the driver lists answers; v1 is among them."""
    instance = lab.instance()
    listed = tuple(instance.info.supported_versions)
    for service in DRA_SERVICES:
        if service in listed:
            try:
                await DRAStub(instance.channel, service).prepare([], lab.options.timeout)
            except DRAError as error:
                raise Failed(f"{service} is listed, but does not answer: {error}") from None
    warnings = [f"{name} is not known to the kubelet" for name in listed if name not in _KNOWN]
    if DRA_V1 not in listed:
        warnings.append(f"{DRA_V1} (Kubernetes 1.34) is not listed")
    return Evidence(", ".join(listed), tuple(warnings))


_KNOWN = (*DRA_SERVICES, *HEALTH_SERVICES)

CHECKS = (registers, endpoint, versions)

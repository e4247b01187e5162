"""What a runtime is asked to make for a pod before its containers: namespaces, a name, sysctls."""

from __future__ import annotations

from drakit.node.env import ConfigFailed
from drakit.node.pod_files import PodFiles
from drakit.node.pod_names import hostname
from drakit.node.pod_spec import all_containers
from drakit.node.runtime import SandboxSpec
from drakit.transport import Document

_OF_IPC = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")


def sandbox_spec(pod: Document, files: PodFiles) -> SandboxSpec:
    """The sandbox of `pod`. Raises ConfigFailed for a sysctl that is not the pod's own."""
    spec, meta = pod.get("spec") or {}, pod["metadata"]
    contexts = [entry.get("securityContext") or {} for entry in all_containers(spec)]
    return SandboxSpec(
        uid=meta["uid"],
        namespace=meta["namespace"],
        name=meta["name"],
        hostname=hostname(pod),
        log_folder=str(files.logs),
        is_host_network=bool(spec.get("hostNetwork")),
        is_host_pid=bool(spec.get("hostPID")),
        is_host_ipc=bool(spec.get("hostIPC")),
        is_privileged=any(context.get("privileged") for context in contexts),
        shares_processes=bool(spec.get("shareProcessNamespace")),
        sysctls=_sysctls(spec),
    )


def _sysctls(spec: Document) -> dict[str, str]:
    """Those of the namespaces that the pod has for itself."""
    own = (*(() if spec.get("hostNetwork") else ("net.",)), *(() if spec.get("hostIPC") else _OF_IPC))
    found: dict[str, str] = {}
    for entry in (spec.get("securityContext") or {}).get("sysctls") or []:
        name = str(entry.get("name")).replace("/", ".")
        if not name.startswith(own):
            raise ConfigFailed(f"sysctl {name} is not the pod's own: it would change the machine")
        found[name] = str(entry.get("value") or "")
    return found

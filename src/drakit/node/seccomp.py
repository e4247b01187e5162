"""The system calls a container may make, as the OCI specification's `linux.seccomp`.

`RuntimeDefault` denies what no ordinary program calls and what has led out of containers before: the calls
that Docker documents as blocked by its default profile, each unless the container has the capability it is
for. A profile of a file may be the OCI's or Docker's, which leaves out rules by capability and architecture.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from drakit.node.runtime import RuntimeFailed

_ALWAYS_DENIED = """_sysctl add_key create_module get_kernel_syms io_uring_enter io_uring_register
io_uring_setup keyctl nfsservctl pivot_root query_module request_key swapoff swapon sysfs uselib userfaultfd
ustat vm86 vm86old"""
_DENIED_WITHOUT = {
    "DAC_READ_SEARCH": "open_by_handle_at",
    "SYS_ADMIN": "bpf fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr "
    "move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns umount "
    "umount2 unshare",
    "SYS_BOOT": "kexec_file_load kexec_load reboot",
    "SYS_MODULE": "delete_module finit_module init_module",
    "SYS_NICE": "get_mempolicy mbind move_pages set_mempolicy set_mempolicy_home_node",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp process_madvise process_vm_readv process_vm_writev",
    "SYS_RAWIO": "ioperm iopl",
    "SYS_TIME": "clock_adjtime clock_adjtime64 clock_settime clock_settime64 settimeofday stime",
    "SYS_TTY_CONFIG": "vhangup",
}
_NAMESPACE_FLAGS = (0x02000000, 0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
_EPERM, _ENOSYS = 1, 38
_MAX_PROFILE = 1 << 20
_KEPT = ("defaultErrnoRet", "flags", "architectures")
_MACHINES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}
_ALSO = {"SCMP_ARCH_X86_64": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"], "SCMP_ARCH_AARCH64": ["SCMP_ARCH_ARM"]}


def seccomp(profile: str, capabilities: Sequence[str]) -> dict[str, Any] | None:
    """`profile` ("Unconfined", "RuntimeDefault" or a path) for a container with `capabilities` ("CAP_KILL");
    None for no limits. Raises RuntimeFailed for a file that is no profile."""
    if profile == "Unconfined":
        return None
    held = {name.removeprefix("CAP_") for name in capabilities}
    found = _default(held) if profile == "RuntimeDefault" else _read(profile, held)
    if architecture := _MACHINES.get(os.uname().machine, ("", ""))[1]:
        found.setdefault("architectures", [architecture, *_ALSO[architecture]])
    return found


def _default(held: set[str]) -> dict[str, Any]:
    names = _ALWAYS_DENIED.split()
    for capability, calls in _DENIED_WITHOUT.items():
        names += [] if capability in held else calls.split()
    rules: list[dict[str, Any]] = [{"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM}]
    if "SYS_ADMIN" not in held:  # new namespaces; whoever tries clone3 first goes on with clone
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
        for flag in _NAMESPACE_FLAGS:
            args = [{"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}]
            rules.append({"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM, "args": args})
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}


def _read(path: str, held: set[str]) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            profile = json.loads(file.read(_MAX_PROFILE))
        rules = [_rule(rule) for rule in profile.get("syscalls") or [] if _applies(rule, held)]
        wanted = {key: profile[key] for key in _KEPT if key in profile}
        return {"defaultAction": profile["defaultAction"], **wanted, "syscalls": rules}
    except OSError as error:
        raise RuntimeFailed(f"seccomp profile {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RuntimeFailed(f"seccomp profile {path} is none: {error}") from None


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    names = rule.get("names") or [rule["name"]]
    kept = {key: rule[key] for key in ("action", "errnoRet", "args") if rule.get(key) is not None}
    return {"names": names, **kept}


def _applies(rule: dict[str, Any], held: set[str]) -> bool:
    """Whether Docker's conditions of the rule hold here."""
    machine = _MACHINES.get(os.uname().machine, ("", ""))[0]
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    wanted = {name.removeprefix("CAP_") for name in includes.get("caps") or []}
    unwanted = {name.removeprefix("CAP_") for name in excludes.get("caps") or []}
    is_here = machine in (includes.get("arches") or [machine]) and machine not in (
        excludes.get("arches") or []
    )
    return wanted <= held and not (unwanted and unwanted <= held) and is_here

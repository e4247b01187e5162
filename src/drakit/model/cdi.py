"""Container Device Interface files: what to change in a container so that it has a device.

A CDI file (`Spec`) lists devices of one kind `vendor/class`; `vendor/class=device` names one of them. The
specification is strict, and so is this module: a field nobody knows, or one younger than the version the
file states, makes the whole file invalid, since a runtime that skipped it would start a container without
part of its device. A writer therefore states the oldest version that has all it uses, but none before
0.5.0, the oldest that every runtime in use reads.

Pure: reading and writing files is the caller's.
Source: the CDI specification 0.3.0 to 1.1.0 (cncf-tags/container-device-interface).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import yaml
from msgspec import Struct, field, structs

from drakit.errors import DRAError

VERSIONS = ("0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0")
MIN_WRITTEN_VERSION = "0.5.0"
MAX_FILE_SIZE = 4 * 1024 * 1024
"""Bytes of a file worth reading."""

HOOK_NAMES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

_VENDOR_OR_CLASS = re.compile(r"[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
_DEVICE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?")
_ANNOTATIONS_SIZE = 256 * 1024
_MAX_DEPTH = 16


class CDIError(DRAError):
    """A CDI file or device name that is not valid, or a device that cannot be found."""


class Part(Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """A part of a CDI file: JSON names in the file, snake_case here, unknown fields refused."""


class DeviceNode(Part, frozen=True, kw_only=True):
    """A device file for the container. What is left out (type, numbers, mode) is that of `host_path`."""

    path: str
    host_path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    permissions: str = ""
    uid: int | None = None
    gid: int | None = None


class Mount(Part, frozen=True, kw_only=True):
    host_path: str
    container_path: str
    options: list[str] = field(default_factory=list)
    type: str = ""


class Hook(Part, frozen=True, kw_only=True):
    """A program of the host to run at one step of the container's life, with the OCI state on stdin.

    `args` starts with the program's name; `timeout` is in seconds.
    """

    hook_name: str
    path: str
    args: list[str] = field(default_factory=list)
    env: list[str] = field(default_factory=list)
    timeout: int | None = None


class IntelRdt(Part, frozen=True, kw_only=True):
    clos_id: str = field(default="", name="closID")
    l3_cache_schema: str = field(default="", name="l3CacheSchema")
    mem_bw_schema: str = ""
    schemata: list[str] | None = None
    enable_monitoring: bool = False
    enable_cmt: bool = field(default=False, name="enableCMT")
    enable_mbm: bool = field(default=False, name="enableMBM")


class NetDevice(Part, frozen=True, kw_only=True):
    host_interface_name: str
    name: str


class ContainerEdits(Part, frozen=True, kw_only=True):
    """`env` are NAME=value texts."""

    env: list[str] = field(default_factory=list)
    device_nodes: list[DeviceNode] = field(default_factory=list)
    net_devices: list[NetDevice] = field(default_factory=list)
    hooks: list[Hook] = field(default_factory=list)
    mounts: list[Mount] = field(default_factory=list)
    intel_rdt: IntelRdt | None = None
    additional_gids: list[int] = field(default_factory=list)


NO_EDITS = ContainerEdits()


class Device(Part, frozen=True, kw_only=True):
    name: str
    annotations: dict[str, str] = field(default_factory=dict)
    container_edits: ContainerEdits


class Spec(Part, frozen=True, kw_only=True):
    """One file. `container_edits` apply once to every container that gets any of its devices."""

    cdi_version: str
    kind: str
    annotations: dict[str, str] = field(default_factory=dict)
    devices: list[Device]
    container_edits: ContainerEdits = NO_EDITS


# --- reading and writing --------------------------------------------------------------------------


def decode(data: bytes, source: str) -> Spec:
    """The file `source` with content `data`: YAML if named so, else JSON. Raises CDIError naming `source`."""
    if len(data) > MAX_FILE_SIZE:
        raise CDIError(f"{source}: larger than {MAX_FILE_SIZE} bytes")
    try:
        if source.endswith((".yaml", ".yml")):
            spec = msgspec.convert(_yaml(data), Spec)
        else:
            spec = msgspec.json.decode(data, type=Spec)
    except (msgspec.DecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise CDIError(f"{source}: {' '.join(str(error).split())}") from None
    if problems := validate(spec):
        raise CDIError(f"{source}: {'; '.join(problems)}")
    return spec


def _yaml(data: bytes) -> Any:
    """The YAML document `data`. Deep nesting, which crashes libyaml, and aliases, which grow, are refused."""
    depth = 0
    for event in yaml.parse(data, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH or isinstance(event, yaml.AliasEvent):
            raise ValueError(f"nested deeper than {_MAX_DEPTH} levels, or with aliases")
    return yaml.load(data, Loader=yaml.CSafeLoader)


def build(kind: str, devices: Iterable[Device], container_edits: ContainerEdits = NO_EDITS) -> Spec:
    """A valid file of `devices`, of the oldest version that has all it uses. Raises CDIError."""
    spec = Spec(
        cdi_version=MIN_WRITTEN_VERSION, kind=kind, devices=list(devices), container_edits=container_edits
    )
    version = max(minimum_version(spec), MIN_WRITTEN_VERSION, key=VERSIONS.index)
    spec = structs.replace(spec, cdi_version=version)
    problems = validate(spec)
    if any(len(part) == 1 for part in kind.split("/")):
        problems.append("a vendor or class of one letter is valid, but containerd 1.7 crashes on it")
    if problems:
        raise CDIError(f"CDI file of {kind}: {'; '.join(problems)}")
    return spec


def encode(spec: Spec) -> bytes:
    """`spec` as the JSON text of a file."""
    return msgspec.json.format(msgspec.json.encode(spec), indent=2) + b"\n"


# --- versions -------------------------------------------------------------------------------------


def minimum_version(spec: Spec) -> str:
    """The oldest version of the specification that has everything `spec` uses."""
    edits = [spec.container_edits, *(device.container_edits for device in spec.devices)]
    rdts = [edit.intel_rdt for edit in edits if edit.intel_rdt is not None]
    if any(edit.net_devices for edit in edits) or any(
        rdt.schemata is not None or rdt.enable_monitoring for rdt in rdts
    ):
        return "1.1.0"
    if rdts or any(edit.additional_gids for edit in edits):
        return "0.7.0"
    has_annotations = spec.annotations or any(device.annotations for device in spec.devices)
    if has_annotations or "." in spec.kind.partition("/")[2]:
        return "0.6.0"
    has_host_path = any(node.host_path for edit in edits for node in edit.device_nodes)
    if has_host_path or any(not device.name[:1].isalpha() for device in spec.devices):
        return "0.5.0"
    return "0.4.0" if any(mount.type for edit in edits for mount in edit.mounts) else "0.3.0"


# --- rules ----------------------------------------------------------------------------------------


def validate(spec: Spec) -> list[str]:
    """Everything that makes `spec` invalid, in words; empty if it is valid."""
    if spec.cdi_version not in VERSIONS:
        return [f"cdiVersion {spec.cdi_version!r} is not one of {', '.join(VERSIONS)}"]
    problems: list[str] = []
    vendor, slash, class_ = spec.kind.partition("/")
    if not slash or not _VENDOR_OR_CLASS.fullmatch(vendor) or not _VENDOR_OR_CLASS.fullmatch(class_):
        problems.append(f"kind {spec.kind!r} is not vendor/class")
    if not spec.devices:
        problems.append("there are no devices")
    needed = minimum_version(spec)
    if VERSIONS.index(needed) > VERSIONS.index(spec.cdi_version):
        problems.append(f"cdiVersion {spec.cdi_version} is too old for what the file uses: {needed} has it")
    problems += _annotation_problems("annotations", spec.annotations)
    problems += _edit_problems("containerEdits", spec.container_edits, spec.cdi_version)
    names: set[str] = set()
    for device in spec.devices:
        where = f"device {device.name!r}"
        if not _DEVICE.fullmatch(device.name):
            problems.append(f"{where}: not a valid name")
        if device.name in names:
            problems.append(f"{where}: there twice")
        names.add(device.name)
        if device.container_edits == NO_EDITS:
            problems.append(f"{where}: containerEdits are empty")
        problems += _annotation_problems(where, device.annotations)
        problems += _edit_problems(where, device.container_edits, spec.cdi_version)
    return problems


def _annotation_problems(where: str, annotations: dict[str, str]) -> list[str]:
    problems = [f"{where}: annotation without a name" for key in annotations if not key]
    if sum(len(key) + len(value) for key, value in annotations.items()) > _ANNOTATIONS_SIZE:
        problems.append(f"{where}: annotations are larger than {_ANNOTATIONS_SIZE} bytes")
    return problems


def _edit_problems(where: str, edits: ContainerEdits, version: str) -> list[str]:
    problems = [f"{where}: env {entry!r} is not NAME=value" for entry in edits.env if entry.find("=") < 1]
    for node in edits.device_nodes:
        problems += [f"{where}: device node {node.path!r}: {problem}" for problem in _node_problems(node)]
    for mount in edits.mounts:
        if not mount.host_path or not mount.container_path:
            problems.append(f"{where}: a mount needs hostPath and containerPath")
    for hook in edits.hooks:
        if hook.hook_name not in HOOK_NAMES:
            problems.append(f"{where}: hook {hook.hook_name!r} is not one of {', '.join(HOOK_NAMES)}")
        if not hook.path.startswith("/"):
            problems.append(f"{where}: hook path {hook.path!r} is not absolute")
        if any(entry.find("=") < 1 for entry in hook.env):
            problems.append(f"{where}: env of hook {hook.path!r} is not NAME=value")
    if any(not device.name or not device.host_interface_name for device in edits.net_devices):
        problems.append(f"{where}: a net device needs hostInterfaceName and name")
    if any(not 0 <= gid < 2**32 for gid in edits.additional_gids):
        problems.append(f"{where}: additionalGids must be between 0 and {2**32 - 1}")
    if edits.intel_rdt is not None:
        problems += [f"{where}: intelRdt: {problem}" for problem in _rdt_problems(edits.intel_rdt, version)]
    return problems


def _node_problems(node: DeviceNode) -> list[str]:
    problems = []
    if not node.path:
        problems.append("path is empty")
    if node.type not in ("", "b", "c", "u", "p"):
        problems.append(f"type {node.type!r} is not b, c, u or p")
    if node.major < 0 or node.minor < 0:
        problems.append("major and minor must not be negative")
    if node.permissions != "none" and node.permissions.strip("rwm"):
        problems.append(f"permissions {node.permissions!r} are not made of r, w and m")
    return problems


def _rdt_problems(rdt: IntelRdt, version: str) -> list[str]:
    problems = []
    clos = rdt.clos_id
    if clos != "/" and (len(clos) >= 4096 or clos in (".", "..") or "/" in clos or "\n" in clos):
        problems.append(f"closID {clos!r} is not a file name")
    if (rdt.enable_cmt or rdt.enable_mbm) and VERSIONS.index(version) >= VERSIONS.index("1.1.0"):
        problems.append("enableCMT and enableMBM are gone since 1.1.0: use enableMonitoring")
    return problems


# --- names and finding ----------------------------------------------------------------------------


def qualified_name(kind: str, device: str) -> str:
    """`vendor/class=device`."""
    return f"{kind}={device}"


def parse_name(name: str) -> tuple[str, str]:
    """The kind and the device of `vendor/class=device`. Raises CDIError."""
    kind, equals, device = name.partition("=")
    vendor, slash, class_ = kind.partition("/")
    if not (equals and slash and _DEVICE.fullmatch(device)) or not all(
        _VENDOR_OR_CLASS.fullmatch(part) for part in (vendor, class_)
    ):
        raise CDIError(f"CDI device name {name!r} is not vendor/class=device")
    return kind, device


class SpecFile(Struct, frozen=True):
    """A file that was read: where it is, and the priority of its folder (the higher one wins)."""

    source: str
    priority: int
    spec: Spec


class Registry:
    """The devices of many files.

    A device in a folder of higher priority hides one of the same name in a lower one; two files that name
    the same device at the same priority make it unusable, as nobody can say which is meant.
    """

    def __init__(self, files: Iterable[SpecFile]) -> None:
        self._found: dict[str, tuple[SpecFile, Device]] = {}
        self._conflicts: dict[str, list[str]] = {}
        for file in sorted(files, key=lambda file: (file.priority, file.source)):
            for device in file.spec.devices:
                self._add(qualified_name(file.spec.kind, device.name), file, device)

    def _add(self, name: str, file: SpecFile, device: Device) -> None:
        known = self._found.get(name)
        if known is None or known[0].priority < file.priority:
            self._conflicts.pop(name, None)
        else:
            self._conflicts.setdefault(name, [known[0].source]).append(file.source)
        self._found[name] = (file, device)

    def resolve(self, names: Sequence[str]) -> ContainerEdits:
        """All edits for a container that gets the devices `names`, merged into one (see `merge`).

        Raises CDIError that names every device which cannot be resolved, and why.
        """
        problems: list[str] = []
        edits: list[ContainerEdits] = []
        seen_files: set[str] = set()
        for name in dict.fromkeys(names):
            parse_name(name)
            if name in self._conflicts:
                problems.append(f"{name} (in several files: {', '.join(self._conflicts[name])})")
            elif name not in self._found:
                problems.append(f"{name} (in no file)")
            else:
                file, device = self._found[name]
                if file.source not in seen_files:
                    seen_files.add(file.source)
                    edits.append(file.spec.container_edits)
                edits.append(device.container_edits)
        if problems:
            raise CDIError(f"unresolvable CDI devices {', '.join(problems)}")
        return merge(edits)


def merge(parts: Iterable[ContainerEdits]) -> ContainerEdits:
    """One edits value that does what `parts` do one after another.

    Of the same variable, device path or mount point the last one stays; mounts come in the order in which
    they must be made (parents first). Raises CDIError where two net devices want the same name or interface.
    """
    env: dict[str, str] = {}
    nodes: dict[str, DeviceNode] = {}
    mounts: dict[str, Mount] = {}
    net_devices: list[NetDevice] = []
    hooks: list[Hook] = []
    gids: dict[int, None] = {}
    rdt: IntelRdt | None = None
    for part in parts:
        env |= {entry.partition("=")[0]: entry for entry in part.env}
        for node in part.device_nodes:
            nodes.pop(node.path, None)
            nodes[node.path] = node
        for mount in part.mounts:
            mounts.pop(mount.container_path, None)
            mounts[mount.container_path] = mount
        net_devices += [device for device in part.net_devices if device not in net_devices]
        hooks += part.hooks
        gids |= dict.fromkeys(gid for gid in part.additional_gids if gid)
        rdt = part.intel_rdt or rdt
    for attribute in ("host_interface_name", "name"):
        values = [getattr(device, attribute) for device in net_devices]
        if len(set(values)) != len(values):
            raise CDIError(f"CDI net devices claim the same interface: {', '.join(values)}")
    return ContainerEdits(
        env=list(env.values()),
        device_nodes=list(nodes.values()),
        net_devices=net_devices,
        hooks=hooks,
        mounts=sorted(mounts.values(), key=_depth),
        intel_rdt=rdt,
        additional_gids=list(gids),
    )


def _depth(mount: Mount) -> int:
    return len([part for part in mount.container_path.split("/") if part not in ("", ".")])

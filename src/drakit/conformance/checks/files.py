"""The files a driver writes for containers: CDI and device metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from drakit.conformance.check import Evidence, Failed, Skipped, check
from drakit.conformance.claim import Made
from drakit.conformance.lab import Lab
from drakit.errors import DRAError
from drakit.model import cdi
from drakit.pluginapi.dra import PrepareResult

CDI = "Container Device Interface specification"
METADATA = "/var/run/kubernetes.io/dra-device-attributes/"
METADATA_GROUP = "metadata.resource.k8s.io/"

_READERS = (("podman 4.3", "0.5.0"), ("podman 5.4", "0.8.0"), ("containerd 1.7", "0.8.0"))
"""The newest cdiVersion that runtimes in use read, as tried with each."""


def read_files(lab: Lab) -> list[cdi.SpecFile]:
    """All CDI files of the folder. Raises Failed for one that is not valid."""
    found = []
    for name in sorted(lab.cdi_files()):
        try:
            spec = cdi.decode((lab.cdi / name).read_bytes(), name)
        except DRAError as error:
            raise Failed(str(error)) from None
        found.append(cdi.SpecFile(name, 0, spec))
    return found


def edits(lab: Lab, result: PrepareResult) -> cdi.ContainerEdits:
    """What a container gets with the devices of `result`. Raises Failed, or Skipped where it gets nothing."""
    ids = [id for device in result.devices for id in device.cdi_device_ids]
    if not ids:
        raise Skipped("the driver uses no CDI devices")
    try:
        return cdi.Registry(read_files(lab)).resolve(ids)
    except DRAError as error:
        raise Failed(str(error)) from None


async def prepared_edits(lab: Lab) -> tuple[Made, cdi.ContainerEdits]:
    """A prepared claim, and what its container gets."""
    (claim,) = await lab.claims()
    answer = await lab.prepared(claim)
    return claim, edits(lab, answer[claim.uid])


@check("cdi-valid", source=CDI + " 0.3.0 to 1.1.0", needs=("prepare",))
async def valid(lab: Lab) -> Evidence:
    """Every CDI file is valid for the cdiVersion it states, and every CDI id of the answer is found in
    exactly one of them."""
    before = lab.cdi_files()
    _, found = await prepared_edits(lab)
    files = read_files(lab)
    warnings = []
    for file in files:
        version = file.spec.cdi_version
        late = [f"{name} (up to {newest})" for name, newest in _READERS if _is_newer(version, newest)]
        if late:
            warnings.append(f"{file.source} has cdiVersion {version}: not read by {', '.join(late)}")
        if any(len(part) == 1 for part in file.spec.kind.split("/")):
            warnings.append(
                f"{file.source}: containerd 1.7 crashes on the kind {file.spec.kind}, of one letter"
            )
    for node in found.device_nodes:
        if not Path(node.host_path or node.path).exists():
            raise Failed(f"device node {node.host_path or node.path} does not exist on this machine")
    for mount in found.mounts:
        is_bind = mount.host_path.startswith("/") and mount.type in ("", "bind", "none")
        if is_bind and not Path(mount.host_path).exists():
            raise Failed(f"mount of {mount.host_path}: it does not exist on this machine")
    new = ", ".join(sorted(lab.cdi_files() - before)) or "no new file"
    versions = ", ".join(sorted({file.spec.cdi_version for file in files}))
    return Evidence(f"{new}, cdiVersion {versions}", tuple(warnings))


def _is_newer(version: str, other: str) -> bool:
    return cdi.VERSIONS.index(version) > cdi.VERSIONS.index(other)


@check(
    "cdi-cleaned", source="a file of a claim is nobody's when the claim is unprepared", needs=("unprepare",)
)
async def cleaned(lab: Lab) -> str:
    """After unprepare there are the CDI files that there were before prepare."""
    before = lab.cdi_files()
    (claim,) = await lab.claims()
    await lab.prepared(claim)
    during = lab.cdi_files()
    await lab.unprepared(claim)
    check_cleaned(lab, before)
    return f"{len(before)} files before, {len(during)} while prepared, {len(lab.cdi_files())} after"


def check_cleaned(lab: Lab, before: set[str]) -> None:
    """Raises Failed if there are CDI files besides those there were `before`."""
    if left := lab.cdi_files() - before:
        raise Failed(f"CDI files stay after unprepare: {', '.join(sorted(left))}")


@check("metadata", source="KEP-5304, device metadata", needs=("cdi-valid",))
async def metadata(lab: Lab) -> str:
    """Metadata files that are mounted into the container are read-only, and are JSON documents of
    DeviceMetadata that name the claim, the request and the devices it was given."""
    claim, found = await prepared_edits(lab)
    mounts = _metadata_mounts(found)
    for mount in mounts:
        if "ro" not in mount.options:
            raise Failed(f"{mount.container_path} is not mounted read-only")
        for path in _metadata_files(mount):
            for document in read_metadata(path):
                _check_metadata(lab, claim, path.name, document)
    return f"{len(mounts)} mounts"


@check("metadata-generation", source="KEP-5304, device metadata: updates", needs=("metadata",))
async def generations(lab: Lab) -> str:
    """A metadata file that says something else than before has a larger generation, through another prepare
    and a restart of the driver too."""
    claim, found = await prepared_edits(lab)
    mounts = _metadata_mounts(found)
    before = {path: read_metadata(path) for mount in mounts for path in _metadata_files(mount)}
    await lab.prepared(claim)
    await lab.restart_driver()
    await lab.prepared(claim)
    for path, documents in before.items():
        for old, new in zip(documents, read_metadata(path), strict=False):
            was, now = _generation(old), _generation(new)
            if now < was or (now == was and new != old):
                raise Failed(f"metadata {path.name} changed, and its generation went from {was} to {now}")
    return f"{len(before)} files"


def _metadata_mounts(found: cdi.ContainerEdits) -> list[cdi.Mount]:
    mounts = [mount for mount in found.mounts if mount.container_path.startswith(METADATA)]
    if not mounts:
        raise Skipped(f"no mount below {METADATA}")
    return mounts


def _metadata_files(mount: cdi.Mount) -> list[Path]:
    path = Path(mount.host_path)
    return sorted(path.glob("**/*-metadata.json")) if path.is_dir() else [path]


def read_metadata(path: Path) -> list[Any]:
    """The JSON documents of a stream, one for each version of the API. Raises Failed."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"metadata {path.name} cannot be read: {error}") from None
    decoder, position, documents = json.JSONDecoder(), 0, list[Any]()
    while position < len(text.rstrip()):
        try:
            document, position = decoder.raw_decode(text, position + _spaces(text[position:]))
        except (ValueError, RecursionError) as error:
            raise Failed(f"metadata {path.name} is no JSON: {error}") from None
        documents.append(document)
    for document in documents or [None]:
        version = document.get("apiVersion") if isinstance(document, dict) else None
        if not str(version).startswith(METADATA_GROUP) or document.get("kind") != "DeviceMetadata":
            raise Failed(f"metadata {path.name} is no DeviceMetadata of {METADATA_GROUP}*")
    return documents


def _check_metadata(lab: Lab, claim: Made, name: str, document: Any) -> None:
    """Raises Failed unless `document` is about `claim`."""
    meta = document.get("metadata") or {}
    wanted = {"name": claim.reference.name, "namespace": claim.reference.namespace, "uid": claim.uid}
    for key, value in wanted.items():
        if meta.get(key) != value:
            raise Failed(f"metadata {name}: metadata.{key} is {meta.get(key)!r}, the claim's is {value!r}")
    if _generation(document) < 1:
        raise Failed(f"metadata {name}: metadata.generation is {meta.get('generation')!r}: it starts with 1")
    requests = {r.request for r in claim.allocation.devices.results}
    for entry in document.get("requests") or ():
        if entry.get("name") not in requests | {request.partition("/")[0] for request in requests}:
            raise Failed(f"metadata {name}: the claim has no request {entry.get('name')!r}")
        for device in entry.get("devices") or ():
            if (device.get("pool"), device.get("name")) not in claim.devices(lab.driver):
                raise Failed(
                    f"metadata {name}: {device.get('pool')}/{device.get('name')} is not of the claim"
                )


def _generation(document: Any) -> int:
    found = (document.get("metadata") or {}).get("generation")
    return found if isinstance(found, int) else 0


def _spaces(text: str) -> int:
    return len(text) - len(text.lstrip())


CHECKS = (valid, cleaned, metadata, generations)

"""An image of drakit itself, made offline from the Python that runs it.

For nodes whose images come from a file: no builder, no registry, nothing is downloaded. The image holds the
interpreter with its standard library, drakit with the packages it needs, and the shared libraries of all
of these, which the dynamic loader names (`ldd`). It is an OCI archive with one layer:

    /opt/drakit/python/   interpreter and standard library, found by Python relative to the program
    /opt/drakit/packages/ drakit and what it needs      /opt/drakit/lib/  shared libraries
    /opt/drakit/bin/dra   the command, and what the image runs

Kubernetes' published schemas stay out: only an API server reads them, and they outweigh all the rest.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

import drakit
from drakit.errors import UsageError
from drakit.node.image import machine_architecture

_HOME = "opt/drakit"
_PYTHON = f"{_HOME}/python"
_SKIPPED = {
    "dist-packages",
    "ensurepip",
    "idlelib",
    "kubernetes-json-schema",
    "lib2to3",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
}
_SKIPPED_FILES = ("_tkinter", "_test", "_ctypes_test", "_xxtest")
_NEEDED = re.compile(r"=> (/\S+) \(|^\s*(/\S*ld\S*) \(", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_LDD_FILES = 100
_PASSWD = b"root:x:0:0:root:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n"
_LAYER, _CONFIG, _MANIFEST = (
    f"application/vnd.oci.image.{what}" for what in ("layer.v1.tar", "config.v1+json", "manifest.v1+json")
)


def default_name() -> str:
    """What the image is called unless somebody says otherwise."""
    return f"localhost/drakit:{drakit.__version__}"


def build(target: Path, name: str) -> None:
    """Write the image `name` as an OCI archive to `target`, in one step. Raises UsageError."""
    try:
        with tempfile.TemporaryDirectory(prefix=".drakit-image-", dir=target.absolute().parent) as work:
            layer, archive = Path(work, "layer.tar"), Path(work, "image.tar")
            with tarfile.open(layer, "w") as tar:
                _fill(tar)
            with tarfile.open(archive, "w") as tar:
                _wrap(tar, layer, name)
            os.replace(archive, target)
    except OSError as error:
        raise UsageError(f"cannot write the image {target}: {error.strerror or error}") from None


# --- the layer ------------------------------------------------------------------------------------


def _fill(tar: tarfile.TarFile) -> None:
    program = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    files = {f"{_PYTHON}/bin/{program.name}": program, **_library(), **_packages()}
    binaries = [program, *(path for path in files.values() if ".so" in path.suffixes)]
    for needed in _shared_libraries(binaries):
        # The loader is found by the path that is in every program, everything else by LD_LIBRARY_PATH.
        own = needed.lstrip("/") if "/ld" in needed else f"{_HOME}/lib/{os.path.basename(needed)}"
        files[own] = Path(needed)
    for own, path in sorted(files.items()):
        info = tar.gettarinfo(os.path.realpath(path), arcname=own)
        info.type, info.linkname = tarfile.REGTYPE, ""  # a second name of a file is a file of its own here
        info.size = os.path.getsize(path)
        info.uid, info.gid, info.uname, info.gname = 0, 0, "", ""
        info.mode = 0o755 if info.mode & 0o111 else 0o644
        with open(path, "rb") as file:
            tar.addfile(info, file)
    start = f"#!/{_PYTHON}/bin/{program.name}\nfrom drakit.cli import main\n\nmain()\n"
    _add(tar, f"{_HOME}/bin/dra", start.encode(), 0o755)
    _add(tar, "etc/passwd", _PASSWD)
    _add(tar, "etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    _add(tar, "tmp", None, 0o1777)


def _library() -> dict[str, Path]:
    root, prefix = Path(sysconfig.get_path("stdlib")), Path(sys.base_prefix)
    return {f"{_PYTHON}/{path.relative_to(prefix)}": path for path in _walk(root)}


def _packages() -> dict[str, Path]:
    """drakit and, from its own description, every package it needs."""
    package = Path(drakit.__file__).parent
    files = {f"{_HOME}/packages/drakit/{path.relative_to(package)}": path for path in _walk(package)}
    waiting, seen = ["drakit"], {"drakit"}
    while waiting:
        try:
            found = metadata.distribution(waiting.pop())
        except metadata.PackageNotFoundError:
            continue  # for another platform or Python
        for file in found.files or []:
            path = Path(str(found.locate_file(file)))
            is_wanted = file.suffix != ".pth" and not {"..", *_SKIPPED}.intersection(file.parts)
            if is_wanted and path.is_file():
                files.setdefault(f"{_HOME}/packages/{file}", path)
        for requirement in found.requires or []:
            match = _NAME.match(requirement)
            if match and "extra ==" not in requirement and match.group() not in seen:
                seen.add(match.group())
                waiting.append(match.group())
    return files


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED and not name.startswith("config-")]
        yield from (Path(folder, name) for name in names if not name.startswith(_SKIPPED_FILES))


def _shared_libraries(binaries: list[Path]) -> set[str]:
    """The libraries that `binaries` need and that are not among them."""
    needed: set[str] = set()
    for start in range(0, len(binaries), _LDD_FILES):
        command = ["ldd", *map(str, binaries[start : start + _LDD_FILES])]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UsageError(f"ldd, which names the libraries an image needs, failed: {error}") from None
        needed |= {found for match in _NEEDED.finditer(done.stdout) for found in match.groups() if found}
    own = {os.path.realpath(path) for path in binaries}
    return {path for path in needed if os.path.realpath(path) not in own}


# --- the archive ----------------------------------------------------------------------------------


def _wrap(tar: tarfile.TarFile, layer: Path, name: str) -> None:
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    environment = {
        "PATH": f"/{_HOME}/bin:/{_PYTHON}/bin:/usr/local/bin:/usr/bin:/bin",
        "LD_LIBRARY_PATH": f"/{_HOME}/lib",
        "PYTHONPATH": f"/{_HOME}/packages",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    config = {
        "architecture": machine_architecture(),
        "os": "linux",
        "config": {
            "Env": [f"{key}={value}" for key, value in environment.items()],
            "Entrypoint": [f"/{_HOME}/bin/dra"],
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    tar.add(layer, arcname=f"blobs/sha256/{digest}", filter=_anonymous)
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _blob(tar, _CONFIG, config),
        "layers": [_descriptor(_LAYER, digest, layer.stat().st_size)],
    }
    entry = _blob(tar, _MANIFEST, manifest)
    entry["annotations"] = {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}
    entry["platform"] = {"architecture": machine_architecture(), "os": "linux"}
    _add(tar, "index.json", _json({"schemaVersion": 2, "manifests": [entry]}))
    _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))


def _blob(tar: tarfile.TarFile, media_type: str, document: dict[str, Any]) -> dict[str, Any]:
    data = _json(document)
    digest = hashlib.sha256(data).hexdigest()
    _add(tar, f"blobs/sha256/{digest}", data)
    return _descriptor(media_type, digest, len(data))


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def _json(document: dict[str, Any]) -> bytes:
    return msgspec.json.encode(document)


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def _add(tar: tarfile.TarFile, name: str, data: bytes | None, mode: int = 0o644) -> None:
    """A file, or without data a folder."""
    info = tarfile.TarInfo(name)
    info.mode, info.size = mode, len(data or b"")
    info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
    tar.addfile(info, io.BytesIO(data or b""))

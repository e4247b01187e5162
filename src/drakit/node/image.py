"""Images of this machine: a local store that never downloads anything.

The store is a folder. `add()` unpacks an OCI archive or layout, or takes over a root file system; what is
dropped into its `drop` folder by hand (`NAME.tar`, `NAME/`) is added at the next look-up. On disk:

    refs/<quoted reference>.json   an Image: the layers from the lowest up, and the config
    layers/<digest>/               one unpacked layer, whiteouts as overlayfs wants them
    drop/                          archives, layouts and root file systems to take in

A layer folder appears by rename, so a half-unpacked one is never used. The one image that needs no file
is `busybox` (any tag, from Docker's library or localhost): it is built from this machine's static busybox.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote

import msgspec
from msgspec import Struct, field

from drakit.errors import DRAError, UsageError
from drakit.node.layer import unpack

BUSYBOX = ("docker.io/library/busybox", "localhost/busybox", "docker.io/local/busybox")
_MAX_REFERENCE = 300
MAX_METADATA = 4 << 20
"""Bytes of an index, manifest or config we are willing to read."""

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:[a-zA-Z0-9.-]+(?::\d+)?/)?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?"
    r"(?:@[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-f]{32,})?",
    re.ASCII,
)
_BROKEN = (
    OSError,
    EOFError,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    KeyError,
    TypeError,
    AttributeError,
    ValueError,
)
"""What reading somebody's archive may raise."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ImageNotFound(DRAError):
    """The local store has no such image; `is_name_invalid` when no store could ever have it."""

    def __init__(self, message: str, *, is_name_invalid: bool = False) -> None:
        super().__init__(message)
        self.is_name_invalid = is_name_invalid


class Image(Struct, frozen=True, kw_only=True):
    """An image ready to run. `layers` are folders, the lowest first; none when the host serves as one.
    `is_opaque`: only the runtime knows what is in it."""

    reference: str
    id: str
    layers: list[str] = field(default_factory=list)
    env: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    cwd: str = ""
    user: str = ""
    origin: str = ""
    is_opaque: bool = False


def normalized(reference: str) -> str:
    """`busybox` -> `docker.io/library/busybox:latest`, as Docker and the kubelet read names.

    Raises ImageNotFound (is_name_invalid) for what is no image name.
    """
    if len(reference) > _MAX_REFERENCE or not _REFERENCE.fullmatch(reference):
        why = (
            ": the name must be lowercase" if _REFERENCE.fullmatch(reference[:_MAX_REFERENCE].lower()) else ""
        )
        text = f'"{reference[:_MAX_REFERENCE]}" is not an image name{why}'
        raise ImageNotFound(text, is_name_invalid=True)
    first, slash, rest = reference.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    registry, path = (first, rest) if is_host else ("docker.io", reference)
    if registry == "docker.io" and "/" not in path:
        path = f"library/{path}"
    has_tag = "@" in path or ":" in path.rpartition("/")[2]
    return f"{registry}/{path}" if has_tag else f"{registry}/{path}:latest"


class ImageStore:
    """The images below `folder`, which is made when the first one is stored."""

    def __init__(self, folder: str | os.PathLike[str], *, busybox: str | None = None) -> None:
        self.folder = Path(folder)
        self._busybox = busybox if busybox is not None else _static_busybox()

    def find(self, reference: str) -> Image:
        """The image called `reference`. Raises ImageNotFound with a text fit for the pod's events."""
        name = normalized(reference)
        self._take_drops()
        candidates = [name]
        if name.startswith("docker.io/library/"):
            candidates.append("localhost/" + name.removeprefix("docker.io/library/"))
        for candidate in candidates:
            if image := self._load(candidate):
                return msgspec.structs.replace(image, reference=reference)
        if self._busybox and name.partition("@")[0].rpartition(":")[0] in BUSYBOX:
            return msgspec.structs.replace(self._build_busybox(self._busybox), reference=reference)
        held = ", ".join(self.references()) or "nothing"
        raise ImageNotFound(
            f'image "{reference}" is not in the local image store {self.folder}, which '
            f"holds {held}; nothing is ever downloaded: add an OCI archive or a root file system with "
            f"`dra image add FILE`, or put it into {self.folder / 'drop'}"
        )

    def references(self) -> list[str]:
        """The names of what the store holds, the built-in busybox among them."""
        names = [unquote(path.stem) for path in sorted((self.folder / "refs").glob("*.json"))]
        if self._busybox and not any(name.partition(":")[0] in BUSYBOX for name in names):
            names.append("busybox")
        return names

    def add(self, source: str | os.PathLike[str], reference: str | None = None) -> list[str]:
        """Take in an OCI archive, OCI layout or root file system; returns the names it got.

        Raises UsageError when `source` is none of these or is broken; the store stays as it was.
        """
        path = Path(source)
        try:
            if path.is_dir() and not (path / "oci-layout").exists():
                return [self._add_rootfs(path, normalized(reference or f"localhost/{path.name}"))]
            with _open_layout(path) as layout:
                return self._add_layout(
                    layout, reference or f"localhost/{path.stem}", is_given=bool(reference)
                )
        except _BROKEN as error:
            raise UsageError(
                f"{path} is not an OCI archive, OCI layout or root file system: "
                f"{str(error).partition(chr(10))[0].removesuffix(':')}"
            ) from None
        except ImageNotFound as error:
            raise UsageError(f"{path}: {error}") from None

    # --- what is stored -----------------------------------------------------------------------------

    def _path(self, reference: str) -> Path:
        return self.folder / "refs" / (quote(reference, safe="") + ".json")

    def _load(self, reference: str) -> Image | None:
        try:
            image = msgspec.json.decode(self._path(reference).read_bytes(), type=Image)
        except (OSError, msgspec.MsgspecError):
            return None
        return image if all(os.path.isdir(layer) for layer in image.layers) else None

    def _save(self, reference: str, image: Image) -> str:
        path = self._path(reference)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(suffix=".tmp", dir=path.parent)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.encode(image))
        os.replace(temporary, path)
        return reference

    def _add_rootfs(self, source: Path, reference: str) -> str:
        layer = hashlib.sha256(f"{reference} {source.stat().st_mtime_ns}".encode()).hexdigest()
        target = self.folder / "layers" / layer
        with _staged(target) as staging:
            if staging is not None:
                shutil.copytree(source, staging, symlinks=True, dirs_exist_ok=True)
        return self._save(
            reference, Image(reference=reference, id=f"sha256:{layer}", layers=[str(target)], cmd=["/bin/sh"])
        )

    def _add_layout(self, layout: _Layout, fallback: str, *, is_given: bool) -> list[str]:
        names: list[str] = []
        for entry in json.loads(layout.read("index.json"))["manifests"]:
            annotations = entry.get("annotations") or {}
            named = annotations.get("io.containerd.image.name") or annotations.get(
                "org.opencontainers.image.ref.name"
            )
            reference = fallback if is_given or not named or "/" not in named else named
            manifest = layout.document(entry["digest"])
            if "manifests" in manifest:
                manifest = layout.document(_for_this_machine(manifest["manifests"])["digest"])
            config = layout.document(manifest["config"]["digest"]).get("config") or {}
            layers = [str(self._unpack(layout, layer["digest"])) for layer in manifest["layers"]]
            image = Image(
                reference=normalized(reference),
                id=manifest["config"]["digest"],
                layers=layers,
                env=list(config.get("Env") or []),
                entrypoint=list(config.get("Entrypoint") or []),
                cmd=list(config.get("Cmd") or []),
                cwd=config.get("WorkingDir") or "",
                user=config.get("User") or "",
            )
            names.append(self._save(image.reference, image))
        return names

    def _unpack(self, layout: _Layout, digest: str) -> Path:
        target = self.folder / "layers" / layout.blob_name(digest)
        with _staged(target) as staging:
            if staging is not None:
                with layout.open(f"blobs/sha256/{layout.blob_name(digest)}") as blob:
                    unpack(blob, staging)
        return target

    def _build_busybox(self, busybox: str) -> Image:
        digest = hashlib.sha256(Path(busybox).read_bytes()).hexdigest()
        target = self.folder / "layers" / f"busybox-{digest[:24]}"
        with _staged(target) as staging:
            if staging is not None:
                _make_busybox(busybox, staging)
        return Image(
            reference="busybox",
            id=f"sha256:{digest}",
            layers=[str(target)],
            cmd=["sh"],
            origin=f"built from this machine's {busybox}",
        )

    def _take_drops(self) -> None:
        for path in sorted((self.folder / "drop").glob("*")):
            marker = self.folder / "drop" / f".{path.name}.taken"
            stamp = str(path.stat().st_mtime_ns)
            if path.name.startswith(".") or (marker.exists() and marker.read_text() == stamp):
                continue
            try:
                self.add(path)
            except UsageError as error:
                raise ImageNotFound(f"image store: {error}") from None
            marker.write_text(stamp)


class _Layout:
    """The files of an OCI image layout, in a folder or in a tar archive."""

    def __init__(self, folder: Path | None, archive: tarfile.TarFile | None) -> None:
        self._folder = folder
        self._archive = archive

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        if self._folder is not None:
            with (self._folder / name).open("rb") as file:
                yield file
            return
        assert self._archive is not None
        member = self._archive.extractfile(name)
        if member is None:
            raise KeyError(f"{name} is not a file")
        with member:
            yield member

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            data = file.read(MAX_METADATA + 1)
        if len(data) > MAX_METADATA:
            raise ValueError(f"{name} is larger than {MAX_METADATA} bytes")
        return data

    def blob_name(self, digest: str) -> str:
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"unsupported digest {digest!r}")
        return digest.removeprefix("sha256:")

    def document(self, digest: str) -> dict[str, Any]:
        data = self.read(f"blobs/sha256/{self.blob_name(digest)}")
        if hashlib.sha256(data).hexdigest() != self.blob_name(digest):
            raise ValueError(f"blob {digest} does not have that digest")
        document: dict[str, Any] = json.loads(data)
        return document


@contextlib.contextmanager
def _open_layout(path: Path) -> Iterator[_Layout]:
    if path.is_dir():
        yield _Layout(path, None)
        return
    with tarfile.open(path) as archive:
        yield _Layout(None, archive)


@contextlib.contextmanager
def _staged(target: Path) -> Iterator[Path | None]:
    """A folder that becomes `target` at the end, or None when `target` is there already."""
    if target.is_dir():
        yield None
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f"{target.name}.", suffix=".tmp", dir=target.parent))
    staging.chmod(0o755)
    try:
        yield staging
        with contextlib.suppress(OSError):  # another was faster
            staging.rename(target)
        if not target.is_dir():
            raise OSError(f"cannot make {target}")
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _for_this_machine(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    architecture = machine_architecture()
    for manifest in manifests:
        platform = manifest.get("platform") or {}
        if platform.get("os", "linux") == "linux" and platform.get("architecture") == architecture:
            return manifest
    raise ValueError(f"no manifest for linux/{architecture}")


def machine_architecture() -> str:
    """This machine's architecture by its Go (and Kubernetes) name: amd64, arm64, ..."""
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}.get(machine, machine)


def _static_busybox() -> str:
    """The path of a busybox that needs no shared library, "" without one."""
    for path in ("/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static"):
        if os.access(path, os.X_OK) and _is_static(path):
            return path
    return ""


def _is_static(path: str) -> bool:
    """Whether the ELF file names no program interpreter: then it runs in an empty root."""
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF" or head[4] != 2:
            return False
        offset, size, count = (int.from_bytes(head[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58)))
        file.seek(offset)
        table = file.read(size * count)
    types = [int.from_bytes(table[i : i + 4], "little") for i in range(0, len(table), size or 1)]
    return 3 not in types


def _make_busybox(busybox: str, root: Path) -> None:
    for folder in ("bin", "sbin", "usr", "etc", "proc", "sys", "dev", "tmp", "var", "root", "run"):
        (root / folder).mkdir(mode=0o1777 if folder == "tmp" else 0o755)
    (root / "tmp").chmod(0o1777)
    (root / "usr" / "bin").symlink_to("../bin")
    (root / "usr" / "sbin").symlink_to("../bin")
    (root / "var" / "run").symlink_to("../run")
    shutil.copy2(busybox, root / "bin" / "busybox")
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, timeout=10, check=True)
    for applet in listed.stdout.split():
        if applet != "busybox" and "/" not in applet:
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc" / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
    )
    (root / "etc" / "group").write_text("root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")

"""The local image store: names, archives, root file systems, and what must never get out of a layer."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from drakit.errors import UsageError
from drakit.node.image import ImageNotFound, ImageStore, machine_architecture, normalized
from drakit.node.layer import unpack

NAMES = [
    ("busybox", "docker.io/library/busybox:latest"),
    ("busybox:1.36", "docker.io/library/busybox:1.36"),
    ("user/app", "docker.io/user/app:latest"),
    ("localhost/app", "localhost/app:latest"),
    ("registry.example.com:5000/a/b:v1", "registry.example.com:5000/a/b:v1"),
    ("app@sha256:" + "0" * 64, "docker.io/library/app@sha256:" + "0" * 64),
]


@pytest.mark.parametrize(("reference", "expected"), NAMES)
def test_names(reference: str, expected: str) -> None:
    assert normalized(reference) == expected


@pytest.mark.parametrize("reference", ["", "a b", "-x", "x" * 400])
def test_what_is_no_name(reference: str) -> None:
    with pytest.raises(ImageNotFound) as caught:
        normalized(reference)
    assert caught.value.is_name_invalid


def make_layer(*entries: tuple[str, str | None], compress: bool = True) -> bytes:
    """A layer of files (name, content) and folders (name, None)."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in entries:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO((content or "").encode()))
    return gzip.compress(data.getvalue()) if compress else data.getvalue()


def make_archive(path: Path, *layers: bytes, name: str = "example.com/app:v1", **config: Any) -> Path:
    """An OCI archive of one image."""
    blobs: dict[str, bytes] = {}

    def put(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    manifest = put(
        json.dumps(
            {
                "schemaVersion": 2,
                "config": put(json.dumps({"config": config}).encode()),
                "layers": [put(layer) for layer in layers],
            }
        ).encode()
    )
    platform = {"os": "linux", "architecture": machine_architecture()}
    index = put(json.dumps({"manifests": [{"platform": platform, **manifest}]}).encode())
    top = {"manifests": [index | {"annotations": {"org.opencontainers.image.ref.name": name}}]}
    blobs |= {"index.json": json.dumps(top).encode(), "oci-layout": b"{}"}
    with tarfile.open(path, "w") as archive:
        for key, data in blobs.items():
            member = tarfile.TarInfo(key)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_an_oci_archive(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images", busybox="")
    archive = make_archive(
        tmp_path / "a.tar",
        make_layer(("etc", None), ("etc/one", "1")),
        make_layer(("etc/two", "2"), compress=False),
        Entrypoint=["/app"],
        Env=["A=1"],
        WorkingDir="/work",
    )
    assert store.add(archive) == ["example.com/app:v1"]
    image = store.find("example.com/app:v1")
    assert (image.entrypoint, image.env, image.cwd) == (["/app"], ["A=1"], "/work")
    assert (Path(image.layers[0]) / "etc" / "one").read_text() == "1"
    assert (Path(image.layers[1]) / "etc" / "two").read_text() == "2"
    assert ImageStore(tmp_path / "images", busybox="").find("example.com/app:v1") == image


def test_a_root_file_system_and_the_drop_folder(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images", busybox="")
    drop = tmp_path / "images" / "drop"
    (drop / "mine" / "bin").mkdir(parents=True)
    (drop / "mine" / "bin" / "app").write_text("x")
    make_archive(drop / "other.tar", make_layer(("f", "1")), name="v1")
    image = store.find("localhost/mine")
    assert (Path(image.layers[0]) / "bin" / "app").read_text() == "x"
    assert store.find("mine").layers == image.layers
    assert store.find("localhost/other").layers


def test_what_is_not_there_names_the_store(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images", busybox="")
    with pytest.raises(
        ImageNotFound, match=rf"{tmp_path}/images, which holds nothing; nothing is ever downl"
    ):
        store.find("nginx")


@pytest.mark.parametrize("content", [b"", b"not a tar", b"\x1f\x8b broken"])
def test_a_broken_archive_changes_nothing(tmp_path: Path, content: bytes) -> None:
    store = ImageStore(tmp_path / "images", busybox="")
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(UsageError, match=r"x\.tar is not an OCI archive"):
        store.add(tmp_path / "x.tar")
    assert store.references() == []


def test_a_blob_that_is_not_what_it_says(tmp_path: Path) -> None:
    good = make_archive(tmp_path / "good.tar", make_layer(("f", "1")))
    bad = tmp_path / "bad.tar"
    with tarfile.open(good) as source, tarfile.open(bad, "w") as target:
        for member in source:
            data = source.extractfile(member)
            assert data is not None
            content = data.read().replace(b'"schemaVersion": 2', b'"schemaVersion": 3')
            target.addfile(member, io.BytesIO(content))
    with pytest.raises(UsageError, match="does not have that digest"):
        ImageStore(tmp_path / "images", busybox="").add(bad)


def test_busybox_is_built_from_the_host(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    if store.references() == []:
        pytest.skip("there is no static busybox here")
    image = store.find("busybox:1.36")
    root = Path(image.layers[0])
    assert os.readlink(root / "bin" / "sh") == "busybox"
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert store.find("localhost/busybox").layers == image.layers


# --- layers -------------------------------------------------------------------------------------------------


def archive_of(*members: tarfile.TarInfo) -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    data.seek(0)
    return data


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, link, mode
    member.size = 1 if kind == tarfile.REGTYPE else 0
    return member


ESCAPES = [
    [entry("../evil")],
    [entry("a/../../evil")],
    [entry("out", tarfile.SYMTYPE, "/"), entry("out/evil")],
    [entry("out", tarfile.SYMTYPE, "../.."), entry("out/evil")],
    [entry("a", tarfile.SYMTYPE, "/etc"), entry("b", tarfile.LNKTYPE, "a/passwd")],
    [entry("b", tarfile.LNKTYPE, "../../secret")],
]


@pytest.mark.parametrize("members", ESCAPES)
def test_nothing_leaves_the_layer(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    root = tmp_path / "deep" / "root"
    root.mkdir(parents=True)
    (tmp_path / "secret").write_text("s")
    with pytest.raises(ValueError, match="points outside of the image"):
        unpack(archive_of(*members), root)
    assert sorted(path.name for path in tmp_path.rglob("evil")) == []


def test_what_a_layer_keeps(tmp_path: Path) -> None:
    members = [
        entry("d", tarfile.DIRTYPE, mode=0o500),
        entry("d/f", mode=0o4755),
        entry("d/f2", tarfile.LNKTYPE, "d/f"),
        entry("link", tarfile.SYMTYPE, "/absolute/is/fine"),
        entry("again"),
        entry("again", tarfile.SYMTYPE, "d/f"),
    ]
    unpack(archive_of(*members), tmp_path)
    assert (tmp_path / "d").stat().st_mode & 0o7777 == 0o500
    assert (tmp_path / "d" / "f").stat().st_mode & 0o7777 == 0o4755
    assert (tmp_path / "d" / "f2").stat().st_ino == (tmp_path / "d" / "f").stat().st_ino
    assert os.readlink(tmp_path / "link") == "/absolute/is/fine"
    assert os.readlink(tmp_path / "again") == "d/f"


@pytest.mark.needs_root
def test_deletions_become_overlay_whiteouts(tmp_path: Path) -> None:
    unpack(archive_of(entry("d/.wh.gone"), entry("e/.wh..wh..opq")), tmp_path)
    found = (tmp_path / "d" / "gone").lstat()
    assert (os.major(found.st_rdev), os.minor(found.st_rdev)) == (0, 0)
    assert os.getxattr(tmp_path / "e", "trusted.overlay.opaque") == b"y"

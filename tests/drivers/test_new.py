"""`dra driver new`: what it writes works."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from drakit.cli.driver import command
from drakit.driver import Driver
from drakit.errors import UsageError
from tests.driver.make import NODE, Kubelet, cluster

pytestmark = pytest.mark.anyio


def new(name: str, folder: Path) -> None:
    done = CliRunner().invoke(command, ["new", name, f"--folder={folder}"])
    if done.exception is not None:
        raise done.exception


def load(folder: Path, class_name: str) -> Driver:
    spec = importlib.util.spec_from_file_location("new_driver", folder / "driver.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    driver: Driver = getattr(module, class_name)(NODE)
    return driver


async def test_the_driver_runs(tmp_path: Path) -> None:
    new("desk-lamp.example.com", tmp_path / "project")
    driver = load(tmp_path / "project", "DeskLampDriver")
    async with cluster(tmp_path) as lab, lab.running(driver):
        (item,) = await lab.slices("desk-lamp.example.com")
        assert [found["name"] for found in item["spec"]["devices"]] == ["desk-lamp-0", "desk-lamp-1"]
        async with Kubelet.meet(lab, driver.name) as kubelet:
            claim = await lab.claim("c", "desk-lamp-1", driver=driver.name)
            assert (await kubelet.prepare(claim))["c"].error == ""
            assert "DESK_LAMP=desk-lamp-1" in next(lab.cdi.iterdir()).read_text()
            assert await kubelet.unprepare(claim) == {"c": ""}


def test_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "lamp"
    new("lamp.example.com", folder)
    python = [sys.executable, "-m"]
    done = subprocess.run(
        [*python, "pytest", "-q", "-p", "no:cacheprovider"], cwd=folder, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    ruff = [*python, "ruff", "check", "--isolated", "--line-length=110", "--select=E,F,I", "driver.py"]
    done = subprocess.run(ruff, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    kinds = [document["kind"] for document in yaml.safe_load_all((folder / "example.yaml").read_text())]
    assert kinds == ["DeviceClass", "ResourceClaimTemplate", "Pod"]
    assert "echo $LAMP;" in (folder / "example.yaml").read_text()
    assert not any("$name" in path.read_text() for path in folder.iterdir() if path.is_file())
    done = subprocess.run([sys.executable, "driver.py", "--help"], cwd=folder, capture_output=True, text=True)
    assert "$KUBECONFIG" in done.stdout


@pytest.mark.parametrize(
    "name", ["lamp", "Lamp.example.com", "1amp.x", "a" * 60 + ".example.com", "../x.y", ""]
)
def test_names_that_cannot_be(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a driver"):
        new(name, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists already"):
        new("lamp.example.com", tmp_path)
    assert list(tmp_path.iterdir()) == []

"""What sockets are called: inputs and names as Go's helper has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from drakit.errors import UsageError
from drakit.pluginapi.sockets import plugin_socket, registry_socket

DRIVER = "gpu.example.com"
UID = "11111111-1111-1111-1111-111111111111"
HASH, HASH_OF_BOTH = "uv3onAQeF1Y", "Bk17siJdCCp9ws57E50BFw"

NAMES = {
    "room enough": (10, 10, UID, f"dra-{UID}.sock", f"{DRIVER}-{UID}-reg.sock"),
    "long": (38, 45, UID, f"dra-{UID}.sock", f"{DRIVER}-{HASH}-reg.sock"),
    "longer": (39, 64, UID, f"dra-{HASH}.sock", f"dra-{HASH_OF_BOTH}-reg.sock"),
    "no other instance": (62, 62, "", "dra.sock", f"{DRIVER}-reg.sock"),
}


@pytest.mark.parametrize("case", NAMES)
def test_names(case: str) -> None:
    plugins, registry, uid, plugin_name, registry_name = NAMES[case]
    assert plugin_socket(DRIVER, _folder(plugins), uid) == _folder(plugins) / DRIVER / plugin_name
    assert registry_socket(DRIVER, _folder(registry), uid) == _folder(registry) / registry_name


@pytest.mark.parametrize("uid", ["", UID])
def test_a_folder_can_be_too_long_for_any_name(uid: str) -> None:
    for socket in (plugin_socket, registry_socket):
        with pytest.raises(UsageError, match="is longer than 100 bytes: choose a shorter folder"):
            socket(DRIVER, _folder(90), uid)


def test_a_name_of_63_characters_fits_into_the_kubelets_folders() -> None:
    kubelet = Path("/var/lib/kubelet")
    driver = "d" * 63
    assert registry_socket(driver, kubelet / "plugins_registry", UID).name.startswith("dra-")
    with pytest.raises(UsageError):
        plugin_socket(driver, kubelet / "plugins", UID)


def _folder(length: int) -> Path:
    return Path("/" + "r" * (length - 1))

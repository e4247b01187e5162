"""What follows from what runtimes say of themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from drakit.node.cri_status import configuration, uses_systemd, why_no_cdi
from drakit.node.runtime import Info
from drakit.pluginapi import wire

CDI: dict[str, tuple[str, str, dict[str, Any], bool]] = {
    "1.6": ("containerd", "1.6.20", {}, False),
    "1.7": ("containerd", "1.7.24", {"enableCDI": False}, False),
    "1.7 told to": ("containerd", "1.7.24", {"enableCDI": True}, True),
    "2.1": ("containerd", "2.1.9", {"enableCDI": True}, True),
    "2.1 told not to": ("containerd", "v2.1.9", {"enableCDI": False}, False),
    "without the setting": ("containerd", "2.4.0", {"cdiSpecDirs": ["/etc/cdi"]}, True),
    "CRI-O": ("cri-o", "1.34.0", {}, True),
    "another": ("docker", "28.0.1", {}, False),
    "unknown": ("x", "dev", {}, False),
}


@pytest.mark.parametrize("name", CDI)
def test_who_gives_cdi_devices(name: str) -> None:
    runtime, version, config, gives = CDI[name]
    why = why_no_cdi(Info(runtime, version, "its own", frozenset()), config)
    assert (why == "") == gives
    assert gives or "enable_cdi = true" in why


SYSTEMD: dict[str, tuple[dict[str, Any] | None, dict[str, Any], bool]] = {
    "says systemd": ({"linux": {"cgroup_driver": "SYSTEMD"}}, {}, True),
    "says cgroupfs": (
        {"linux": {"cgroup_driver": "CGROUPFS"}},
        {"containerd": {"runtimes": {"runc": {"options": {"SystemdCgroup": True}}}}},
        False,
    ),
    "says nothing": ({}, {}, False),
    "does not know the question": (
        None,
        {"containerd": {"runtimes": {"runc": {"options": {"SystemdCgroup": True}}}}},
        True,
    ),
    "another default": (
        None,
        {
            "containerd": {
                "defaultRuntimeName": "x",
                "runtimes": {"runc": {"options": {"SystemdCgroup": True}}},
            }
        },
        False,
    ),
}


@pytest.mark.parametrize("name", SYSTEMD)
def test_who_names_cgroups_for_systemd(name: str) -> None:
    said, config, is_systemd = SYSTEMD[name]
    wanted = None if said is None else wire.message("runtime.v1.RuntimeConfigResponse")(**said)
    assert uses_systemd(config, wanted) == is_systemd


def test_a_configuration_is_read_where_there_is_one() -> None:
    status = wire.message("runtime.v1.StatusResponse")
    assert configuration(status(info={"config": json.dumps({"a": 1})})) == {"a": 1}
    for text in ("", "[]", "no JSON"):
        assert configuration(status(info={"config": text})) == {}
    assert configuration(status()) == {}

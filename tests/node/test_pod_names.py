"""How a pod calls itself and others."""

from __future__ import annotations

from typing import Any

import pytest

from drakit.node.pod_names import hostname, name_files
from drakit.node.runtime import Sandbox

SANDBOX = Sandbox(uid="u", namespace="ns", name="p", hostname="p", ip="10.244.0.2")


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "ns"}, "spec": spec}


HOSTNAMES = {
    "the pod's name": (pod(), "p"),
    "its own": (pod(hostname="h", subdomain="s"), "h"),
    "the whole name": (
        pod(hostname="h", subdomain="s", setHostnameAsFQDN=True),
        "h.s.ns.svc.cluster.local",
    ),
    "no longer than the kernel takes": (pod(hostname="a" * 62 + "-b"), "a" * 62),
}


@pytest.mark.parametrize("name", HOSTNAMES)
def test_hostname(name: str) -> None:
    given, expected = HOSTNAMES[name]
    assert hostname(given) == expected


def test_hosts() -> None:
    given = pod(subdomain="s", hostAliases=[{"ip": "192.0.2.1", "hostnames": ["a", "b"]}])
    lines = name_files(given, SANDBOX)["/etc/hosts"].splitlines()
    assert "127.0.0.1\tlocalhost" in lines
    assert "10.244.0.2\tp.s.ns.svc.cluster.local\tp" in lines
    assert lines[-1] == "192.0.2.1\ta\tb"


def test_resolv_conf_of_the_pod_alone() -> None:
    config = {
        "nameservers": ["192.0.2.1"],
        "searches": ["x.y"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    text = name_files(pod(dnsPolicy="None", dnsConfig=config), SANDBOX)["/etc/resolv.conf"]
    assert text == "search x.y\nnameserver 192.0.2.1\noptions ndots:2 edns0\n"


def test_resolv_conf_adds_to_the_machines() -> None:
    plain = name_files(pod(), SANDBOX)["/etc/resolv.conf"]
    more = name_files(pod(dnsConfig={"nameservers": ["192.0.2.77"]}), SANDBOX)["/etc/resolv.conf"]
    assert set(plain.splitlines()) | {"nameserver 192.0.2.77"} == set(more.splitlines())

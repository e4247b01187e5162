"""Network interfaces (dra.net): the machine's, and ones that are made for a claim, each in its pod's network.

    interface.py   what interfaces there are, and what is published of them
    config.py      what a claim may say of an interface
    plan.py        what the hook is told to do for a device
    hook.py        puts the interface into the pod; a program that starts with the containers
    install.py     puts that on a host without Python
    give_back.py   takes it back, whatever happened meanwhile
    mark.py        how it is known in between
    rdma.py        the character devices of RDMA
    driver.py      the driver

A real interface is a device that one claim has for itself. What is made is not there before: all veth pairs
of the network, and all macvlans on top of one interface, are one device that many claims share, with their
number as its capacity. They differ in nothing that a claim could choose by, and slices stay small.

Names and attributes follow kubernetes-sigs/dranet.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from drakit.driver import Driver
from drakit.drivers.net.driver import NetDriver, Settings
from drakit.drivers.option import Options

_DEFAULT_NETWORK = "10.213.0.0/24"
_MAX_COUNT = 10_000


def build(options: dict[str, str], node_name: str) -> Driver:
    """Options: `interfaces` (patterns with commas between; the real ones without a default route), `macvlan`
    (interfaces to make some on top of), `veth` (the network of veth pairs; `no` for none), `count` (100, of
    each kind that is made), `share` (0/1), `root` (/, where sys, proc and dev are), `netns` (the network
    namespace of the machine, if it is not the driver's own), `install-hook` (no; yes puts the hook with
    all it needs into the driver's folder, where the driver is in a container)."""
    reader = Options("net", options)
    patterns = _names(reader.text("interfaces", ""))
    parents = _names(reader.text("macvlan", ""))
    for parent in parents:
        if set(parent) & set("*?["):
            raise reader.error("macvlan", f"{parent!r} is not the name of an interface")
    network = reader.text("veth", _DEFAULT_NETWORK)
    count = reader.integer("count", 100, 1, _MAX_COUNT)
    share = reader.share()
    root = Path(reader.text("root", "/"))
    namespace = reader.text("netns", "")
    is_installed = reader.choice("install-hook", "no", ("no", "yes")) == "yes"
    reader.done()
    subnet = None
    if network != "no":
        try:
            subnet = ipaddress.IPv4Network(network)
        except ValueError:
            raise reader.error("veth", f"{network!r} is not an IPv4 network like 10.213.0.0/24") from None
        if subnet.num_addresses < 4:
            raise reader.error("veth", f"{network} is too small")
    settings = Settings(patterns, parents, subnet, count, share, root, namespace, is_installed)
    try:
        return NetDriver(node_name, settings)
    except OSError as error:
        raise reader.error("netns", f"{namespace or root}: {error.strerror}") from None


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]

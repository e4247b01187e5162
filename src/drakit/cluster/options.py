"""What a person may ask of an embedded cluster."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from msgspec import Struct, field

from drakit.errors import UsageError

MAX_NODES = 100
LOOPBACK = "127.0.0.1"


class DriverOption(Struct, frozen=True):
    """One `--driver NAME[:key=value,...]`."""

    name: str
    options: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> DriverOption:
        """`gpu` or `gpu:count=8,model=H100`; UsageError says what is wrong with anything else."""
        name, _, rest = text.partition(":")
        options: dict[str, str] = {}
        for item in filter(None, rest.split(",")):
            key, equals, value = item.partition("=")
            if not equals and options:  # a comma inside a value: cpus=0,2-3
                last = next(reversed(options))
                options[last] += f",{item}"
            elif not equals:
                raise UsageError(f"--driver {text}: {item!r} is not key=value")
            else:
                options[key.strip()] = value.strip()
        if not name:
            raise UsageError(f"--driver {text}: a driver's name is missing before the colon")
        return cls(name, options)


class Options(Struct, frozen=True, kw_only=True):
    """`port` 0 picks a free one; `data_dir` None keeps everything in memory and a temporary folder."""

    data_dir: Path | None
    nodes: int = 1
    fake_nodes: int = 0
    drivers: list[DriverOption] = field(default_factory=list)
    version: str
    gates: dict[str, bool] = field(default_factory=dict)
    port: int = 0
    listen: str = LOOPBACK
    """The address the API server listens on: loopback unless a person asked for another."""
    runtime: str | None = None
    cri_socket: str | None = None
    """Where the container runtime listens, for the runtime `cri`."""
    is_durable: bool = False
    """Whether an acknowledged write survives power loss and not only a killed process."""


def parse_listen(text: str) -> str:
    """An IP address of this machine, or UsageError."""
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        raise UsageError(f"--listen {text}: give an IP address, such as 0.0.0.0 or 192.0.2.7") from None


def parse_drivers(texts: list[str]) -> list[DriverOption]:
    """Every `--driver`; UsageError if one is broken, or the same driver comes twice."""
    drivers = [DriverOption.parse(text) for text in texts]
    names = [driver.name for driver in drivers]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"--driver {name} is there twice: a node runs a driver once, with all its options"
            )
    return drivers


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def parse_gates(texts: list[str]) -> dict[str, bool]:
    """`DRADerivedAttributes=true,DRADeviceTaints=false`, as Kubernetes' --feature-gates takes them."""
    gates: dict[str, bool] = {}
    for item in ",".join(texts).split(","):
        if not item.strip():
            continue
        name, _, value = item.strip().partition("=")
        if value.lower() not in ("true", "false"):
            raise UsageError(f"--feature-gates {item.strip()}: write NAME=true or NAME=false")
        gates[name] = value.lower() == "true"
    return gates

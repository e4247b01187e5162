"""Selectors on devices not seen before: compile time, time per evaluation, and the same test in bare Python.

The bare function reads the same fields of the same structs and compares them with constants prepared
beforehand, which is the least that Python can take. The ratio does not depend on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from drakit import cel
from drakit.cel.compile import _compile
from drakit.model.quantity import Quantity
from drakit.model.resource import Device, DeviceAttribute, DeviceCapacity
from drakit.model.semver import Version

COUNT = 20_000
ROUNDS = 15
G = "gpu.nvidia.com"
A = f'device.attributes["{G}"]'
ROOT = 'device.attributes["resource.kubernetes.io"].pcieRoot'
MEMORY, FIRMWARE = Quantity.parse("40Gi"), Version.parse("560.0.0")


def device(i: int) -> Device:
    attributes = {
        "type": DeviceAttribute(string="gpu"),
        "uuid": DeviceAttribute(string=f"GPU-{i:08x}"),
        "productName": DeviceAttribute(string=("NVIDIA A100-SXM4-40GB", "NVIDIA H100 80GB HBM3")[i % 2]),
        "driverVersion": DeviceAttribute(version=f"560.35.{i % 50}"),
        "index": DeviceAttribute(int_=i % 8),
        "mig": DeviceAttribute(bool_=False),
        "resource.kubernetes.io/pcieRoot": DeviceAttribute(string=f"pci0000:{i % 16:02x}"),
    }
    return Device(name=f"gpu-{i}", attributes=attributes, capacity={"memory": DeviceCapacity(value="40Gi")})


CASES: dict[str, Callable[[Device, str], bool]] = {
    f'device.driver == "{G}"': lambda d, driver: driver == G,
    f'device.driver == "{G}" && {A}.type == "gpu"': lambda d, driver: (
        driver == G and d.attributes["type"].string == "gpu"
    ),
    f'{A}.productName.lowerAscii().matches("^.*a100.*$")': lambda d, driver: (
        "a100" in (d.attributes["productName"].string or "").lower()
    ),
    f'device.capacity["{G}"].memory.compareTo(quantity("40Gi")) >= 0': lambda d, driver: (
        Quantity.of(d.capacity["memory"].value) >= MEMORY
    ),
    f'{A}.driverVersion.compareTo(semver("560.0.0")) >= 0': lambda d, driver: (
        Version.parse(d.attributes["driverVersion"].version or "") >= FIRMWARE
    ),
    f'"index" in {A} && {A}.index < 4': lambda d, driver: (
        "index" in d.attributes and (d.attributes["index"].int_ or 0) < 4
    ),
    f'{A}.productName in ["NVIDIA A100-SXM4-40GB", "NVIDIA L4"]': lambda d, driver: (
        d.attributes["productName"].string in {"NVIDIA A100-SXM4-40GB", "NVIDIA L4"}
    ),
    f'cel.bind(g, {A}, g.type == "gpu" && !g.mig && g.index == 3)': lambda d, driver: (
        d.attributes["type"].string == "gpu"
        and not d.attributes["mig"].bool_
        and d.attributes["index"].int_ == 3
    ),
    f'{A}.?sharing.orValue("none") == "none" && {ROOT} == "pci0000:03"': (
        lambda d, driver: (
            "sharing" not in d.attributes
            and d.attributes["resource.kubernetes.io/pcieRoot"].string == "pci0000:03"
        )
    ),
}  # fmt: skip


def per_call(functions: list[Callable[[Device, str], bool]], devices: list[Device]) -> list[float]:
    """Seconds per call of each, the best of rounds in which they take turns."""
    best = [float("inf")] * len(functions)
    for _ in range(ROUNDS):
        for index, function in enumerate(functions):
            start = time.perf_counter()
            for each in devices:
                function(each, G)
            best[index] = min(best[index], time.perf_counter() - start)
    return [seconds / len(devices) for seconds in best]


def compile_time(expression: str) -> float:
    best = float("inf")
    for _ in range(5):
        _compile.cache_clear()
        start = time.perf_counter()
        cel.compile(expression)
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    devices = [device(i) for i in range(COUNT)]
    print(f"{COUNT} devices, driver {G}; best of {ROUNDS}")
    print("    cel ns   bare ns   ratio   compile ms   expression")
    for expression, bare in CASES.items():
        matches = cel.compile(expression).matches
        assert [matches(d, G) for d in devices] == [bare(d, G) for d in devices], expression
        ours, theirs = per_call([matches, bare], devices)
        compiled = compile_time(expression) * 1e3
        print(f"{ours * 1e9:10.0f}{theirs * 1e9:10.0f}{ours / theirs:8.1f}{compiled:13.2f}   {expression}")


if __name__ == "__main__":
    main()

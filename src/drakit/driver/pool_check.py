"""What is wrong with a pool that no single slice shows, so that no API server can see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from drakit.driver.device import Pool
from drakit.errors import DRAError
from drakit.model.resource import Device


def check_pool(driver: str, pool: Pool) -> None:
    """Raises DRAError where a name is there twice, a counter is not there at all, or an attribute or capacity
    is there with the driver's domain and without: to selectors that is the same name."""
    where = f"driver {driver}, pool {pool.name}"
    if twice := _twice(device.name for device in pool.devices):
        raise DRAError(f"{where}: two devices are called {twice}")
    if twice := _twice(counter_set.name for counter_set in pool.shared_counters):
        raise DRAError(f"{where}: two counter sets are called {twice}")
    counters = {counter_set.name: counter_set.counters for counter_set in pool.shared_counters}
    for device in pool.devices:
        _check_names(f"{where}: device {device.name}", driver, device)
        for use in device.consumes_counters:
            if use.counter_set not in counters:
                raise DRAError(
                    f"{where}: device {device.name} consumes counters of {use.counter_set}: not there"
                )
            if missing := sorted(set(use.counters) - set(counters[use.counter_set])):
                what = f"{use.counter_set}/{missing[0]}"
                raise DRAError(f"{where}: device {device.name} consumes counter {what}: not there")


def _check_names(where: str, driver: str, device: Device) -> None:
    for kind, names in (("attribute", device.attributes), ("capacity", device.capacity)):
        for name in names:
            domain, slash, plain = name.partition("/")
            if slash and domain == driver and plain in names:
                raise DRAError(f"{where}: {kind} {plain} is there as {name} too")


def _twice(names: Iterable[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)

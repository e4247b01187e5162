"""The stream on which a driver says how its devices are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from drakit.conformance.check import Failed, Skipped, check
from drakit.conformance.lab import Lab
from drakit.errors import DRAError
from drakit.pluginapi.health import DEFAULT_TIMEOUT, HEALTH_SERVICES, DeviceHealth, HealthStub
from drakit.pluginapi.wire import CallFailed

KEP = "KEP-4680, DRAResourceHealth service"


@check("health", source=KEP, needs=("registration-endpoint", "slices-complete"))
async def health(lab: Lab) -> str:
    """A driver that lists the health service reports on connecting, again to a second listener, and only
    devices that it publishes."""
    listed = [name for name in HEALTH_SERVICES if name in lab.instance().info.supported_versions]
    if not listed:
        raise Skipped("the driver lists no health service")
    published = {
        (item["spec"]["pool"]["name"], device["name"])
        for item in lab.slices()
        for device in item["spec"].get("devices") or ()
    }
    count = 0
    for service in listed:
        (report,) = await _reports(lab, service, 1, lab.options.timeout)
        strange = [f"{d.pool}/{d.device}" for d in report if (d.pool, d.device) not in published]
        if strange:
            raise Failed(f"{service} reports devices that are not published: {', '.join(strange)}")
        count = len(report)
    return f"{', '.join(listed)}: {count} devices"


@check(
    "health-repeated",
    source=KEP + ": what is not said again within healthCheckTimeoutSeconds (30) is Unknown",
    needs=("health",),
)
async def repeated(lab: Lab) -> str:
    """Every device is spoken of again before the kubelet takes what was said of it for outdated."""
    service = next((name for name in HEALTH_SERVICES if name in lab.instance().info.supported_versions), "")
    if not service:
        raise Skipped("the driver lists no health service")
    (first,) = await _reports(lab, service, 1, lab.options.timeout)
    if not first:
        raise Skipped("the driver reports no device")
    seconds = min(device.timeout or DEFAULT_TIMEOUT for device in first)
    began = time.monotonic()
    said = {(device.pool, device.device) for device in first}
    seen: set[tuple[str, str]] = set()
    reports = _stream(lab, service)
    try:
        async with asyncio.timeout(seconds):
            await anext(reports)
            while not said <= seen:
                seen |= {(device.pool, device.device) for device in await anext(reports)}
    except TimeoutError:
        missing = ", ".join(sorted(f"{pool}/{device}" for pool, device in said - seen))
        raise Failed(f"within {seconds} s nothing more was said of {missing}") from None
    except StopAsyncIteration:
        raise Failed(f"{service} ends the stream after its first report") from None
    except DRAError as error:
        raise Failed(str(error)) from None
    finally:
        await reports.aclose()  # type: ignore[attr-defined]
    return f"{len(said)} devices again after {time.monotonic() - began:.1f} s of {seconds} s"


async def _reports(lab: Lab, service: str, count: int, seconds: float) -> list[list[DeviceHealth]]:
    """The first `count` reports of a new stream. Raises Failed, or Skipped where the driver declines."""
    stream = _stream(lab, service)
    try:
        async with asyncio.timeout(seconds):
            return [await anext(stream) for _ in range(count)]
    except TimeoutError:
        raise Failed(f"{service} sends no report within {seconds:g} s") from None
    except StopAsyncIteration:
        raise Failed(f"{service} ends the stream without a report") from None
    except CallFailed as error:
        if error.code == "UNIMPLEMENTED":
            raise Skipped(f"the driver lists {service} and declines it: it does not say health") from None
        raise Failed(str(error)) from None
    except DRAError as error:
        raise Failed(str(error)) from None
    finally:
        await stream.aclose()  # type: ignore[attr-defined]


def _stream(lab: Lab, service: str) -> AsyncIterator[list[DeviceHealth]]:
    return HealthStub(lab.instance().channel, service).watch()


CHECKS = (health, repeated)

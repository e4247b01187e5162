"""The stream on which a driver says how its devices are."""

from __future__ import annotations

import asyncio

from drakit.conformance.check import Failed, Skipped, check
from drakit.conformance.lab import Lab
from drakit.errors import DRAError
from drakit.pluginapi.health import HEALTH_SERVICES, DeviceHealth, HealthStub

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
        report = await _first_report(lab, service)
        strange = [f"{d.pool}/{d.device}" for d in report if (d.pool, d.device) not in published]
        if strange:
            raise Failed(f"{service} reports devices that are not published: {', '.join(strange)}")
        count = len(report)
    return f"{', '.join(listed)}: {count} devices"


async def _first_report(lab: Lab, service: str) -> list[DeviceHealth]:
    stream = HealthStub(lab.instance().channel, service).watch()
    try:
        async with asyncio.timeout(lab.options.timeout):
            return await anext(stream)
    except TimeoutError:
        raise Failed(f"{service} sends no report within {lab.options.timeout:g} s") from None
    except StopAsyncIteration:
        raise Failed(f"{service} ends the stream without a report") from None
    except DRAError as error:
        raise Failed(str(error)) from None
    finally:
        await stream.aclose()  # type: ignore[attr-defined]


CHECKS = (health,)

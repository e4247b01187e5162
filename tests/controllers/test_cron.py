"""Cron schedules and the jobs they make."""

from __future__ import annotations

import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from drakit.client.api import JOBS
from drakit.controllers.cronjob import CRON_JOBS
from drakit.errors import BadRequest, Invalid
from drakit.model.cron import parse
from drakit.transport import Document
from tests.controllers.cluster import NS, Cluster, cluster
from tests.controllers.test_workload import finish, template

pytestmark = pytest.mark.anyio

# The fake clock starts at 2027-01-15T08:00:00Z, a Friday.
NEXT: list[tuple[str, str, str, str]] = [
    ("*/15 * * * *", "UTC", "2026-11-22T06:07:30", "2026-11-22T06:15:00"),
    ("0 * * * *", "UTC", "2026-11-22T06:00:00", "2026-11-22T07:00:00"),
    ("@daily", "UTC", "2026-11-22T06:00:00", "2026-11-23T00:00:00"),
    ("@every 90s", "UTC", "2026-11-22T06:00:00", "2026-11-22T06:01:30"),
    ("30 4 1,15 * fri", "UTC", "2026-11-22T06:00:00", "2026-11-27T04:30:00"),
    ("30 4 1,15 * *", "UTC", "2026-11-22T06:00:00", "2026-12-01T04:30:00"),
    ("0 0 29 2 *", "UTC", "2026-11-22T06:00:00", "2028-02-29T00:00:00"),
    ("0 12 * jan-mar/2 MON-FRI", "UTC", "2026-11-22T06:00:00", "2027-01-01T12:00:00"),
    ("5/20 6 * * *", "UTC", "2026-11-22T06:05:00", "2026-11-22T06:25:00"),
    ("0 9 * * *", "Europe/Berlin", "2026-07-01T00:00:00", "2026-07-01T07:00:00"),
    ("0 9 * * *", "Asia/Kolkata", "2026-07-01T00:00:00", "2026-07-01T03:30:00"),
    # The clock jumps from 2:00 to 3:00: half past two comes the day after.
    ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00", "2026-03-30T00:30:00"),
    # It goes back from 3:00 to 2:00: half past two comes twice.
    ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00", "2026-10-25T01:30:00"),
    ("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:30:00", "2026-10-25T01:00:00"),
]


def at(text: str) -> float:
    return datetime.datetime.fromisoformat(f"{text}+00:00").timestamp()


@pytest.mark.parametrize(("schedule", "zone", "after", "expected"), NEXT)
def test_the_next_time(schedule: str, zone: str, after: str, expected: str) -> None:
    assert parse(schedule).next(at(after), ZoneInfo(zone)) == at(expected)


def test_a_day_that_never_comes() -> None:
    assert parse("0 0 30 2 *").next(at("2026-11-22T06:00:00"), ZoneInfo("UTC")) is None


@pytest.mark.parametrize("since", ["2026-11-22T05:00:00", "2026-11-01T00:00:00", "2020-01-01T00:00:00"])
def test_the_latest_time(since: str) -> None:
    now, utc = at("2026-11-22T06:07:30"), ZoneInfo("UTC")
    assert parse("* * * * *").latest(at(since), now, utc) == at("2026-11-22T06:07:00")
    assert parse("0 0 1 1 *").latest(at("2026-11-01T00:00:00"), now, utc) is None


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        ("* * * *", "expected exactly 5 fields, found 4"),
        ("61 * * * *", "minute '61' is not within 0-59"),
        ("* * 0 * *", "day of month '0' is not within 1-31"),
        ("* 9-5 * * *", "hour '9-5' is not within 0-23, the lower end first"),
        ("*/0 * * * *", "minute '*/0': '0' is not a step"),
        ("* * * foo *", "month: 'foo' is not a number or one of jan"),
        ("@every soon", "not a duration"),
        ("@fortnightly", "expected exactly 5 fields"),
        ("", "expected exactly 5 fields, found 0"),
        ("1,,2 * * * *", "minute: '' is not a number"),
    ],
)
def test_what_cannot_be_read(schedule: str, text: str) -> None:
    with pytest.raises(BadRequest, match=text.replace("*", r"\*")):
        parse(schedule)


# --- the controller ---------------------------------------------------------------------------------


def cron_job(schedule: str = "*/10 * * * *", **spec: Any) -> Document:
    job = {"spec": {"template": template(restartPolicy="Never")}}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "w", "namespace": NS},
        "spec": {"schedule": schedule, "jobTemplate": job, **spec},
    }


async def jobs(c: Cluster) -> list[str]:
    return sorted(job["metadata"]["name"] for job in await c.list(JOBS))


async def status(c: Cluster) -> Document:
    return (await c.get(CRON_JOBS, "w") or {}).get("status") or {}


async def test_a_job_for_each_time() -> None:
    async with cluster() as c:
        await c.client.create(CRON_JOBS, cron_job(successfulJobsHistoryLimit=2))
        await c.settle()
        assert await jobs(c) == []
        names: list[str] = []
        for _ in range(4):
            await c.settle(600)
            found = await status(c)
            assert len(found["active"]) == 1
            names.append(found["active"][0]["name"])
            await finish(c)
            await c.settle()
            assert "active" not in await status(c)
        assert len(set(names)) == 4
        assert await jobs(c) == sorted(names[2:])
        reasons = await c.reasons("w")
        assert {"SuccessfulCreate", "SawCompletedJob", "SuccessfulDelete"} <= set(reasons)
        assert (await status(c))["lastSuccessfulTime"]


async def test_the_policies_of_concurrency() -> None:
    for policy, count in (("Allow", 3), ("Forbid", 1), ("Replace", 1)):
        async with cluster() as c:
            await c.client.create(CRON_JOBS, cron_job(concurrencyPolicy=policy))
            for _ in range(3):
                await c.settle(600)
            assert len(await jobs(c)) == count, policy
            assert ("JobAlreadyActive" in await c.reasons("w")) is (policy == "Forbid")


async def test_suspended_nothing_starts_and_then_only_the_latest_time_counts() -> None:
    async with cluster() as c:
        await c.client.create(CRON_JOBS, cron_job(suspend=True))
        await c.settle(7200)
        assert await jobs(c) == []
        await c.client.patch(CRON_JOBS, "w", {"spec": {"suspend": False}}, NS)
        await c.settle()
        assert len(await jobs(c)) == 1


async def test_a_schedule_that_cannot_be_read_is_refused_and_an_unknown_zone_is_said() -> None:
    async with cluster() as c:
        with pytest.raises(Invalid, match=r"spec.schedule: Invalid value.*minute '61' is not within 0-59"):
            await c.client.create(CRON_JOBS, cron_job("61 * * * *"))
        await c.client.create(CRON_JOBS, cron_job(timeZone="Mars/Base"))
        await c.settle(700)
        assert (await jobs(c), set(await c.reasons("w"))) == ([], {"UnknownTimeZone"})

"""One of several schedulers of a name at a time: who holds a lease works, the others wait.

The holder renews the lease every few seconds. Another one takes it when it has not changed for the lease's
duration by that one's own clock, so clocks need not agree. A holder that could not renew in time stops its
work before anybody else can start. Source: client-go tools/leaderelection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from drakit.client.api import LEASES, Client
from drakit.client.clock import Clock, micro_timestamp
from drakit.errors import APIError, NotFound
from drakit.transport import Document

LEASE_SECONDS, RENEW_WITHIN, RETRY_EVERY = 15, 10.0, 2.0

_log = logging.getLogger(__name__)


class Election:
    """`identity` runs for the lease `name` in `namespace`."""

    def __init__(
        self, client: Client, namespace: str, name: str, identity: str, *, clock: Clock | None = None
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock or Clock()
        self._seen: tuple[object, object] | None = None
        self._seen_at = 0.0

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` whenever the lease is ours, until cancelled or `work` fails. The lease is given back in
        the end."""
        while True:
            told = ""
            while not await self._take():
                holder = str(self._seen[0]) if self._seen else ""
                if holder != told:
                    _log.info("waiting for lease %s/%s, which %s holds", self._namespace, self._name, holder)
                    told = holder
                await self._clock.sleep(RETRY_EVERY)
            _log.info("leading: %s holds lease %s/%s", self._identity, self._namespace, self._name)
            await self._work(work)

    async def _work(self, work: Callable[[], Awaitable[None]]) -> None:
        """Work as long as the lease is renewed in time."""
        working = asyncio.ensure_future(work())
        keeping = asyncio.create_task(self._keep())
        try:
            await asyncio.wait([working, keeping], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
            _log.warning("lease %s/%s is lost: not leading any more", self._namespace, self._name)
        finally:
            for task in (working, keeping):
                task.cancel()
            await asyncio.gather(working, keeping, return_exceptions=True)
            await self._give_back()

    async def _keep(self) -> None:
        """Renew the lease; return when that did not work for too long."""
        renewed = self._clock.now()
        while True:
            await self._clock.sleep(RETRY_EVERY)
            if await self._take():
                renewed = self._clock.now()
            elif self._clock.now() - renewed >= RENEW_WITHIN:
                return

    async def _take(self) -> bool:
        """Take or renew the lease; whether it is ours now. Failures of the API count as no."""
        now = self._clock.now()
        try:
            try:
                lease = await self._client.get(LEASES, self._name, self._namespace)
            except NotFound:
                await self._client.create(LEASES, self._lease(now))
                return True
            spec = lease.get("spec") or {}
            holder = spec.get("holderIdentity")
            mark = (holder, spec.get("renewTime"))
            if mark != self._seen:
                self._seen, self._seen_at = mark, now
            patience = float(spec.get("leaseDurationSeconds") or LEASE_SECONDS)
            if holder and holder != self._identity and now < self._seen_at + patience:
                return False
            await self._client.update(LEASES, {**lease, "spec": self._spec(spec, now)})
        except APIError as error:
            _log.info("lease %s/%s: %s", self._namespace, self._name, error)
            return False
        return True

    def _lease(self, now: float) -> Document:
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": self._spec({}, now),
        }

    def _spec(self, before: Document, now: float) -> Document:
        is_ours = before.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": before.get("acquireTime") if is_ours else micro_timestamp(now),
            "renewTime": micro_timestamp(now),
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (not is_ours and bool(before)),
        }

    async def _give_back(self) -> None:
        """Let others have the lease at once."""
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
            if (lease.get("spec") or {}).get("holderIdentity") != self._identity:
                return
            spec = {**lease["spec"], "leaseDurationSeconds": 1}
            del spec["holderIdentity"]
            await self._client.update(LEASES, {**lease, "spec": spec})
        except APIError as error:
            _log.info("lease %s/%s runs out by itself: %s", self._namespace, self._name, error)

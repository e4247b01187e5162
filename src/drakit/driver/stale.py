"""Claims that stay prepared for nobody: their end never reached this node.

A kubelet has each claim unprepared that it had prepared. It cannot when it lost its memory: pod and claim
went while the node was off, and the kubelet's state with it. So claims of the checkpoint are looked up in the
API: one that is gone, or has no device of this driver any more, at two looks in a row is unprepared. The time
between the looks is the kubelet's, to end containers and unprepare by itself: a claim of a pod that is
deleted by force is gone from the API before its containers are.
"""

from __future__ import annotations

import logging
import random

from drakit.client.api import RESOURCE_CLAIMS, Client
from drakit.client.clock import Clock
from drakit.driver.claim import Claim, PreparedClaim
from drakit.driver.preparer import Preparer
from drakit.errors import DRAError, NotFound
from drakit.pluginapi import dra

LOOK_SECONDS = 600.0
FIRST_LOOK_SECONDS = 60.0

_log = logging.getLogger(__name__)


class StaleClaims:
    """Unprepares claims of `driver` that nobody has any more while `run` runs."""

    def __init__(
        self, preparer: Preparer, client: Client, driver: str, *, clock: Clock | None = None
    ) -> None:
        self._preparer = preparer
        self._client = client
        self._driver = driver
        self._clock = clock or Clock()
        self._suspects: set[str] = set()

    async def run(self) -> None:
        """Look now and then until cancelled; not all nodes at once."""
        await self._clock.sleep(FIRST_LOOK_SECONDS * random.uniform(0.5, 1.5))
        while True:
            await self.look()
            await self._clock.sleep(LOOK_SECONDS * random.uniform(1.0, 1.1))

    async def look(self) -> None:
        """Unprepare what is gone now and was at the last look."""
        gone: set[str] = set()
        for claim in list(self._preparer.prepared.values()):
            try:
                if await self._is_gone(claim):
                    gone.add(claim.uid)
            except DRAError as error:
                _log.info("claim %s cannot be looked up: %s", claim.key, error)
        again = gone & self._suspects
        self._suspects = gone - again
        stale = [claim for uid, claim in list(self._preparer.prepared.items()) if uid in again]
        for claim in stale:
            _log.warning("claim %s is gone and nobody unprepared it: that is done now", claim.key)
            await self._preparer.unprepare([dra.Claim(claim.namespace, claim.uid, claim.name)])

    async def _is_gone(self, claim: PreparedClaim) -> bool:
        """Whether `claim` does not exist or has no device of this driver. Raises DRAError if nobody knows."""
        try:
            document = await self._client.get(RESOURCE_CLAIMS, claim.name, claim.namespace)
        except NotFound:
            return True
        if document["metadata"].get("uid") != claim.uid:
            return True
        try:
            now = Claim.of(document, self._driver)
        except DRAError:
            return True
        had = {(device.pool, device.name) for device in claim.devices}
        return bool(had) and had.isdisjoint((device.pool, device.name) for device in now.devices)

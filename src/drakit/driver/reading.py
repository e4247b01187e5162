"""Claims as the API has them, if they still are the ones that are meant."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from drakit.client.api import RESOURCE_CLAIMS, Client
from drakit.driver.claim import Claim
from drakit.driver.driver import Driver
from drakit.errors import DRAError, NotFound
from drakit.pluginapi import dra


class ClaimReader:
    """Reads claims for `driver`."""

    def __init__(self, client: Client, driver: Driver) -> None:
        self._client = client
        self._driver = driver

    async def read(self, wanted: dra.Claim) -> Claim:
        """The claim. Raises DRAError if it is gone or another, or has devices that this driver has not."""
        try:
            document = await self._client.get(RESOURCE_CLAIMS, wanted.name, wanted.namespace)
        except NotFound:
            raise DRAError("the claim does not exist (any more)") from None
        uid = document["metadata"].get("uid")
        if uid != wanted.uid:
            raise DRAError(f"the claim was replaced by another of the same name (its UID is {uid})")
        claim = Claim.of(document, self._driver.name)
        ours = {(pool.name, device.name) for pool in self._driver.pools() for device in pool.devices}
        for device in claim.devices:
            if (device.pool, device.name) not in ours:
                raise DRAError(f"device {device.pool}/{device.name} is not there (any more)")
        return claim

    async def read_all(self, claims: Sequence[dra.Claim]) -> dict[str, Claim | DRAError]:
        """What `read` says of each of `claims`, by UID."""

        async def one(claim: dra.Claim) -> Claim | DRAError:
            try:
                return await self.read(claim)
            except DRAError as error:
                return error

        found = await asyncio.gather(*map(one, claims))
        return dict(zip((claim.uid for claim in claims), found, strict=True))

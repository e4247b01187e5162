"""What a driver's author writes."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from drakit.driver.claim import Claim, PreparedClaim, PreparedDevice
from drakit.driver.device import Pool
from drakit.model.resource import Device
from drakit.pluginapi.health import DeviceHealth

_NOTHING: Mapping[str, PreparedClaim] = MappingProxyType({})


class Driver(abc.ABC):
    """One driver on one node.

    `prepare` and `unprepare` may be `async def` or plain (then they run in a thread). Calls never overlap,
    not even with those of another instance of the driver on this node. What they raise fails this claim
    alone: a DRAError with its text, RecoverableError where a later try may go well, anything else as a bug.
    """

    name: str
    """The driver's name, a DNS subdomain: "gpu.example.com"."""

    has_metadata: bool = False
    """Whether containers find a file that says what their devices are (see `metadata.py`)."""
    is_node_local: bool = True
    """False: pools may be for other nodes too, and slices of no node are this instance's alone."""

    def __init__(self, node_name: str) -> None:
        self.node_name = node_name
        self.prepared: Mapping[str, PreparedClaim] = _NOTHING
        """The claims that are prepared, by UID: what was chosen for them is in their devices' `state`."""
        self.folder = Path(".")
        """A folder of the driver's own on the node, there before the first call; kept across restarts."""
        self._changed: Callable[[], object] | None = None
        self._report: Callable[[str, PreparedDevice], Awaitable[None]] | None = None

    def devices(self) -> Sequence[Device]:
        """The devices there are, in order of preference."""
        return ()

    def pools(self) -> Sequence[Pool]:
        """What to publish: all `devices` in one pool, unless a driver wants it otherwise."""
        return (Pool(self.node_name, self.devices()),)

    @abc.abstractmethod
    def prepare(self, claim: Claim) -> Sequence[PreparedDevice] | Awaitable[Sequence[PreparedDevice]]:
        """Make the devices of `claim` ready and say what its containers need.

        Called again for the same claim when it failed or was cut off before; not once it went well.
        """

    def unprepare(self, claim: PreparedClaim) -> Awaitable[None] | None:
        """Undo `prepare`, as far as it came. May be called again for the same claim."""
        return None

    def health(self) -> Sequence[DeviceHealth] | None:
        """How the devices are now; asked every few seconds while a kubelet listens. None: it never says."""
        return None

    async def watch(self) -> None:
        """Runs beside everything else while the driver is at work: look after what changes, call `changed`.

        It may return when there is nothing (more) to look after. What it raises ends the driver.
        """
        return None

    def changed(self) -> None:
        """Say that `pools` or `health` have changed. May be called from any thread."""
        if self._changed is not None:
            self._changed()

    async def report(self, uid: str, device: PreparedDevice) -> None:
        """Say something new of a device of the prepared claim `uid`: `device` is that of `self.prepared`
        with other conditions, data or network_data. They go to the claim's status and the metadata file.

        Call it from `watch`; in `prepare` it would wait for itself. Raises DRAError if the claim is not
        prepared (any more) or has no such device.
        """
        if self._report is not None:
            await self._report(uid, device)

    def on_report(self, listener: Callable[[str, PreparedDevice], Awaitable[None]]) -> None:
        """Have `listener` called by `report`; for the SDK."""
        self._report = listener

    def on_changed(self, listener: Callable[[], object] | None) -> None:
        """Have `listener` called by `changed`; for the SDK."""
        self._changed = listener

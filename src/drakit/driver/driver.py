"""What a driver's author writes."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from drakit.driver.claim import Claim, PreparedClaim, PreparedDevice
from drakit.driver.device import Pool
from drakit.errors import DRAError
from drakit.model.resource import Device
from drakit.pluginapi.health import DeviceHealth

_NOTHING: Mapping[str, PreparedClaim] = MappingProxyType({})


class Driver(abc.ABC):
    """One driver on one node.

    `prepare`, `unprepare`, `bind` and `unbind` may be `async def` or plain (then they run in a thread).
    `prepare` and `unprepare` never overlap, not even with those of another instance of the driver on this
    node, unless `may_overlap`. What they raise fails this claim alone: a DRAError with its text,
    RecoverableError where a later try may go well, anything else as a bug.
    """

    name: str
    """The driver's name, a DNS subdomain: "gpu.example.com"."""

    has_metadata: bool = False
    """Whether containers find a file that says what their devices are (see `metadata.py`)."""
    is_node_local: bool = True
    """False: pools may be for other nodes too, and slices of no node are this instance's alone."""

    only_pool: str = ""
    """The one pool of this instance, where each of several has one for other nodes too; its slices go with
    this node."""
    may_overlap: bool = False
    """True: `prepare` and `unprepare` of different claims may run at the same time, here and in another
    instance."""

    def __init__(self, node_name: str) -> None:
        self.node_name = node_name
        self.prepared: Mapping[str, PreparedClaim] = _NOTHING
        """The claims that are prepared, by UID: what was chosen for them is in their devices' `state`."""
        self.folder = Path(".")
        """A folder of the driver's own on the node, there before the first call; kept across restarts."""
        self._host_folder: Path | None = None
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

    def bind(self, claim: Claim) -> Awaitable[None] | None:
        """Make devices with binding conditions ready for the node before the pod is bound there: attach them,
        power them on. `claim` has only such devices.

        When it returns, their conditions are True; when it raises DRAError, their failure conditions are,
        and the pod is planned anew; RecoverableError is tried again. Calls for several claims may overlap,
        and come again after a restart.
        """
        return None

    def unbind(self, claim: PreparedClaim) -> Awaitable[None] | None:
        """Undo `bind`, as far as it came: the devices were taken from the claim. May be called again."""
        return None

    def trouble(self, error: DRAError) -> None:  # noqa: B027
        """Told of what goes wrong behind the driver's back, logged and counted by then: slices that the API
        server refuses or keeps without some of their fields (DroppedFields), statuses that cannot be
        written. It is tried again; a driver may also publish something else, or have `watch` raise."""

    def health(self) -> Sequence[DeviceHealth] | Awaitable[Sequence[DeviceHealth]] | None:
        """How the devices are now; asked every few seconds while a kubelet listens. None: it never says.

        A device that is left out for 30 seconds (or its `timeout`) counts as Unknown. A plain function must
        not wait for anything.
        """
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

    @property
    def host_folder(self) -> Path:
        """`folder` as the host calls it, for what containers get from there: another name where the driver
        is in a container of an embedded node."""
        return self._host_folder or self.folder

    def settle(self, folder: Path, host_folder: Path) -> None:
        """Say where `folder` is; for the SDK."""
        self.folder, self._host_folder = folder, host_folder

    def on_report(self, listener: Callable[[str, PreparedDevice], Awaitable[None]]) -> None:
        """Have `listener` called by `report`; for the SDK."""
        self._report = listener

    def on_changed(self, listener: Callable[[], object] | None) -> None:
        """Have `listener` called by `changed`; for the SDK."""
        self._changed = listener

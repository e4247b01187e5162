"""The driver SDK: say what devices there are, prepare and unprepare claims; the rest is done here.

    driver.py        what an author writes: the class `Driver`
    device.py        devices and pools from plain Python values
    standard.py      attributes that all drivers spell alike
    claim.py         what a driver is handed and hands back; opaque configuration as typed models
    slices.py        pools to ResourceSlices: split, named, versioned; pure
    pool_check.py    what is wrong with a pool that no single slice shows
    publisher.py     keeps the slices on the API server so
    own_writes.py    what was written and the informer has not told of yet
    dropped.py       what an API server did not keep of them
    checkpoint.py    which claims are prepared, on disk
    cdi.py           one CDI file per prepared claim, on disk
    preparer.py      NodePrepareResources and NodeUnprepareResources
    reading.py       claims as the API has them
    turns.py         one call at a time, with other instances too
    call.py          calling what an author wrote, plain or async
    stale.py         claims that stay prepared for nobody
    binding.py       devices made ready before their pod is bound
    metadata.py      files by which containers learn what their devices are
    status.py        what the driver says of devices in claims' statuses
    health.py        the health stream
    registration.py  the two sockets, and making oneself known to the kubelet
    plugin.py        all of it together, for one driver on one node
    metrics.py       counters in Prometheus' text format
    exposition.py    /metrics and /healthz over HTTP
    logs.py          log lines for people or programs

Belongs here: what every driver needs. Never: what a device is for, or an API server of its own.
"""

from __future__ import annotations

from drakit.driver.claim import (
    AllocatedDevice,
    Claim,
    Config,
    DeviceCondition,
    PreparedClaim,
    PreparedDevice,
)
from drakit.driver.device import Pool, capacity, device, nodes, size, version
from drakit.driver.driver import Driver
from drakit.driver.dropped import DroppedFields
from drakit.driver.plugin import Plugin, run
from drakit.driver.standard import numa_attributes, pci_attributes
from drakit.errors import RecoverableError
from drakit.model.cdi import ContainerEdits, DeviceNode, Hook, Mount
from drakit.model.resource import Device, DeviceTaint, NetworkDeviceData
from drakit.pluginapi.health import DeviceHealth

__all__ = [
    "AllocatedDevice",
    "Claim",
    "Config",
    "ContainerEdits",
    "Device",
    "DeviceCondition",
    "DeviceHealth",
    "DeviceNode",
    "DeviceTaint",
    "Driver",
    "DroppedFields",
    "Hook",
    "Mount",
    "NetworkDeviceData",
    "Plugin",
    "Pool",
    "PreparedClaim",
    "PreparedDevice",
    "RecoverableError",
    "capacity",
    "device",
    "nodes",
    "numa_attributes",
    "pci_attributes",
    "run",
    "size",
    "version",
]

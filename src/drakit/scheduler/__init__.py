"""Places pods on nodes and gives their claims devices, as a client of any Kubernetes API.

Belongs here: the queue, what is known of nodes and claims, one decision at a time, its writes, and the
words for why a pod has no node. Never: choosing a device (that is `drakit.allocator`), or reaching the
cluster other than through its API.

Looked at: resource requests (cpu, memory, ephemeral storage, hugepages, extended resources, number of
pods), node selector, node affinity, affinity between pods, topology spread, taints and tolerations,
cordoned nodes, host ports, priority with preemption, and everything about claims. Left out: volumes and
pod groups. Of several schedulers with one name on one cluster only one may work at a time:
`drakit.scheduler.election` sees to that.
"""

from __future__ import annotations

from drakit.scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]

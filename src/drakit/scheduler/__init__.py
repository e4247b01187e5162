"""Places pods on nodes and gives their claims devices, as a client of any Kubernetes API.

Belongs here: the queue, what is known of nodes and claims, one decision at a time, its writes, and the
words for why a pod has no node. Never: choosing a device (that is `drakit.allocator`), or reaching the
cluster other than through its API.

Looked at: resource requests (cpu, memory, ephemeral storage, hugepages, extended resources, number of
pods), node selector, required and preferred node affinity, taints and tolerations, cordoned nodes, host
ports, and everything about claims. Left out: affinity between pods and topology spread (a pod that
requires them is placed without and told so by an event), volumes, pod groups, and preemption: a pod never
makes another one leave. Of several schedulers with one name on one cluster only one may run: there is no
leader election.
"""

from __future__ import annotations

from drakit.scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]

"""The kubelet's part: pods of one node, their containers, volumes, claims and drivers.

Belongs here: everything that touches the machine a pod runs on (container runtimes, image store, driver
registration, claim checkpoint) and what is reported about it (pod and node status, events, logs, exec).
Never here: choosing a node or a device, and anything that knows how the API server stores objects; this
package reaches the cluster only through `drakit.client`.
"""

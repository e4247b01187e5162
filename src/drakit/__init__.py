"""Kubernetes Dynamic Resource Allocation in Python.

Rooms, from the ground up: `model`, `cel` and `allocator` are pure functions over API documents;
`store` and `apiserver` keep and serve them; `client`, `controllers`, `scheduler`, `node`, `driver`
and `drivers` are clients of that (or any) Kubernetes API; `cluster` wires one process together;
`cli` is the command `dra`. Imports only point down. See docs/architecture.md.
"""

__version__ = "0.1.0"

"""Pure data of the Kubernetes API: frozen structs, quantities, versions, selectors, conversion, rules.

Belongs here: what an object of the API is and which values it may have. Never: I/O, clocks, logging,
decisions about devices.
"""

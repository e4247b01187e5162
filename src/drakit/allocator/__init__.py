"""Claims, slices and a node in; allocation results, or none, out.

Belongs here: everything that decides which device a claim gets, and why not another. Never: I/O,
clocks, randomness, logging; what it has to say it returns or tells the trace.
"""

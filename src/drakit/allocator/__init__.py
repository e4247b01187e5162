"""Which devices a claim gets on a node: claims, slices, a node and what is in use in, results or None out.

Belongs here: the rules of allocation and the search. Never: I/O, clocks, randomness, the API server.
"""

from __future__ import annotations

from drakit.allocator.allocator import STEP_LIMIT, Allocator
from drakit.allocator.state import State
from drakit.allocator.trace import Candidate, Check, FellShort, Refusal, Trace

__all__ = ["STEP_LIMIT", "Allocator", "Candidate", "Check", "FellShort", "Refusal", "State", "Trace"]

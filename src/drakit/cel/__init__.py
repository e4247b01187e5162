"""CEL for devices: an expression's text becomes a selector that answers, and explains, for a device.

Belongs here: parser, checker, evaluation, cost. Never: I/O, and any execution of text that did not go
through the checker.
"""

from drakit.cel.compile import Evaluator, Selector, compile, compile_value
from drakit.cel.explain import Part, Verdict

__all__ = ["Evaluator", "Part", "Selector", "Verdict", "compile", "compile_value"]

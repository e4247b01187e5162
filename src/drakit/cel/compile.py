"""From text to a selector: parse, check, validate, estimate, plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from drakit.cel import derived, types
from drakit.cel.check import Checker
from drakit.cel.cost import max_cost
from drakit.cel.declare import Environment, environment
from drakit.cel.device import variables_of, written
from drakit.cel.explain import Verdict, parts_of
from drakit.cel.frame import COST_LIMIT, Failure, Frame, Plan
from drakit.cel.generate import Fast, generate
from drakit.cel.lookup import no_bool
from drakit.cel.meter import CostExceeded
from drakit.cel.parse import parse
from drakit.cel.plan import Planner
from drakit.cel.reads import reads_of, shape
from drakit.cel.size import device_shape
from drakit.cel.source import compile_error
from drakit.cel.stack import deep_stack, is_deep, no_collection, roomy
from drakit.cel.syntax import Node
from drakit.cel.validate import validate
from drakit.cel.value import Fault, Optional, kind_of
from drakit.errors import CELError
from drakit.model.resource import Device
from drakit.profile import DEFAULT_VERSION, Gate, Profile, profile_for

MAX_LENGTH = 10 * 1024
"""Bytes of source (resource.k8s.io CELSelectorExpressionMaxLength)."""
_CHEAP = 100
"""Cost up to which the calls of an evaluation are too few to take long, wherever their frames lie."""
COST_EXCEEDED = "operation cancelled: actual cost limit exceeded"


def compile(
    text: str, version: str = DEFAULT_VERSION, *, profile: Profile | None = None, is_new: bool = False
) -> Selector:
    """The selector `text` stands for, for the Kubernetes of `version`, or of `profile` where given.

    The environment is that of stored expressions, in which the scheduler evaluates; with `is_new` it is the
    narrower one in which the API server admits new objects. Raises CELError. Results are remembered.
    """
    with deep_stack(text):
        return _compile(text, profile or _profile(version), is_new)


@lru_cache(maxsize=16)
def _profile(version: str) -> Profile:
    return profile_for(version)


def compile_value(
    text: str, version: str = DEFAULT_VERSION, *, profile: Profile | None = None, is_new: bool = False
) -> Evaluator:
    """As `compile`, for the expression of a derived attribute. Raises CELError."""
    with deep_stack(text):
        return _compile_value(text, profile or _profile(version), is_new)


@lru_cache(maxsize=256)
def _compile_value(text: str, profile: Profile, is_new: bool) -> Evaluator:
    scope = environment(profile, is_new=is_new)
    with no_collection():
        root = roomy(_limited, text, scope)
        may_be_list = not is_new or profile.is_on(Gate.LIST_ATTRIBUTES)
        problem = derived.refusal(root.type, may_be_list=may_be_list)
        if problem is not None:
            raise CELError(problem, source=text)
        return Evaluator(text, root, scope)


@lru_cache(maxsize=1024)
def _compile(text: str, profile: Profile, is_new: bool) -> Selector:
    scope = environment(profile, is_new=is_new)
    with no_collection():
        root = roomy(_limited, text, scope)
        if root.type not in (types.BOOL, scope.attribute):
            raise CELError(
                f"must evaluate to bool or the unknown type, not {types.full(root.type)}", source=text
            )
        selector: Selector = roomy(Selector, text, root, scope)
        return selector


def _limited(text: str, scope: Environment) -> Node:
    length = len(text.encode("utf-8", "surrogatepass"))
    if length > MAX_LENGTH:
        raise CELError(f"expression too long: {length} bytes, at most {MAX_LENGTH} are allowed", source=text)
    return checked(text, scope)


def checked(text: str, scope: Environment) -> Node:
    """The tree of `text` with its types. Raises CELError."""
    root, _ = parse(
        text, has_optionals=scope.has_optionals, has_two_variables=scope.has_two_variables,
        has_sort_by=scope.has_sort_by, has_bind=scope.has_bind,
    )  # fmt: skip
    checker = Checker(scope)
    checker.check(root)
    issues = checker.issues or validate(root)
    if issues:
        raise compile_error(text, issues)
    return root


class Exact:
    """The exact path of one expression: called with a device and its driver it gives the value, as `finish`
    makes it of the outcome. Raises CELError.

    It does not know the program it belongs to: what is compiled is no circle of references.
    """

    def __init__(
        self, text: str, root: Node, finish: Callable[[Any], Any], plan: Plan, has_room: bool
    ) -> None:
        self._text, self._root, self._finish, self._plan = text, root, finish, plan
        self._has_room = has_room

    def __call__(self, device: Device | Mapping[str, Any], driver: str | None = None) -> Any:
        if driver is None or not isinstance(device, Device):
            device, driver = written(device)
        return self.result(self.evaluate(self._plan, device, driver)[1])

    def result(self, value: Any) -> Any:
        """The value of an outcome. Raises CELError."""
        if isinstance(value, Failure):
            raise CELError(value.message, source=self._text, position=value.node.position)
        try:
            return self._finish(value)
        except Fault as fault:
            raise CELError(fault.message, source=self._text) from None

    def evaluate(self, plan: Plan, device: Device, driver: str) -> tuple[Frame, Any]:
        """The outcome by a plan of the tree, and the frame with its cost and trace."""
        frame = Frame({}, plan)
        try:
            frame.variables = {"device": variables_of(device, driver)}
            if self._has_room:
                return frame, plan.step.run(frame)
            with deep_stack(self._text):
                return frame, roomy(plan.step.run, frame)
        except CostExceeded:
            frame.stopped()
            return frame, Failure(COST_EXCEEDED, self._root)
        except Fault as fault:
            return frame, Failure(fault.message, self._root)


class Program:
    """A compiled expression over a device. `text` is its source, `max_cost` the most it may cost, `reads`
    what of a device it reads (see `reads_of`), None when that cannot be told."""

    def __init__(self, text: str, root: Node, scope: Environment, finish: Callable[[Any], Any]) -> None:
        self.text = text
        self.root = root
        self.max_cost = max_cost(root, {"device": device_shape(scope)})
        self.reads = reads_of(root)
        self._functions, self._roots = scope.functions, scope.roots
        try:
            plan = Planner(scope.functions, scope.roots).plan(root)
        except Fault as fault:
            raise CELError(f"program instantiation failed: {fault.message}", source=text) from None
        has_room = self.max_cost <= _CHEAP and not is_deep(root)
        self._exact = Exact(text, root, finish, plan, has_room=has_room)

    def shape(self, device: Device, driver: str) -> tuple[Any, ...] | None:
        """Equal for devices that get the same answer; None where `reads` is."""
        return None if self.reads is None else shape(self.reads, device, driver)

    def explain(self, device: Device | Mapping[str, Any], driver: str | None = None) -> Verdict:
        """The outcome with cost and the value of every sub-expression. Raises CELError only for a document
        that is no device (see `Selector`)."""
        if driver is None or not isinstance(device, Device):
            device, driver = written(device)
        planner = Planner(self._functions, self._roots, is_traced=True)
        with deep_stack(self.text), no_collection():
            plan = roomy(planner.plan, self.root)
        frame, value = self._exact.evaluate(plan, device, driver)
        error = None
        try:
            value = self._exact.result(value)
        except CELError as raised:
            # Without the traceback: it has this call's frame, which has the error.
            error, value = raised.with_traceback(None), None
        return Verdict(value, error, frame.cost, parts_of(self.text, self.root, frame.trace))


class Selector(Program):
    """A compiled expression that says which devices to take.

    `matches(device, driver)` says whether the device of `driver` is selected; it raises CELError. It takes
    the fast path where there is one, which reads only what it needs: an attribute that is broken and not
    read goes unnoticed. `matches(document)` and `explain(document)` are for a device as a document with the
    driver's name in it: `{"driver": ..., "attributes": {...}, "capacity": {...}}`.
    """

    def __init__(self, text: str, root: Node, scope: Environment) -> None:
        super().__init__(text, root, scope, _selected)
        fast = generate(root, self._exact) if self.max_cost <= COST_LIMIT else None
        self.matches: Fast = fast or self._exact


def _selected(value: Any) -> bool:
    held = value
    while held.__class__ is Optional and held.has_value:
        held = held.value
    if isinstance(held, bool):
        return held
    raise Fault(f"CEL result of type {kind_of(value)} could not be converted to bool: {no_bool(held)}")


class Evaluator(Program):
    """The compiled expression of a derived attribute."""

    def __init__(self, text: str, root: Node, scope: Environment) -> None:
        super().__init__(text, root, scope, _attribute)

    def value(self, device: Device, driver: str) -> Any:
        """The value for the device of `driver`: what an attribute can have. Raises CELError."""
        return self._exact(device, driver)


def _attribute(value: Any) -> Any:
    derived.check(value)
    return value

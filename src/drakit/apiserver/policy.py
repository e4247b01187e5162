"""A ValidatingAdmissionPolicy made ready: its expressions compiled, and what they decide about a request.

Every go through a list of expressions (conditions, validations, messages, annotations) has its own values of
the variables, each worked out when first read, and its own budget, which the variables' cost counts
against. What goes wrong is decided by failurePolicy.
Source: apiserver/pkg/admission/plugin/policy/validating/{plugin,validator}.go, plugin/cel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from drakit.apiserver.policy_scope import composed_type, scope, shown_type
from drakit.cel import types
from drakit.cel.declare import Environment
from drakit.cel.expression import Expression
from drakit.cel.types import Type
from drakit.cel.value import Fault, Lazy, kind_of
from drakit.errors import CELError
from drakit.model.validation.field import listed, mapped
from drakit.profile import Profile
from drakit.transport import Document

BUDGET = 10_000_000
CONDITIONS_BUDGET = BUDGET // 4
_MAX_MESSAGE = 5 * 1024
_SPENT = "validation failed due to running out of cost budget, no further validation rules will be run"


class OutOfBudget(Exception):
    """The expressions of one go cost too much."""


class Compiled(Struct, frozen=True):
    """An expression, or why it is none."""

    text: str
    expression: Expression | None
    error: str = ""


def compiled(text: str, environment: Environment, wanted: Sequence[Type] = ()) -> Compiled:
    """`text` as an expression whose result has one of the types `wanted` (none: any type)."""
    try:
        expression = Expression(text, environment)
    except CELError as error:
        return Compiled(text, None, error.message)
    if wanted and expression.type not in wanted:
        names = [shown_type(type_) for type_ in wanted]
        choice = names[0] if len(names) == 1 else f"one of [{' '.join(names)}]"
        return Compiled(text, None, f"must evaluate to {choice} but got {shown_type(expression.type)}")
    return Compiled(text, expression)


class Result(Struct, frozen=True):
    value: Any
    error: str = ""


class Go:
    """One go: `values` of everything but the variables, which come from `variables` in their order."""

    def __init__(self, values: Mapping[str, Any], variables: Mapping[str, Compiled], budget: int) -> None:
        self.left = budget
        self._extra = 0
        lazies = {name: Lazy(self._work(name, made)) for name, made in variables.items()}
        together = Lazy(lambda: {name: lazy.get() for name, lazy in lazies.items()})
        composed = {f"variables.{name}": lazy for name, lazy in lazies.items()}
        self._values = {**values, "variables": together, **composed}

    def _work(self, name: str, made: Compiled) -> Callable[[], Any]:
        def work() -> Any:
            if made.expression is None:
                raise Fault(f'composited variable "{name}" fails to compile: {made.error}')
            outcome = made.expression.evaluate(self._values)
            self._extra += outcome.cost
            if outcome.error:
                raise Fault(f'composited variable "{name}" fails to evaluate: {outcome.error}')
            return outcome.value

        return work

    def evaluate(self, made: Compiled) -> Result:
        """Raises OutOfBudget."""
        if made.expression is None:
            return Result(None, f"compilation error: {made.error}")
        outcome = made.expression.evaluate(self._values)
        self.left -= outcome.cost + self._extra
        self._extra = 0
        if self.left < 0:
            raise OutOfBudget
        if outcome.error:
            return Result(None, f"expression '{made.text}' resulted in error: {outcome.error}")
        return Result(outcome.value)


class Conditions:
    """matchConditions: a request is of concern if all hold."""

    def __init__(self, rows: Iterable[Document], environment: Environment) -> None:
        self._rows = [compiled(row.get("expression") or "", environment, (types.BOOL,)) for row in rows]

    def refusal(self, go: Go) -> str | None:
        """None if all hold, "" if one does not, else what went wrong."""
        errors = []
        for row in self._rows:
            try:
                result = go.evaluate(row)
            except OutOfBudget:
                return _SPENT
            if result.error:
                errors.append(result.error)
            elif result.value is not True:
                return ""
        if not errors:
            return None
        return errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"


class Denial(Struct, frozen=True):
    """Why a request is denied; `is_failure` where the policy itself went wrong."""

    message: str
    reason: str = "Invalid"
    is_failure: bool = False


class Policy:
    """One policy."""

    def __init__(self, document: Document, profile: Profile) -> None:
        self.name: str = document["metadata"]["name"]
        self.spec = spec = mapped(document.get("spec"))
        self.is_strict = spec.get("failurePolicy") != "Ignore"
        has_params = spec.get("paramKind") is not None
        self.variables = compile_variables(listed(spec.get("variables")), profile, has_params=has_params)
        known = variable_types(self.variables)
        full = scope(profile, has_params=has_params, variables=known)
        quiet = scope(profile, has_params=has_params, has_authorizer=False, variables=known)
        self.conditions = Conditions(listed(spec.get("matchConditions")), full)
        self._validations = listed(spec.get("validations"))
        self._expressions = [compiled(row["expression"], full, (types.BOOL,)) for row in self._validations]
        self._messages = [
            compiled(text, quiet, (types.STRING,)) if (text := row.get("messageExpression")) else None
            for row in self._validations
        ]
        self._annotations = [
            (row["key"], compiled(row["valueExpression"], full, (types.STRING, types.NULL)))
            for row in listed(spec.get("auditAnnotations"))
        ]

    def decide(self, values: Mapping[str, Any]) -> tuple[list[Denial], dict[str, str]]:
        """Every denial, and the audit annotations, for these values."""
        refusal = self.conditions.refusal(Go(values, self.variables, CONDITIONS_BUDGET))
        if refusal is not None:
            return ([Denial(refusal, "", True)] if refusal and self.is_strict else []), {}
        try:
            denials = self._validate(values)
            annotations, failures = self._annotate(values)
        except OutOfBudget:
            return ([Denial(_SPENT, "", True)] if self.is_strict else []), {}
        return denials + failures, annotations

    def _validate(self, values: Mapping[str, Any]) -> list[Denial]:
        go = Go(values, self.variables, BUDGET)
        results = [go.evaluate(made) for made in self._expressions]
        texts = Go(values, self.variables, go.left)
        denials = []
        for row, made, result in zip(self._validations, self._messages, results, strict=True):
            if result.error:
                denials += [Denial(result.error, "", True)] if self.is_strict else []
            elif result.value is not True:
                denials.append(Denial(_message(row, made, texts), row.get("reason") or "Invalid"))
        return denials

    def _annotate(self, values: Mapping[str, Any]) -> tuple[dict[str, str], list[Denial]]:
        go = Go(values, self.variables, BUDGET)
        found: dict[str, str] = {}
        failures = []
        for key, made in self._annotations:
            result = go.evaluate(made)
            if result.error:
                failures += [Denial(result.error, "", True)] if self.is_strict else []
            elif isinstance(result.value, str):
                if text := result.value.strip():
                    found[key] = text
            elif result.value is not None:
                text = (
                    f"valueExpression '{made.text}' resulted in unsupported return type: "
                    f"{kind_of(result.value)}. Return type must be either string or null."
                )
                failures.append(Denial(text, "", True))
        return found, failures


def _message(row: Document, made: Compiled | None, go: Go) -> str:
    """What a failed validation says: its messageExpression, if that gives a line, else its message, else the
    expression itself."""
    if made is not None:
        value = go.evaluate(made).value
        text = value.strip() if isinstance(value, str) else ""
        if text and "\n" not in text and len(text.encode()) <= _MAX_MESSAGE:
            return text
    return (row.get("message") or "").strip() or f"failed expression: {row['expression'].strip()}"


def compile_variables(
    rows: Iterable[Document], profile: Profile, *, has_params: bool, has_patches: bool = False
) -> dict[str, Compiled]:
    """The variables by name; each may use those before it."""
    found: dict[str, Compiled] = {}
    for row in rows:
        known = variable_types(found)
        environment = scope(profile, has_params=has_params, variables=known, has_patches=has_patches)
        found[row["name"]] = compiled(row["expression"], environment)
    return found


def variable_types(variables: Mapping[str, Compiled]) -> dict[str, Type]:
    """What is known of the variables to expressions that use them."""
    return {
        name: composed_type(made.expression.type) if made.expression else types.DYN
        for name, made in variables.items()
    }

"""MutatingAdmissionPolicies: what they do to the object of a request, and in which order.

A mutation is an expression that gives either an apply configuration, `Object{...}`, laid over the object
as server-side apply does, or a JSON patch, a list of `JSONPatch{...}`.
Source: apiserver/pkg/admission/plugin/policy/mutating.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from drakit.apiserver.admission_request import Denied, Resource, Review, denied
from drakit.apiserver.apply_check import check_fits
from drakit.apiserver.apply_fields import field_type
from drakit.apiserver.apply_merge import merge
from drakit.apiserver.patch import PatchTestFailed, apply_patch
from drakit.apiserver.policy import (
    BUDGET,
    CONDITIONS_BUDGET,
    Compiled,
    Conditions,
    Go,
    OutOfBudget,
    compile_variables,
    compiled,
    variable_types,
)
from drakit.apiserver.policy_bound import Bound, Misconfigured
from drakit.apiserver.policy_scope import scope
from drakit.apiserver.route import Target
from drakit.apiserver.schema import Type as Schema
from drakit.apiserver.webhook import Decode
from drakit.cel.library.moment import format_duration, format_timestamp
from drakit.cel.types import Type, list_of
from drakit.cel.value import Duration, Message, Optional, Timestamp, Uint, keys_of, kind_of
from drakit.errors import APIError, BadRequest
from drakit.model.validation.field import listed, mapped
from drakit.profile import Profile
from drakit.transport import JSON_PATCH, Document

RESULTS = {
    "ApplyConfiguration": ("applyConfiguration", Type("object", "Object")),
    "JSONPatch": ("jsonPatch", list_of(Type("object", "JSONPatch"))),
}
"""Where the expression of a patchType stands, and what it gives."""


class MutatingPolicy:
    """One policy, made ready."""

    def __init__(self, document: Document, profile: Profile) -> None:
        self.name: str = document["metadata"]["name"]
        self.spec = spec = mapped(document.get("spec"))
        self.is_strict = spec.get("failurePolicy") != "Ignore"
        self.is_repeated = spec.get("reinvocationPolicy") == "IfNeeded"
        has_params = spec.get("paramKind") is not None
        rows = listed(spec.get("variables"))
        self.variables = compile_variables(rows, profile, has_params=has_params, has_patches=True)
        known = variable_types(self.variables)
        self.conditions = Conditions(
            listed(spec.get("matchConditions")), scope(profile, has_params=has_params, variables=known)
        )
        full = scope(profile, has_params=has_params, variables=known, has_patches=True)
        self.mutations: list[tuple[str, Compiled]] = []
        for row in listed(spec.get("mutations")):
            field, wanted = RESULTS[row["patchType"]]
            text = mapped(row.get(field)).get("expression") or ""
            self.mutations.append((row["patchType"], compiled(text, full, (wanted,))))


class _Invocation(Struct, frozen=True):
    policy: MutatingPolicy
    binding: Document
    resource: Resource
    params: Document | None


class _Failed(Exception):
    """A mutation that cannot be done; its text says why."""


class Chain:
    """The policies as one request meets them: `run` before webhooks, `run_again` after."""

    def __init__(
        self,
        bound: Bound[MutatingPolicy],
        review: Review,
        decode: Decode,
        type_of: Callable[[Target], Schema | None],
    ) -> None:
        self._bound = bound
        self._review = review
        self._decode = decode
        self._type_of = type_of
        self._invoked: list[_Invocation] = []
        self._last_change = 0
        self._failures: list[str] = []

    def run(self) -> None:
        """Raises Denied where a strict policy fails."""
        if self._review.new is None or self._review.given is not None:
            return
        for number, invocation in enumerate(list(self._invocations())):
            self._invoked.append(invocation)
            if self._mutate(invocation):
                self._last_change = number
        self._refuse()

    def run_again(self, *, was_changed: bool) -> None:
        """What is to be run again because the object was changed after it. Raises Denied."""
        count = len(self._invoked) if was_changed else self._last_change
        for invocation in self._invoked[:count]:
            if invocation.policy.is_repeated:
                self._mutate(invocation)
        self._refuse()

    def _refuse(self) -> None:
        if self._failures:
            causes = [{"message": text} for text in self._failures]
            details = denied(self._review, "", "Forbidden", causes).details
            raise Denied(self._failures[0], code=403, why="Invalid", details=details)

    def _fail(self, policy: MutatingPolicy, binding: Document | None, error: object) -> None:
        if policy.is_strict:
            by = f" with binding '{binding['metadata']['name']}'" if binding is not None else ""
            self._failures.append(f"policy '{policy.name}'{by} denied request: {error}")

    def _invocations(self) -> Iterator[_Invocation]:
        """Everything that concerns the request, as it stands before the first of them."""
        bound, review = self._bound, self._review
        for policy, bindings in bound.all():
            try:
                resource = bound.matched(review, mapped(policy.spec.get("matchConstraints")))
                if resource is None:
                    continue
                bound.param_kind(policy)
            except (Misconfigured, BadRequest) as error:
                self._fail(policy, None, f"failed to configure policy: {error}")
                continue
            for binding in bindings:
                spec = mapped(binding.get("spec"))
                try:
                    match = spec.get("matchResources")
                    if match is not None and bound.matched(review, match) is None:
                        continue
                    all_params = list(bound.params(review, policy, spec.get("paramRef")))
                except (Misconfigured, BadRequest) as error:
                    self._fail(policy, binding, f"failed to configure binding: {error}")
                    continue
                for params in all_params:
                    yield _Invocation(policy, binding, resource, params)

    def _mutate(self, invocation: _Invocation) -> bool:
        """Apply the mutations of a policy; whether they changed the object."""
        policy, review, before = invocation.policy, self._review, self._review.new
        values = self._bound.values(review, invocation.resource) | {"params": invocation.params}
        refusal = policy.conditions.refusal(Go(values, policy.variables, CONDITIONS_BUDGET))
        if refusal is not None:
            if refusal:
                self._fail(policy, invocation.binding, refusal)
            return False
        for patch_type, made in policy.mutations:
            values = self._bound.values(review, invocation.resource) | {"params": invocation.params}
            try:
                after = self._mutated(patch_type, made, values, policy, invocation.resource)
                if after != values["object"]:
                    review.new = self._decode(after, invocation.resource.version)
            except (_Failed, APIError) as error:
                self._fail(policy, invocation.binding, error)
        return review.new != before

    def _mutated(
        self,
        patch_type: str,
        made: Compiled,
        values: Mapping[str, Any],
        policy: MutatingPolicy,
        resource: Resource,
    ) -> Document:
        """The object after one mutation. Raises _Failed."""
        current: Document = values["object"]
        try:
            result = Go(values, policy.variables, BUDGET).evaluate(made)
        except OutOfBudget:
            text = (
                "validation failed due to running out of cost budget, no further validation rules will be run"
            )
            raise _Failed(text) from None
        if result.error:
            raise _Failed(result.error)
        target = self._review.target
        type_ = self._type_of(Target(target.kind, resource.version, target.namespace, target.name))
        if patch_type == "JSONPatch":
            return _patched(current, [_operation(row) for row in result.value], type_)
        _check_names(result.value, result.value.name)
        return _applied(current, _plain(result.value), type_)


def _patched(current: Document, operations: list[Document], type_: Schema | None) -> Document:
    """Raises _Failed, also for fields that are new and unknown: they would be dropped."""
    try:
        after = apply_patch(current, operations, JSON_PATCH, None)
        unknown = _unknown(after, type_) - _unknown(current, type_)
        if unknown:
            raise _Failed(f"JSON Patch: {'; '.join(sorted(unknown))}")
        return after
    except PatchTestFailed:
        return current
    except APIError:
        shown = ", ".join(f"{row.get('op')} {row.get('path')}" for row in operations)
        raise _Failed(f"JSON Patch: cannot be applied to the object: {shown}") from None


def _unknown(document: Document, type_: Schema | None) -> set[str]:
    try:
        check_fits(document, type_)
    except BadRequest as error:
        lines = str(error).partition("): ")[2].splitlines()
        return {line.strip() for line in lines if line.endswith(": field not declared in schema")}
    return set()


def _operation(row: Message) -> Document:
    operation: Document = {"op": row.get("op", ""), "path": row.get("path", "")}
    if row.get("from"):
        operation["from"] = row["from"]
    if "value" in row:
        if isinstance(row["value"], Message):
            _check_names(row["value"], row["value"].name)
        operation["value"] = _plain(row["value"])
    return operation


def _applied(current: Document, configuration: Document, type_: Schema | None) -> Document:
    configuration = {**configuration, "apiVersion": current["apiVersion"], "kind": current["kind"]}
    try:
        check_fits(configuration, type_)
        if atomic := list(_atomic(configuration, type_, "")):
            text = f"may not mutate atomic arrays, maps or structs: {', '.join(atomic)}"
            raise _Failed(f"error applying patch: invalid ApplyConfiguration: {text}")
        merged: Document = merge(current, configuration, type_)
    except BadRequest as error:
        text = str(error).partition("): ")[2] or str(error)
        raise _Failed(
            f"error applying patch: failed to convert patch object to typed object: {text}"
        ) from None
    return merged


def _atomic(value: Any, type_: Schema | None, path: str) -> Iterator[str]:
    """The places of atomic lists and maps: a configuration would replace them whole."""
    if type_ is None or not isinstance(value, dict | list):
        return
    if type_.is_atomic and type_.shape != "any":
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _atomic(item, field_type(type_, key), f"{path}.{key}")
    elif type_.shape == "list":
        for index, item in enumerate(value):
            yield from _atomic(item, type_.items, f"{path}[{index}]")


def _check_names(value: Any, path: str) -> None:
    """Every object must have the name of the place it stands at. Raises _Failed."""
    if isinstance(value, Message):
        if value.name != path:
            raise _Failed(
                f'type mismatch: unexpected type name "{value.name}", expected "{path}", which matches field '
                "name path from root Object type"
            )
        for field, item in value.items():
            _check_names(item, f"{path}.{field}")
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_names(item, path)


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _plain(value: Any) -> Any:
    """A CEL value as JSON. Raises _Failed for one that is none."""
    if isinstance(value, dict):
        return {_key(key): _plain(item) for key, item in zip(keys_of(value), value.values(), strict=True)}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Timestamp):
        return format_timestamp(value)
    if isinstance(value, Duration):
        return format_duration(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Uint):
        return int(value)
    if isinstance(value, Optional):
        return _plain(value.value) if value.has_value else None
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise _Failed(f"an expression gives a value of type {kind_of(value)}, which has no JSON")

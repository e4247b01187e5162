"""Admission webhooks: whom they concern, what they are asked, and what their answers mean.

Mutating webhooks are called one after the other, in the order of the configurations' names; one that wants it
(reinvocationPolicy IfNeeded) is called once more if a later one changed the object. Validating ones are
called all at once.
Source: apiserver/pkg/admission/plugin/webhook/{generic,mutating,validating,request,errors}.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from drakit.apiserver.admission_request import Resource, Review, find_rule, is_selected
from drakit.apiserver.patch import apply_patch
from drakit.apiserver.policy import CONDITIONS_BUDGET, Conditions, Go
from drakit.apiserver.policy_scope import request_of, scope, values_of
from drakit.apiserver.view import stored_document
from drakit.apiserver.webhook_call import Caller, CallFailed, PodIOs
from drakit.errors import APIError, BadRequest, Forbidden, InternalError
from drakit.model.validation.field import listed, mapped
from drakit.store import Change
from drakit.transport import JSON_PATCH, Document

if TYPE_CHECKING:
    from drakit.apiserver.registry import Registry

_log = logging.getLogger(__name__)
_GROUP = "admissionregistration.k8s.io"
MUTATING, VALIDATING = f"mutatingwebhookconfigurations.{_GROUP}", f"validatingwebhookconfigurations.{_GROUP}"
_VERSIONS = ("v1", "v1beta1")

Decode = Callable[[Document, str], Document]
"""From an object in a version to the object as stored, with apiVersion and kind."""


class Rejected(APIError):
    """A webhook said no; the Status is mostly its own."""

    def __init__(self, webhook: str, result: Mapping[str, Any]) -> None:
        says = result.get("message") or result.get("reason")
        by = f'admission webhook "{webhook}" denied the request'
        code = result.get("code")
        is_code = isinstance(code, int) and 400 <= code < 600
        details = result.get("details")
        super().__init__(
            f"{by}: {says}" if says else f"{by} without explanation",
            code=code if is_code else 400,
            details=details if isinstance(details, dict) else None,
        )
        self._why = str(result.get("reason") or "")

    def status(self) -> dict[str, Any]:
        document = super().status()
        return document | {"reason": self._why} if self._why else document


class Hook(Struct, frozen=True):
    """One webhook of a configuration."""

    document: Mapping[str, Any]
    conditions: Conditions

    @property
    def name(self) -> str:
        return str(self.document.get("name"))

    @property
    def is_strict(self) -> bool:
        return self.document.get("failurePolicy") != "Ignore"


class Invocation(Struct, frozen=True):
    """A webhook that is to be asked, and what the request counts as for it."""

    hook: Hook
    resource: Resource


class Webhooks:
    """The webhooks that are configured."""

    def __init__(self, registry: Registry, pod_io: PodIOs) -> None:
        self._registry = registry
        self._caller = Caller(registry, pod_io)
        self._hooks: dict[str, list[Hook]] = {}
        for collection in (MUTATING, VALIDATING):
            registry.store.subscribe(collection, partial(self._forget, collection))

    def _forget(self, collection: str, changes: Sequence[Change]) -> None:
        self._hooks.pop(collection, None)

    @property
    def is_idle(self) -> bool:
        """Whether there are none."""
        return not self._configured(MUTATING) and not self._configured(VALIDATING)

    def _configured(self, collection: str) -> list[Hook]:
        found = self._hooks.get(collection)
        if found is None:
            environment = scope(self._registry.profile)
            found = self._hooks[collection] = [
                Hook(row, Conditions(listed(row.get("matchConditions")), environment))
                for entry in self._registry.store.page(collection)
                for row in listed(stored_document(entry).get("webhooks"))
            ]
        return found

    # --- whom they concern ------------------------------------------------------------------------

    def _concerned(self, hook: Hook, review: Review) -> Invocation | None:
        """Raises Forbidden where that cannot be told and the webhook is strict."""
        registry, row = self._registry, hook.document
        try:
            if not is_selected(review, row, registry.namespace_labels):
                return None
            resource = find_rule(
                review, listed(row.get("rules")), row.get("matchPolicy"), registry.kinds, by_rule=True
            )
        except BadRequest as error:
            raise InternalError(f"Internal error occurred: {error}", details={}) from None
        if resource is None:
            return None
        refusal = None
        if row.get("matchConditions"):
            objects = review.object_in(resource, registry.kinds), review.old_in(resource, registry.kinds)
            namespace = review.target.namespace
            found = registry.find("Namespace", "", namespace) if namespace else None
            values = values_of(review, resource, objects, found, registry.authorizer)
            refusal = hook.conditions.refusal(Go(values, {}, CONDITIONS_BUDGET))
        if refusal is None:
            return Invocation(hook, resource)
        if refusal and hook.is_strict:
            kind = review.target.kind
            details = {"name": review.name, "group": kind.group, "kind": kind.plural}
            raise Forbidden(
                f'{kind.resource} "{review.name}" is forbidden: {refusal}',
                details={key: value for key, value in details.items() if value},
            )
        return None

    # --- the calls --------------------------------------------------------------------------------

    async def validate(self, review: Review) -> bool:
        """Ask every validating webhook that is concerned; whether there was one. Raises what the first of
        them that refuses says."""
        hooks = self._configured(VALIDATING)
        invocations = [found for hook in hooks if (found := self._concerned(hook, review)) is not None]
        if not invocations:
            return False
        calls = (self._ask(invocation, review) for invocation in invocations)
        for result in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        return True

    async def mutate(self, review: Review, decode: Decode) -> bool:
        """Have `review.new` changed by every mutating webhook that is concerned; whether there was one."""
        called: list[Hook] = []
        last_change = -1
        for hook in self._configured(MUTATING):
            if (invocation := self._concerned(hook, review)) is not None:
                called.append(hook)
                if await self._change(invocation, review, decode):
                    last_change = len(called) - 1
        for hook in called[: max(0, last_change)]:
            is_wanted = hook.document.get("reinvocationPolicy") == "IfNeeded"
            if is_wanted and (invocation := self._concerned(hook, review)) is not None:
                await self._change(invocation, review, decode)
        return bool(called)

    async def _change(self, invocation: Invocation, review: Review, decode: Decode) -> bool:
        """Ask one mutating webhook; whether it changed the object."""
        result = await self._ask(invocation, review, is_mutating=True)
        if not result:
            return False
        hook, resource = invocation.hook, invocation.resource
        before = review.object_in(resource, self._registry.kinds)
        if before is None:
            text = (
                f'admission webhook "{hook.name}" attempted to modify the object, which is not supported for '
                "this operation"
            )
            raise InternalError(f"Internal error occurred: {text}", details={})
        try:
            after = apply_patch(before, result, JSON_PATCH, None)
            is_changed = bool(after != before)
            if is_changed:
                review.new = decode(after, resource.version)
        except APIError as error:
            raise InternalError(f"Internal error occurred: {error}", details={}) from None
        return is_changed

    async def _ask(self, invocation: Invocation, review: Review, *, is_mutating: bool = False) -> Any:
        """The patch that a webhook answers with, None without one. Raises Rejected, or InternalError where it
        cannot be asked and is strict."""
        hook = invocation.hook
        row = hook.document
        if review.is_dry_run and row.get("sideEffects") not in ("None", "NoneOnDryRun"):
            raise BadRequest(f'admission webhook "{hook.name}" does not support dry run')
        version = next(
            (name for name in listed(row.get("admissionReviewVersions")) if name in _VERSIONS), "v1"
        )
        uid = str(uuid.uuid4())
        document = self._request(invocation, review, version, uid)
        try:
            client = mapped(row.get("clientConfig"))
            answer = await self._caller.post(client, document, int(row.get("timeoutSeconds") or 10))
            response = _response(answer, version, uid)
            patch = _patch(response) if is_mutating else None
        except CallFailed as error:
            text = f'failed calling webhook "{hook.name}": {error}'
            if hook.is_strict:
                details = {"causes": [{"message": text}]}
                raise InternalError(f"Internal error occurred: {text}", details=details) from None
            _log.warning("%s; its failurePolicy lets the request pass", text)
            return None
        review.warnings += [str(text) for text in listed(response.get("warnings"))]
        if response.get("allowed") is not True:
            raise Rejected(hook.name, mapped(response.get("status")))
        return patch

    def _request(self, invocation: Invocation, review: Review, version: str, uid: str) -> Document:
        kinds, resource = self._registry.kinds, invocation.resource
        request = {
            "uid": uid,
            **request_of(review, resource),
            "object": review.object_in(resource, kinds),
            "oldObject": review.old_in(resource, kinds),
        }
        return {"kind": "AdmissionReview", "apiVersion": f"admission.k8s.io/{version}", "request": request}


def _response(answer: Any, version: str, uid: str) -> Mapping[str, Any]:
    """The response in an AdmissionReview. Raises CallFailed unless it is one to our question."""
    review = mapped(answer)
    wanted = f"admission.k8s.io/{version}, Kind=AdmissionReview"
    found = f"{review.get('apiVersion', '')}, Kind={review.get('kind', '')}"
    response = review.get("response")
    if version == "v1" and found != wanted:
        raise CallFailed(
            f"received invalid webhook response: expected webhook response of {wanted}, got {found}"
        )
    if not isinstance(response, dict):
        raise CallFailed("received invalid webhook response: webhook response was absent")
    if version == "v1" and response.get("uid") != uid:
        text = f'expected response.uid="{uid}", got "{response.get("uid") or ""}"'
        raise CallFailed(f"received invalid webhook response: {text}")
    return response


def _patch(response: Mapping[str, Any]) -> Any:
    """The JSON patch of a response. Raises CallFailed for one that cannot be read."""
    patch, kind = response.get("patch"), response.get("patchType")
    if patch and not kind:
        text = "webhook returned response.patch but not response.patchType"
        raise CallFailed(f"received invalid webhook response: {text}")
    if not patch:
        return None
    if kind != "JSONPatch":
        raise CallFailed(f'received invalid webhook response: invalid value of response.patchType "{kind}"')
    try:
        return msgspec.json.decode(base64.b64decode(patch, validate=True))
    except (binascii.Error, TypeError, ValueError, msgspec.DecodeError) as error:
        raise CallFailed(f"received undecodable patch in webhook response: {error}") from None

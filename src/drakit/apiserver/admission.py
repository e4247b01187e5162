"""Admission by what users install: admission policies with their bindings, and webhooks.

Every write comes by here twice: `mutate` before it is prepared and checked, `validate` after, shortly before
it is stored. Mutating policies come before mutating webhooks; those that want it (reinvocationPolicy
IfNeeded) see once more what was changed after them. Whoever configures admission is not held up by it:
requests about policies, bindings and webhook configurations pass.
Source: apiserver/pkg/admission/plugin/policy/{generic,validating,mutating}, plugin/webhook.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from drakit.apiserver.admission_request import Denied, Resource, Review, denied
from drakit.apiserver.mutating import Chain, MutatingPolicy
from drakit.apiserver.policy import Denial, Policy
from drakit.apiserver.policy_bound import Bound, Misconfigured
from drakit.apiserver.webhook import Decode, Webhooks
from drakit.apiserver.webhook_call import PodIOs
from drakit.errors import BadRequest
from drakit.model.validation.field import listed, mapped
from drakit.transport import Document

if TYPE_CHECKING:
    from drakit.apiserver.registry import Registry

_log = logging.getLogger(__name__)
GROUP = "admissionregistration.k8s.io"
_POLICIES = f"validatingadmissionpolicies.{GROUP}"
_BINDINGS = f"validatingadmissionpolicybindings.{GROUP}"
_MUTATING = f"mutatingadmissionpolicies.{GROUP}"
_MUTATING_BINDINGS = f"mutatingadmissionpolicybindings.{GROUP}"


class Admission:
    """See the module."""

    def __init__(self, registry: Registry, pod_io: PodIOs) -> None:
        self._registry = registry
        self._webhooks = Webhooks(registry, pod_io)
        self._validating = Bound(registry, _POLICIES, _BINDINGS, Policy)
        self._mutating = Bound(registry, _MUTATING, _MUTATING_BINDINGS, MutatingPolicy)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is installed: then nobody need be asked."""
        return not self._validating.all() and not self._mutating.all() and self._webhooks.is_idle

    # --- the hooks --------------------------------------------------------------------------------

    async def mutate(self, review: Review, decode: Decode) -> bool:
        """Change `review.new` as admission wants it; whether others were waited for."""
        if _is_exempt(review):
            return False
        chain = Chain(self._mutating, review, decode, self._registry.type_of)
        chain.run()
        before = review.new
        has_waited = await self._webhooks.mutate(review, decode)
        chain.run_again(was_changed=review.new != before)
        return has_waited

    async def validate(self, review: Review) -> bool:
        """Raises Denied, or what a webhook raises, for what may not be; whether others were waited for."""
        if _is_exempt(review):
            return False
        self._check_policies(review)
        return await self._webhooks.validate(review)

    # --- validating policies ----------------------------------------------------------------------

    def _check_policies(self, review: Review) -> None:
        denied: list[tuple[Policy, Document | None, Denial]] = []
        for policy, bindings in self._validating.all():
            match = mapped(policy.spec.get("matchConstraints"))
            try:
                resource = self._validating.matched(review, match)
                if resource is None:
                    continue
                self._validating.param_kind(policy)
            except (Misconfigured, BadRequest) as error:
                denied += _failure(policy, None, f"failed to configure policy: {error}")
                continue
            for binding in bindings:
                denied += self._check_binding(review, resource, policy, binding)
        if denied:
            raise _refusal(review, *denied[0])

    def _check_binding(
        self, review: Review, resource: Resource, policy: Policy, binding: Document
    ) -> Iterator[tuple[Policy, Document | None, Denial]]:
        spec, name = mapped(binding.get("spec")), binding["metadata"]["name"]
        try:
            match = spec.get("matchResources")
            if match is not None and self._validating.matched(review, match) is None:
                return
            all_params = list(self._validating.params(review, policy, spec.get("paramRef")))
        except (Misconfigured, BadRequest) as error:
            yield from _failure(policy, binding, f"failed to configure binding: {error}")
            return
        actions = listed(spec.get("validationActions"))
        values = self._validating.values(review, resource)
        for params in all_params:
            denials, annotations = policy.decide({**values, "params": params})
            for key, text in annotations.items():
                _log.info("audit %s/%s: %s", policy.name, key, text)
            for denial in denials:
                if "Audit" in actions:
                    _log.info("audit: policy %s, binding %s: %s", policy.name, name, denial.message)
                if "Warn" in actions:
                    review.warnings.append(
                        f"Validation failed for ValidatingAdmissionPolicy '{policy.name}' with binding "
                        f"'{name}': {denial.message}"
                    )
                if "Deny" in actions:
                    yield policy, binding, denial


def _is_exempt(review: Review) -> bool:
    """The configuration of admission itself."""
    return review.target.kind.group == GROUP


def _failure(
    policy: Policy, binding: Document | None, text: str
) -> Iterator[tuple[Policy, Document | None, Denial]]:
    if policy.is_strict:
        yield policy, binding, Denial(text, "", True)


def _refusal(review: Review, policy: Policy, binding: Document | None, denial: Denial) -> Denied:
    by = f" with binding '{binding['metadata']['name']}'" if binding is not None else ""
    message = f"ValidatingAdmissionPolicy '{policy.name}'{by} denied request: {denial.message}"
    return denied(review, message, denial.reason or "Invalid", [{"message": message}])

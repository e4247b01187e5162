"""Admission by what users install: ValidatingAdmissionPolicies with their bindings, and webhooks.

Every write comes by here twice: `mutate` before it is prepared and checked, `validate` after, shortly before
it is stored. Whoever configures admission is not held up by it: requests about policies, bindings and
webhook configurations pass.
Source: apiserver/pkg/admission/plugin/policy/{generic,validating}, plugin/webhook.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from drakit.apiserver.admission_request import Resource, Review, find_rule, is_selected
from drakit.apiserver.policy import Denial, Policy
from drakit.apiserver.policy_scope import values_of
from drakit.apiserver.route import Target
from drakit.apiserver.view import represent, stored_document
from drakit.apiserver.webhook import Decode, Webhooks
from drakit.apiserver.webhook_call import PodIOs
from drakit.errors import APIError, BadRequest
from drakit.model.selector import read_labels
from drakit.model.validation.field import listed, mapped
from drakit.store import Change
from drakit.transport import Document

if TYPE_CHECKING:
    from drakit.apiserver.kinds import Kind
    from drakit.apiserver.registry import Registry

_log = logging.getLogger(__name__)
GROUP = "admissionregistration.k8s.io"
_POLICIES = f"validatingadmissionpolicies.{GROUP}"
_BINDINGS = f"validatingadmissionpolicybindings.{GROUP}"
_CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413}
Bound = tuple[Policy, list[Document]]


class Denied(APIError):
    """A request that admission refuses, with the reason that the policy or webhook gives."""

    def __init__(self, message: str, *, code: int, why: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message, code=code, details=details)
        self._why = why

    def status(self) -> dict[str, Any]:
        document = super().status()
        code = document.pop("code")
        details = document.pop("details", None)
        document |= {"reason": self._why} if self._why else {}
        document |= {"details": details} if details is not None else {}
        return document | {"code": code}


class _Misconfigured(Exception):
    """A policy or binding that cannot be applied; its text is the error."""


class Admission:
    """See the module."""

    def __init__(self, registry: Registry, pod_io: PodIOs) -> None:
        self._registry = registry
        self._webhooks = Webhooks(registry, pod_io)
        self._compiled: dict[str, tuple[object, Policy]] = {}
        self._bound: list[Bound] | None = None
        for collection in (_POLICIES, _BINDINGS):
            registry.store.subscribe(collection, self._forget)

    def _forget(self, changes: Sequence[Change]) -> None:
        self._bound = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is installed: then nobody need be asked."""
        return not self._policies() and self._webhooks.is_idle

    # --- the hooks --------------------------------------------------------------------------------

    async def mutate(self, review: Review, decode: Decode) -> bool:
        """Change `review.new` as admission wants it; whether others were waited for."""
        return not _is_exempt(review) and await self._webhooks.mutate(review, decode)

    async def validate(self, review: Review) -> bool:
        """Raises Denied, or what a webhook raises, for what may not be; whether others were waited for."""
        if _is_exempt(review):
            return False
        if bound := self._policies():
            self._check_policies(review, bound)
        return await self._webhooks.validate(review)

    # --- policies ---------------------------------------------------------------------------------

    def _policies(self) -> list[Bound]:
        """The policies that are bound, by name."""
        if self._bound is None:
            bindings: dict[str, list[Document]] = {}
            for entry in self._registry.store.page(_BINDINGS):
                binding = stored_document(entry)
                bindings.setdefault(mapped(binding.get("spec")).get("policyName") or "", []).append(binding)
            entries = [entry for entry in self._registry.store.page(_POLICIES) if entry.key in bindings]
            compiled = {}
            for entry in entries:
                document = stored_document(entry)
                mark = (document["metadata"].get("uid"), document.get("spec"))
                known = self._compiled.get(entry.key)
                fresh = known if known and known[0] == mark else None
                compiled[entry.key] = fresh or (mark, Policy(document, self._registry.profile))
            self._compiled = compiled
            self._bound = [(policy, bindings[name]) for name, (_, policy) in compiled.items()]
        return self._bound

    def _check_policies(self, review: Review, bound: list[Bound]) -> None:
        denied: list[tuple[Policy, Document | None, Denial]] = []
        for policy, bindings in bound:
            match = mapped(policy.spec.get("matchConstraints"))
            try:
                resource = self._matched(review, match)
                if resource is None:
                    continue
                self._param_kind(policy)
            except (_Misconfigured, BadRequest) as error:
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
            if match is not None and self._matched(review, match) is None:
                return
            all_params = list(self._params(review, policy, spec.get("paramRef")))
        except (_Misconfigured, BadRequest) as error:
            yield from _failure(policy, binding, f"failed to configure binding: {error}")
            return
        actions = listed(spec.get("validationActions"))
        values = self._values(review, resource)
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

    def _matched(self, review: Review, match: Mapping[str, Any]) -> Resource | None:
        """What the request counts as for `matchConstraints` or `matchResources`, or None."""
        kinds, how = self._registry.kinds, match.get("matchPolicy")
        if not is_selected(review, match, self._registry.namespace_labels):
            return None
        if find_rule(review, listed(match.get("excludeResourceRules")), how, kinds) is not None:
            return None
        rules = listed(match.get("resourceRules"))
        return find_rule(review, rules, how, kinds) if rules else review.resource()

    def _values(self, review: Review, resource: Resource) -> dict[str, Any]:
        registry, namespace = self._registry, review.target.namespace
        kinds = registry.kinds
        objects = review.object_in(resource, kinds), review.old_in(resource, kinds)
        found = registry.find("Namespace", "", namespace) if namespace else None
        return values_of(review, resource, objects, found, registry.authorizer)

    # --- parameters -------------------------------------------------------------------------------

    def _param_kind(self, policy: Policy) -> tuple[Kind, str] | None:
        """The kind of a policy's parameters, and their version."""
        wanted = policy.spec.get("paramKind")
        if wanted is None:
            return None
        group, _, version = str(wanted.get("apiVersion", "")).rpartition("/")
        for row in self._registry.kinds.rows:
            if (row.group, row.kind) == (group, wanted.get("kind")) and version in row.versions:
                return row, version
        text = f"{group}/{version}, Kind={wanted.get('kind')}"
        raise _Misconfigured(f"failed to find resource referenced by paramKind: '{text}'")

    def _params(
        self, review: Review, policy: Policy, reference: Mapping[str, Any] | None
    ) -> Iterator[Document | None]:
        """The parameters that the policy is applied with, one after the other."""
        found = self._param_kind(policy)
        if found is None or reference is None:
            yield None
            return
        kind, version = found
        namespace = ""
        if kind.is_namespaced:
            namespace = reference.get("namespace") or review.namespace
            if not namespace:
                raise _Misconfigured(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                )
        elif reference.get("namespace"):
            raise _Misconfigured("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        params = self._selected(kind, version, namespace, reference)
        if not params and reference.get("parameterNotFoundAction") == "Deny":
            text = "no params found for policy binding with `Deny` parameterNotFoundAction"
            raise _Misconfigured(text)
        yield from params

    def _selected(
        self, kind: Kind, version: str, namespace: str, reference: Mapping[str, Any]
    ) -> list[Document]:
        store, name = self._registry.store, reference.get("name")
        if name:
            entry = store.head(kind.collection, f"{namespace}/{name}" if kind.is_namespaced else name)
            entries = [entry] if entry is not None else []
        else:
            entries = list(store.page(kind.collection, f"{namespace}/" if kind.is_namespaced else ""))
        selector = None if name else read_labels(reference.get("selector"))
        documents = [stored_document(entry) for entry in entries]
        return [
            represent(document, Target(kind, version, namespace, document["metadata"]["name"]))
            for document in documents
            if selector is None or selector.matches(document["metadata"].get("labels") or {})
        ]


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


def denied(review: Review, message: str, reason: str, causes: list[Document] | None = None) -> Denied:
    """The error for a request that admission refuses."""
    kind, name = review.target.kind, review.shown_name
    details = {"name": name, "group": kind.group, "kind": kind.plural, "causes": causes}
    return Denied(
        f'{kind.resource} "{name}" is forbidden: {message}',
        code=_CODES.get(reason, 422),
        why=reason,
        details={key: value for key, value in details.items() if value},
    )

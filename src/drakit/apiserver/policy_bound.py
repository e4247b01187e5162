"""The policies of one kind that are bound, whom they concern, and with which parameters.

Source: apiserver/pkg/admission/plugin/policy/{generic,matching}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from drakit.apiserver.admission_request import Resource, Review, find_rule, is_selected
from drakit.apiserver.policy_scope import values_of
from drakit.apiserver.route import Target
from drakit.apiserver.view import represent, stored_document
from drakit.model.selector import read_labels
from drakit.model.validation.field import listed, mapped
from drakit.profile import Profile
from drakit.store import Change
from drakit.transport import Document

if TYPE_CHECKING:
    from drakit.apiserver.kinds import Kind
    from drakit.apiserver.registry import Registry


class _Policy(Protocol):
    spec: Document


P = TypeVar("P", bound=_Policy)


class Misconfigured(Exception):
    """A policy or binding that cannot be applied; its text is the error."""


class Bound(Generic[P]):
    """See the module. Policies are made ready by `make` when they change."""

    def __init__(
        self, registry: Registry, policies: str, bindings: str, make: Callable[[Document, Profile], P]
    ) -> None:
        """`policies` and `bindings` are collections."""
        self._registry = registry
        self._collections = policies, bindings
        self._make = make
        self._compiled: dict[str, tuple[object, P]] = {}
        self._bound: list[tuple[P, list[Document]]] | None = None
        for collection in self._collections:
            registry.store.subscribe(collection, self._forget)

    def _forget(self, changes: Sequence[Change]) -> None:
        self._bound = None

    def all(self) -> list[tuple[P, list[Document]]]:
        """The policies that are bound, by name, each with its bindings."""
        if self._bound is None:
            policies, binders = self._collections
            bindings: dict[str, list[Document]] = {}
            for entry in self._registry.store.page(binders):
                binding = stored_document(entry)
                bindings.setdefault(mapped(binding.get("spec")).get("policyName") or "", []).append(binding)
            entries = [entry for entry in self._registry.store.page(policies) if entry.key in bindings]
            compiled = {}
            for entry in entries:
                document = stored_document(entry)
                mark = (document["metadata"].get("uid"), document.get("spec"))
                known = self._compiled.get(entry.key)
                fresh = known if known and known[0] == mark else None
                compiled[entry.key] = fresh or (mark, self._make(document, self._registry.profile))
            self._compiled = compiled
            self._bound = [(policy, bindings[name]) for name, (_, policy) in compiled.items()]
        return self._bound

    def matched(self, review: Review, match: Mapping[str, Any]) -> Resource | None:
        """What the request counts as for `matchConstraints` or `matchResources`, or None."""
        kinds, how = self._registry.kinds, match.get("matchPolicy")
        if not is_selected(review, match, self._registry.namespace_labels):
            return None
        if find_rule(review, listed(match.get("excludeResourceRules")), how, kinds) is not None:
            return None
        rules = listed(match.get("resourceRules"))
        return find_rule(review, rules, how, kinds) if rules else review.resource()

    def values(self, review: Review, resource: Resource) -> dict[str, Any]:
        registry, namespace = self._registry, review.target.namespace
        kinds = registry.kinds
        objects = review.object_in(resource, kinds), review.old_in(resource, kinds)
        found = registry.find("Namespace", "", namespace) if namespace else None
        return values_of(review, resource, objects, found, registry.authorizer)

    # --- parameters -------------------------------------------------------------------------------

    def param_kind(self, policy: P) -> tuple[Kind, str] | None:
        """The kind of a policy's parameters, and their version."""
        wanted = policy.spec.get("paramKind")
        if wanted is None:
            return None
        group, _, version = str(wanted.get("apiVersion", "")).rpartition("/")
        for row in self._registry.kinds.rows:
            if (row.group, row.kind) == (group, wanted.get("kind")) and version in row.versions:
                return row, version
        text = f"{group}/{version}, Kind={wanted.get('kind')}"
        raise Misconfigured(f"failed to find resource referenced by paramKind: '{text}'")

    def params(
        self, review: Review, policy: P, reference: Mapping[str, Any] | None
    ) -> Iterator[Document | None]:
        """The parameters that the policy is applied with, one after the other."""
        found = self.param_kind(policy)
        if found is None or reference is None:
            yield None
            return
        kind, version = found
        namespace = ""
        if kind.is_namespaced:
            namespace = reference.get("namespace") or review.namespace
            if not namespace:
                raise Misconfigured(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                )
        elif reference.get("namespace"):
            raise Misconfigured("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        params = self._selected(kind, version, namespace, reference)
        if not params and reference.get("parameterNotFoundAction") == "Deny":
            text = "no params found for policy binding with `Deny` parameterNotFoundAction"
            raise Misconfigured(text)
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

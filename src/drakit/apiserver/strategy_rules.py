"""What the API server does about one kind beyond storing it.

The order of a write is upstream's (registry/rest/create.go, update.go):

    create   decoding.decode -> prepare_create -> validate_create -> track_managed_fields -> store
    update   decoding.decode -> prepare_update -> validate_update -> track_managed_fields -> store
    patch    encode -> apply_patch -> decode -> as update

Documents are in the storage version. managedFields are computed on encoded documents (the version of the
request) and `metadata.managedFields` is copied over. A strategy holds no state: one class does what all
kinds share, and a `Rules` value says what is special about a kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct, field

from drakit.apiserver.apply_fields import Fields
from drakit.errors import FieldError
from drakit.model.validation.field import Errors, same
from drakit.model.validation.meta import any_meta, any_meta_update, object_meta, object_meta_update
from drakit.model.validation.names import Names, dns_subdomain, path_segment
from drakit.profile import Profile
from drakit.transport import Document


class Context(Struct, kw_only=True):
    """What a strategy may ask about the request and the cluster around it.

    `now` is RFC 3339 with seconds, `verb` the request's (create, update, patch), `subresource`
    what an update goes through, `user_node` the node that
    the user's token is bound to. `namespace_labels(name)` gives a namespace's labels ({} without one);
    `find(kind, namespace, name)` another object ("PriorityClass", "", "high") or None; `refusal(verb,
    resource, namespace, name)` says why the user may not do that on resource.k8s.io, "" if they may (None:
    no authorization is done, everything is allowed). Advice for the person who wrote the object goes to
    `hints` and from there into `Warning` headers, whether the object is accepted or not.
    """

    profile: Profile
    now: str
    user: str = ""
    groups: tuple[str, ...] = ()
    version: str = ""
    verb: str = ""
    subresource: str = ""
    user_node: str = ""
    namespace_labels: Callable[[str], Mapping[str, str]]
    find: Callable[[str, str, str], Document | None]
    refusal: Callable[[str, str, str, str], str] | None = None
    hints: list[str] = field(default_factory=list)


def _nothing(document: Document, context: Context) -> None:
    pass


def _no_change(new: Document, old: Document, subresource: str, context: Context) -> None:
    pass


def _valid(document: Document, old: Document | None, context: Context) -> Errors:
    return []


def _silent(document: Document, old: Document | None, context: Context) -> list[str]:
    return []


ALL_METADATA = ("labels", "annotations", "finalizers", "ownerReferences", "generation")
"""What `status` does not change of objects whose metadata is reset (ResetObjectMetaForStatus)."""


class Rules(Struct, frozen=True, kw_only=True):
    """What is special about a kind.

    `check` has the rules of the object (old None on create), `check_update` those of a change where they
    are others, `check_status` those of a change through `status`, `before` what comes before all of them.
    `status` is the status a new object has; `resets_status` is false where a new object brings its own.
    `counts_generation` says whether `metadata.generation` exists. `kept_metadata` names the
    metadata that a change through `status` leaves alone.
    """

    name: Names = dns_subdomain
    is_namespaced: bool = True
    has_status: bool = False
    resets_status: bool = True
    status: Document | None = None
    counts_generation: bool = False
    kept_metadata: tuple[str, ...] = ALL_METADATA
    revalidates_name: bool = False
    prepare: Callable[[Document, Context], None] = _nothing
    change: Callable[[Document, Document, str, Context], None] = _no_change
    before: Callable[[Document, Document | None, str, Context], Errors] | None = None
    check: Callable[[Document, Document | None, Context], Errors] = _valid
    check_update: Callable[[Document, Document, Context], Errors] | None = None
    check_status: Callable[[Document, Document, Context], Errors] | None = None
    warn: Callable[[Document, Document | None, Context], list[str]] = _silent


_IDENTITY = ("uid", "creationTimestamp", "namespace")
_DELETION = ("deletionTimestamp", "deletionGracePeriodSeconds")


class Strategy:
    """The rules of one kind. Documents given to prepare_* belong to the caller and are changed in place."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def prepare_create(self, document: Document, context: Context) -> None:
        """Reset what a client may not set on create (status, generation), drop fields of disabled gates,
        do what upstream's built-in admission does (service account, priority, tolerations)."""
        metadata = document.setdefault("metadata", {})
        metadata.pop("generation", None)
        if self.rules.counts_generation:
            metadata["generation"] = 1
        if self.rules.has_status and self.rules.resets_status:
            document.pop("status", None)
            if self.rules.status is not None:
                document["status"] = {**self.rules.status}
        self.rules.prepare(document, context)

    def validate_create(self, document: Document, context: Context) -> list[FieldError]:
        """Every rule the new object breaks, in upstream's order."""
        rules = self.rules
        errors = rules.before(document, None, "", context) if rules.before else []
        errors += object_meta(document["metadata"], rules.is_namespaced, rules.name)
        return errors + rules.check(document, None, context)

    def prepare_update(self, new: Document, old: Document, subresource: str, context: Context) -> None:
        """Take from `old` what this request may not change (status on a plain update, all but status on
        `status`), count `generation` up if the spec changed. `old` stays unchanged."""
        metadata, before = new.setdefault("metadata", {}), old.get("metadata") or {}
        for name in _IDENTITY:
            if before.get(name) and (name == "creationTimestamp" or not metadata.get(name)):
                metadata[name] = before[name]
        for name in _DELETION:
            if before.get(name) is not None and (name == "deletionTimestamp" or metadata.get(name) is None):
                metadata[name] = before[name]
        if subresource == "status":
            self._keep_all_but_status(new, old)
        elif self.rules.has_status:
            _take(new, old, "status")
        self.rules.change(new, old, subresource, context)
        metadata.pop("generation", None)
        generation = before.get("generation")
        if self.rules.counts_generation:
            counted = ("metadata", "status") if self.rules.has_status else ("metadata",)
            is_changed = any(
                not same(new.get(key), old.get(key))
                for key in new.keys() | old.keys()
                if key not in _TYPE + counted
            )
            metadata["generation"] = (generation or 0) + 1 if is_changed else generation or 1

    def _keep_all_but_status(self, new: Document, old: Document) -> None:
        for key in (new.keys() | old.keys()) - {"status", "metadata", "kind", "apiVersion"}:
            _take(new, old, key)
        for name in self.rules.kept_metadata:
            _take(new["metadata"], old.get("metadata") or {}, name)

    def reset_fields(self, subresource: str) -> Fields:
        """The paths at which a request cannot change anything, so that nobody comes to own them."""
        if subresource != "status":
            return frozenset({("f:status",)}) if self.rules.has_status else frozenset()
        kept = self.rules.kept_metadata
        if kept == ALL_METADATA:
            return frozenset({("f:spec",), ("f:metadata",)})
        return frozenset({("f:spec",), *(("f:metadata", f"f:{name}") for name in kept)})

    def validate_update(
        self, new: Document, old: Document, subresource: str, context: Context
    ) -> list[FieldError]:
        """Every rule the changed object or the change breaks. What is wrong with the metadata comes more
        than once, since upstream looks at it for every kind and again for this one."""
        rules = self.rules
        context.subresource = subresource
        metadata, before = new["metadata"], old.get("metadata") or {}
        errors = any_meta(metadata, rules.is_namespaced, path_segment) + any_meta_update(metadata, before)
        errors += rules.before(new, old, subresource, context) if rules.before else []
        if subresource == "status":
            errors += object_meta_update(metadata, before)
            return errors + (rules.check_status(new, old, context) if rules.check_status else [])
        if rules.revalidates_name:
            errors += object_meta(metadata, rules.is_namespaced, rules.name)
        errors += object_meta_update(metadata, before)
        if rules.check_update is not None:
            return errors + rules.check_update(new, old, context)
        return errors + rules.check(new, old, context)

    def warnings(self, document: Document, old: Document | None, context: Context) -> list[str]:
        """Texts for `Warning` headers, deprecated versions aside (`decoding.deprecation`)."""
        return self.rules.warn(document, old, context)


_TYPE = ("kind", "apiVersion")


def _take(new: Document, old: Document, key: str) -> None:
    if key in old:
        new[key] = old[key]
    else:
        new.pop(key, None)

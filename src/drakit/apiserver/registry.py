"""What every verb works with: the store, the kinds, the rules of each kind, and the way in and out.

The documents in the store have no apiVersion and no kind; their metadata stands in upstream's order and
holds the revision as resourceVersion.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from drakit.apiserver import decoding, events
from drakit.apiserver.admission import Admission
from drakit.apiserver.admission_request import Review
from drakit.apiserver.auth import SERVER, Attributes, Authorizer, User
from drakit.apiserver.custom_version import priority
from drakit.apiserver.escalation import check_grant
from drakit.apiserver.kinds import Kind, Kinds, kinds_for
from drakit.apiserver.node_authorizer import NodeAuthorizer
from drakit.apiserver.node_restriction import check_node
from drakit.apiserver.quota import QuotaAdmission
from drakit.apiserver.rbac import RBAC
from drakit.apiserver.route import Target
from drakit.apiserver.schema import Type, type_for
from drakit.apiserver.strategy import Context, Strategy, strategy_for
from drakit.apiserver.tls import Authority
from drakit.apiserver.view import represent, stored_document
from drakit.apiserver.watch import Hub
from drakit.apiserver.webhook_call import PodIOs
from drakit.errors import AlreadyExists, BadRequest, Conflict
from drakit.model.validation.meta import MAX_MANAGER
from drakit.profile import Profile
from drakit.store import Entry, Stale, Store
from drakit.transport import Document

_METADATA = (
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
)
_CHANGED = "the object has been modified; please apply your changes to the latest version and try again"


class Call(Struct, kw_only=True):
    """One request after authentication and routing. `document` is the decoded body and must not be
    changed; `raw` the JSON text it came from, if there was one; `odd` says what a patch or
    YAML has twice. Warnings gather in `warnings`."""

    user: User
    verb: str
    target: Target
    query: Mapping[str, str]
    content_type: str = "application/json"
    document: Any = None
    raw: bytes | None = None
    odd: Sequence[str] = ()
    user_agent: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def is_dry_run(self) -> bool:
        return bool(self.query.get("dryRun"))

    @property
    def manager(self) -> str:
        """The field manager: named by the request, or the client's own name as far as it can be shown."""
        if named := self.query.get("fieldManager"):
            return named
        name = "".join(char for char in self.user_agent.partition("/")[0] if char.isprintable())
        return name.encode()[:MAX_MANAGER].decode(errors="ignore") or "unknown"

    @property
    def field_validation(self) -> str:
        return self.query.get("fieldValidation") or "Warn"


class Registry:
    """See the module."""

    def __init__(
        self,
        store: Store,
        profile: Profile,
        clock: Callable[[], datetime.datetime],
        pod_io: PodIOs,
    ) -> None:
        self.store = store
        self.profile = profile
        self.kinds = self._built_in = kinds_for(profile)
        self.rbac = RBAC(store)
        self.authorizer = Authorizer(self.rbac.allows, NodeAuthorizer(store).refusal)
        self.quota = QuotaAdmission(store, self.time)
        self.certificate_authority: Authority | None = None
        self.admission = Admission(self, pod_io)
        self._clock = clock
        self._hubs: dict[str, Hub] = {}
        self._by_name = {kind.kind: kind for kind in reversed(self.kinds.rows) if kind.is_stored}

    def time(self) -> datetime.datetime:
        return self._clock()

    def now(self) -> str:
        return self._clock().replace(tzinfo=None).isoformat(timespec="seconds") + "Z"

    def hub(self, kind: Kind) -> Hub:
        found = self._hubs.get(kind.collection)
        if found is None:
            found = self._hubs[kind.collection] = Hub(self.store, kind.collection)
        return found

    def hubs(self) -> list[Hub]:
        return list(self._hubs.values())

    # --- custom resources -------------------------------------------------------------------------

    def serve(self, rows: Iterable[Kind]) -> None:
        """Serve these custom kinds, and no others, beside the built-in ones."""
        known = self._built_in.group_versions()
        new = [row for row in rows if row.versions[0] not in known.get(row.group, ())]
        new.sort(key=lambda row: (row.group, priority(row.versions[0]), row.plural))
        self.kinds = Kinds((*self._built_in.rows, *new))

    def end_watches(self, collection: str) -> None:
        """End the watches of one collection; their clients begin anew."""
        if (found := self._hubs.get(collection)) is not None:
            found.end()

    # --- looking at objects -----------------------------------------------------------------------

    def admit(self, user: User, target: Target, new: Document | None, old: Document | None) -> None:
        """Raises Forbidden if `user`, who may make such requests, may not bring this object from `old`
        (None: create) to `new` (None: delete)."""
        if not user.is_admin:
            check_node(self.find, user, target, new, old)
            if new is not None:
                check_grant(self.rbac, self.authorizer, user, target, new, old)

    def review(
        self, call: Call, target: Target, operation: str, new: Document | None, old: Document | None
    ) -> Review | None:
        """The write of an object as admission sees it; None if nobody is to be asked. A name that the server
        made up is not shown."""
        if call.user is SERVER or self.admission.is_idle:
            return None
        is_named = bool(call.target.name) or not (new or {}).get("metadata", {}).get("generateName")
        options = {"kind": f"{operation.title()}Options", "apiVersion": "meta.k8s.io/v1"}
        fields = ("fieldManager", "fieldValidation")
        options |= {field: call.query[field] for field in fields if call.query.get(field)}
        return Review(
            user=call.user,
            target=target,
            operation=operation,
            name=target.name if is_named else "",
            new=new,
            old=old,
            options=options | ({"dryRun": ["All"]} if call.is_dry_run else {}),
            is_dry_run=call.is_dry_run,
            warnings=call.warnings,
        )

    def head(self, target: Target) -> Entry:
        """The newest entry of the object. Raises NotFound."""
        entry = self.store.head(target.kind.collection, target.key)
        if entry is None:
            raise target.missing()
        return entry

    def find(self, kind: str, namespace: str, name: str) -> Document | None:
        """An object by the name of its kind, as stored."""
        row = self._by_name.get(kind)
        if row is None:
            return None
        key = f"{namespace}/{name}" if row.is_namespaced else name
        entry = self.store.head(row.collection, key)
        return stored_document(entry) if entry else None

    def namespace_labels(self, name: str) -> Mapping[str, str]:
        found = self.find("Namespace", "", name) or {}
        labels: Mapping[str, str] = found.get("metadata", {}).get("labels") or {}
        return labels

    # --- the rules of a kind ----------------------------------------------------------------------

    def strategy(self, kind: Kind) -> Strategy:
        return kind.custom.strategy if kind.custom else strategy_for(kind.kind, kind.group)

    def type_of(self, target: Target) -> Type | None:
        if target.kind.custom is not None:
            return target.kind.custom.type
        return type_for(target.api_version, target.kind.kind, self.profile.version)

    def context(self, call: Call) -> Context:
        user = call.user

        def refusal(verb: str, resource: str, namespace: str, name: str) -> str:
            plural, _, subresource = resource.partition("/")
            wish = Attributes(verb, "resource.k8s.io", plural, subresource, namespace, name)
            reason = self.authorizer.decide(user, wish)
            return "" if reason is None else wish.denied_to(user, reason).message

        return Context(
            profile=self.profile,
            now=self.now(),
            user=user.name,
            groups=user.groups,
            version=call.target.version,
            verb=call.verb,
            user_node=user.node,
            hints=call.warnings,
            namespace_labels=self.namespace_labels,
            find=self.find,
            refusal=refusal,
        )

    # --- in and out -------------------------------------------------------------------------------

    def decode(self, call: Call, document: Any, raw: bytes | None = None) -> Document:
        """`document` (in the version of the request, kept as it is) checked, with defaults, as stored but
        with apiVersion and kind. Warnings go to the call."""
        target = call.target
        kind, validation = target.kind, call.field_validation
        own = dict(document) if isinstance(document, dict) else document
        if kind.custom is not None:
            return self._decode_custom(call, own, raw)
        decoded = decoding.decode(
            own,
            kind,
            target.version,
            self.profile,
            field_validation=validation,
            raw=raw,
            said=call.odd,
            now=self.now(),
            hints=call.warnings,
        )
        call.warnings += decoded.warnings
        if not isinstance(decoded.document.get("metadata"), dict):
            raise BadRequest("the object has no metadata")
        return events.to_core(decoded.document) if kind.group == events.GROUP else decoded.document

    def _decode_custom(self, call: Call, document: Any, raw: bytes | None) -> Document:
        kind = call.target.kind
        assert kind.custom is not None
        decoded = decoding.decode_custom(
            document,
            kind,
            call.target.version,
            kind.custom.schema,
            field_validation=call.field_validation,
            raw=raw,
            said=call.odd,
        )
        call.warnings += decoded.warnings
        if not kind.is_namespaced:
            decoded.document["metadata"].pop("namespace", None)
        return decoded.document

    def represent(self, stored: Document, target: Target) -> Document:
        """A stored object in the version of `target`."""
        return represent(stored, target)

    async def write(
        self, target: Target, old: Entry | None, document: Document, *, is_dry_run: bool
    ) -> Entry:
        """Store `document` as the object's next state. Raises AlreadyExists or Conflict if `old` is no
        longer what is there."""
        stored = {key: value for key, value in document.items() if key not in ("kind", "apiVersion")}
        given = stored["metadata"]
        metadata = {key: given[key] for key in _METADATA if key in given}
        metadata |= {key: value for key, value in given.items() if key not in metadata}
        metadata = {key: value for key, value in metadata.items() if value is not None}
        stored = {"metadata": metadata} | stored
        stored["metadata"] = metadata

        def value(revision: int) -> bytes:
            if revision:
                metadata["resourceVersion"] = str(revision)
            return msgspec.json.encode(stored)

        if old is None:
            metadata.pop("resourceVersion", None)
            at = list(metadata).index("uid") + 1 if "uid" in metadata else len(metadata)
            rows = list(metadata.items())
            metadata = dict([*rows[:at], ("resourceVersion", ""), *rows[at:]])
            stored["metadata"] = metadata
        elif value(0) == old.value:
            return old
        if is_dry_run:
            if old is None:
                metadata.pop("resourceVersion")
            return Entry(target.key, old.revision if old else 0, value(0))
        return await self.commit(target, old, value)

    async def commit(self, target: Target, old: Entry | None, value: Callable[[int], bytes] | None) -> Entry:
        """Replace `old` by `value(revision)`, or delete it with None."""
        try:
            done = self.store.write(target.kind.collection, target.key, old.revision if old else 0, value)
        except Stale:
            raise (self.changed(target) if old else self.exists(target)) from None
        return await done

    def changed(self, target: Target, why: str = _CHANGED) -> Conflict:
        details = {"name": target.name, "group": target.kind.group, "kind": target.kind.plural}
        return Conflict(
            f'Operation cannot be fulfilled on {target.kind.resource} "{target.name}": {why}',
            details={key: text for key, text in details.items() if text},
        )

    def exists(self, target: Target) -> AlreadyExists:
        details = {"name": target.name, "group": target.kind.group, "kind": target.kind.plural}
        return AlreadyExists(
            f'{target.kind.resource} "{target.name}" already exists',
            details={key: text for key, text in details.items() if text},
        )

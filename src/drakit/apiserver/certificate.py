"""Approving CertificateSigningRequests, and the certificate that follows.

A request says by itself for whom the certificate shall be: the common name is the user, organizations are
groups. Approving one of the signers below signs it at once, if this server has an authority that may.
Source: pkg/registry/certificates/certificates/strategy.go, pkg/controller/certificates/signer,
plugin/pkg/admission/certificates.
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping
from typing import Any

import msgspec
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from drakit.apiserver import read
from drakit.apiserver.auth import Attributes
from drakit.apiserver.patch import apply_patch
from drakit.apiserver.registry import Call, Registry
from drakit.apiserver.strategy_certificate import parsed
from drakit.apiserver.tls import Authority
from drakit.apiserver.view import Answer, One, stored_document
from drakit.errors import BadRequest, Forbidden
from drakit.model.validation.field import listed, mapped
from drakit.transport import Document

_GROUP, _PLURAL = "certificates.k8s.io", "certificatesigningrequests"
_CLIENT = "kubernetes.io/kube-apiserver-client"
_SIGNERS: Mapping[str, x509.ObjectIdentifier] = {
    _CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH,
    "kubernetes.io/kube-apiserver-client-kubelet": ExtendedKeyUsageOID.CLIENT_AUTH,
    "kubernetes.io/kubelet-serving": ExtendedKeyUsageOID.SERVER_AUTH,
}
_LIFETIME = 365 * 86400


async def approve(registry: Registry, call: Call) -> Answer:
    """GET, PUT or PATCH of `approval`: the conditions that say Approved or Denied."""
    if call.verb == "get":
        return read.get(registry, call)
    target = call.target
    entry = registry.head(target)
    old = stored_document(entry)
    body: Any = call.document
    if call.verb == "patch":
        body = apply_patch(registry.represent(old, target), body, call.content_type, registry.type_of(target))
    if body is None:
        raise BadRequest("the request has no body: an object was expected")
    wanted = registry.decode(call, body)
    version = wanted["metadata"].get("resourceVersion")
    if version and version != str(entry.revision):
        raise registry.changed(target)
    spec = mapped(old.get("spec"))
    _check_may_approve(registry, call, str(spec.get("signerName") or ""))
    conditions = [
        _dated(row, registry.now()) for row in listed(mapped(wanted.get("status")).get("conditions"))
    ]
    status = {**mapped(old.get("status")), "conditions": conditions}
    types = {row.get("type") for row in conditions}
    if "Approved" in types and not types & {"Denied", "Failed"} and not status.get("certificate"):
        status |= _signed(registry.certificate_authority, spec)
    written = await registry.write(target, entry, {**old, "status": status}, is_dry_run=call.is_dry_run)
    return One(target=msgspec.structs.replace(target, subresource=""), entry=written)


def _dated(row: Document, now: str) -> Document:
    return {**row, "lastUpdateTime": row.get("lastUpdateTime") or now} | (
        {} if row.get("lastTransitionTime") else {"lastTransitionTime": now}
    )


def _check_may_approve(registry: Registry, call: Call, signer: str) -> None:
    names = (signer, f"{signer.partition('/')[0]}/*")
    if any(
        registry.authorizer.allows(call.user, Attributes("approve", _GROUP, "signers", name=name))
        for name in names
    ):
        return
    name = call.target.name
    raise Forbidden(
        f'{_PLURAL}.{_GROUP} "{name}" is forbidden: user not permitted to approve requests with '
        f'signerName "{signer}"',
        details={"name": name, "group": _GROUP, "kind": _PLURAL},
    )


def _signed(authority: Authority | None, spec: Document) -> Document:
    """The certificate, as part of a status; nothing for a signer this server does not speak for."""
    usage, request = _SIGNERS.get(str(spec.get("signerName"))), parsed(spec)
    if authority is None or usage is None or request is None:
        return {}
    groups = request.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    if spec.get("signerName") == _CLIENT and any(group.value == "system:masters" for group in groups):
        return {}
    seconds = spec.get("expirationSeconds") or _LIFETIME
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = None
    pem = authority.issue(
        request.subject,
        request.public_key(),  # type: ignore[arg-type]
        usages=[usage],
        lifetime=datetime.timedelta(seconds=min(seconds, _LIFETIME)),
        names=names,
    )
    return {"certificate": base64.b64encode(pem).decode()}

"""CertificateSigningRequests: what a request must say. Who made it is the server's to say.

Source: pkg/registry/certificates/certificates/strategy.go, pkg/apis/certificates/validation.
"""

from __future__ import annotations

import base64
import binascii

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from drakit.apiserver.strategy_rules import Context, Rules
from drakit.model.validation.field import Errors, invalid, listed, mapped, required
from drakit.transport import Document

_GROUP = "certificates.k8s.io"
_SHORTEST = 600


def _prepare(document: Document, context: Context) -> None:
    spec = document.setdefault("spec", {})
    spec["username"] = context.user
    spec["groups"] = list(context.groups)


def _change(new: Document, old: Document, subresource: str, context: Context) -> None:
    new["spec"] = old.get("spec")


def _check(document: Document, old: Document | None, context: Context) -> Errors:
    spec = mapped(document.get("spec"))
    errors: Errors = []
    if parsed(spec) is None:
        text = "PEM block type must be CERTIFICATE REQUEST"
        errors.append(invalid("spec.request", spec.get("request") or "", text))
    if not listed(spec.get("usages")):
        errors.append(required("spec.usages", "usages must be provided"))
    signer = str(spec.get("signerName") or "")
    if not signer:
        errors.append(required("spec.signerName"))
    elif "/" not in signer:
        text = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        errors.append(invalid("spec.signerName", signer, text))
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < _SHORTEST:
        text = "may not specify a duration less than 600 seconds (10 minutes)"
        errors.append(invalid("spec.expirationSeconds", seconds, text))
    return errors


CERTIFICATE_RULES: dict[tuple[str, str], Rules] = {
    (_GROUP, "CertificateSigningRequest"): Rules(
        is_namespaced=False, has_status=True, status={}, prepare=_prepare, change=_change, check=_check
    )
}


def parsed(spec: Document) -> x509.CertificateSigningRequest | None:
    """The request in `spec`, if it is one that its key has signed."""
    try:
        request = x509.load_pem_x509_csr(base64.b64decode(str(spec.get("request") or ""), validate=True))
        return request if request.is_signature_valid else None
    except (ValueError, TypeError, binascii.Error, UnsupportedAlgorithm):
        return None

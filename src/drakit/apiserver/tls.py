"""A certificate authority of the server's own, and its certificate: kubectl sends tokens only over TLS.

The authority also vouches for clients: who comes with a certificate of it is the user that it names.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
_ADDRESSES = ("127.0.0.1", "::1")
_LIFETIME = datetime.timedelta(days=3650)
_BACKDATED = datetime.timedelta(hours=1)
"""Clocks differ: a certificate is good from a little before it was made."""
_RENEW_DAYS = 30


class Files(Struct, frozen=True):
    """Where the PEM files lie. `ca` is what a client must trust; whoever has `ca_key` may sign for it."""

    ca: Path
    ca_key: Path
    certificate: Path
    key: Path


def certificates(folder: Path, hosts: Sequence[str] = ()) -> Files:
    """The files in `folder`. The authority is made if it is missing or about to expire; the server's
    certificate also if it lacks one of `hosts`. Key files are readable for the user alone."""
    files = Files(folder / "ca.crt", folder / "ca.key", folder / "server.crt", folder / "server.key")
    authority = Authority.load(files)
    if authority is None:
        authority = _make_authority(files)
    if not _is_current(files, hosts, authority):
        _make(files, hosts, authority)
    return files


class Authority:
    """Signs certificates that this server believes: its own, and those of clients."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key

    @classmethod
    def load(cls, files: Files) -> Authority | None:
        """The authority in `files`; None if there is none that will last."""
        try:
            certificate = x509.load_pem_x509_certificate(files.ca.read_bytes())
            key = serialization.load_pem_private_key(files.ca_key.read_bytes(), None)
        except (OSError, ValueError):
            return None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            return None
        return cls(certificate, key) if _days_left(certificate) > _RENEW_DAYS else None

    def issue(
        self,
        name: x509.Name,
        public_key: CertificateIssuerPublicKeyTypes,
        *,
        usages: Sequence[x509.ObjectIdentifier],
        lifetime: datetime.timedelta,
        names: x509.SubjectAlternativeName | None = None,
    ) -> bytes:
        """A certificate in PEM: who has the key of `public_key` is `name`, for the extended `usages`."""
        start = datetime.datetime.now(datetime.UTC) - _BACKDATED
        identity = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        end = min(start + _BACKDATED + lifetime, self.certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder(
                self.certificate.subject, name, public_key, x509.random_serial_number(), start, end
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identity), critical=False
            )
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _days_left(certificate: x509.Certificate) -> int:
    return (certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days


def _is_current(files: Files, hosts: Sequence[str], authority: Authority) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        certificate.verify_directly_issued_by(authority.certificate)
        is_complete = files.key.exists()
    except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    known = {str(name) for name in names.get_values_for_type(x509.DNSName)}
    known |= {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    return is_complete and _days_left(certificate) > _RENEW_DAYS and known.issuperset(hosts)


def _make_authority(files: Files) -> Authority:
    now = datetime.datetime.now(datetime.UTC) - _BACKDATED
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "drakit-ca")])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + _LIFETIME
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    files.ca.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(files.ca_key, _private(key), 0o600)
    _write(files.ca, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return Authority(certificate, key)


def _make(files: Files, hosts: Sequence[str], authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.issue(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")]),
        key.public_key(),
        usages=[ExtendedKeyUsageOID.SERVER_AUTH],
        lifetime=_LIFETIME,
        names=x509.SubjectAlternativeName(_names(hosts)),
    )
    _write(files.key, _private(key), 0o600)
    _write(files.certificate, certificate, 0o644)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys((*_NAMES, *_ADDRESSES, *hosts)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _write(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)

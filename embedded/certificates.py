"""A private authority and one certificate, for servers of one process that talk to each other over TLS on loopback."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from embedded.durable import write_text

LIFETIME = dt.timedelta(days=3650)
RENEW_BEFORE = dt.timedelta(days=30)


@dataclass(frozen=True)
class Certificates:
    """PEM files. The authority's own key is thrown away: nobody can make a second certificate."""

    authority: Path
    certificate: Path
    key: Path


def ensure(folder: Path) -> Certificates:
    """Makes the three files, or leaves them when they are there and good for more than a month."""
    found = Certificates(folder / "ca.crt", folder / "node.crt", folder / "node.key")
    if not _is_good(found):
        _make(found)
    return found


def _is_good(found: Certificates) -> bool:
    if not (found.authority.exists() and found.certificate.exists() and found.key.exists()):
        return False
    loaded = x509.load_pem_x509_certificate(found.certificate.read_bytes())
    return loaded.not_valid_after_utc > dt.datetime.now(dt.UTC) + RENEW_BEFORE


def _make(files: Certificates) -> None:
    authority_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    authority = (
        _builder("lakehouse-authority", authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        _builder("lakehouse-node", key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(usage, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain).decode()
    # The certificate is what `_is_good` reads: written last, so that three files exist and match when it does.
    files.certificate.unlink(missing_ok=True)
    write_text(files.authority, authority.public_bytes(pem).decode())
    write_text(files.key, secret)
    write_text(files.certificate, certificate.public_bytes(pem).decode())


def _builder(name: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lakehouse-authority")])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )

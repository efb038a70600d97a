"""Whose client certificates a site takes: the CA file and the CRL file, read and checked once at start."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from proxy.errors import ConfigError, Problem
from proxy.pem import read_certificates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from proxy.settings.modes import ClientCertificates

_MAX_CRL_BYTES = 16_777_216
"""Big CAs have CRLs of some megabytes."""
_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True, slots=True, eq=False)
class ClientCa:
    """What a client certificate is verified against."""

    is_required: bool
    authorities: tuple[x509.Certificate, ...]
    """Roots, and intermediates that clients may leave out."""
    crls: tuple[x509.CertificateRevocationList, ...]
    """One of each authority; none at all: nobody looks whether a certificate was revoked."""
    depth: int
    """How many intermediates may stand between a client's certificate and a root."""


def load(settings: ClientCertificates, *, where: str) -> ClientCa | None:
    """Read what a site's table names; None: it asks for no client certificates. ConfigError has all mistakes."""
    if settings.mode == "none":
        return None
    assert settings.ca is not None  # the settings have been checked
    authorities = read_certificates(settings.ca, where=f"{where}.ca")
    if not any(each.subject == each.issuer for each in authorities):
        raise _error(f"{where}.ca", f"{settings.ca} holds no root: add the certificates above, up to the self-signed")
    crls: tuple[x509.CertificateRevocationList, ...] = ()
    if settings.crl is not None:
        crls = _read_crls(settings.crl, where=f"{where}.crl")
        if problems := tuple(_gaps(authorities, crls, settings.crl, f"{where}.crl")):
            raise ConfigError(*problems)
    return ClientCa(settings.mode == "require", authorities, crls, settings.depth)


def stale_crls(ca: ClientCa, now: datetime) -> Iterator[str]:
    """Say of each CRL that is out of date whose it is: until it is replaced, the clients are refused."""
    for crl in ca.crls:
        end = crl.next_update_utc
        if end is not None and end <= now:
            issuer = crl.issuer.rfc4514_string()
            yield f"the CRL of {issuer} is out of date since {end:%Y-%m-%d %H:%M} UTC: its clients are refused"


def _gaps(
    authorities: Sequence[x509.Certificate], crls: Sequence[x509.CertificateRevocationList], path: Path, where: str
) -> Iterator[Problem]:
    """List where CRLs and authorities do not meet: OpenSSL wants one for each CA on the way to the root."""
    for each in authorities:
        if not any(_is_of(crl, each) for crl in crls):
            yield Problem(where, f"{path} holds no CRL signed by {each.subject.rfc4514_string()}: add it")
    for crl in crls:
        if not any(_is_of(crl, each) for each in authorities):
            yield Problem(where, f"{path} holds a CRL of {crl.issuer.rfc4514_string()}, which is not in the ca file")


def _is_of(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    # The name first: is_signature_valid raises TypeError for a key of a kind that signs nothing.
    return crl.issuer == authority.subject and crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]  # see above


def _read_crls(path: Path, *, where: str) -> tuple[x509.CertificateRevocationList, ...]:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_CRL_BYTES + 1)
    except OSError as error:
        raise _error(where, f"cannot read {path}: {error.strerror or error}") from None
    if len(content) > _MAX_CRL_BYTES:
        raise _error(where, f"{path} is longer than {_MAX_CRL_BYTES} bytes")
    blocks = _BLOCK.findall(content)
    if not blocks:
        raise _error(where, f"{path} holds no CRL in PEM: convert one in DER with openssl crl -inform DER")
    try:
        return tuple(x509.load_pem_x509_crl(block) for block in blocks)
    except ValueError:
        raise _error(where, f"{path} holds a CRL that is damaged: openssl crl -noout -text shows more") from None


def _error(where: str, what: str) -> ConfigError:
    return ConfigError(Problem(where, what))

"""Whether a response may be stapled for a certificate, and until when.

`verify` reads a response and proves it: right form, right certificate, right signer, right dates. What it returns is a
fact, whatever the status says. `check` adds the judgement that only 'good' is stapled. No status is believed before the
signature is verified, so that a stranger's 'revoked' counts for nothing.

What nobody signed has one form only, or is left out, so that nobody on the way can have us staple what the responder
did not send (see `der` and `signature`). Left out is the list of certificates, but for the signer's: RFC 6960 4.2.1 has
it as a help, in any order, while OpenSSL refuses the response when a CA in it was altered, and Go takes the first one
for the signer's (golang/go#59641). Two things stay open. The issuer's own certificate may be added to, or dropped from,
what the issuer itself signed: OpenSSL does without it where the handshake's chain has the issuer, and needs it where
that ends below. And an ECDSA signature has a twin, which OpenSSL takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import OCSPNonce, ocsp

from proxy.errors import Reason, StapleRejected
from proxy.ocsp.der import FractionalSecondsError, Outline, outline, wrapped
from proxy.ocsp.signature import Signature
from proxy.ocsp.signer import PARSE_ERRORS, Signed, find_signer

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from proxy.settings.model import StaplingSettings


class CertStatus(StrEnum):
    """What a response says about the certificate (RFC 6960 2.2)."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Rules:
    """Where the operator draws the lines."""

    max_response_bytes: int = 65_536
    clock_skew_s: float = 300
    """How far in the future thisUpdate may lie. None is granted at the end: an expired staple breaks clients."""
    max_age_without_next_update_s: float = 43_200
    """How long after its thisUpdate a response without nextUpdate is served; 0: refuse it."""
    accept_sha1_signatures: bool = False
    """For the response and for the delegate's certificate. OpenSSL's security level 2 refuses both."""

    @classmethod
    def from_settings(cls, settings: StaplingSettings) -> Rules:
        return cls(
            settings.max_response_bytes,
            settings.clock_skew_s,
            settings.max_age_without_next_update_s,
            settings.accept_sha1_signatures,
        )


@dataclass(frozen=True, slots=True)
class Staple:
    """A response that is proved to be the issuer's word on one certificate."""

    der: bytes
    """What to staple: the response, with no certificate but the signer's, if that came with it."""
    status: CertStatus
    this_update: datetime
    next_update: datetime | None
    """None: the responder gave none."""
    produced_at: datetime
    serve_until: datetime
    """It must not be sent from then on: nextUpdate, or sooner the end of the certificate or of the delegate's."""
    signer: str
    """Subject of the certificate whose key signed."""
    cert_id_hash: str
    """Hash of the CertID, ``sha1`` or ``sha256``."""
    revocation: str = ""
    """Since when and why it is revoked, for a person to read."""


_ERROR_STATUS = {  # RFC 6960 4.2.1 OCSPResponseStatus, 2.3 for what they mean
    1: (Reason.MALFORMED_REQUEST, "the responder says that our request is malformed"),
    2: (Reason.INTERNAL_ERROR, "the responder has an internal error"),
    3: (Reason.TRY_LATER, "the responder cannot answer now"),
    5: (Reason.SIG_REQUIRED, "the responder wants signed requests"),
    6: (Reason.UNAUTHORIZED, "the responder does not answer for this certificate"),
}
_CERT_STATUS = {
    ocsp.OCSPCertStatus.GOOD: CertStatus.GOOD,
    ocsp.OCSPCertStatus.REVOKED: CertStatus.REVOKED,
    ocsp.OCSPCertStatus.UNKNOWN: CertStatus.UNKNOWN,
}
_CERT_ID_HASHES = {SHA1.name: SHA1, SHA256.name: SHA256}


def check(der: bytes, *, leaf: x509.Certificate, issuer: x509.Certificate, now: datetime, rules: Rules) -> Staple:
    """The staple that these bytes are; raises StapleRejected, and nothing else, if they may not be stapled."""
    staple = verify(der, leaf=leaf, issuer=issuer, now=now, rules=rules)
    require_good(staple)
    return staple


def require_good(staple: Staple) -> None:
    """Refuse a proved response that says 'revoked' or 'unknown'."""
    if staple.status is CertStatus.REVOKED:
        raise StapleRejected(Reason.REVOKED, f"the certificate is revoked {staple.revocation}")
    if staple.status is CertStatus.UNKNOWN:
        raise StapleRejected(Reason.UNKNOWN, f"{staple.signer!r} does not know the certificate")


def require_nonce(der: bytes, nonce: bytes) -> None:
    """Refuse a response, one that `verify` let through, to a request with `nonce` that does not repeat it.

    RFC 9654 and RFC 6960 4.4.1 leave to the requester what an answer without a nonce means. Who turned nonces on asked
    for protection from replay, and an old response without one is just what an attacker would replay: it is refused.
    """
    try:
        answered = [e.value for e in ocsp.load_der_ocsp_response(der).extensions if isinstance(e.value, OCSPNonce)]
    except PARSE_ERRORS as error:
        raise StapleRejected(Reason.UNPARSABLE, f"the response's extensions cannot be read: {error}") from error
    if not answered:
        raise StapleRejected(
            Reason.NONCE_MISMATCH, "the response has no nonce; nonce = false is for responders that know none"
        )
    if answered != [OCSPNonce(nonce)]:
        raise StapleRejected(Reason.NONCE_MISMATCH, "the response has another nonce than the request")


def verify(der: bytes, *, leaf: x509.Certificate, issuer: x509.Certificate, now: datetime, rules: Rules) -> Staple:
    """The proved response, whatever its status; raises StapleRejected, and nothing else."""
    if now > leaf.not_valid_after_utc:
        raise StapleRejected(Reason.CERTIFICATE_EXPIRED, f"the certificate ended at {leaf.not_valid_after_utc}")
    if len(der) > rules.max_response_bytes:
        raise StapleRejected(Reason.TOO_LARGE, f"{len(der)} bytes; at most {rules.max_response_bytes} are taken")
    shape = _shape(der)
    try:
        response = ocsp.load_der_ocsp_response(der)
        # The name by value, whatever kinds of string it is encoded in; the key is compared with the CertID.
        if leaf.issuer != issuer.subject:
            raise StapleRejected(
                Reason.UNAUTHORIZED_SIGNER, f"{issuer.subject.rfc4514_string()!r} is not the certificate's issuer"
            )
        single, has_critical = _pick(response, shape, leaf, issuer)
        # RFC 6960 4.4: no extension should be critical, and none is needed by us. mozilla::pkix refuses such a staple.
        if shape.critical or has_critical:
            raise StapleRejected(Reason.CRITICAL_EXTENSION, "the response has a critical extension")
        signer = find_signer(_signed(response, shape), issuer, now, accept_sha1=rules.accept_sha1_signatures)
        ends = [_end(single, now, rules), leaf.not_valid_after_utc]
        if signer is not issuer:
            ends.append(signer.not_valid_after_utc)
        if min(ends) <= now:  # a last second: notAfter is still valid (RFC 5280 4.1.2.5), but over at once
            raise StapleRejected(Reason.EXPIRED, f"it could be served until {min(ends)} only")
        signer_came_along = signer in response.certificates
        return Staple(
            der=wrapped(shape.signed, signer.public_bytes(Encoding.DER) if signer_came_along else None),
            status=_CERT_STATUS[single.certificate_status],
            this_update=single.this_update_utc,
            next_update=single.next_update_utc,
            produced_at=response.produced_at_utc,
            serve_until=min(ends),
            signer=signer.subject.rfc4514_string(),
            cert_id_hash=single.hash_algorithm.name,
            revocation=_revocation(single),
        )
    except PARSE_ERRORS as error:
        raise StapleRejected(Reason.UNPARSABLE, f"the response cannot be read: {error}") from error


def _shape(der: bytes) -> Outline:
    try:
        shape, trailing = outline(der)
    except FractionalSecondsError as error:
        raise StapleRejected(
            Reason.FRACTIONAL_SECONDS, "a time has fractional seconds, which some clients refuse"
        ) from error
    except ValueError as error:
        raise StapleRejected(Reason.UNPARSABLE, f"this is no OCSP response: {error}") from error
    if trailing:
        raise StapleRejected(Reason.TRAILING_BYTES, "bytes follow the response")
    if shape.status != 0:
        raise StapleRejected(
            *_ERROR_STATUS.get(shape.status, (Reason.UNPARSABLE, f"the response has the unknown status {shape.status}"))
        )
    if not shape.is_basic:
        raise StapleRejected(Reason.RESPONSE_TYPE, "the response is not of the type id-pkix-ocsp-basic")
    return shape


def _signed(response: ocsp.OCSPResponse, shape: Outline) -> Signed:
    responder = response.responder_name or response.responder_key_hash
    if responder is None:  # an empty name
        raise StapleRejected(Reason.UNAUTHORIZED_SIGNER, "the response does not name its signer")
    return Signed(
        responder=responder,
        certificates=response.certificates,
        signature=Signature(
            algorithm=response.signature_algorithm_oid,
            parameters=shape.signature_parameters,
            tbs=response.tbs_response_bytes,
            value=response.signature,
        ),
    )


def _revocation(single: ocsp.OCSPSingleResponse) -> str:
    if single.certificate_status is not ocsp.OCSPCertStatus.REVOKED:
        return ""
    reason = single.revocation_reason
    return f"since {single.revocation_time_utc}" + (f" ({reason.value})" if reason else "")


def _pick(
    response: ocsp.OCSPResponse, shape: Outline, leaf: x509.Certificate, issuer: x509.Certificate
) -> tuple[ocsp.OCSPSingleResponse, bool]:
    """The first SingleResponse for `leaf`, as OpenSSL picks it, and whether it has a critical extension.

    RFC 6960 3.2, 1: hash algorithm, both hashes and serial number together name a certificate. The hashes to compare
    with are those that a request would carry: over the issuer's name as it stands in the leaf, and its key.
    """
    found = 0
    for single, has_critical in zip(response.responses, shape.singles_critical, strict=True):
        found += 1
        if single.serial_number != leaf.serial_number:
            continue
        try:
            digest = _CERT_ID_HASHES.get(single.hash_algorithm.name)
        except UnsupportedAlgorithm:
            continue
        if digest is None:
            continue
        wanted = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, digest()).build()
        if (single.issuer_name_hash, single.issuer_key_hash) == (wanted.issuer_name_hash, wanted.issuer_key_hash):
            return single, has_critical
    raise StapleRejected(
        Reason.CERTID_MISMATCH, f"none of its {found} entries is for the certificate {leaf.serial_number:x}"
    )


def _end(single: ocsp.OCSPSingleResponse, now: datetime, rules: Rules) -> datetime:
    """Check the dates of a SingleResponse (RFC 6960 4.2.2.1) and say until when they let it be served."""
    start, end = single.this_update_utc, single.next_update_utc
    if start > now + timedelta(seconds=rules.clock_skew_s):
        raise StapleRejected(Reason.NOT_YET_VALID, f"thisUpdate is {start}, and it is {now} here")
    if end is not None:
        if end < start:
            raise StapleRejected(Reason.BAD_DATES, f"nextUpdate {end} lies before thisUpdate {start}")
        if end <= now:
            raise StapleRejected(Reason.EXPIRED, f"nextUpdate was {end}, and it is {now} here")
        return end
    # RFC 6960 2.4: without nextUpdate "newer revocation information is available all the time", so any age is a policy.
    if rules.max_age_without_next_update_s == 0:
        raise StapleRejected(Reason.NO_NEXT_UPDATE, "it has no nextUpdate, and the configuration wants one")
    end = start + timedelta(seconds=rules.max_age_without_next_update_s)
    if end <= now:
        raise StapleRejected(Reason.EXPIRED, f"it has no nextUpdate, and was served for its time until {end}")
    return end

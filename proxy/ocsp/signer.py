"""Who signed a response, and whether that one may (RFC 6960 4.2.2.2).

Either the issuer of the certificate in question signs, or one to whom the issuer itself, and no other, gave a
certificate with id-kp-OCSPSigning. A responder trusted by local configuration, the section's third way, is not offered:
the clients would not share that trust.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from proxy.errors import Reason, StapleRejected
from proxy.ocsp.der import certificate_parameters
from proxy.ocsp.signature import Signature, require_signature

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

PARSE_ERRORS = (
    ValueError,
    TypeError,
    KeyError,  # up to 45 at least, for a name whose value is no string
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises, at once or when a property is read, for input that is odd or of an unknown kind."""

_SIGNERS_REMEMBERED = 256
"""A CA has a few delegates, and each signs thousands of responses: what never changes of one is worked out once."""

# Critical extensions of a delegate's certificate that are heeded here, or ask nothing of us. RFC 5280 4.2: no other.
_UNDERSTOOD = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.OCSP_NO_CHECK,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.CERTIFICATE_POLICIES,
}


@dataclass(frozen=True, slots=True)
class Signed:
    """What a response says about its signature."""

    responder: x509.Name | bytes
    """responderID: a name, or the SHA-1 of a public key."""
    certificates: Sequence[x509.Certificate]
    """What came with the response."""
    signature: Signature


def find_signer(signed: Signed, issuer: x509.Certificate, now: datetime, *, accept_sha1: bool) -> x509.Certificate:
    """The issuer or its delegate, whichever signed; raises StapleRejected if neither did, or was allowed to."""
    first_refusal = None
    for candidate in (issuer, *(certificate for certificate in signed.certificates if certificate != issuer)):
        try:
            if not _is_named(signed.responder, candidate):
                continue
            if candidate is not issuer:
                _require_delegate(candidate, issuer, now, accept_sha1=accept_sha1)
            require_signature(signed.signature, candidate.public_key(), accept_sha1=accept_sha1)
        except StapleRejected as refusal:
            first_refusal = first_refusal or refusal
        except PARSE_ERRORS as error:
            sentence = f"the signer's certificate or key cannot be used: {error}"
            first_refusal = first_refusal or StapleRejected(Reason.UNAUTHORIZED_SIGNER, sentence)
        else:
            return candidate
    if first_refusal is not None:
        raise first_refusal
    who = signed.responder.hex() if isinstance(signed.responder, bytes) else signed.responder.rfc4514_string()
    raise StapleRejected(
        Reason.UNAUTHORIZED_SIGNER, f"signed by {who!r}: neither the issuer nor any certificate sent with it"
    )


def _is_named(responder: x509.Name | bytes, candidate: x509.Certificate) -> bool:
    if isinstance(responder, bytes):
        # RFC 6960 4.2.1 KeyHash is RFC 5280 4.2.1.2 method 1: the SHA-1 of the bits of the public key.
        return _key_hash(candidate) == responder
    return candidate.subject == responder


@lru_cache(_SIGNERS_REMEMBERED)
def _key_hash(candidate: x509.Certificate) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(candidate.public_key()).digest


def _require_delegate(
    delegate: x509.Certificate, issuer: x509.Certificate, now: datetime, *, accept_sha1: bool
) -> None:
    """RFC 6960 4.2.2.2: issued directly by the issuer, for this purpose, and valid."""
    _require_delegation(delegate, issuer, accept_sha1=accept_sha1)
    if not delegate.not_valid_before_utc <= now <= delegate.not_valid_after_utc:
        raise StapleRejected(
            Reason.SIGNER_OUT_OF_DATE,
            f"the delegate's certificate is valid {delegate.not_valid_before_utc} to {delegate.not_valid_after_utc}",
        )


@lru_cache(_SIGNERS_REMEMBERED)  # of those that are right: what is raised is not kept
def _require_delegation(delegate: x509.Certificate, issuer: x509.Certificate, *, accept_sha1: bool) -> None:
    def refuse(why: str) -> StapleRejected:
        return StapleRejected(Reason.UNAUTHORIZED_SIGNER, f"the delegate {delegate.subject.rfc4514_string()!r} {why}")

    # By value, as RFC 5280 7.1 compares names: the two may be encoded as different kinds of string.
    if delegate.issuer != issuer.subject:
        raise refuse("was not issued by the certificate's issuer")
    certified = Signature(
        algorithm=delegate.signature_algorithm_oid,
        parameters=certificate_parameters(delegate.public_bytes(Encoding.DER)),
        tbs=delegate.tbs_certificate_bytes,
        value=delegate.signature,
    )
    try:
        require_signature(certified, issuer.public_key(), accept_sha1=accept_sha1)
    except StapleRejected as error:
        if error.reason is Reason.WEAK_SIGNATURE:
            raise StapleRejected(error.reason, f"on the delegate's certificate, {error.detail}") from error
        raise refuse("was not issued by the certificate's issuer") from error
    for extension in delegate.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise refuse(f"has the critical extension {extension.oid.dotted_string}, which is not understood")
        match extension.value:
            case x509.BasicConstraints(ca=True):
                raise refuse("is a CA; mozilla::pkix refuses that")
            case x509.KeyUsage(digital_signature=False):
                raise refuse("may not sign: its key usage lacks digitalSignature")
    # anyExtendedKeyUsage does not do: the section wants the delegation to be explicit.
    if ExtendedKeyUsageOID.OCSP_SIGNING not in _extended_key_usage(delegate):
        raise refuse("has no extended key usage id-kp-OCSPSigning")


def _extended_key_usage(certificate: x509.Certificate) -> Sequence[x509.ObjectIdentifier]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return ()

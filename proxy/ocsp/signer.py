"""Who signed a response, and whether that one may (RFC 6960 4.2.2.2).

Either the issuer of the certificate in question signs, or one to whom the issuer itself, and no other, gave a
certificate with id-kp-OCSPSigning. A responder trusted by local configuration, the section's third way, is not offered:
the clients would not share that trust.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, SignatureAlgorithmOID

from proxy.errors import Reason, StapleRejected
from proxy.ocsp.der import EXPLICIT_0, EXPLICIT_1, EXPLICIT_2, INTEGER, OID, SEQUENCE, Reader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

MIN_RSA_BITS = 2048
"""NSS and mozilla::pkix draw the line at 1024, OpenSSL's security level 2, the default of many systems, at 2048."""
MIN_EC_BITS = 224
"""The same level of strength (112 bits) for elliptic curves."""

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

_HASHES: dict[x509.ObjectIdentifier, hashes.HashAlgorithm] = {
    SignatureAlgorithmOID.RSA_WITH_SHA224: hashes.SHA224(),
    SignatureAlgorithmOID.RSA_WITH_SHA256: hashes.SHA256(),
    SignatureAlgorithmOID.RSA_WITH_SHA384: hashes.SHA384(),
    SignatureAlgorithmOID.RSA_WITH_SHA512: hashes.SHA512(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA224: hashes.SHA224(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: hashes.SHA256(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: hashes.SHA384(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: hashes.SHA512(),
}
_RSA_PKCS1 = {oid for oid in _HASHES if oid.dotted_string.startswith("1.2.840.113549.1.1.")}
_PSS_HASHES: dict[bytes, hashes.HashAlgorithm] = {  # by the contents of the OID, 2.16.840.1.101.3.4.2.x
    bytes.fromhex("608648016503040204"): hashes.SHA224(),
    bytes.fromhex("608648016503040201"): hashes.SHA256(),
    bytes.fromhex("608648016503040202"): hashes.SHA384(),
    bytes.fromhex("608648016503040203"): hashes.SHA512(),
}
_MGF1 = bytes.fromhex("2a864886f70d010108")
_KEY_OF_SCHEME: dict[x509.ObjectIdentifier, type] = {
    **{oid: rsa.RSAPublicKey if oid in _RSA_PKCS1 else ec.EllipticCurvePublicKey for oid in _HASHES},
    SignatureAlgorithmOID.RSASSA_PSS: rsa.RSAPublicKey,
    SignatureAlgorithmOID.ED25519: ed25519.Ed25519PublicKey,
    SignatureAlgorithmOID.ED448: ed448.Ed448PublicKey,
}
_WEAK_NAMES = {
    SignatureAlgorithmOID.RSA_WITH_MD5: "RSA with MD5",
    SignatureAlgorithmOID.RSA_WITH_SHA1: "RSA with SHA-1",
    SignatureAlgorithmOID.ECDSA_WITH_SHA1: "ECDSA with SHA-1",
}

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
    algorithm: x509.ObjectIdentifier
    parameters: bytes
    tbs: bytes
    signature: bytes


def find_signer(signed: Signed, issuer: x509.Certificate, now: datetime) -> x509.Certificate:
    """The issuer or its delegate, whichever signed; raises StapleRejected if neither did, or was allowed to."""
    first_refusal = None
    for candidate in (issuer, *(certificate for certificate in signed.certificates if certificate != issuer)):
        try:
            if not _is_named(signed.responder, candidate):
                continue
            if candidate is not issuer:
                _require_delegate(candidate, issuer, now)
            _require_signature(signed, candidate.public_key())
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
        return x509.SubjectKeyIdentifier.from_public_key(candidate.public_key()).digest == responder
    return candidate.subject == responder


def _require_delegate(delegate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
    """RFC 6960 4.2.2.2: issued directly by the issuer, for this purpose, and valid."""

    def refuse(why: str) -> StapleRejected:
        return StapleRejected(Reason.UNAUTHORIZED_SIGNER, f"the delegate {delegate.subject.rfc4514_string()!r} {why}")

    if isinstance(delegate.signature_hash_algorithm, (hashes.MD5, hashes.SHA1)):
        raise StapleRejected(
            Reason.WEAK_SIGNATURE, f"the delegate's certificate is signed with {delegate.signature_hash_algorithm.name}"
        )
    try:
        delegate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *PARSE_ERRORS) as error:
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
    if not delegate.not_valid_before_utc <= now <= delegate.not_valid_after_utc:
        raise StapleRejected(
            Reason.SIGNER_OUT_OF_DATE,
            f"the delegate's certificate is valid {delegate.not_valid_before_utc} to {delegate.not_valid_after_utc}",
        )


def _extended_key_usage(certificate: x509.Certificate) -> Sequence[x509.ObjectIdentifier]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return ()


def _require_signature(signed: Signed, key: CertificatePublicKeyTypes) -> None:
    expected_key = _KEY_OF_SCHEME.get(signed.algorithm)
    name = _WEAK_NAMES.get(signed.algorithm, signed.algorithm.dotted_string)
    if expected_key is None:  # MD5, SHA-1 and DSA, and what TLS clients do not know
        raise StapleRejected(Reason.WEAK_SIGNATURE, f"the signature algorithm {name} is not accepted")
    if not isinstance(key, expected_key):
        raise StapleRejected(Reason.BAD_SIGNATURE, f"the signature algorithm {name} does not fit the signer's key")
    try:
        match key:
            case rsa.RSAPublicKey():
                if key.key_size < MIN_RSA_BITS:
                    raise StapleRejected(Reason.WEAK_SIGNATURE, f"the signer's RSA key has only {key.key_size} bits")
                if signed.algorithm == SignatureAlgorithmOID.RSASSA_PSS:
                    pss, digest = _pss(signed.parameters)
                    key.verify(signed.signature, signed.tbs, pss, digest)
                else:
                    key.verify(signed.signature, signed.tbs, padding.PKCS1v15(), _HASHES[signed.algorithm])
            case ec.EllipticCurvePublicKey():
                if key.key_size < MIN_EC_BITS:
                    raise StapleRejected(Reason.WEAK_SIGNATURE, f"the signer's curve has only {key.key_size} bits")
                key.verify(signed.signature, signed.tbs, ec.ECDSA(_HASHES[signed.algorithm]))
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                key.verify(signed.signature, signed.tbs)
    except InvalidSignature as error:
        raise StapleRejected(Reason.BAD_SIGNATURE, "the signature does not fit the response") from error


def _pss(parameters: bytes) -> tuple[padding.PSS, hashes.HashAlgorithm]:
    """RSASSA-PSS-params (RFC 4055 3.1); raises ValueError if malformed."""
    fields = Reader(Reader(parameters).take(SEQUENCE))
    # Left out, the hash is SHA-1, and so is the mask's; the salt has 20 octets then.
    algorithm = fields.take(EXPLICIT_0) if fields.tag == EXPLICIT_0 else b""
    digest = _PSS_HASHES.get(Reader(algorithm).into(SEQUENCE).take(OID)) if algorithm else None
    if digest is None:
        raise StapleRejected(Reason.WEAK_SIGNATURE, "the hash of its RSASSA-PSS signature is not of the SHA-2 family")
    mask = Reader(fields.take(EXPLICIT_1) if fields.tag == EXPLICIT_1 else b"")
    function = mask.into(SEQUENCE) if not mask.is_at_end else None
    if function is None or function.take(OID) != _MGF1 or function.rest() != algorithm:
        raise StapleRejected(Reason.WEAK_SIGNATURE, "its RSASSA-PSS mask is not MGF1 with the same hash")
    salt_bytes = int.from_bytes(fields.into(EXPLICIT_2).take(INTEGER), signed=True) if not fields.is_at_end else 20
    if not fields.is_at_end or salt_bytes < 0:
        raise ValueError("RSASSA-PSS parameters")
    return padding.PSS(padding.MGF1(digest), salt_bytes), digest

"""Which signatures count, on a response or on the certificate of a delegate.

An algorithm's parameters stand beside what is signed. They have one form here, the one that RFC 4055, 5758 and 8410
tell signers to write, though receivers may take others: with two, a response could be altered and still be accepted.
The value of an ECDSA signature cannot be held to one form. With (r, s) goes (r, n - s) too, and signers write either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import SignatureAlgorithmOID

from proxy.errors import Reason, StapleRejected
from proxy.ocsp.der import EXPLICIT_0, EXPLICIT_1, EXPLICIT_2, INTEGER, NULL, OID, SEQUENCE, Reader, tlv

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

MIN_RSA_BITS = 2048
"""NSS and mozilla::pkix draw the line at 1024, OpenSSL's security level 2, the default of many systems, at 2048."""
MIN_EC_BITS = 224
"""The same level of strength (112 bits) for elliptic curves."""

_SHA1 = hashes.SHA1()  # noqa: S303  taken only where the operator says so
_RSA: dict[x509.ObjectIdentifier, hashes.HashAlgorithm] = {
    SignatureAlgorithmOID.RSA_WITH_SHA1: _SHA1,
    SignatureAlgorithmOID.RSA_WITH_SHA224: hashes.SHA224(),
    SignatureAlgorithmOID.RSA_WITH_SHA256: hashes.SHA256(),
    SignatureAlgorithmOID.RSA_WITH_SHA384: hashes.SHA384(),
    SignatureAlgorithmOID.RSA_WITH_SHA512: hashes.SHA512(),
}
_ECDSA: dict[x509.ObjectIdentifier, hashes.HashAlgorithm] = {
    SignatureAlgorithmOID.ECDSA_WITH_SHA1: _SHA1,
    SignatureAlgorithmOID.ECDSA_WITH_SHA224: hashes.SHA224(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: hashes.SHA256(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: hashes.SHA384(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: hashes.SHA512(),
}
_PSS: dict[bytes | None, hashes.HashAlgorithm] = {  # by the contents of the OID, 2.16.840.1.101.3.4.2.x
    None: _SHA1,  # the default, which DER leaves out
    bytes.fromhex("608648016503040204"): hashes.SHA224(),
    bytes.fromhex("608648016503040201"): hashes.SHA256(),
    bytes.fromhex("608648016503040202"): hashes.SHA384(),
    bytes.fromhex("608648016503040203"): hashes.SHA512(),
}
_KNOWN = {
    *_RSA,
    *_ECDSA,
    SignatureAlgorithmOID.RSASSA_PSS,
    SignatureAlgorithmOID.ED25519,
    SignatureAlgorithmOID.ED448,
}
_MGF1 = bytes.fromhex("2a864886f70d010108")
_PSS_DEFAULT_SALT_BYTES = 20
_PSS_MAX_SALT_BYTES = 512
"""More than the octets of any key in use; and OpenSSL counts in a C int."""
_NAMES = {
    SignatureAlgorithmOID.RSA_WITH_MD5: "RSA with MD5",
    SignatureAlgorithmOID.RSA_WITH_SHA1: "RSA with SHA-1",
    SignatureAlgorithmOID.RSASSA_PSS: "RSASSA-PSS",
    SignatureAlgorithmOID.ECDSA_WITH_SHA1: "ECDSA with SHA-1",
}


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature and what it is over."""

    algorithm: x509.ObjectIdentifier
    parameters: bytes
    """What follows the OID in the AlgorithmIdentifier."""
    tbs: bytes
    value: bytes


def require_signature(signature: Signature, key: CertificatePublicKeyTypes, *, accept_sha1: bool) -> None:
    """Raises StapleRejected unless `key` made the signature, in a way that is strong enough."""
    name = _NAMES.get(signature.algorithm, signature.algorithm.dotted_string)
    parameters, value, tbs = signature.parameters, signature.value, signature.tbs
    try:
        match key:
            case rsa.RSAPublicKey() if signature.algorithm == SignatureAlgorithmOID.RSASSA_PSS:
                scheme, hashed = _pss(parameters)
                _require_strength(name, hashed, key.key_size, MIN_RSA_BITS, accept_sha1=accept_sha1)
                key.verify(value, tbs, scheme, hashed)
            case rsa.RSAPublicKey() if digest := _RSA.get(signature.algorithm):
                _require_strength(name, digest, key.key_size, MIN_RSA_BITS, accept_sha1=accept_sha1)
                _require_parameters(name, parameters, NULL)  # RFC 4055 5
                key.verify(value, tbs, padding.PKCS1v15(), digest)
            case ec.EllipticCurvePublicKey() if digest := _ECDSA.get(signature.algorithm):
                _require_strength(name, digest, key.key_size, MIN_EC_BITS, accept_sha1=accept_sha1)
                _require_parameters(name, parameters, b"")  # RFC 5758 3.2
                key.verify(value, tbs, ec.ECDSA(digest))
            case ed25519.Ed25519PublicKey() if signature.algorithm == SignatureAlgorithmOID.ED25519:
                _require_parameters(name, parameters, b"")  # RFC 8410 3
                key.verify(value, tbs)
            case ed448.Ed448PublicKey() if signature.algorithm == SignatureAlgorithmOID.ED448:
                _require_parameters(name, parameters, b"")  # RFC 8410 3
                key.verify(value, tbs)
            case _ if signature.algorithm in _KNOWN:
                raise StapleRejected(Reason.BAD_SIGNATURE, f"the algorithm {name} does not fit the signer's key")
            case _:  # MD5 and DSA, and what TLS clients do not know
                raise StapleRejected(Reason.WEAK_SIGNATURE, f"the signature algorithm {name} is not accepted")
    except InvalidSignature as error:
        raise StapleRejected(Reason.BAD_SIGNATURE, "the signature does not fit") from error


def _require_strength(name: str, digest: hashes.HashAlgorithm, bits: int, min_bits: int, *, accept_sha1: bool) -> None:
    if digest is _SHA1 and not accept_sha1:
        raise StapleRejected(
            Reason.WEAK_SIGNATURE,
            f"the signature ({name}) rests on SHA-1; only accept_sha1_signatures = true takes that",
        )
    if bits < min_bits:
        raise StapleRejected(Reason.WEAK_SIGNATURE, f"the signer's key has only {bits} bits; {min_bits} are needed")


def _require_parameters(name: str, parameters: bytes, wanted: bytes) -> None:
    if parameters != wanted:
        raise StapleRejected(
            Reason.WEAK_SIGNATURE,
            f"the parameters of the signature algorithm {name} are not NULL or absent as its RFC has them",
        )


def _pss(parameters: bytes) -> tuple[padding.PSS, hashes.HashAlgorithm]:
    """What RSASSA-PSS-params (RFC 4055 3.1) say; ValueError if they are no DER."""
    fields = Reader(Reader(parameters).take(SEQUENCE))
    while fields.tag in (EXPLICIT_0, EXPLICIT_1):  # hash and mask: compared whole below
        fields.element()
    salt_bytes = _PSS_DEFAULT_SALT_BYTES
    if not fields.is_at_end:
        salt_bytes = int.from_bytes(fields.into(EXPLICIT_2).take(INTEGER), signed=True)
    if 0 <= salt_bytes <= _PSS_MAX_SALT_BYTES:
        for oid, digest in _PSS.items():
            if parameters == _pss_parameters(oid, salt_bytes):
                return padding.PSS(padding.MGF1(digest), salt_bytes), digest
    raise StapleRejected(
        Reason.WEAK_SIGNATURE,
        "the parameters of its RSASSA-PSS signature are not SHA-2, MGF1 with the same, and a salt",
    )


def _pss_parameters(digest: bytes | None, salt_bytes: int) -> bytes:
    # RFC 4055 2.1 lets the hash have NULL or nothing for parameters; NULL is what signers write, and all that Go and
    # webpki read.
    algorithm = b"" if digest is None else tlv(SEQUENCE, tlv(OID, digest), NULL)
    salt = tlv(INTEGER, salt_bytes.to_bytes(salt_bytes.bit_length() // 8 + 1))
    return tlv(
        SEQUENCE,
        tlv(EXPLICIT_0, algorithm) if algorithm else b"",
        tlv(EXPLICIT_1, tlv(SEQUENCE, tlv(OID, _MGF1), algorithm)) if algorithm else b"",
        tlv(EXPLICIT_2, salt) if salt_bytes != _PSS_DEFAULT_SALT_BYTES else b"",
    )

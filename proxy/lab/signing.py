"""Who signs the lab's answers, and how."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy.lab import der

if TYPE_CHECKING:
    from cryptography import x509

    from proxy.lab.ca import Authority, LabCA

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Digest = Literal["sha1", "sha256"]
_ED25519 = "1.3.101.112"
_RSA = {"sha1": "1.2.840.113549.1.1.5", "sha256": "1.2.840.113549.1.1.11"}
_ECDSA = {"sha1": "1.2.840.10045.4.1", "sha256": "1.2.840.10045.4.3.2"}
_DIGESTS: dict[Digest, hashes.HashAlgorithm] = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256()}  # noqa: S303 (one of the faults)


@dataclass(frozen=True, slots=True)
class Signing:
    """Whose certificates are answered for, and who signs the answers."""

    issuer: Authority
    root: Authority
    """The issuer's own issuer."""
    signer: Authority

    @classmethod
    def of(cls, ca: LabCA, signer: Literal["delegate", "issuer"]) -> Self:
        return cls(ca.intermediate, ca.root, ca.intermediate if signer == "issuer" else ca.ocsp_signer)


@dataclass(frozen=True, slots=True)
class Party:
    """Who signs: a certificate and a key, which in a faulty answer need not belong together."""

    certificate: x509.Certificate
    key: Key

    @property
    def by_key(self) -> bytes:
        """ResponderID: the SHA-1 of the certificate's public key."""
        return der.explicit(2, der.octets(hashlib.sha1(key_bits(self.certificate)).digest()))  # noqa: S324 (RFC 6960 4.2.1 KeyHash)

    @property
    def by_name(self) -> bytes:
        """ResponderID: the certificate's subject."""
        return der.explicit(1, self.certificate.subject.public_bytes())

    def sign(self, said: bytes, digest: Digest) -> tuple[bytes, bytes]:
        """Give the AlgorithmIdentifier and the signature; Ed25519 has a digest of its own."""
        match self.key:
            case ed25519.Ed25519PrivateKey():
                return der.sequence(der.object_id(_ED25519)), self.key.sign(said)
            case rsa.RSAPrivateKey():
                algorithm = der.sequence(der.object_id(_RSA[digest]), der.NULL)
                return algorithm, self.key.sign(said, padding.PKCS1v15(), _DIGESTS[digest])
            case ec.EllipticCurvePrivateKey():
                return der.sequence(der.object_id(_ECDSA[digest])), self.key.sign(said, ec.ECDSA(_DIGESTS[digest]))


def key_bits(certificate: x509.Certificate) -> bytes:
    """The public key as it stands in the certificate's BIT STRING, which is what is hashed."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert isinstance(key, ed25519.Ed25519PublicKey)  # the lab issues no other
    return key.public_bytes_raw()

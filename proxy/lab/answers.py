"""OCSP answers as their parts: what a right responder says, ready to be changed into something that is not right.

Nothing here reads a clock. A right answer and a wrong one go through the same writer, so they differ in the fault only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from proxy.lab import der
from proxy.lab.signing import Party, Signing, key_bits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta

    from proxy.lab.signing import Digest

BASIC = "1.3.6.1.5.5.7.48.1.1"
"""id-pkix-ocsp-basic, the one type of response that there is."""
NONCE = "1.3.6.1.5.5.7.48.1.2"
_HASHES: dict[str, tuple[str, Callable[[bytes], hashlib._Hash]]] = {
    "sha1": ("1.3.14.3.2.26", hashlib.sha1),
    "sha256": ("2.16.840.1.101.3.4.2.1", hashlib.sha256),
    "sha384": ("2.16.840.1.101.3.4.2.2", hashlib.sha384),
    "sha512": ("2.16.840.1.101.3.4.2.3", hashlib.sha512),
}
GOOD = der.element(0x80)
UNKNOWN = der.element(0x82)
REASON_CODES = {  # RFC 5280 5.3.1 CRLReason; 7 is not used
    flag: code
    for code, flag in enumerate(
        (
            x509.ReasonFlags.unspecified,
            x509.ReasonFlags.key_compromise,
            x509.ReasonFlags.ca_compromise,
            x509.ReasonFlags.affiliation_changed,
            x509.ReasonFlags.superseded,
            x509.ReasonFlags.cessation_of_operation,
            x509.ReasonFlags.certificate_hold,
            None,
            x509.ReasonFlags.remove_from_crl,
            x509.ReasonFlags.privilege_withdrawn,
            x509.ReasonFlags.aa_compromise,
        )
    )
    if flag is not None
}


@dataclass(frozen=True, slots=True)
class CertId:
    """Which certificate an answer is about (RFC 6960 4.1.1)."""

    algorithm: str
    """Of the two hashes: ``sha1``, ``sha256`` …"""
    name_hash: bytes
    key_hash: bytes
    serial: int

    @classmethod
    def of(cls, issuer: x509.Certificate, serial: int, algorithm: str) -> Self:
        digest = _HASHES[algorithm][1]
        return cls(algorithm, digest(issuer.subject.public_bytes()).digest(), digest(key_bits(issuer)).digest(), serial)

    @property
    def encoded(self) -> bytes:
        algorithm = der.sequence(der.object_id(_HASHES[self.algorithm][0]), der.NULL)
        return der.sequence(algorithm, der.octets(self.name_hash), der.octets(self.key_hash), der.integer(self.serial))


@dataclass(frozen=True, slots=True)
class Single:
    """What an answer says about one certificate."""

    cert_id: CertId
    status: bytes
    """DER of the CertStatus."""
    this_update: datetime
    next_update: datetime | None
    extensions: tuple[bytes, ...] | None = None
    fraction: str = ""
    """Of a second, in thisUpdate."""

    @property
    def encoded(self) -> bytes:
        return der.sequence(
            self.cert_id.encoded,
            self.status,
            der.moment(self.this_update, fraction=self.fraction),
            b"" if self.next_update is None else der.explicit(0, der.moment(self.next_update)),
            b"" if self.extensions is None else der.explicit(1, der.sequence(*self.extensions)),
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful response as its parts; `encoded` signs it."""

    signer: Party
    responder: bytes
    certificates: tuple[x509.Certificate, ...]
    produced_at: datetime
    singles: tuple[Single, ...]
    extensions: tuple[bytes, ...] | None = None
    digest: Digest = "sha256"
    kind: str = BASIC

    @property
    def single(self) -> Single:
        """What it says about the certificate that was asked for."""
        return self.singles[0]

    def saying(self, *singles: Single) -> Answer:
        """Say something else, or nothing."""
        return replace(self, singles=singles)

    def signed_by(self, party: Party) -> Answer:
        """Let another sign, whose certificate comes with it."""
        return replace(self, signer=party, responder=party.by_key, certificates=(party.certificate,))

    @property
    def to_be_signed(self) -> bytes:
        return der.sequence(
            self.responder,
            der.moment(self.produced_at),
            der.sequence(*(single.encoded for single in self.singles)),
            b"" if self.extensions is None else der.explicit(1, der.sequence(*self.extensions)),
        )

    @property
    def encoded(self) -> bytes:
        return self.wrap(self.to_be_signed)

    def wrap(self, said: bytes, signed: bytes | None = None) -> bytes:
        """Put the whole response together; `signed`: what the signature is over, if not over what is said."""
        algorithm, signature = self.signer.sign(said if signed is None else signed, self.digest)
        certificates = [certificate.public_bytes(Encoding.DER) for certificate in self.certificates]
        basic = der.sequence(
            said,
            algorithm,
            der.bits(signature),
            der.explicit(0, der.sequence(*certificates)) if certificates else b"",
        )
        return successful(self.kind, basic)


def successful(kind: str, response: bytes) -> bytes:
    """Wrap a response of this type."""
    return der.sequence(der.enumerated(0), der.explicit(0, der.sequence(der.object_id(kind), der.octets(response))))


def unsuccessful(status: int) -> bytes:
    """Write one of the answers that hold nothing but a status (RFC 6960 4.2.1)."""
    return der.sequence(der.enumerated(status))


MALFORMED_REQUEST, INTERNAL_ERROR, TRY_LATER, SIG_REQUIRED, UNAUTHORIZED = (unsuccessful(n) for n in (1, 2, 3, 5, 6))


def revoked(since: datetime, reason_code: int | None = None) -> bytes:
    reason = b"" if reason_code is None else der.explicit(0, der.enumerated(reason_code))
    return der.explicit(1, der.moment(since.astimezone(UTC)), reason)


def right_answer(
    request_der: bytes,
    signing: Signing,
    now: datetime,
    *,
    validity: timedelta | None,
    revoked_at: Mapping[int, datetime],
    reasons: Mapping[int, x509.ReasonFlags] | None = None,
) -> Answer | bytes:
    """Answer one request as a right responder would; bytes, where that is to refuse.

    `validity` None: an answer without nextUpdate. `revoked_at`: serial number to the time of its revocation; `reasons`:
    to the reason, where one is told.
    """
    try:
        request = ocsp.load_der_ocsp_request(request_der)
        serial = request.serial_number
        # Reading the extensions parses them: what is broken there is a malformed request too.
        nonces = [e.value for e in request.extensions if isinstance(e.value, x509.OCSPNonce)]
        algorithm = request.hash_algorithm.name
    except (ValueError, NotImplementedError):  # NotImplementedError: more than one certificate asked for
        return MALFORMED_REQUEST
    if algorithm not in _HASHES:
        return UNAUTHORIZED
    cert_id = CertId.of(signing.issuer.certificate, serial, algorithm)
    if (cert_id.name_hash, cert_id.key_hash) != (request.issuer_name_hash, request.issuer_key_hash):
        return UNAUTHORIZED  # RFC 5019 2.2.3: no knowledge of that certificate
    this_update = now.astimezone(UTC).replace(microsecond=0)  # RFC 5280 4.1.2.5.2: no fractions of a second
    status = GOOD
    if (since := revoked_at.get(serial)) is not None:
        reason = (reasons or {}).get(serial)
        status = revoked(since, None if reason is None else REASON_CODES[reason])
    signer = Party(signing.signer.certificate, signing.signer.key)
    return Answer(
        signer=signer,
        responder=signer.by_key,
        # Clients have the issuer's certificate; they cannot have a delegate's.
        certificates=() if signing.signer == signing.issuer else (signer.certificate,),
        produced_at=this_update,
        singles=(Single(cert_id, status, this_update, None if validity is None else this_update + validity),),
        # RFC 9654 2.1: the nonce comes back as it was.
        extensions=tuple(der.extension(NONCE, der.octets(each.nonce)) for each in nonces) or None,
    )

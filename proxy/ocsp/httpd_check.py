"""What mod_ssl looks at in a response before it staples it, and what it does not (`stapling_check_response`).

Whether it is one, its status, whether it has the certificate's CertID, and the dates. Never the signature, the signer,
the nonce or what it says of the certificate.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.x509 import ocsp

from proxy.ocsp import der
from proxy.ocsp.ber import NotParsedError
from proxy.ocsp.d2i import (
    BITS,
    BOOLEAN,
    ENUMERATED,
    INTEGER,
    NULL,
    OCTETS,
    OID,
    SET,
    TIME,
    UTC_TIME,
    Anything,
    Choice,
    Explicit,
    Optional,
    Primitive,
    Repeated,
    Sequence,
    parse,
)
from proxy.ocsp.httpd_dates import is_valid

if TYPE_CHECKING:
    from cryptography import x509

_SHA1 = bytes.fromhex("2b0e03021a")

# RFC 6960 4.2.1 and RFC 5280 4.1.1, as OpenSSL's templates have them.
_TIME = Primitive((TIME,))
_NUMBER, _OBJECT, _BITS, _OCTETS = Primitive((INTEGER,)), Primitive((OID,)), Primitive((BITS,)), Primitive((OCTETS,))
_ENUMERATED = Primitive((ENUMERATED,))
_ALGORITHM = Sequence((_OBJECT, Optional(Anything())))
_EXTENSIONS = Repeated(Sequence((_OBJECT, Optional(Primitive((BOOLEAN,))), _OCTETS)))
# ASN1_PRINTABLE of OpenSSL, with all that it has no name for.
_ANY_STRING = Primitive((BITS, *range(7, 10), *range(11, 17), 18, 19, 20, 22, 28, 29, 30), is_text=True)
_NAME = Repeated(Repeated(Sequence((_OBJECT, _ANY_STRING)), SET))
_MOMENT = Primitive((UTC_TIME, TIME))
_CERTIFICATE = Sequence(
    (
        Sequence(
            (
                Optional(Explicit(0, _NUMBER)),
                _NUMBER,
                _ALGORITHM,
                _NAME,
                Sequence((_MOMENT, _MOMENT)),
                _NAME,
                Sequence((_ALGORITHM, _BITS)),
                Optional(Primitive((BITS,), implicit=1)),
                Optional(Primitive((BITS,), implicit=2)),
                Optional(Explicit(3, _EXTENSIONS)),
            )
        ),
        _ALGORITHM,
        _BITS,
    )
)
_CERT_ID = Sequence((_ALGORITHM, _OCTETS, _OCTETS, _NUMBER))
_GOOD, _UNKNOWN = Primitive((NULL,), implicit=0), Primitive((NULL,), implicit=2)
_REVOKED = Sequence((_TIME, Optional(Explicit(0, _ENUMERATED))), implicit=1)
_SINGLE = Sequence(
    (
        _CERT_ID,
        Choice((_GOOD, _REVOKED, _UNKNOWN)),
        _TIME,
        Optional(Explicit(0, _TIME)),
        Optional(Explicit(1, _EXTENSIONS)),
    )
)
_RESPONSE_DATA = Sequence(
    (
        Optional(Explicit(0, _NUMBER)),
        Choice((Explicit(1, _NAME), Explicit(2, _OCTETS))),
        _TIME,
        Repeated(_SINGLE),
        Optional(Explicit(1, _EXTENSIONS)),
    )
)
_BASIC = Sequence((_RESPONSE_DATA, _ALGORITHM, _BITS, Optional(Explicit(0, Repeated(_CERTIFICATE)))))
_RESPONSE = Sequence((_ENUMERATED, Optional(Explicit(0, Sequence((_OBJECT, _OCTETS))))))


class Finding(Enum):
    """What the look at a response comes to; the order is that of the checks."""

    NOT_SUCCESSFUL = "its status is not successful"
    UNPARSABLE = "it says 'successful', and its basic response cannot be read"
    OTHER_CERTIFICATE = "it is not about the certificate"
    TIMES_INVALID = "it is not valid now"
    RIGHT = "it is right"


@dataclass(frozen=True, slots=True)
class CertId:
    """By what a certificate is found in a response: all of it is compared (RFC 6960 4.1.1)."""

    name_hash: bytes
    key_hash: bytes
    serial: int

    @classmethod
    def of(cls, leaf: x509.Certificate, issuer: x509.Certificate) -> CertId:
        request = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, SHA1()).build()  # noqa: S303  names, no more
        return cls(request.issuer_name_hash, request.issuer_key_hash, leaf.serial_number)

    def encoded(self) -> bytes:
        size = self.serial.bit_length() // 8 + 1
        return der.tlv(
            der.SEQUENCE,
            der.tlv(der.SEQUENCE, der.tlv(der.OID, _SHA1), der.NULL),
            der.tlv(der.OCTETS, self.name_hash),
            der.tlv(der.OCTETS, self.key_hash),
            der.tlv(der.INTEGER, self.serial.to_bytes(size, signed=True)),
        )


@dataclass(frozen=True, slots=True)
class Single:
    """What is said of one certificate."""

    cert_id: CertId | None
    """None: its hash is not SHA-1."""
    status: str
    reason: int | None
    this_update: bytes
    next_update: bytes | None


@dataclass(frozen=True, slots=True)
class Response:
    """An OCSPResponse that OpenSSL can read."""

    der: bytes
    """As it writes it again: what is stored and stapled."""
    status: int
    singles: tuple[Single, ...] | None = None
    """None: there is no basic response, or none that can be read."""


@dataclass(frozen=True, slots=True)
class Checked:
    """`single` is what is said of the certificate, if anything is."""

    finding: Finding
    single: Single | None = None


def read(data: bytes) -> Response | None:
    """Read what a responder sent, or the cache holds; bytes that follow are dropped. None: it is no OCSPResponse."""
    try:
        status, response_bytes = cast("tuple[bytes, tuple[bytes, bytes] | None]", parse(_RESPONSE, data))
    except NotParsedError:
        return None
    number = _as_int(status)
    if response_bytes is None:
        return Response(der.tlv(der.SEQUENCE, der.tlv(der.ENUMERATED, status)), number)
    kind, basic = response_bytes
    inner = der.tlv(der.SEQUENCE, der.tlv(der.OID, kind), der.tlv(der.OCTETS, basic))
    whole = der.tlv(der.SEQUENCE, der.tlv(der.ENUMERATED, status), der.tlv(der.EXPLICIT_0, inner))
    singles = None
    if kind == der.BASIC_RESPONSE and not number:
        with suppress(NotParsedError):
            singles = _singles(basic)
    return Response(whole, number, singles)


@lru_cache(maxsize=256)
def read_stored(value: bytes) -> Response | None:
    """Read what the cache holds, one octet and a response; remembered, since it is judged in each handshake."""
    return read(value[1:])


def check(response: Response, cert_id: CertId, now_s: float, skew_s: int, max_age_s: int | None) -> Checked:
    """Look at a response as mod_ssl does; `max_age_s` None: a thisUpdate is never too old."""
    if response.status:
        return Checked(Finding.NOT_SUCCESSFUL)
    if response.singles is None:
        return Checked(Finding.UNPARSABLE)
    single = next((each for each in response.singles if each.cert_id == cert_id), None)
    if single is None:
        return Checked(Finding.OTHER_CERTIFICATE)
    if is_valid(single.this_update, single.next_update, int(now_s), skew_s, max_age_s):
        return Checked(Finding.RIGHT, single)
    return Checked(Finding.TIMES_INVALID, single)


def _as_int(contents: bytes) -> int:
    """A number as OCSP_response_status gives it: through a long, which has 8 octets, into an int."""
    if len(contents) > 8:
        return -1
    return int.from_bytes(int.from_bytes(contents, signed=True).to_bytes(8, signed=True)[4:], signed=True)


def _singles(basic: bytes) -> tuple[Single, ...]:
    data = cast("tuple[tuple[object, object, object, list[object], object]]", parse(_BASIC, basic))[0]
    return tuple(_single(each) for each in data[3])


def _single(found: object) -> Single:
    cert_id, (_, revoked, unknown), this_update, next_update, _ = cast(
        "tuple[tuple[tuple[bytes, object], bytes, bytes, bytes],"
        " tuple[object, tuple[bytes, bytes | None] | None, object], bytes, bytes | None, object]",
        found,
    )
    (algorithm, _), name_hash, key_hash, serial = cert_id
    return Single(
        # OpenSSL compares the hash by its OID alone: parameters may be NULL or absent.
        CertId(name_hash, key_hash, int.from_bytes(serial, signed=True)) if algorithm == _SHA1 else None,
        "revoked" if revoked else "unknown" if unknown is not None else "good",
        int.from_bytes(revoked[1], signed=True) if revoked and revoked[1] is not None else None,
        this_update,
        next_update,
    )

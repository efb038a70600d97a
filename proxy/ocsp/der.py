"""What `cryptography` does not tell about an OCSP response, read from its DER.

`cryptography` parses and stays the judge of what is well formed. It is silent, or says it only in prose, about: unknown
statuses and types; bytes that follow; fractional seconds; the parameters of a signature's algorithm; and critical
extensions when there are several SingleResponses. Those are read here.

No signature covers the wrapping around tbsResponseData, so whoever stands on the way may write it otherwise. Here it
has one form only, the DER of RFC 6960 4.2.1 with nothing added.
"""

from __future__ import annotations

from dataclasses import dataclass

SEQUENCE, ENUMERATED, OID, OCTETS, BITS, BOOLEAN, TIME, INTEGER = 0x30, 0x0A, 0x06, 0x04, 0x03, 0x01, 0x18, 0x02
EXPLICIT_0, EXPLICIT_1, EXPLICIT_2 = 0xA0, 0xA1, 0xA2

NULL = b"\x05\x00"
BASIC_RESPONSE = bytes.fromhex("2b0601050507300101")  # id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1


def tlv(tag: int, *contents: bytes) -> bytes:
    """An element in DER."""
    body = b"".join(contents)
    if len(body) < 0x80:
        return bytes((tag, len(body))) + body
    digits = len(body).to_bytes((len(body).bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(digits))) + digits + body


class Reader:
    """Takes element after element from DER: one-byte tags and definite lengths, as everything here has.

    Every method raises ValueError when the bytes are not what it is asked for.
    """

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def tag(self) -> int | None:
        """The next element's tag; None at the end."""
        return self._data[self._at] if self._at < len(self._data) else None

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._data)

    def element(self) -> tuple[int, bytes]:
        """The next element's tag and contents."""
        data, at = self._data, self._at
        if len(data) - at < 2:
            raise ValueError("it is cut short")
        tag, length, at = data[at], data[at + 1], at + 2
        if length >= 0x80:
            octets = length & 0x7F
            digits = data[at : at + octets]
            length, at = int.from_bytes(digits), at + octets
            # X.690 10.1: definite, and in as few octets as possible.
            if not 1 <= octets <= 4 or len(digits) < octets or digits[0] == 0 or length < 0x80:
                raise ValueError("a length is not DER")
        if length > len(data) - at:
            raise ValueError("it is cut short")
        self._at = at + length
        return tag, data[at : self._at]

    def take(self, tag: int) -> bytes:
        """The contents of the next element, which must have this tag."""
        found, contents = self.element()
        if found != tag:
            raise ValueError(f"tag {tag:#04x} expected, {found:#04x} found")
        return contents

    def into(self, tag: int) -> Reader:
        """A reader of the next element's contents."""
        return Reader(self.take(tag))

    def rest(self) -> bytes:
        """All that is left."""
        left, self._at = self._data[self._at :], len(self._data)
        return left

    def taken(self) -> bytes:
        """All that was taken so far, as it stands."""
        return self._data[: self._at]

    def end(self) -> None:
        """There must be nothing left."""
        if not self.is_at_end:
            raise ValueError("it holds more than it should")


class FractionalSecondsError(ValueError):
    """A GeneralizedTime that some clients take and some refuse."""


@dataclass(frozen=True, slots=True)
class Outline:
    """The facts of one OCSPResponse that come from here."""

    status: int
    """OCSPResponseStatus (RFC 6960 4.2.1); if it is not 0, nothing else is set."""
    is_basic: bool = False
    """Its type is id-pkix-ocsp-basic; if not, nothing else is set."""
    signed: bytes = b""
    """tbsResponseData, signatureAlgorithm and signature, as they stand."""
    signature_parameters: bytes = b""
    """What follows the OID in signatureAlgorithm."""
    critical: bool = False
    """The response as a whole has a critical extension."""
    singles_critical: tuple[bool, ...] = ()
    """The same for each SingleResponse, in their order."""


def outline(der: bytes) -> tuple[Outline, bool]:
    """Read a response; the second value says whether bytes follow it. Raises ValueError for anything that is none."""
    outer = Reader(der)
    response = outer.into(SEQUENCE)
    trailing = not outer.is_at_end
    status = response.take(ENUMERATED)
    if len(status) != 1:
        raise ValueError("its status is not DER")
    if status != b"\x00":
        return Outline(status[0]), trailing
    if response.is_at_end:
        raise ValueError("it says 'successful' and holds no response")
    explicit = response.into(EXPLICIT_0)
    response_bytes = explicit.into(SEQUENCE)
    if response_bytes.take(OID) != BASIC_RESPONSE:
        return Outline(0), trailing
    octets = response_bytes.into(OCTETS)
    basic = octets.into(SEQUENCE)
    for wrapping in (response, explicit, response_bytes, octets):
        wrapping.end()
    critical, singles_critical = _response_data(basic.into(SEQUENCE))
    algorithm = basic.into(SEQUENCE)
    algorithm.take(OID)
    _whole_octets(basic.take(BITS))
    signed = basic.taken()
    if not basic.is_at_end:
        certificates = basic.into(EXPLICIT_0)
        each = certificates.into(SEQUENCE)
        certificates.end()
        while not each.is_at_end:
            each.take(SEQUENCE)
    basic.end()
    return Outline(0, True, signed, algorithm.rest(), critical, singles_critical), trailing


def wrapped(signed: bytes, certificate: bytes | None) -> bytes:
    """The OCSPResponse of these signed parts (see Outline), with one certificate or none."""
    certificates = b"" if certificate is None else tlv(EXPLICIT_0, tlv(SEQUENCE, certificate))
    basic = tlv(OCTETS, tlv(SEQUENCE, signed, certificates))
    return tlv(SEQUENCE, tlv(ENUMERATED, b"\x00"), tlv(EXPLICIT_0, tlv(SEQUENCE, tlv(OID, BASIC_RESPONSE), basic)))


def certificate_parameters(der: bytes) -> bytes:
    """What follows the OID in a certificate's signatureAlgorithm.

    ValueError when the parts of the certificate that nothing signs are otherwise than they must be.
    """
    outer = Reader(der)
    certificate = outer.into(SEQUENCE)
    tbs = certificate.into(SEQUENCE)
    if tbs.tag == EXPLICIT_0:
        tbs.element()  # version
    tbs.take(INTEGER)  # serialNumber
    algorithm = certificate.take(SEQUENCE)
    if tbs.take(SEQUENCE) != algorithm:  # RFC 5280 4.1.1.2: signed in one place, repeated in the other
        raise ValueError("its two signature algorithms differ")
    _whole_octets(certificate.take(BITS))
    certificate.end()
    outer.end()
    parameters = Reader(algorithm)
    parameters.take(OID)
    return parameters.rest()


def _response_data(data: Reader) -> tuple[bool, tuple[bool, ...]]:
    if data.tag == EXPLICIT_0 and data.into(EXPLICIT_0).take(INTEGER) != b"\x00":
        raise ValueError("its version is not 1")
    data.element()  # responderID
    _time(data)  # producedAt
    responses = data.into(SEQUENCE)
    singles: list[bool] = []
    while not responses.is_at_end:
        single = responses.into(SEQUENCE)
        single.take(SEQUENCE)  # certID
        status, contents = single.element()
        if status == EXPLICIT_1:  # revoked, a RevokedInfo
            _time(Reader(contents))
        _time(single)  # thisUpdate
        if single.tag == EXPLICIT_0:
            _time(single.into(EXPLICIT_0))  # nextUpdate
        singles.append(_has_critical(single))
    return _has_critical(data), tuple(singles)


def _time(reader: Reader) -> None:
    # RFC 6960 4.2.2.1 with RFC 5280 4.1.2.5.2: no fractions. OpenSSL and Java take them; Go, GnuTLS and NSS do not.
    if b"." in reader.take(TIME):
        raise FractionalSecondsError


def _has_critical(owner: Reader) -> bool:
    """Whether the extensions that may end `owner` include a critical one."""
    if owner.is_at_end:
        return False
    extensions = owner.into(EXPLICIT_1).into(SEQUENCE)
    while not extensions.is_at_end:
        extension = extensions.into(SEQUENCE)
        extension.take(OID)
        if extension.tag == BOOLEAN and extension.take(BOOLEAN) != b"\x00":
            return True
    return False


def _whole_octets(bits: bytes) -> None:
    # A signature is whole octets. The count of unused bits is not signed, so a changed one would go through unseen.
    if bits[:1] != b"\x00":
        raise ValueError("a signature is not whole octets")

"""Certificates and responses for the tests, good ones and every kind of bad one.

Responses are written in DER here, not built by `cryptography`, which rightly refuses to build most of the defects.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy.lab.der import NULL, integer
from proxy.lab.der import element as tlv
from proxy.lab.der import object_id as oid
from proxy.lab.der import sequence as seq

NOW = datetime(2030, 6, 15, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)

BASIC = "1.3.6.1.5.5.7.48.1.1"
SHA1, SHA256, SHA512 = "1.3.14.3.2.26", "2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.3"
KEY_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
PSS, NONCE = "1.2.840.113549.1.1.10", "1.3.6.1.5.5.7.48.1.2"
UNKNOWN_EXTENSION = "1.3.6.1.4.1.99999.1"


def moment(value: datetime | bytes) -> bytes:
    return tlv(0x18, value if isinstance(value, bytes) else f"{value:%Y%m%d%H%M%SZ}".encode())


def extension(dotted: str, *, critical: bool, value: bytes = b"\x05\x00") -> bytes:
    return seq(oid(dotted), *([tlv(0x01, b"\xff")] if critical else []), tlv(0x04, value))


# --- certificates ---

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


@cache
def key(name: str, kind: str = "ec") -> Key:
    """One key for each name and kind: RSA keys are slow to make."""
    match kind:
        case "ec":
            return ec.generate_private_key(ec.SECP256R1())
        case "p192" | "p384" | "p521":
            return ec.generate_private_key(
                {"p192": ec.SECP192R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}[kind]
            )
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ed448":
            return ed448.Ed448PrivateKey.generate()
        case _:
            return rsa.generate_private_key(65537, int(kind.removeprefix("rsa")))


@dataclass(frozen=True)
class Party:
    """A certificate and its key."""

    cert: x509.Certificate
    key: Key

    @property
    def key_bits(self) -> bytes:
        if isinstance(self.key, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)):
            return self.key.public_key().public_bytes_raw()
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
        return self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def issue(
    subject: str,
    by: Party | None = None,
    *,
    own_key: Key | None = None,
    ca: bool | None = False,
    eku: list[x509.ObjectIdentifier] | None = None,
    key_usage: str | None = None,
    begin: datetime = NOW - 100 * DAY,
    end: datetime = NOW + 100 * DAY,
    serial: int | None = None,
    extra: list[tuple[x509.ExtensionType, bool]] | None = None,
    digest: hashes.HashAlgorithm | None = None,
) -> Party:
    """Issue a certificate; without `by` it signs itself."""
    own = own_key or key(subject)
    signer = by.key if by else own
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(by.cert.subject if by else name(subject))
        .public_key(own.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    if eku is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(eku), critical=False)
    if key_usage is not None:
        uses = {use: use in key_usage.split() for use in KEY_USAGES}
        builder = builder.add_extension(x509.KeyUsage(**uses), critical=True)
    for value, critical in extra or []:
        builder = builder.add_extension(value, critical)
    if isinstance(signer, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)):
        return Party(builder.sign(signer, None), own)
    return Party(builder.sign(signer, digest or hashes.SHA256()), own)


ROOT = issue("Test Root", ca=True)
CA = issue("Test CA", ROOT, ca=True, key_usage="digital_signature key_cert_sign")
OTHER_CA = issue("Other CA", ROOT, ca=True)
SUB_CA = issue("Sub CA", CA, ca=True)
OCSP_EKU = [ExtendedKeyUsageOID.OCSP_SIGNING]
DELEGATE = issue("Test OCSP", CA, eku=OCSP_EKU, key_usage="digital_signature", end=NOW + 30 * DAY)
LEAF = issue("leaf.example", CA)
OTHER_LEAF = issue("other.example", CA)


def certified(tbs: bytes, by: Party, algorithm: str | tuple = "ecdsa-sha256") -> bytes:
    """The certificate of this tbsCertificate, whatever it holds."""
    identifier, sign = ALGORITHMS[algorithm] if isinstance(algorithm, str) else algorithm
    return seq(tbs, identifier, tlv(0x03, b"\x00", sign(by.key, tbs)))


def resigned(party: Party, by: Party, tbs: bytes, algorithm: str | tuple = "ecdsa-sha256") -> Party:
    """`party` with another tbsCertificate, signed by `by`: for what `cryptography` rightly does not build."""
    return Party(x509.load_der_x509_certificate(certified(tbs, by, algorithm)), party.key)


def signed_with_sha1(party: Party, by: Party, algorithm: str = "rsa-sha1") -> Party:
    """The same certificate, signed anew with SHA-1."""
    usual = "rsa-sha256" if algorithm == "rsa-sha1" else "ecdsa-sha256"
    tbs = tlv(0x30, contents(party.cert.tbs_certificate_bytes).replace(ALGORITHMS[usual][0], ALGORITHMS[algorithm][0]))
    return resigned(party, by, tbs, algorithm)


def with_serial(party: Party, by: Party, serial: bytes) -> Party:
    """The same certificate with these contents of its serialNumber."""
    old = integer(party.cert.serial_number)
    return resigned(party, by, seq(contents(party.cert.tbs_certificate_bytes).replace(old, tlv(0x02, serial), 1)))


def named_otherwise(party: Party, by: Party) -> Party:
    """The same certificate, but with the name of its issuer in another kind of string: PrintableString, not UTF8."""
    text = common_name(by).encode()
    tbs = party.cert.tbs_certificate_bytes.replace(tlv(0x0C, text), tlv(0x13, text))
    return resigned(party, by, tbs)


def with_broken_signature(party: Party) -> Party:
    der = bytearray(party.cert.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return Party(x509.load_der_x509_certificate(bytes(der)), party.key)


def contents(der: bytes) -> bytes:
    """What is in an element of 128 bytes or more."""
    return der[2 + (der[1] & 0x7F) :]


# --- responses ---

GOOD = tlv(0x80)
UNKNOWN = tlv(0x82)


def revoked(since: datetime, reason: int | None = None) -> bytes:
    return tlv(0xA1, moment(since), *([tlv(0xA0, tlv(0x0A, bytes([reason])))] if reason is not None else []))


def cert_id(
    leaf: Party = LEAF,
    issuer: Party = CA,
    *,
    digest: str = SHA1,
    name_of: Party | None = None,
    name: bytes | None = None,
    key_of: Party | None = None,
    serial: int | None = None,
) -> bytes:
    hashed = {SHA1: hashlib.sha1, SHA256: hashlib.sha256, SHA512: hashlib.sha512}[digest]
    subject = name or (name_of or issuer).cert.subject.public_bytes()
    return seq(
        seq(oid(digest), NULL),
        tlv(0x04, hashed(subject).digest()),
        tlv(0x04, hashed((key_of or issuer).key_bits).digest()),
        integer(leaf.cert.serial_number if serial is None else serial),
    )


def unknown_hash_cert_id() -> bytes:
    """A CertID with the right serial, by a hash algorithm that does not exist."""
    return seq(seq(oid("1.2.3.4"), NULL), tlv(0x04, bytes(8)), tlv(0x04, bytes(8)), integer(LEAF.cert.serial_number))


def nonce(value: bytes) -> bytes:
    return extension(NONCE, critical=False, value=tlv(0x04, value))


def single(
    cid: bytes | None = None,
    *,
    status: bytes = GOOD,
    this_update: datetime | bytes = NOW - DAY,
    next_update: datetime | bytes | None = NOW + DAY,
    extensions: list[bytes] | None = None,
) -> bytes:
    return seq(
        cid or cert_id(),
        status,
        moment(this_update),
        *([tlv(0xA0, moment(next_update))] if next_update is not None else []),
        *([tlv(0xA1, seq(*extensions))] if extensions is not None else []),
    )


ALGORITHMS = {
    "ecdsa-sha256": (seq(oid("1.2.840.10045.4.3.2")), lambda k, tbs: k.sign(tbs, ec.ECDSA(hashes.SHA256()))),
    "ecdsa-sha384": (seq(oid("1.2.840.10045.4.3.3")), lambda k, tbs: k.sign(tbs, ec.ECDSA(hashes.SHA384()))),
    "ecdsa-sha1": (seq(oid("1.2.840.10045.4.1")), lambda k, tbs: k.sign(tbs, ec.ECDSA(hashes.SHA1()))),  # noqa: S303  it must be refused
    "ecdsa-sha512": (seq(oid("1.2.840.10045.4.3.4")), lambda k, tbs: k.sign(tbs, ec.ECDSA(hashes.SHA512()))),
    "rsa-sha256": (
        seq(oid("1.2.840.113549.1.1.11"), NULL),
        lambda k, tbs: k.sign(tbs, padding.PKCS1v15(), hashes.SHA256()),
    ),
    "rsa-sha512": (
        seq(oid("1.2.840.113549.1.1.13"), NULL),
        lambda k, tbs: k.sign(tbs, padding.PKCS1v15(), hashes.SHA512()),
    ),
    "rsa-sha1": (
        seq(oid("1.2.840.113549.1.1.5"), NULL),
        lambda k, tbs: k.sign(tbs, padding.PKCS1v15(), hashes.SHA1()),  # noqa: S303  likewise
    ),
    # OpenSSL no longer signs with MD5 everywhere; its signature is not looked at anyway.
    "rsa-md5": (seq(oid("1.2.840.113549.1.1.4"), NULL), lambda _k, _tbs: b"\x01" * 256),
    "ed25519": (seq(oid("1.3.101.112")), lambda k, tbs: k.sign(tbs)),
    "ed448": (seq(oid("1.3.101.113")), lambda k, tbs: k.sign(tbs)),
}


def pss(
    digest: str = SHA256,
    mask: str | None = None,
    salt: int | None = 32,
    *,
    said: int | None = None,
    trailer: bytes = b"",
) -> tuple:
    """An entry as in ALGORITHMS for RSASSA-PSS with these parameters; `said`: they tell this length of the salt."""
    algorithm = {SHA1: hashes.SHA1, SHA256: hashes.SHA256, SHA512: hashes.SHA512}
    hashed, masked = algorithm[digest](), algorithm[mask or digest]()
    mask = mask or digest
    parameters = seq(  # what is the default is left out in DER
        *([tlv(0xA0, seq(oid(digest), NULL))] if digest != SHA1 else []),
        *([tlv(0xA1, seq(oid("1.2.840.113549.1.1.8"), seq(oid(mask), NULL)))] if mask != SHA1 else []),
        *([tlv(0xA2, integer(said or salt))] if salt is not None else []),
        trailer,
    )
    scheme = padding.PSS(padding.MGF1(masked), 20 if salt is None else max(salt, 0))
    return seq(oid(PSS), parameters), lambda k, tbs: k.sign(tbs, scheme, hashed)


@dataclass(frozen=True)
class Answer:
    """A response as its parts; `der` puts them together and signs."""

    signer: Party = CA
    key: Key | None = None
    """None: the signer's own."""
    singles: tuple[bytes, ...] = field(default_factory=lambda: (single(),))
    certs: tuple[bytes, ...] = ()
    responder: bytes | None = None
    """None: the signer by name."""
    by_key_hash: bool = False
    produced_at: datetime | bytes = NOW - DAY
    extensions: tuple[bytes, ...] | None = None
    algorithm: str | tuple = "ecdsa-sha256"
    status: int = 0
    type: str = BASIC
    unused_bits: int = 0

    @property
    def tbs(self) -> bytes:
        by_name = tlv(0xA1, self.signer.cert.subject.public_bytes())
        key_hash = hashlib.sha1(self.signer.key_bits).digest()  # noqa: S324  RFC 6960 4.2.1 KeyHash
        by_hash = tlv(0xA2, tlv(0x04, key_hash))
        return seq(
            self.responder or (by_hash if self.by_key_hash else by_name),
            moment(self.produced_at),
            seq(*self.singles),
            *([tlv(0xA1, seq(*self.extensions))] if self.extensions is not None else []),
        )

    @property
    def der(self) -> bytes:
        return self.wrap(self.tbs)

    def wrap(self, tbs: bytes, signed: bytes | None = None) -> bytes:
        """The whole response; `signed`: what the signature is over, if not over `tbs`."""
        algorithm = ALGORITHMS[self.algorithm] if isinstance(self.algorithm, str) else self.algorithm
        identifier, sign = algorithm
        signature = sign(self.key or self.signer.key, tbs if signed is None else signed)
        basic = seq(
            tbs,
            identifier,
            tlv(0x03, bytes([self.unused_bits]), signature),
            *([tlv(0xA0, seq(*self.certs))] if self.certs else []),
        )
        body = seq(oid(self.type), tlv(0x04, basic))
        return seq(tlv(0x0A, bytes([self.status])), tlv(0xA0, body))

    def but(self, **changes: object) -> Answer:
        return replace(self, **changes)


def der_of(*parties: Party) -> tuple[bytes, ...]:
    return tuple(party.cert.public_bytes(Encoding.DER) for party in parties)


def delegated(delegate: Party = DELEGATE, **parts: object) -> Answer:
    """A response signed by a delegate, whose certificate comes with it."""
    return Answer(**{"signer": delegate, "certs": der_of(delegate), **parts})


def common_name(party: Party) -> str:
    return str(party.cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

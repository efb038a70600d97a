"""A small certificate authority: root, intermediate, delegated OCSP signer, and the leaves it is asked for.

The shape is that of a private CA in the field: the root signs only the intermediate, and the intermediate signs the
leaves and the certificate of the OCSP signer. All of the CA's own keys are ECDSA P-256, so a new CA costs milliseconds;
leaves are as asked.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from proxy.lab.index import add_certificate

if TYPE_CHECKING:
    from pathlib import Path

KeyKind = Literal["ec", "rsa"]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

BACKDATE = timedelta(hours=1)
"""Every certificate begins this much early, so that a client whose clock is behind takes it."""
CA_LIFETIME = timedelta(days=3650)


class Validity(NamedTuple):
    begin: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Authority:
    """One of the CA's own certificates, with the key that signs in its name."""

    certificate: x509.Certificate
    key: PrivateKey


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A leaf with what a server needs to use it."""

    chain_pem: bytes
    """The leaf, then the intermediate."""
    key_pem: bytes
    leaf: x509.Certificate
    key: PrivateKey

    @property
    def name(self) -> str:
        """The first of its names."""
        return str(self.leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    @property
    def stem(self) -> str:
        """The file name without its end, such as ``localhost.ec``: first name and kind of key."""
        kind = "rsa" if isinstance(self.key, rsa.RSAPrivateKey) else "ec"
        return f"{self.name.replace('*', '_')}.{kind}"


@dataclass(slots=True)
class LabCA:
    """The authority and, growing, the certificates it issued."""

    root: Authority
    intermediate: Authority
    ocsp_signer: Authority
    issued: list[IssuedCertificate] = field(default_factory=list)

    @classmethod
    def create(cls, now: datetime) -> Self:
        """Make new keys and certificates, valid from an hour before `now` for ten years."""
        begin = now.replace(microsecond=0) - BACKDATE
        validity = Validity(begin, begin + CA_LIFETIME)
        root_key, intermediate_key, signer_key = _new_key("ec"), _new_key("ec"), _new_key("ec")
        root_name, intermediate_name = _name("Lab Root CA"), _name("Lab Intermediate CA")
        root = Authority(
            _ca_builder(root_name, root_name, root_key, root_key, validity, path_length=1).sign(
                root_key, hashes.SHA256()
            ),
            root_key,
        )
        intermediate = Authority(
            _ca_builder(intermediate_name, root_name, intermediate_key, root_key, validity, path_length=0).sign(
                root_key, hashes.SHA256()
            ),
            intermediate_key,
        )
        signer = (
            _builder(_name("Lab OCSP Signer"), intermediate_name, signer_key, intermediate_key, validity)
            .add_extension(key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
            # RFC 6960 4.2.2.2.1: clients need not ask whether the signer itself is revoked.
            .add_extension(x509.OCSPNoCheck(), critical=False)
            .sign(intermediate_key, hashes.SHA256())
        )
        return cls(root, intermediate, Authority(signer, signer_key))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `write` left; leaves that were issued then stay in the folder, and in its index only."""
        return cls(
            _load_authority(folder, "root"),
            _load_authority(folder, "intermediate"),
            _load_authority(folder, "ocsp-signer"),
        )

    def issue(
        self,
        names: tuple[str, ...] | list[str],
        *,
        key: KeyKind = "ec",
        ocsp_urls: tuple[str, ...] | list[str] = (),
        ca_issuers_url: str | None = None,
        must_staple: bool = False,
        days: float = 90,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> IssuedCertificate:
        """Issue a server certificate for DNS names and IP addresses.

        `not_before` None: when the CA itself begins. `not_after` None: `days` after `not_before`.
        """
        begin = not_before or self.intermediate.certificate.not_valid_before_utc
        end = not_after or begin + timedelta(days=days)
        private = _new_key(key)
        issuer = self.intermediate
        builder = (
            _builder(_name(names[0]), issuer.certificate.subject, private, issuer.key, Validity(begin, end))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            # RFC 5480 3: key encipherment is RSA's only.
            .add_extension(key_usage(digital_signature=True, key_encipherment=key == "rsa"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        )
        access = [_access(AuthorityInformationAccessOID.OCSP, url) for url in ocsp_urls]
        if ca_issuers_url is not None:
            access.append(_access(AuthorityInformationAccessOID.CA_ISSUERS, ca_issuers_url))
        if access:
            builder = builder.add_extension(x509.AuthorityInformationAccess(access), critical=False)
        if must_staple:
            builder = builder.add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
        leaf = builder.sign(issuer.key, hashes.SHA256())
        issued = IssuedCertificate(_pem(leaf) + _pem(issuer.certificate), _key_pem(private), leaf, private)
        self.issued.append(issued)
        return issued

    def write(self, folder: Path) -> None:
        """Write all of it as PEM files, keys readable by the owner only, and ``index.txt`` for ``openssl ocsp``."""
        folder.mkdir(parents=True, exist_ok=True)
        for stem, authority in (
            ("root", self.root),
            ("intermediate", self.intermediate),
            ("ocsp-signer", self.ocsp_signer),
        ):
            (folder / f"{stem}.pem").write_bytes(_pem(authority.certificate))
            _write_private(folder / f"{stem}.key", _key_pem(authority.key))
        for issued in self.issued:
            (folder / f"{issued.stem}.pem").write_bytes(issued.chain_pem)
            _write_private(folder / f"{issued.stem}.key", issued.key_pem)
        index = folder / "index.txt"
        text = index.read_text() if index.exists() else ""
        for issued in self.issued:
            text = add_certificate(text, issued.leaf, file=f"{issued.stem}.pem", name=issued.name)
        index.write_text(text)
        # Without it openssl refuses an index with an RSA and an EC certificate of one name.
        (folder / "index.txt.attr").write_text("unique_subject = no\n")


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: PrivateKey,
    issuer_key: PrivateKey,
    validity: Validity,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.begin.astimezone(UTC))
        .not_valid_after(validity.end.astimezone(UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _ca_builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: PrivateKey,
    issuer_key: PrivateKey,
    validity: Validity,
    *,
    path_length: int,
) -> x509.CertificateBuilder:
    return (
        _builder(subject, issuer, key, issuer_key, validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        # digital_signature: so that the intermediate may sign OCSP responses itself.
        .add_extension(key_usage(digital_signature=True, sign_certificates=True), critical=True)
    )


def key_usage(
    *, digital_signature: bool = False, key_encipherment: bool = False, sign_certificates: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _access(method: x509.ObjectIdentifier, url: str) -> x509.AccessDescription:
    return x509.AccessDescription(method, x509.UniformResourceIdentifier(url))


def _new_key(kind: KeyKind) -> PrivateKey:
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(path: Path, pem: bytes) -> None:
    """Write a key so that nobody else can read it at any moment."""
    path.unlink(missing_ok=True)  # a file that is there would keep its own mode
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags | os.O_EXCL, 0o600)) as file:
        file.write(pem)


def _load_authority(folder: Path, stem: str) -> Authority:
    key = serialization.load_pem_private_key((folder / f"{stem}.key").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise TypeError(f"{folder / stem}.key: neither an EC nor an RSA key")
    return Authority(x509.load_pem_x509_certificate((folder / f"{stem}.pem").read_bytes()), key)

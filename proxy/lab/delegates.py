"""Certificates of OCSP signers to whom somebody gave the right to sign, or forgot to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy.lab.ca import key_usage
from proxy.lab.signing import Party

if TYPE_CHECKING:
    from datetime import datetime

    from proxy.lab.signing import Signing

DAY = timedelta(days=1)
SERIAL_NUMBER = 0x5AFE

# Fixed keys, so that the same occasion gives the same certificate. They guard nothing.
DELEGATE_KEY = ec.derive_private_key(0x5AFE, ec.SECP256R1())
WEAK_KEY = ec.derive_private_key(0x5AFE, ec.SECP192R1())
ED25519_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@dataclass(frozen=True, slots=True)
class Delegation:
    """How the certificate of a delegate is made: as it stands here, rightly (RFC 6960 4.2.2.2)."""

    by: Literal["issuer", "root", "itself"] = "issuer"
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey = DELEGATE_KEY
    purposes: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.OCSP_SIGNING,)
    begin: timedelta = -DAY
    """From now; so is `end`."""
    end: timedelta = DAY
    is_ca: bool = False
    may_sign: bool = True
    critical: x509.ExtensionType | None = None
    """One more extension, which nobody may ignore."""
    is_tampered: bool = False
    """Changed after it was signed."""

    def carry_out(self, signing: Signing, now: datetime) -> Party:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lab OCSP Delegate")])
        giver = {"issuer": signing.issuer, "root": signing.root, "itself": None}[self.by]
        now = now.replace(microsecond=0)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(giver.certificate.subject if giver else subject)
            .public_key(self.key.public_key())
            .serial_number(SERIAL_NUMBER)
            .not_valid_before(now + self.begin)
            .not_valid_after(now + self.end)
            .add_extension(x509.BasicConstraints(ca=self.is_ca, path_length=None), critical=True)
            .add_extension(
                key_usage(digital_signature=self.may_sign, sign_certificates=not self.may_sign), critical=True
            )
            .add_extension(x509.OCSPNoCheck(), critical=False)
        )
        if self.purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(self.purposes), critical=False)
        if self.critical is not None:
            builder = builder.add_extension(self.critical, critical=True)
        certificate = builder.sign(giver.key if giver else DELEGATE_KEY, hashes.SHA256())
        if self.is_tampered:
            encoded = bytearray(certificate.public_bytes(Encoding.DER))
            encoded[-1] ^= 1
            certificate = x509.load_der_x509_certificate(bytes(encoded))
        return Party(certificate, self.key)

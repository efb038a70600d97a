"""A root and certificates below it, in files: only what the tests of reading them need."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from proxy.settings.model import CertificateFiles

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
OCSP_URI = "http://ocsp.test/"


@cache
def new_key(kind="ec", number=0):
    """A key of this kind; another for each number, and made once, for RSA takes long."""
    match kind:
        case "ec":
            return ec.generate_private_key(ec.SECP256R1())
        case "rsa":
            return rsa.generate_private_key(65537, 2048)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ed448":
            return ed448.Ed448PrivateKey.generate()
        case "dsa":
            return dsa.generate_private_key(2048)


def pem(*certificates):
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def key_pem(key, passphrase=None):
    hidden = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden)


def named(common_name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def uri(method, text):
    return x509.AccessDescription(method, x509.UniformResourceIdentifier(text))


@dataclass
class Chain:
    """A leaf, who issued it, and the files that a site names."""

    folder: Path
    leaf: x509.Certificate
    issuer: x509.Certificate
    files: CertificateFiles

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path


def make_chain(
    folder, *, kind="ec", names=("www.test", "*.www.test"), common_name="www.test", ocsp=(OCSP_URI,), ca_issuers=(),
    must_staple=False, not_before=NOW - timedelta(days=1), not_after=NOW + timedelta(days=90), extra=(), label=None,
):  # fmt: skip
    """Write LABEL.chain.pem (leaf, issuer) and LABEL.key.pem into `folder`."""
    ca_key, key, label = new_key("ec", "ca"), new_key(kind, "leaf"), label or kind
    issuer = make_issuer("Test CA", ca_key)
    leaf = _builder(common_name, "Test CA", key.public_key(), not_before, not_after)
    if names is not None:
        leaf = leaf.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    access = [uri(AuthorityInformationAccessOID.OCSP, each) for each in ocsp]
    access += [uri(AuthorityInformationAccessOID.CA_ISSUERS, each) for each in ca_issuers]
    if access:
        leaf = leaf.add_extension(x509.AuthorityInformationAccess(access), critical=False)
    if must_staple:
        leaf = leaf.add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
    for extension in extra:
        leaf = leaf.add_extension(extension, critical=False)
    signed = leaf.sign(ca_key, hashes.SHA256())
    files = CertificateFiles(chain=folder / f"{label}.chain.pem", key=folder / f"{label}.key.pem")
    chain = Chain(folder, signed, issuer, files)
    chain.write(files.chain.name, pem(signed, issuer))
    chain.write(files.key.name, key_pem(key))
    return chain


def make_issuer(name, key):
    """Make a CA that nobody has issued."""
    builder = _builder(name, name, key.public_key(), NOW - timedelta(days=365), NOW + timedelta(days=365))
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(
        key, hashes.SHA256()
    )


def self_signed(folder):
    """Write a certificate that is its own issuer, and names a responder all the same."""
    key = new_key("ec", "self")
    builder = _builder("self.test", "self.test", key.public_key(), NOW, NOW + timedelta(days=1))
    access = x509.AuthorityInformationAccess([uri(AuthorityInformationAccessOID.OCSP, OCSP_URI)])
    leaf = builder.add_extension(access, critical=False).sign(key, hashes.SHA256())
    chain = Chain(folder, leaf, leaf, CertificateFiles(chain=folder / "self.pem", key=folder / "self.key"))
    chain.write("self.pem", pem(leaf))
    chain.write("self.key", key_pem(key))
    return chain


def _builder(subject, issuer, public_key, not_before, not_after):
    return x509.CertificateBuilder(
        issuer_name=named(issuer),
        subject_name=named(subject),
        public_key=public_key,
        serial_number=x509.random_serial_number(),
        not_valid_before=not_before,
        not_valid_after=not_after,
    )

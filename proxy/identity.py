"""A certificate with all that follows from it, read and checked once at start."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NewType, TypeVar
from warnings import catch_warnings

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID as Access
from cryptography.x509.oid import NameOID

from proxy.errors import ConfigError, Problem
from proxy.keyfile import exposure
from proxy.log_lines import printable
from proxy.names import host_name
from proxy.pem import read_certificates, read_private_key
from proxy.settings.values import check_http_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from proxy.keyfile import Exposure
    from proxy.pem import PrivateKey
    from proxy.settings.model import CertificateFiles

T = TypeVar("T")

_PARSE_ERRORS = (
    ValueError,
    TypeError,
    KeyError,  # a TLS feature that it does not know
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""In what cryptography ends when something of a certificate is asked for that cannot be read."""

CacheKey = NewType("CacheKey", bytes)
"""SHA-1 over the DER of a certificate: the key of the stapling cache, as in mod_ssl (ssl_stapling_init_cert)."""


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """One leaf certificate, its chain and its private key."""

    label: str
    """For logs: the file's name and the kind of key, such as ``chain.pem (EC secp256r1)``."""
    leaf: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    """What the chain file holds after the leaf, in its order."""
    issuer: x509.Certificate | None
    """None: not found, so no response can be asked for or checked."""
    key: PrivateKey
    names: tuple[str, ...]
    """DNS names of the certificate, lower case."""
    ocsp_uris: tuple[str, ...]
    must_staple: bool
    """It carries the TLS Feature extension with status_request (RFC 7633)."""
    cache_key: CacheKey
    key_exposure: Exposure | None = None
    """What is wrong with the rights of the key's file."""
    issuer_responder: str | None = None
    """Where to ask about what its issuer has signed, by the configuration; None: that does not say."""
    ca_issuers: tuple[str, ...] = ()
    """Where the certificate says that its issuer's can be had."""
    staple_file: Path | None = None
    """Holds a response that the operator has put there."""


@dataclass(frozen=True, slots=True, eq=False)
class KnownIssuer:
    """An issuer that the configuration names for every chain that lacks it, or for its responder."""

    certificates: tuple[x509.Certificate, ...]
    responder_url: str | None


def load_identity(files: CertificateFiles, *, where: str, known: Sequence[KnownIssuer] = ()) -> Identity:
    """Read one certificate with its key; ConfigError has all that is wrong with the pair, below the key path `where`.

    The issuer is looked for in the chain, then in the file that is named for it, then among the `known`.
    Dates are not looked at: nginx and Apache start with an expired certificate too. See `warnings`.
    """
    problems: list[Problem] = []

    def tried(read: Callable[[Path], T], path: Path) -> T | None:
        try:
            return read(path)
        except ConfigError as error:
            problems.extend(error.problems)
            return None

    chain = tried(partial(read_certificates, where=f"{where}.chain"), files.chain)
    key = tried(partial(read_private_key, where=f"{where}.key"), files.key)
    further = (
        tried(partial(read_certificates, where=f"{where}.intermediates"), files.intermediates)
        if files.intermediates
        else ()
    )
    extra = tried(partial(read_certificates, where=f"{where}.issuer"), files.issuer) if files.issuer else ()
    if chain and further and len(chain) == 1:  # a chain that has some goes before them, as in Apache
        chain += further
    if chain and key:
        problems.extend(_mismatch(chain, key, files, where))
    # Only then: a leaf that is not the leaf has another issuer, and one mistake is told once.
    if chain and extra and not problems and not find_issuer(chain[0], extra):
        problems.append(Problem(f"{where}.issuer", f"{files.issuer} does not hold the issuer of {files.chain}"))
    if problems or not chain or not key or extra is None:
        raise ConfigError(*problems)
    # cryptography decodes names and extensions when they are first asked for, and warns of what servers need not mind,
    # such as a country of three letters.
    try:
        with catch_warnings(action="ignore", category=UserWarning):
            others = (certificate for each in known for certificate in each.certificates)
            return _identity(files, chain, key, find_issuer(chain[0], (*chain[1:], *extra, *others)), known)
    except _PARSE_ERRORS as error:
        what = f"the first certificate in {files.chain} holds something that cannot be read: {error}"
        raise ConfigError(Problem(f"{where}.chain", " ".join(what.split()))) from None


def warnings(identity: Identity, now: datetime) -> tuple[Problem, ...]:
    """List what the operator should know although the server starts."""
    leaf, found = identity.leaf, []
    if leaf.not_valid_after_utc < now:
        found.append(f"the certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: renew it")
    if leaf.not_valid_before_utc > now:
        found.append(f"the certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    if identity.key_exposure:
        found.append(identity.key_exposure.what)
    return tuple(Problem(identity.label, what) for what in found)


def key_kind(key: PrivateKey) -> str:
    """Name the slot in which OpenSSL holds a certificate: each site has one of each kind."""
    if isinstance(key, rsa.RSAPrivateKey):
        return "RSA"
    return "EC" if isinstance(key, ec.EllipticCurvePrivateKey) else type(key).__name__.removesuffix("PrivateKey")


def key_text(key: PrivateKey) -> str:
    """Name a key's kind and size for people, such as ``RSA 2048`` or ``EC secp256r1``."""
    if isinstance(key, rsa.RSAPrivateKey):
        return f"RSA {key.key_size}"
    return f"EC {key.curve.name}" if isinstance(key, ec.EllipticCurvePrivateKey) else key_kind(key)


def one_line(name: x509.Name) -> str:
    """Write a subject or issuer for people, such as ``CN=www.example.com``."""
    return printable(name.rfc4514_string()) or "(no subject)"


def find_issuer(leaf: x509.Certificate, candidates: tuple[x509.Certificate, ...]) -> x509.Certificate | None:
    """Find who signed the leaf: same name, and the signature verifies. A self-signed leaf has nobody to ask."""
    for candidate in candidates:
        try:
            leaf.verify_directly_issued_by(candidate)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        if candidate != leaf:
            return candidate
    return None


def is_self_signed(leaf: x509.Certificate) -> bool:
    """Tell whether its own key signed it: there is no issuer to be found."""
    try:
        leaf.verify_directly_issued_by(leaf)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def dns_names(leaf: x509.Certificate) -> tuple[str, ...]:
    """List the certificate's DNS names that a client can ask for, lower case, each once."""
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )
    except x509.ExtensionNotFound:
        # RFC 6125, section 6.4.4: the common name counts only where there is no alternative name.
        found = [str(attribute.value) for attribute in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(dict.fromkeys(_usable(found, host_name)))


def access_uris(leaf: x509.Certificate, method: x509.ObjectIdentifier) -> tuple[str, ...]:
    """List the URLs that the certificate names for `method`, OCSP or CA Issuers, in their order."""
    try:
        descriptions = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return ()
    uris = [
        each.access_location.value
        for each in descriptions
        if each.access_method == method and isinstance(each.access_location, x509.UniformResourceIdentifier)
    ]
    # ldap:// too is written there, by Active Directory above all; nobody fetches it for stapling.
    return tuple(dict.fromkeys(_usable(uris, check_http_url)))


def says_must_staple(leaf: x509.Certificate) -> bool:
    """Tell whether it carries the TLS Feature extension with status_request (RFC 7633)."""
    try:
        features = leaf.extensions.get_extension_for_class(x509.TLSFeature).value
    except x509.ExtensionNotFound:
        return False
    return x509.TLSFeatureType.status_request in features


def _identity(
    files: CertificateFiles,
    chain: tuple[x509.Certificate, ...],
    key: PrivateKey,
    issuer: x509.Certificate | None,
    known: Sequence[KnownIssuer],
) -> Identity:
    leaf = chain[0]
    one_line(leaf.subject)  # if it cannot be decoded, let that be found here
    one_line(leaf.issuer)
    der = leaf.public_bytes(Encoding.DER)
    return Identity(
        label=printable(f"{files.chain.name} ({key_text(key)})"),
        # Anew: the one whose extensions were asked for keeps them decoded, which takes three times its memory.
        leaf=x509.load_der_x509_certificate(der),
        intermediates=chain[1:],
        issuer=issuer,
        key=key,
        names=dns_names(leaf),
        ocsp_uris=access_uris(leaf, Access.OCSP),
        must_staple=says_must_staple(leaf),
        # Not a matter of security: the same key as Apache's is what makes the two caches comparable.
        cache_key=CacheKey(hashlib.sha1(der, usedforsecurity=False).digest()),
        key_exposure=exposure(files.key, "the private key"),
        issuer_responder=next((each.responder_url for each in known if issuer in each.certificates), None),
        ca_issuers=access_uris(leaf, Access.CA_ISSUERS),
        staple_file=files.staple,
    )


def _mismatch(
    chain: tuple[x509.Certificate, ...], key: PrivateKey, files: CertificateFiles, where: str
) -> tuple[Problem, ...]:
    """Compare the key with the certificate that clients will take for the server's own: the first."""
    wanted = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if _public_key(chain[0]) == wanted:
        return ()
    matching = [number for number, certificate in enumerate(chain, 1) if _public_key(certificate) == wanted]
    if matching:
        what = (
            f"the private key in {files.key} belongs to certificate number {matching[0]} in {files.chain}: "
            "the server's own certificate must come first, move it to the top"
        )
        return (Problem(f"{where}.chain", what),)
    what = f"the private key in {files.key} does not belong to the first certificate in {files.chain}"
    return (Problem(f"{where}.key", what),)


def _public_key(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return None


def _usable(texts: Iterable[str], check: Callable[[str], str]) -> Iterator[str]:
    for text in texts:
        with suppress(ValueError):
            yield check(text)

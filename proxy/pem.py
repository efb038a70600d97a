"""Certificates and keys from PEM files; every failure is a `Problem` that names the file and what to do."""

from __future__ import annotations

import os
import re
import warnings
from functools import lru_cache
from shlex import quote
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from proxy.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pathlib import Path

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
"""The kinds that TLS servers use and OpenSSL keeps apart: a site may have one certificate of each."""

_MAX_FILE_BYTES = 1_048_576
"""A chain is some kilobytes; a whole trust store must not be mistaken for one."""

_PIECE_BYTES = 16_384
_FURTHER_REMEMBERED = 256
"""Thousands of sites have the certificates of a few issuers in their chains: each is held once."""

_CERTIFICATE = re.compile(rb"-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----")
_REQUEST = re.compile(rb"-----BEGIN (NEW )?CERTIFICATE REQUEST-----")
_PKCS12 = re.compile(rb"0(?:[\x00-\x80]|\x81.|\x82..|\x83.{3}|\x84.{4})\x02\x01\x03", re.DOTALL)
"""RFC 7292, section 4: a SEQUENCE that begins with the version, 3; no key in DER has this one."""
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY_BLOCK = re.compile(rb"-----BEGIN ((?:[A-Z0-9]+ )*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)


def read_certificates(path: Path, *, where: str) -> tuple[x509.Certificate, ...]:
    """Read all certificates of a file, at least one, in their order."""
    content = _read(path, where=where)
    blocks = _BLOCK.findall(content)
    if len(blocks) != len(_CERTIFICATE.findall(content)):
        raise _error(where, f"{path} holds a certificate that is cut off, or not headed BEGIN CERTIFICATE")
    if not blocks:
        raise _error(where, f"{path} holds no certificate{_instead(content, path)}")
    return tuple(
        _certificate(block, f"certificate number {n} in {path}", where, is_first=n == 1)
        for n, block in enumerate(blocks, 1)
    )


def read_private_key(path: Path, *, where: str) -> PrivateKey:
    """Read the first private key of a file. Nothing of its contents is ever part of an error."""
    content = _read(path, where=where)
    block = _KEY_BLOCK.search(content)
    if not block:
        raise _error(where, f"{path} holds no private key{_instead(content, path)}")
    try:
        key = load_pem_private_key(block[0], None)
    except TypeError:  # as cryptography says that a passphrase is needed
        how = f"decrypt it with: openssl pkey {_in_and_out(path)}"
        raise _error(where, f"the private key in {path} is encrypted; {how}") from None
    except UnsupportedAlgorithm:
        raise _error(where, f"the private key in {path} is {_KINDS}") from None
    except ValueError:
        raise _error(
            where, f"the private key in {path} is damaged: openssl pkey -in {quote(str(path))} -check shows more"
        ) from None
    if not isinstance(key, PrivateKey):
        raise _error(where, f"the private key in {path} is {_KINDS}")
    return key


_KINDS = "of an unsupported kind: RSA, EC, Ed25519 and Ed448 are supported"


def _error(where: str, what: str) -> ConfigError:
    return ConfigError(Problem(where, what))


def _read(path: Path, *, where: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = read_bounded(descriptor, _MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _error(where, f"cannot read {path}: {error.strerror or error}") from None
    if len(content) > _MAX_FILE_BYTES:
        raise _error(where, f"{path} is longer than {_MAX_FILE_BYTES} bytes")
    return content


def read_bounded(descriptor: int, limit_bytes: int) -> bytes:
    """Read to the end, or that many bytes. In pieces: a buffer for the most that may come costs more than to read."""
    pieces = []
    while limit_bytes and (piece := os.read(descriptor, min(limit_bytes, _PIECE_BYTES))):
        pieces.append(piece)
        limit_bytes -= len(piece)
    return b"".join(pieces)


def _in_and_out(path: Path) -> str:
    """Write both files of a command that can be pasted into a shell."""
    return f"-in {quote(str(path))} -out {quote(str(path.with_suffix('.plain.pem')))}"


def _instead(content: bytes, path: Path) -> str:
    """Say what a file holds when it is not what was asked for: most often two settings were exchanged."""
    if not content.strip():
        return ": it is empty"
    if _CERTIFICATE.search(content):
        return " but a certificate: are chain and key exchanged?"
    if _REQUEST.search(content):
        return " but a certificate request: the file that the CA sent back for it is needed"
    if _KEY_BLOCK.search(content):
        return " but a private key: are chain and key exchanged?"
    if _PKCS12.match(content):
        return f" in PEM but is PKCS#12: convert it with openssl pkcs12 {_in_and_out(path)} -nodes"
    if content[:1] == b"\x30":  # an ASN.1 SEQUENCE
        return " in PEM; it looks like DER: convert it with openssl x509 or openssl pkey, -inform DER"
    return " in PEM"


def _certificate(block: bytes, label: str, where: str, *, is_first: bool) -> x509.Certificate:
    # Of a serial number that is not positive, say: many private CAs have made such, and TLS does not mind.
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        try:
            return x509.load_pem_x509_certificate(block) if is_first else _remembered(block)
        except (ValueError, x509.InvalidVersion):
            raise _error(where, f"{label} is damaged: openssl x509 -noout -text shows more") from None


@lru_cache(_FURTHER_REMEMBERED)
def _remembered(block: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(block)

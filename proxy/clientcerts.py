"""What a backend is told of a client's certificate, as header lines. Pure.

Only a certificate that OpenSSL has verified gets here. Headers of these names that a client sends are always dropped,
on sites without client certificates too: see `is_ours`.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from cryptography import x509

_PREFIX = b"x-client-cert-"
_RFC_9440 = frozenset({b"client-cert", b"client-cert-chain"})

_UNSAFE = re.compile(r"[^ -~]")


def is_ours(name: bytes) -> bool:
    """Tell whether a header, its name in lower case, is one that speaks of client certificates."""
    return name.startswith(_PREFIX) or name in _RFC_9440


def header_lines(certificate: x509.Certificate | None) -> bytes:
    """Write the lines for a connection to a site that asks for certificates; None: the client has shown none."""
    if certificate is None:
        return b"X-Client-Cert-Verified: NONE\r\n"
    end = certificate.not_valid_after_utc
    # RFC 9440 2.1: the DER as a byte sequence of RFC 8941 3.3.5, with one colon on either side.
    whole = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode("ascii")
    lines = (
        "X-Client-Cert-Verified: SUCCESS",
        f"X-Client-Cert-Subject: {subject(certificate)}",
        f"X-Client-Cert-Serial: {certificate.serial_number:X}",
        f"X-Client-Cert-Fingerprint: {certificate.fingerprint(hashes.SHA256()).hex()}",
        f"X-Client-Cert-Not-After: {end:%Y-%m-%dT%H:%M:%SZ}",
        f"Client-Cert: :{whole}:",
    )
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def subject(certificate: x509.Certificate) -> str:
    r"""Give the subject as RFC 4514 writes it, in printable ASCII: other characters as ``\XX``, each byte in UTF-8.

    So that a line break in a name, say, is no line break in a head.
    """
    return _UNSAFE.sub(_escape, certificate.subject.rfc4514_string())


def common_name(certificate: x509.Certificate) -> str:
    """Give the first common name of the subject; empty when there is none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    value = names[0].value if names else ""
    return value if isinstance(value, str) else ""


def _escape(match: re.Match[str]) -> str:
    return "".join(f"\\{byte:02X}" for byte in match[0].encode())

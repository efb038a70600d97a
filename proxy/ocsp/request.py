"""What is sent to a responder."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import quote

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import OCSPNonce
from cryptography.x509.ocsp import OCSPRequestBuilder

if TYPE_CHECKING:
    from cryptography import x509

NONCE_BYTES = 32
"""What RFC 9654 2.1 wants requesters to send, and the most that a responder of its forerunner, RFC 8954, takes."""

GET_LIMIT_BYTES = 255
"""RFC 5019 5: scheme, server, delimiters and the encoded request together; some caches cut or refuse longer ones."""


def build_request(leaf: x509.Certificate, issuer: x509.Certificate, nonce: bytes | None = None) -> bytes:
    """The DER of a request for one certificate.

    RFC 5019 2.1.1: one Request, a SHA-1 CertID, no extensions and no signature, so that responders may answer with what
    they signed in advance, and caches may keep it. SHA-1 identifies here and protects nothing; it is the one hash that
    every responder knows, and the only one by which mozilla::pkix finds its answer.

    `nonce`: NONCE_BYTES octets of chance to ask for an answer that was signed for this request; None: do not ask.
    """
    builder = OCSPRequestBuilder().add_certificate(leaf, issuer, SHA1())  # noqa: S303  see above
    if nonce is not None:
        builder = builder.add_extension(OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def get_url(uri: str, der: bytes) -> str | None:
    """The URL that asks by GET (RFC 6960 A.1, RFC 5019 5); None: ask by POST.

    None when the URL would be too long, and when `uri` has a query or a fragment, to which no path can be appended.
    """
    if "?" in uri or "#" in uri:
        return None
    url = uri.rstrip("/") + "/" + quote(base64.b64encode(der), safe="")
    return url if len(url) <= GET_LIMIT_BYTES else None

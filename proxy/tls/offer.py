"""What the clients of this program offer: the lab's, which looks at one handshake, and the load's, which makes many."""

from __future__ import annotations

from typing import Literal

from OpenSSL import SSL

TlsVersion = Literal["1.2", "1.3"]
KeyKind = Literal["rsa", "ec"]

VERSIONS: dict[TlsVersion, int] = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
SIGNATURE_ALGORITHMS: dict[KeyKind, str] = {
    # A server picks the certificate whose key can make one of these. RSA+SHA256 is what TLS 1.2 servers of old know.
    "rsa": "RSA-PSS+SHA256:RSA+SHA256",
    "ec": "ECDSA+SHA256:ECDSA+SHA384",
}

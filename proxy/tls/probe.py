"""Which responses the linked OpenSSL does not staple although it is told to: found by handshakes in memory.

OpenSSL 4 leaves out what is about another certificate than it has chosen, where OpenSSL 3, on which Apache stands,
sends whatever it is given.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ROUND_TRIPS = 4
_DAY = timedelta(days=1)


class _Party:
    """An issuer, a certificate of its with the number 2, and responses."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.issuer = self._certificate("probe issuer", 1)
        self.leaf = self.certificate(2)

    def certificate(self, serial: int) -> x509.Certificate:
        return self._certificate("probe", serial)

    def _certificate(self, name: str, serial: int) -> x509.Certificate:
        subject, issuer = (
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, "probe issuer")
        )
        builder = x509.CertificateBuilder(
            issuer, subject, self.key.public_key(), serial, self.now - _DAY, self.now + _DAY
        )
        return builder.sign(self.key, SHA256())

    def says(
        self,
        *,
        serial: int = 2,
        algorithm: HashAlgorithm | None = None,
        status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
        age: timedelta = timedelta(),
    ) -> bytes:
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=self.certificate(serial),
            issuer=self.issuer,
            algorithm=algorithm or SHA1(),  # noqa: S303  the usual name of a certificate, no protection
            cert_status=status,
            this_update=self.now - age,
            next_update=self.now - age + _DAY,
            revocation_time=self.now - age if status is ocsp.OCSPCertStatus.REVOKED else None,
            revocation_reason=None,
        )
        signed = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, self.issuer).sign(self.key, SHA256())
        return signed.public_bytes(Encoding.DER)


CASES: Mapping[str, Callable[[_Party], bytes]] = {
    "right": _Party.says,
    "right, and says that the certificate is revoked": lambda party: party.says(status=ocsp.OCSPCertStatus.REVOKED),
    "over": lambda party: party.says(age=2 * _DAY),
    "a tryLater": lambda _: bytes.fromhex("30030a0103"),
    "an error that OpenSSL has no name for": lambda _: bytes.fromhex("30030a0104"),
    "successful, with a basic response that cannot be read": lambda _: bytes.fromhex(
        "30140a0100a00f300d06092b06010505073001010400"
    ),
    "successful, and of another type": lambda _: bytes.fromhex("30150a0100a010300e06092b06010505073001020401ff"),
    "about a certificate of another serial number": lambda party: party.says(serial=3),
    "about the certificate, named by SHA-256": lambda party: party.says(algorithm=SHA256()),
}
"""Responses that Apache staples, by its settings: what each one is. Whatever is not sent here makes a difference."""


def not_stapled(now: datetime) -> tuple[str, ...]:
    """List those of `CASES` that clients do not get."""
    party = _Party(now)
    return tuple(name for name, make in CASES.items() if _stapled(party, response := make(party)) != response)


def _stapled(party: _Party, response: bytes) -> bytes:
    """What a client gets of a response; b"": nothing."""
    got: list[bytes] = []
    serving = SSL.Context(SSL.TLS_SERVER_METHOD)
    serving.use_certificate(party.leaf)
    serving.use_privatekey(party.key)
    serving.set_ocsp_server_callback(lambda _connection, _data: response)
    asking = SSL.Context(SSL.TLS_CLIENT_METHOD)

    def keep(_connection: SSL.Connection, staple: bytes, _data: object) -> bool:
        got.append(staple)
        return True

    asking.set_ocsp_client_callback(keep)
    server, client = SSL.Connection(serving), SSL.Connection(asking)
    server.set_accept_state()
    client.set_connect_state()
    client.request_ocsp()
    for _ in range(_ROUND_TRIPS):
        for one, other in ((client, server), (server, client)):
            with suppress(SSL.WantReadError):
                one.do_handshake()
            with suppress(SSL.WantReadError):
                other.bio_write(one.bio_read(1 << 20))
    return got[0] if got else b""

"""Facts about an established connection, each asked of OpenSSL when it is wanted: most connections want none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.accesslog.record import staple_outcome
from proxy.clientcerts import common_name
from proxy.proxyprotocol import Tls
from proxy.tls.binding import lib, raw
from proxy.tls.inline import Replay

if TYPE_CHECKING:
    from cryptography import x509
    from OpenSSL import SSL

    from proxy.accesslog.record import Staple

_SSL_version, _SSL_session_reused = lib.SSL_version, lib.SSL_session_reused


class Session:
    """What the handshake has brought."""

    __slots__ = ("_connection",)

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    @property
    def version(self) -> str:
        """Such as ``TLSv1.3``."""
        return self._connection.get_protocol_version_name()

    @property
    def cipher(self) -> str:
        """OpenSSL's name of it."""
        return self._connection.get_cipher_name() or ""

    @property
    def server_name(self) -> str:
        """What the client asked for; empty: nothing, or nothing that is a name."""
        name = self._connection.get_servername() or b""
        return name.decode("ascii") if name.isascii() else ""

    @property
    def alpn(self) -> bytes:
        """The application protocol that was agreed on; empty: none."""
        return self._connection.get_alpn_proto_negotiated()

    @property
    def client_certificate(self) -> x509.Certificate | None:
        """What the client has shown, and OpenSSL has verified: else there is no session."""
        return self._connection.get_peer_certificate(as_cryptography=True)

    def told(self) -> Tls:
        """What a PROXY header tells a backend of it."""
        shown = self.client_certificate
        name = common_name(shown) if shown else ""
        return Tls(self.version, self.cipher, self.server_name, self.alpn, shown is not None, name)

    @property
    def is_resumed(self) -> bool:
        """An earlier session goes on: no certificate was shown."""
        return bool(_SSL_session_reused(raw(self._connection)._ssl))  # noqa: SLF001  # see binding.py

    @property
    def staple(self) -> bytes | None:
        """The OCSP response that was stapled; b"": the client asked, and there was none; None: it did not ask."""
        found: bytes | Replay | None = self._connection.get_app_data()
        return found.staple if isinstance(found, Replay) else found

    def kind(self) -> tuple[int, Staple]:
        """What it is counted as: OpenSSL's number of the version, such as 0x0304, and what was stapled.

        In one call, since it is asked of every handshake.
        """
        connection: Any = self._connection  # no call of `raw` here
        ssl = connection._ssl  # noqa: SLF001  # see binding.py
        found: bytes | Replay | None = connection.get_app_data()
        staple = found.staple if isinstance(found, Replay) else found
        return _SSL_version(ssl), staple_outcome(staple, is_resumed=_SSL_session_reused(ssl))

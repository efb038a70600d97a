"""The TLS half of one client: OpenSSL over memory buffers, bytes in and bytes out, as in `proxy.tls.engine`.

Each event calls OpenSSL once, through its bindings: what a client costs beyond OpenSSL is little.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from OpenSSL import SSL

from proxy.bench.outcomes import Failure
from proxy.errors import StapleproxyError
from proxy.tls.binding import ffi, lib, raw

if TYPE_CHECKING:
    from proxy.bench.context import Offer

_PIECE_BYTES = 65_536
_ALERT_LENGTH = (19).to_bytes(2, "big")
"""What the header of an encrypted alert says in TLS 1.3: level, description, type and tag (RFC 8446 5.2)."""

_ALERT_REASONS = range(1000, 1256)
"""OpenSSL's errors for a received alert: its number, and SSL_AD_REASON_OFFSET."""
_ALERT_PREFIX = re.compile(r"^(?:ssl|tls)\S* (?:alert )?")
_NOT_TRUSTED = "certificate verify failed"

# One for the process: each call copies out of it before the next begins.
_buffer = ffi.new("char[]", _PIECE_BYTES)
_contents = ffi.buffer(_buffer)


class RefusedError(StapleproxyError):
    """One side ended the connection: by what kind of failure, and in whose words."""

    def __init__(self, kind: Failure, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class Channel:
    """One connection's TLS. Its ClientHello is in `output` from the beginning."""

    __slots__ = ("_from_ssl", "_into_ssl", "_is_silent", "_session_before", "connection", "ssl")

    def __init__(self, offer: Offer, name: str, session: SSL.Session | None, *, asks_staple: bool) -> None:
        self.connection = SSL.Connection(offer.context)
        private = raw(self.connection)
        ssl = self.ssl = private._ssl  # noqa: SLF001  # see proxy/tls/binding.py, here and below
        self._into_ssl = private._into_ssl  # noqa: SLF001
        self._from_ssl = private._from_ssl  # noqa: SLF001
        self._is_silent = True
        lib.SSL_set_connect_state(ssl)
        if name:
            encoded = name.encode("ascii")
            lib.SSL_set_tlsext_host_name(ssl, encoded)
            if offer.verifies:
                lib.X509_VERIFY_PARAM_set1_host(lib.SSL_get0_param(ssl), encoded, len(encoded))
        if asks_staple:
            lib.SSL_set_tlsext_status_type(ssl, lib.TLSEXT_STATUSTYPE_ocsp)
        if session is not None:
            self.connection.set_session(session)
        lib.SSL_do_handshake(ssl)

    @property
    def is_resumed(self) -> bool:
        return bool(lib.SSL_session_reused(self.ssl) == 1)

    def feed(self, data: bytes) -> None:
        """Take what the server sent."""
        lib.BIO_write(self._into_ssl, data, len(data))

    def output(self) -> bytes:
        """Give what is to be sent."""
        data = b""
        while (length := lib.BIO_read(self._from_ssl, _buffer, _PIECE_BYTES)) > 0:
            data += _contents[:length]
        return data

    def is_established(self) -> bool:
        """Go on with the handshake; RefusedError if it has failed."""
        done = lib.SSL_do_handshake(self.ssl)
        if done == 1:
            return True
        if lib.SSL_get_error(self.ssl, done) != lib.SSL_ERROR_WANT_READ:
            raise self._refusal(done)
        return False

    def write(self, data: bytes) -> None:
        """Send this, encrypted; RefusedError if the connection has failed."""
        written = lib.SSL_write(self.ssl, data, len(data))
        if written <= 0:
            raise self._refusal(written)

    def read(self) -> bytes | None:
        """Give the next plaintext: b"" if the server has ended, None if no more is there; RefusedError."""
        self._is_silent = False
        length = lib.SSL_read(self.ssl, _buffer, _PIECE_BYTES)
        if length > 0:
            return bytes(_contents[:length])
        error = lib.SSL_get_error(self.ssl, length)
        if error == lib.SSL_ERROR_WANT_READ:
            return None
        if error == lib.SSL_ERROR_ZERO_RETURN:
            return b""
        raise self._refusal(length)

    def mark_session(self) -> None:
        """Remember the session as it is after the handshake, so that `new_session` knows a newer one."""
        # Held, so that the next session cannot be made at the same address.
        self._session_before = ffi.gc(lib.SSL_get1_session(self.ssl), lib.SSL_SESSION_free)

    def new_session(self) -> SSL.Session | None:
        """Give the session that others can resume; None: in TLS 1.3 its ticket is still to come."""
        if lib.SSL_version(self.ssl) == lib.TLS1_3_VERSION and lib.SSL_get_session(self.ssl) == self._session_before:
            return None
        return self.connection.get_session()

    def close(self) -> None:
        """Say that it is over; `output` has the words."""
        if lib.SSL_shutdown(self.ssl) < 0:  # the connection has failed before: there is nobody to say it to
            lib.ERR_clear_error()

    def look_for_alert(self, data: bytes) -> None:
        """Notice that the server refused us after all: RefusedError.

        An alert comes first then, and else mostly a ticket. To read every ticket would cost each client a tenth of its
        handshake. What comes behind bytes that were left unread cannot be read either.
        """
        is_alert = self._is_silent and data[3:5] == _ALERT_LENGTH
        self._is_silent = False
        if is_alert:
            self.feed(data)
            length = lib.SSL_read(self.ssl, _buffer, _PIECE_BYTES)
            if length <= 0 and lib.SSL_get_error(self.ssl, length) == lib.SSL_ERROR_SSL:
                raise self._refusal(length)

    def _refusal(self, result: int) -> RefusedError:
        """Tell OpenSSL's error by its kind."""
        reason = lib.ERR_GET_REASON(lib.ERR_peek_error())
        try:
            raw(self.connection)._raise_ssl_error(self.ssl, result)  # noqa: SLF001
        except SSL.Error as error:
            if isinstance(error, SSL.SysCallError | SSL.ZeroReturnError):
                return RefusedError(Failure.CLOSED, "")
            queue = error.args[0] if error.args else None
            why = str(queue[-1][-1]) if queue else type(error).__name__
            if reason in _ALERT_REASONS:
                return RefusedError(Failure.ALERT, _ALERT_PREFIX.sub("", why) or f"number {reason - 1000}")
            if why == _NOT_TRUSTED:
                said = lib.X509_verify_cert_error_string(lib.SSL_get_verify_result(self.ssl))
                return RefusedError(Failure.CHAIN, ffi.string(said).decode("ascii"))
            return RefusedError(Failure.TLS, why)
        return RefusedError(Failure.CLOSED, "")

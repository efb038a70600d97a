"""One TLS connection as a function of bytes: what came from the socket in, what goes to it and the plaintext out.

OpenSSL works on two memory buffers ("BIOs") here, not on a socket. Whoever owns the engine does, for each piece of
bytes received:

    plaintext = engine.receive(data)    # may raise TlsError
    socket.write(engine.pending())      # also after a TlsError: it is the alert that tells the peer why

and for plaintext to send `socket.write(engine.send(plaintext))`. No socket, clock or event loop is known in this file.

OpenSSL hands out one record's plaintext a call. The engine counts the whole records in what it is fed (their headers
are never encrypted) and asks that often, no more. The handshake's own are not counted: OpenSSL takes them in one call,
and what it leaves begins with a record. Both ways it works in slices, since a BIO keeps the size it once had:
a connection that sent a large answer would hold as much memory while it idles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from OpenSSL import SSL

from proxy.tls.binding import ServerConnection, ffi, lib, raw, shaking

if TYPE_CHECKING:
    from proxy.tls.site import SiteContext

_HEADER_BYTES = 5
_PLAINTEXT_BYTES = 16_384  # the most that one record carries (RFC 8446 5.1)
_CIPHERTEXT_BYTES = _PLAINTEXT_BYTES + 2_048  # the most a record's length may say (RFC 5246 6.2.3)
_SLICE_BYTES = 16_384

# One for the process: each call copies out of it before the next begins. It takes any record, and any slice encrypted.
_BUFFER_BYTES = 32_768
_buffer = ffi.new("char[]", _BUFFER_BYTES)
_contents = ffi.buffer(_buffer)
# Likewise, for what many records carry, which is copied once in all and not slice by slice. Encrypted it is longer by
# less than a hundredth.
MANY_BYTES = 262_144
_MANY_ROOM_BYTES = MANY_BYTES + 2 * _BUFFER_BYTES
_many = ffi.new("char[]", _MANY_ROOM_BYTES)
_many_contents = ffi.buffer(_many)

_where = ffi.new("char **")  # filled in, not asked

_BIO_read, _BIO_write, _BIO_get_mem_data = lib.BIO_read, lib.BIO_write, lib.BIO_get_mem_data
_SSL_read, _SSL_write = lib.SSL_read, lib.SSL_write
_SSL_shutdown = lib.SSL_shutdown
_SSL_do_handshake, _SSL_get_error = lib.SSL_do_handshake, lib.SSL_get_error
_WANT_READ, _ZERO_RETURN = lib.SSL_ERROR_WANT_READ, lib.SSL_ERROR_ZERO_RETURN


class TlsError(Exception):
    """The peer broke the protocol, or no agreement was found; the connection is over once `pending` has been sent."""


class Engine:
    """The server's side of one TLS connection."""

    __slots__ = (
        "_from_ssl",
        "_header",
        "_into_ssl",
        "_missing_bytes",
        "_ssl",
        "connection",
        "has_answered",
        "is_established",
        "is_peer_done",
    )

    def __init__(self, site: SiteContext, app_data: object = None) -> None:
        """Begin with what the context's callbacks are to find in the connection."""
        self.connection = ServerConnection(site)
        """For facts about the session (version, cipher, name); not for input or output."""
        if app_data is not None:
            self.connection.set_app_data(app_data)
        private: Any = self.connection  # no call of `raw`, which each handshake would pay for
        self._ssl = private._ssl  # noqa: SLF001  # see binding.py, here and below
        self._into_ssl = private._into_ssl  # noqa: SLF001
        self._from_ssl = private._from_ssl  # noqa: SLF001
        self._header = b""  # the beginning of a record's header whose rest has not come yet
        self._missing_bytes = 0  # how much of the current record has not come yet
        self.has_answered = False
        """Not all that came was plaintext: what OpenSSL may have written to it, as to a key update, is in `pending`."""
        self.is_established = False
        self.is_peer_done = False
        """The peer has sent close_notify: nothing more will come."""

    @property
    def site(self) -> object:
        """What the site was built to carry, see `context.SiteTls.app`."""
        return self.connection.site.app

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the socket; the plaintext that they complete, often b"". Raises TlsError."""
        length = len(data)
        if length > _SLICE_BYTES:
            return self._receive_much(data)
        _BIO_write(self._into_ssl, data, length)
        if self.is_established:
            records = self._count_completed(data, 0, length)
        else:
            shaking[0] = self.connection
            done = _SSL_do_handshake(self._ssl)
            shaking[0] = None
            if done != 1:
                self._judge(done)
                return b""
            self.is_established = self.has_answered = True
            left_bytes = _BIO_get_mem_data(self._into_ssl, _where)
            if not left_bytes:
                return b""
            records = self._count_completed(data, length - left_bytes, length)
        if records == 1:
            length = _SSL_read(self._ssl, _buffer, _BUFFER_BYTES)
            if length > 0:
                plaintext: bytes = _contents[:length]
                return plaintext
            self._judge(length)
            return b""
        pieces: list[bytes] = []
        for _ in range(records):
            length = _SSL_read(self._ssl, _buffer, _BUFFER_BYTES)
            if length <= 0:
                self._judge(length)
                break
            pieces.append(_contents[:length])
        return b"".join(pieces)

    def receive_many(self, data: bytes | memoryview) -> bytes:
        """Do the same after the handshake, for at most MANY_BYTES; nothing refers to `data` when it is done."""
        source, end, filled = ffi.from_buffer(data), len(data), 0
        for at in range(0, end, _SLICE_BYTES):
            stop = min(at + _SLICE_BYTES, end)
            _BIO_write(self._into_ssl, source + at, stop - at)
            for _ in range(self._count_completed(data, at, stop)):
                length = _SSL_read(self._ssl, _many + filled, _PLAINTEXT_BYTES)
                if length <= 0:
                    self._judge(length)
                    break
                filled += length
        plaintext: bytes = _many_contents[:filled]
        return plaintext

    def _receive_much(self, data: bytes) -> bytes:
        if self.is_established and len(data) <= MANY_BYTES:
            return self.receive_many(data)
        return b"".join(self.receive(data[at : at + _SLICE_BYTES]) for at in range(0, len(data), _SLICE_BYTES))

    def _judge(self, result: int) -> None:
        """Tell a wait for more and the peer's end from an error."""
        kind = _SSL_get_error(self._ssl, result)
        if kind == _WANT_READ:
            self.has_answered = True
            return
        if kind == _ZERO_RETURN:
            self.is_peer_done = True
            return
        try:
            raw(self.connection)._raise_ssl_error(self._ssl, result)  # noqa: SLF001
        except SSL.Error as error:
            raise TlsError(_describe(error)) from error
        except Exception as error:
            # pyOpenSSL hands on whatever one of our callbacks raised; OpenSSL has written the alert already.
            raise TlsError(str(error) or repr(error)) from error

    def _count_completed(self, data: bytes | memoryview, begin: int, length: int) -> int:
        """How many records end within `data` from `begin` to `length`."""
        if (
            not self._missing_bytes
            and not self._header
            and length - begin >= _HEADER_BYTES
            and begin + _HEADER_BYTES + (data[begin + 3] << 8 | data[begin + 4]) == length
        ):
            return 1  # as most reads are: a ClientHello, a small request
        if self._header:
            data = self._header + data[begin:length]
            begin, length = 0, len(data)
            self._header = b""
        count, end = 0, begin + self._missing_bytes
        if begin < end <= length:
            count = 1
        while end + _HEADER_BYTES <= length:
            size = data[end + 3] << 8 | data[end + 4]
            end += _HEADER_BYTES + size
            # An impossible size is no record to wait for: OpenSSL shall see it and send its alert.
            if end <= length or size > _CIPHERTEXT_BYTES:
                count += 1
        if end < length:
            self._header = bytes(data[end:length])
            end = length
        self._missing_bytes = end - length
        return count

    def send(self, plaintext: bytes) -> bytes:
        """Encrypt; what goes to the socket. Raises TlsError when the connection can send no more."""
        if len(plaintext) <= _SLICE_BYTES:
            return self._send(plaintext) if plaintext else b""
        pieces = range(0, len(plaintext), MANY_BYTES)
        return b"".join([self._send_many(plaintext[at : at + MANY_BYTES]) for at in pieces])

    def _send_many(self, plaintext: bytes) -> bytes:
        source, end, filled = ffi.from_buffer(plaintext), len(plaintext), 0
        for at in range(0, end, _SLICE_BYTES):
            sent = _SSL_write(self._ssl, source + at, min(_SLICE_BYTES, end - at))
            if sent <= 0:
                self._fail_sending(sent)
            filled += _BIO_read(self._from_ssl, _many + filled, _MANY_ROOM_BYTES - filled)
        data: bytes = _many_contents[:filled]
        return data if filled < _MANY_ROOM_BYTES else data + self.pending()

    def _send(self, plaintext: bytes) -> bytes:
        sent = _SSL_write(self._ssl, plaintext, len(plaintext))
        if sent <= 0:
            self._fail_sending(sent)
        length = _BIO_read(self._from_ssl, _buffer, _BUFFER_BYTES)
        data: bytes = _contents[:length]
        # More than the buffer only if much of OpenSSL's own was pending.
        return data if length < _BUFFER_BYTES else data + self.pending()

    def _fail_sending(self, result: int) -> NoReturn:
        self._judge(result)
        raise TlsError("nothing can be sent any more")

    def pending(self) -> bytes:
        """What OpenSSL has written of its own accord: handshake messages, tickets, alerts; b"" if nothing."""
        self.has_answered = False
        length = _BIO_read(self._from_ssl, _buffer, _BUFFER_BYTES)
        if length <= 0:
            return b""
        data: bytes = _contents[:length]
        return data if length < _BUFFER_BYTES else data + self.pending()

    def close(self) -> bytes:
        """End our direction with close_notify (RFC 8446 6.1); what goes to the socket."""
        if self.is_established and _SSL_shutdown(self._ssl) < 0:
            lib.ERR_clear_error()  # the connection has failed before: there is nobody to say it to
            return b""
        return self.pending()


def _describe(error: SSL.Error) -> str:
    """OpenSSL's own word for it, such as ``no shared cipher``."""
    if isinstance(error, SSL.SysCallError):
        return "the connection ended in the middle of the handshake"
    queue = error.args[0] if error.args else None
    return str(queue[-1][-1]) if queue else type(error).__name__

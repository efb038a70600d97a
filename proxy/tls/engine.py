"""One TLS connection as a function of bytes: what came from the socket in, what goes to it and the plaintext out.

OpenSSL works on two memory buffers ("BIOs") here, not on a socket. Whoever owns the engine does, for each piece of
bytes received:

    plaintext = engine.receive(data)    # may raise TlsError
    socket.write(engine.pending())      # also after a TlsError: it is the alert that tells the peer why

and for plaintext to send `socket.write(engine.send(plaintext))`. No socket, clock or event loop is known in this file.

OpenSSL hands out one record's plaintext a call, and says "no more" by an error, which costs a tenth of what a small
request does. So the engine counts the whole records in what it is fed (their headers are never encrypted) and asks that
often, no more.
"""

from __future__ import annotations

from OpenSSL import SSL

_HEADER_BYTES = 5
_PLAINTEXT_BYTES = 16_384  # the most that one record carries (RFC 8446 5.1)
_CIPHERTEXT_BYTES = _PLAINTEXT_BYTES + 2_048  # the most a record's length may say (RFC 5246 6.2.3)
# A record adds 5 header, 16 tag and 1 type bytes in TLS 1.3, up to 69 with CBC and SHA-384 in TLS 1.2.
_OVERHEAD_BYTES = 96
_FLUSH_BYTES = 16_384


class TlsError(Exception):
    """The peer broke the protocol, or no agreement was found; the connection is over once `pending` has been sent."""


class Engine:
    """The server's side of one TLS connection."""

    __slots__ = ("_connection", "_header", "_missing_bytes", "is_established", "is_peer_done")

    def __init__(self, context: SSL.Context) -> None:
        self._connection = SSL.Connection(context)
        self._connection.set_accept_state()
        self._header = b""  # the beginning of a record's header whose rest has not come yet
        self._missing_bytes = 0  # how much of the current record has not come yet
        self.is_established = False
        self.is_peer_done = False
        """The peer has sent close_notify: nothing more will come."""

    @property
    def connection(self) -> SSL.Connection:
        """For facts about the session (version, cipher, name); not for input or output."""
        return self._connection

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the socket; the plaintext that they complete, often b"". Raises TlsError."""
        records = self._count_completed(data)
        try:
            self._connection.bio_write(data)
            if not self.is_established:
                self._connection.do_handshake()
                self.is_established = True
                # Some of the records were the handshake's: the error that ends the reading comes early.
            return self._read(records)
        except SSL.WantReadError:
            return b""
        except SSL.Error as error:
            raise TlsError(_describe(error)) from error
        except Exception as error:
            # pyOpenSSL hands on whatever one of our callbacks raised; OpenSSL has written the alert already.
            raise TlsError(str(error) or repr(error)) from error

    def _read(self, records: int) -> bytes:
        pieces = []
        try:
            for _ in range(records):
                pieces.append(self._connection.recv(_PLAINTEXT_BYTES))  # noqa: PERF401  # it may raise halfway
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.is_peer_done = True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _count_completed(self, data: bytes) -> int:
        """How many records end within `data`."""
        if self._header:
            data = self._header + data
            self._header = b""
        count, end, length = 0, self._missing_bytes, len(data)
        if 0 < end <= length:
            count = 1
        while end + _HEADER_BYTES <= length:
            size = data[end + 3] << 8 | data[end + 4]
            end += _HEADER_BYTES + size
            # An impossible size is no record to wait for: OpenSSL shall see it and send its alert.
            if end <= length or size > _CIPHERTEXT_BYTES:
                count += 1
        if end < length:
            self._header = data[end:]
            end = length
        self._missing_bytes = end - length
        return count

    def send(self, plaintext: bytes) -> bytes:
        """Encrypt; what goes to the socket. Raises TlsError when the connection can send no more."""
        if not plaintext:
            return b""
        try:
            self._connection.send(plaintext)
            records = 1 + len(plaintext) // _PLAINTEXT_BYTES
            return self._connection.bio_read(len(plaintext) + records * _OVERHEAD_BYTES + _FLUSH_BYTES)
        except SSL.Error as error:
            raise TlsError(_describe(error)) from error

    def pending(self) -> bytes:
        """What OpenSSL has written of its own accord: handshake messages, tickets, alerts; b"" if nothing."""
        pieces = []
        try:
            while True:
                pieces.append(self._connection.bio_read(_FLUSH_BYTES))
                if len(pieces[-1]) < _FLUSH_BYTES:
                    break
        except SSL.Error:  # WantReadError: the buffer is empty
            pass
        return b"".join(pieces)

    def close(self) -> bytes:
        """End our direction with close_notify (RFC 8446 6.1); what goes to the socket."""
        if self.is_established:
            try:
                self._connection.shutdown()
            except SSL.Error:  # the connection has failed before: there is nobody to say it to
                return b""
        return self.pending()


def _describe(error: SSL.Error) -> str:
    """OpenSSL's own word for it, such as ``no shared cipher``."""
    if isinstance(error, SSL.SysCallError):
        return "the connection ended in the middle of the handshake"
    queue = error.args[0] if error.args else None
    return str(queue[-1][-1]) if queue else type(error).__name__

"""The server name in a ClientHello, read before OpenSSL sees it; and what it asks of a staple.

Why not by OpenSSL's own callback: it runs after the session ticket has been judged, so a session of one site would
resume at another, without the other's certificate having been shown or a client certificate asked for (RFC 6066 3: the
server must not). With the name known first, each connection begins at its site's own context, whose ticket keys are its
own.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_two_numbers = struct.Struct("!HH").unpack_from
_HANDSHAKE_RECORD = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_STATUS_REQUEST = 5
_OCSP = 1
_HOST_NAME = 0
_RECORD_HEADER_BYTES = 5
_MESSAGE_HEADER_BYTES = 4

MAX_BYTES = 65_536
MAX_RECORDS = 64
"""Both to wait for, at most. A ClientHello with post-quantum keys has about 2 kB, in one record or two."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What was read; `server_name` None: none was sent, or this is nothing to read (OpenSSL will say so)."""

    server_name: str | None


_UNKNOWN = Hello(None)


def read(data: bytes) -> Hello | int:
    """Read what a client has sent so far; or how long that must be at least before it is worth reading again.

    So that a client that sends its ClientHello in thousands of pieces has it looked at a few times, not thousands.
    """
    message, missing, at = b"", _MESSAGE_HEADER_BYTES, 0
    for _ in range(MAX_RECORDS):
        if at == len(data):
            break
        if data[at] != _HANDSHAKE_RECORD:
            return _UNKNOWN
        size = int.from_bytes(data[at + 3 : at + _RECORD_HEADER_BYTES])
        end = at + _RECORD_HEADER_BYTES + size
        if end > len(data):
            break
        if not size:  # RFC 8446 5.1 forbids it; thousands of them would be read again and again
            return _UNKNOWN
        message += data[at + _RECORD_HEADER_BYTES : end]
        at = end
        missing = _MESSAGE_HEADER_BYTES - len(message)
        if missing <= 0:
            if message[0] != _CLIENT_HELLO:
                return _UNKNOWN
            missing += int.from_bytes(message[1:4])
            if missing <= 0:
                return _parse(message)
    else:
        return _UNKNOWN
    missing -= max(0, len(data) - at - _RECORD_HEADER_BYTES)  # what has come of an unfinished record
    needed = len(data) + max(1, missing)
    return needed if needed <= MAX_BYTES else _UNKNOWN


def status_extensions(data: bytes) -> bytes:
    """Give the requestExtensions for OCSP (RFC 6066 8), in DER, of a ClientHello that is whole; b"": it has none."""
    message = b""
    for _ in range(MAX_RECORDS):
        if data[:1] != b"\x16":
            break
        size = int.from_bytes(data[3:_RECORD_HEADER_BYTES])
        message += data[_RECORD_HEADER_BYTES : _RECORD_HEADER_BYTES + size]
        data = data[_RECORD_HEADER_BYTES + size :]
    message = message[: _MESSAGE_HEADER_BYTES + int.from_bytes(message[1:_MESSAGE_HEADER_BYTES])]
    try:
        at = _extension(message, _STATUS_REQUEST)
        if at is None or message[at] != _OCSP:
            return b""
        at += 1
        at += 2 + (message[at] << 8 | message[at + 1])  # responder ids
        return message[at + 2 : at + 2 + (message[at] << 8 | message[at + 1])]
    except (IndexError, struct.error):
        return b""


def _parse(message: bytes) -> Hello:
    try:
        return Hello(_server_name(message))
    except (IndexError, struct.error, UnicodeDecodeError):
        return _UNKNOWN


def _server_name(message: bytes) -> str | None:
    """RFC 6066 3."""
    at = _extension(message, _SERVER_NAME)
    if at is None or message[at + 2] != _HOST_NAME:
        return None
    length = message[at + 3] << 8 | message[at + 4]
    return message[at + 5 : at + 5 + length].decode("ascii")


def _extension(message: bytes, wanted: int) -> int | None:
    """Where the contents of an extension begin (RFC 8446 4.1.2); None: it is not there."""
    at = _MESSAGE_HEADER_BYTES + 2 + 32  # version, random
    at += 1 + message[at]  # session id
    at += 2 + (message[at] << 8 | message[at + 1])  # cipher suites
    at += 1 + message[at]  # compression methods
    at += 2
    while at < len(message):
        kind, size = _two_numbers(message, at)  # there may be thirty of them: a call costs less than the arithmetic
        at += 4
        if kind == wanted:
            return at
        at += size
    return None

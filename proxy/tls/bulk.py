"""Reading an upload: into one buffer of the process, from which OpenSSL takes it, and not into an object for each read.

That costs a small request more than it saves: a connection comes to it by a large read, and leaves it by a small one.
"""

from __future__ import annotations

import asyncio

from proxy.tls.engine import MANY_BYTES

BEGINS_AT_BYTES = 65_536
_ENDS_AT_BYTES = 16_384

# One for the process: what was read is in OpenSSL's hands before the next read begins, of whichever connection.
_buffer = bytearray(MANY_BYTES)
_contents = memoryview(_buffer)


class Reader(asyncio.Protocol):
    """Whose connection it is."""

    __slots__ = ()

    def many_received(self, data: memoryview) -> None:
        """Take what will not be there any more when this is done."""


class BulkReading(asyncio.BufferedProtocol):
    """Stands in for `reader` as the protocol of `transport` while much comes."""

    __slots__ = ("_reader", "_transport")

    def __init__(self, reader: Reader, transport: asyncio.Transport) -> None:
        self._reader = reader
        self._transport = transport
        _change(transport, self)

    def get_buffer(self, _sizehint: int) -> bytearray:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        if nbytes <= _ENDS_AT_BYTES:
            _change(self._transport, self._reader)
            self._reader.data_received(bytes(_contents[:nbytes]))
        else:
            self._reader.many_received(_contents[:nbytes])

    def eof_received(self) -> bool | None:
        return self._reader.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._reader.connection_lost(exc)

    def pause_writing(self) -> None:
        self._reader.pause_writing()

    def resume_writing(self) -> None:
        self._reader.resume_writing()


def _change(transport: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
    """Give a transport another protocol; it asks only when it begins to read which kind that is."""
    is_reading = transport.is_reading()
    transport.pause_reading()
    transport.set_protocol(protocol)
    if is_reading:
        transport.resume_reading()

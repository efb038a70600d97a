"""The chunked transfer coding (RFC 9112 7.1), both ways. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from proxy.http.fields import FieldError, may_trail
from proxy.http.messages import END, End

if TYPE_CHECKING:
    from proxy.http.fields import Fields

# The size, then extensions, which are dropped. A space is not read kindly: parsers differ about it.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(;[\t -~\x80-\xff]*+)?")
_MAX_SIZE_LINE_BYTES = 4096
_MAX_EXTENSIONS_BYTES = 16_384
"""In one body: else a few bytes of data a chunk could be bought with kilobytes of what nobody reads."""


class ChunkedReader:
    """One body. `feed` gives its data; `end` is set when its last trailer has come. Raises FieldError."""

    __slots__ = (
        "_extensions_bytes",
        "_fields",
        "_is_behind_data",
        "_is_in_trailers",
        "_left_bytes",
        "_max_trailers",
        "_max_trailers_bytes",
        "_partial",
        "_trailers",
        "end",
    )

    def __init__(self, fields: Fields, max_trailers: int, max_trailers_bytes: int) -> None:
        self._fields = fields
        self._max_trailers = max_trailers
        self._max_trailers_bytes = max_trailers_bytes
        self._partial = b""  # a line that has not come whole
        self._left_bytes = 0  # of the chunk
        self._is_behind_data = False  # the CRLF after a chunk's data is still to come
        self._is_in_trailers = False
        self._extensions_bytes = 0
        self._trailers: list[bytes] = []
        self.end: End | None = None

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take what came: the data in it, in one piece, and what comes after the end of the body."""
        if self._partial:
            data, self._partial = self._partial + data, b""
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if self._left_bytes:
                piece = data[at : at + self._left_bytes]
                pieces.append(piece)
                at += len(piece)
                self._left_bytes -= len(piece)
                self._is_behind_data = not self._left_bytes
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._keep(data[at:])
                break
            line, at = data[at:end], end + 2
            if self._is_behind_data:
                if line:
                    raise FieldError("a chunk is longer than it says")
                self._is_behind_data = False
            elif not self._is_in_trailers:
                self._read_size(line)
            elif line:
                self._read_trailer(line)
            else:
                self.end = End(tuple(self._trailers)) if self._trailers else END
                return b"".join(pieces), data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), b""

    def _keep(self, rest: bytes) -> None:
        """Wait for the rest of a line, as long as it can become one."""
        if self._is_behind_data and rest != b"\r":
            raise FieldError("a chunk is longer than it says")
        limit = self._max_trailers_bytes if self._is_in_trailers else _MAX_SIZE_LINE_BYTES
        if len(rest) > limit or b"\n" in rest or b"\r" in rest[:-1]:
            raise FieldError("a chunk's size or a trailer is too long or malformed")
        if not self._is_in_trailers and not self._is_behind_data and rest != b"\r":
            self._match_size(rest.removesuffix(b"\r"))
        self._partial = rest

    @staticmethod
    def _match_size(line: bytes) -> re.Match[bytes]:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise FieldError("a chunk's size is not a number")
        return match

    def _read_size(self, line: bytes) -> None:
        match = self._match_size(line)
        self._extensions_bytes += len(line) - match.end(1)
        if len(line) > _MAX_SIZE_LINE_BYTES or self._extensions_bytes > _MAX_EXTENSIONS_BYTES:
            raise FieldError("chunk extensions are too long")
        self._left_bytes = int(match[1], 16)
        self._is_in_trailers = not self._left_bytes

    def _read_trailer(self, line: bytes) -> None:
        field = self._fields[line]
        self._max_trailers -= 1
        self._max_trailers_bytes -= len(line)
        if self._max_trailers < 0 or self._max_trailers_bytes < 0:
            raise FieldError("trailers are too many or too long")
        if may_trail(field):
            self._trailers.append(field.line)


def chunk(data: bytes) -> bytes:
    """One chunk; `data` must not be empty, which would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def last_chunk(end: End) -> bytes:
    """The end of a body, with the trailers that it has."""
    return b"0\r\n%b\r\n" % b"".join(end.trailers) if end.trailers else LAST_CHUNK

"""A body whose length was told (RFC 9112 6.3, item 6), with the interface of `ChunkedReader`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.http.messages import END

if TYPE_CHECKING:
    from proxy.http.messages import End


class LengthReader:
    """One body of at least one byte. `feed` gives its data; `end` is set when all of it has come."""

    __slots__ = ("_left_bytes", "end")

    def __init__(self, length: int) -> None:
        self._left_bytes = length
        self.end: End | None = None

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take what came: the data in it, and what comes after the end of the body."""
        left = self._left_bytes
        if len(data) < left:
            self._left_bytes = left - len(data)
            return data, b""
        self.end = END
        return data[:left], data[left:]

"""The parts of HTTP messages, as the decoders hand them on: a head, pieces of body (`bytes`), the end.

What a head's fields say is judged once and shared, since clients and backends send the same ones again and again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.http.fields import Field


class Framing(enum.Enum):
    """How a message's body is delimited on a connection."""

    NONE = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    UNTIL_CLOSE = enum.auto()


# By these names where each request goes: until Python 3.12 each `Framing.X` is a call in the enum module.
NONE, LENGTH, CHUNKED, UNTIL_CLOSE = Framing


@dataclass(frozen=True, slots=True)
class RequestFields:
    """What stands behind a request's target: the version, and what the fields say."""

    version: str
    host: bytes | None
    """As the client wrote it; None: HTTP/1.0 need not say it."""
    lines: bytes
    """The fields that go on, as they are written; without Host and what `forwarded` has."""
    forwarded: tuple[Field, ...]
    """What the client says of who it speaks for."""
    framing: Framing
    length: int
    """Of the body; 0 where it is not told in advance."""
    keep_alive: bool
    upgrade: bool
    """The client wants to speak another protocol, and may."""


@dataclass(slots=True)
class RequestHead:
    """A request line with its fields."""

    method: bytes
    target: bytes
    fields: RequestFields


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A status line with its fields."""

    status: int
    line: bytes
    """The status line, as it is written."""
    lines: bytes
    """The fields that go on, as they are written; without those of the parts below."""
    has_date: bool
    framing: Framing
    """As the fields say it: it is not the last word about answers that have no body."""
    length: int
    """What Content-Length says; -1: nothing."""
    keep_alive: bool
    upgrade: bytes
    """The line, or b""."""
    trailer: bytes
    """The line, or b""."""
    usual: bytes
    """The whole head for most clients, those that speak HTTP/1.1 and stay."""


@dataclass(frozen=True, slots=True)
class End:
    """Closes a message; `trailers` are the fields after its body that may go on, as they are written."""

    trailers: tuple[bytes, ...] = ()


END: Final = End()

RequestEvent = RequestHead | bytes | End
ResponseEvent = ResponseHead | bytes | End

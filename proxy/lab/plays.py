"""What a responder does instead of a right answer, as data: the server plays it, the table names it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.lab.wrong_answers import Occasion

CONTENT_TYPE = "application/ocsp-response"


@dataclass(frozen=True, slots=True)
class Says:
    """Answer with 200 and the right content type, but other bytes."""

    build: Callable[[Occasion], bytes]


@dataclass(frozen=True, slots=True)
class Replies:
    """Answer with this HTTP response."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = CONTENT_TYPE
    body: str | None = None
    """None: the right answer."""
    to: str | None = None
    """The only method that is answered so; any other is answered rightly."""


class Place(StrEnum):
    """Where a redirect leads."""

    HERE = "the same URL again"
    RIGHT_ANSWER = "a URL of this responder with the right answer"
    CLOSED_PORT = "a port that nobody listens on"
    FULL_PORT = "a port that accepts no connection"
    UNTRUSTED_TLS = "an https URL whose certificate nobody trusts"
    PLAIN_TLS = "an https URL where plain HTTP is spoken"
    NO_SUCH_NAME = "a host name that does not exist"
    FILE = "a file"


@dataclass(frozen=True, slots=True)
class Redirects:
    """Answer with 307, which keeps the method, to another place."""

    to: Place


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes at once."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Drip:
    """Send these bytes one by one, with pauses."""

    data: bytes
    pause_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Repeat:
    """Send these bytes again and again, as fast as they are taken."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Hold:
    """Send nothing more, and leave the connection open."""


@dataclass(frozen=True, slots=True)
class Reset:
    """End the connection by RST instead of FIN."""


Step = Send | Drip | Repeat | Hold | Reset


@dataclass(frozen=True, slots=True)
class Performs:
    """Do these steps on the bare connection, then close it."""

    steps: Callable[[bytes], tuple[Step, ...]]
    """Of the right answer's bytes."""


Play = Says | Replies | Redirects | Performs


def head(*fields: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    """Write the head of an answer with the right content type and these fields."""
    return "\r\n".join((status, f"Content-Type: {CONTENT_TYPE}", *fields, "", "")).encode()


def whole(body: bytes, *fields: str) -> bytes:
    """Write a whole answer."""
    return head(f"Content-Length: {len(body)}", *fields) + body


def always(*steps: Step) -> Performs:
    """Do these steps whatever the right answer is."""
    return Performs(lambda _: steps)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)

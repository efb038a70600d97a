"""What is known of a request when it is over: filled in by those who serve it, read by the fields of a log's format.

In mode tcp, which knows no requests, a connection has one record, without a head and with the bytes that were relayed.

Text of our own making is `str`, and whatever a client or a backend chose is `bytes`: that is how the formats know what
must be escaped. Pure: times are told.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


CLIENT_LEFT = 499
"""What nginx has made usual for a client that did not wait for the answer."""
_SWITCHING_PROTOCOLS = 101


class Staple(StrEnum):
    """What a connection's client got of OCSP."""

    FRESH = "fresh"
    """A response that was good in that moment."""
    NONE = "none"
    """It asked, and there was none."""
    NOT_ASKED = "not-asked"
    RESUMED = "resumed"
    """A session was resumed: nobody shows a certificate there, or staples one."""
    REFUSED = "refused"
    """It asked, there was none, and `on_missing` says that it is turned away for it."""


# By these names below: until Python 3.12 each `Staple.X` is a call in the enum module.
_FRESH, _NONE, _NOT_ASKED, _RESUMED = Staple.FRESH, Staple.NONE, Staple.NOT_ASKED, Staple.RESUMED


def staple_outcome(staple: bytes | None, *, is_resumed: bool) -> Staple:
    """What came of a handshake that was done; `staple` as `Session.staple` has it."""
    if is_resumed:
        return _RESUMED
    if staple is None:
        return _NOT_ASKED
    return _FRESH if staple else _NONE


@dataclass(frozen=True, slots=True)
class Certificate:
    """A client's certificate, which was verified."""

    subject: bytes
    issuer: bytes
    serial: str
    """In hexadecimal digits, as openssl prints it."""


@dataclass(frozen=True, slots=True)
class Tls:
    """What a handshake came to."""

    protocol: str = ""
    """Such as ``TLSv1.3``; "" when none was agreed on."""
    cipher: str = ""
    server_name: bytes = b""
    is_resumed: bool = False
    certificate: Certificate | None = None
    staple: Staple = Staple.NOT_ASKED
    staple_bytes: int | None = None
    staple_age_s: int | None = None
    """At the handshake, since thisUpdate."""


@dataclass(slots=True)
class Connection:
    """One client connection: what its lines have in common."""

    number: int
    """Among those of this worker."""
    pid: int
    peer: tuple[str, int] = ("", 0)
    local: tuple[str, int] = ("", 0)
    tls: Tls = Tls()
    site: str = ""
    """The first name of the site that it came to."""
    requests: int = 0
    is_plain: bool = False
    """It came to the redirecting port: without TLS, and to no site."""


class HeaderField(Protocol):
    """One header; `name` is in lower case."""

    @property
    def name(self) -> bytes: ...
    @property
    def value(self) -> bytes: ...


class RequestFields(Protocol):
    """See `proxy.http.messages`; here is what a line can tell of it."""

    @property
    def version(self) -> str: ...
    @property
    def host(self) -> bytes | None: ...
    @property
    def lines(self) -> bytes: ...
    @property
    def forwarded(self) -> Sequence[HeaderField]: ...


class RequestHead(Protocol):
    """Likewise."""

    @property
    def method(self) -> bytes: ...
    @property
    def target(self) -> bytes: ...
    @property
    def fields(self) -> RequestFields: ...


class ResponseHead(Protocol):
    """Likewise."""

    @property
    def status(self) -> int: ...
    @property
    def lines(self) -> bytes: ...
    @property
    def length(self) -> int: ...


@dataclass(slots=True)
class Entry:
    """One request and its answer; `*_at` are times of `clock`, the event loop's, and `ended_s` is unix time."""

    connection: Connection
    clock: Callable[[], float]
    began_at: float
    request: RequestHead | None = None
    """None: there was none that could be read."""
    response: ResponseHead | None = None
    """The backend's; None: there was none, or the answer is our own."""
    status: int = 0
    """What the client was told; 0: nothing."""
    sent_bytes: int = 0
    head_bytes: int = 0
    """How many of those were heads."""
    received_bytes: int = 0
    upstream: str = ""
    """The backend that was asked last; "": none was."""
    asked_at: float = 0.0
    """When it was."""
    answered_at: float = 0.0
    """When its head had come; 0: it has not."""
    is_whole: bool = False
    """The answer was given to the client's connection to its end."""
    is_kept: bool = False
    """The connection may have a further request."""
    ended_at: float = 0.0
    ended_s: float = 0.0

    @property
    def began_s(self) -> float:
        return self.ended_s - (self.ended_at - self.began_at)

    def ask_upstream(self, upstream: str) -> None:
        """Note that a connection to this backend is there, and gets the request."""
        self.upstream, self.asked_at = upstream, self.clock()

    def add_answer(self, head: ResponseHead, head_bytes: int) -> None:
        """Note the backend's final answer, whose head has so many bytes on its way to the client."""
        self.response, self.answered_at = head, self.clock()
        self.status = head.status
        self.head_bytes += head_bytes

    def add_interim(self, head: ResponseHead, head_bytes: int) -> None:
        """Note an answer before the final one, or instead of it where the protocol is switched."""
        self.head_bytes += head_bytes
        if head.status == _SWITCHING_PROTOCOLS:
            self.response, self.status, self.answered_at = head, head.status, self.clock()

    def add_refusal(self, status: int, answer: bytes) -> None:
        """Note that the answer is our own."""
        self.status = status
        self.head_bytes += answer.find(b"\r\n\r\n") + 4

"""What a client sends before OpenSSL sees any of it, as a function of bytes.

    a PROXY header    from load balancers, and from them always: a connection without is refused
    a ClientHello     read for the server's name only, and not even that where every name leads to one site

Who speaks HTTP without TLS is told so, as nginx does. What is neither goes on to OpenSSL, which has the alert for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from proxy import proxyprotocol
from proxy.tls import clienthello
from proxy.tls.failures import Failure

if TYPE_CHECKING:
    from proxy.names import NameTable
    from proxy.proxyprotocol import Header
    from proxy.tls.site import SiteContext

_HANDSHAKE_RECORD = 22

# A fatal alert, as RFC 6066 3 has it, before there is an engine that could write it.
_UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"

_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE ", b"PRI ")
"""PRI is how HTTP/2 begins where it was agreed on beforehand (RFC 9113 3.4)."""


class Refused(Exception):
    """There is no handshake with this client: `answer` is what it is sent, the text is for the log."""

    def __init__(self, why: str, failure: Failure, answer: bytes = b"") -> None:
        super().__init__(why)
        self.failure = failure
        self.answer = answer


class Opened(NamedTuple):
    """Who it is for, and what OpenSSL is to be fed."""

    context: SiteContext
    data: bytes
    header: Header | None
    """What a load balancer has said of the client."""


def opened_at_once(contexts: NameTable[SiteContext | None], data: bytes) -> SiteContext | None:
    """Tell who a connection without a PROXY header is for, if all that needs is its first byte; None: an Opening tells.

    So it is where there is one site; an Opening costs a hundredth of a handshake that resumes TLS 1.2.
    """
    return contexts.default if contexts.is_single and data[0] == _HANDSHAKE_RECORD else None


class Opening:
    """The beginning of one connection; `http_answer` is for who speaks HTTP without TLS, b"": nothing is said."""

    __slots__ = ("_awaits_header", "_contexts", "_data", "_header", "_http_answer", "_needed")

    def __init__(
        self, contexts: NameTable[SiteContext | None], http_answer: bytes, *, awaits_proxy_header: bool
    ) -> None:
        self._contexts = contexts
        self._http_answer = http_answer
        self._awaits_header = awaits_proxy_header
        self._header: Header | None = None
        self._data = bytearray()
        self._needed = 0

    def feed(self, data: bytes) -> Opened | None:
        """Take what came; None: more has to come. Raises Refused."""
        self._data += data
        if self._awaits_header:
            self._read_header()
        if self._awaits_header or not self._data:
            return None
        if self._data[0] != _HANDSHAKE_RECORD and self._http_answer and self._may_be_http():
            return None
        name = None
        if not self._contexts.is_single:
            if len(self._data) < self._needed:
                return None
            hello = clienthello.read(bytes(self._data))
            if isinstance(hello, int):
                self._needed = hello
                return None
            name = hello.server_name
        context = self._contexts.lookup(name)
        if context is None:
            raise Refused("the client asks for no or an unknown name", Failure.UNKNOWN_NAME, _UNRECOGNIZED_NAME)
        return Opened(context, bytes(self._data), self._header)

    def _read_header(self) -> None:
        try:
            self._header = proxyprotocol.read(bytes(self._data))
        except proxyprotocol.ProxyHeaderError as error:
            what = f"a PROXY header is due from this load balancer: {error}"
            raise Refused(what, Failure.PROXY_HEADER) from None
        if self._header is not None:
            self._awaits_header = False
            del self._data[: self._header.size]

    def _may_be_http(self) -> bool:
        """Tell whether a method has begun to come; Refused when it is there."""
        if self._data.startswith(_METHODS):
            raise Refused("the client speaks HTTP without TLS", Failure.PLAIN_HTTP, self._http_answer)
        return any(method.startswith(self._data) for method in _METHODS)

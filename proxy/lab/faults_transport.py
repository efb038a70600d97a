"""Faults of the connection: names, ports, TLS, and bytes that are no whole HTTP answer, or hardly one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.errors import FetchReason
from proxy.lab.fault import Fault
from proxy.lab.plays import Drip, Hold, Performs, Place, Redirects, Repeat, Reset, Send, always, chunk, head, whole

if TYPE_CHECKING:
    from proxy.errors import Reason
    from proxy.lab.plays import Play


def _row(name: str, what: str, reason: FetchReason | Reason | None, play: Play) -> Fault:
    return Fault(name, "transport", what, reason, play)


_LENGTH = "Content-Length: 600"
_CHUNKED = "Transfer-Encoding: chunked"

TRANSPORT = (
    # One process plays many faults at once, so its own port stays open: what happens before HTTP happens elsewhere.
    _row("dns", "The host name does not exist.", FetchReason.DNS, Redirects(Place.NO_SUCH_NAME)),
    _row("refused", "Nobody listens on the port.", FetchReason.CONNECT, Redirects(Place.CLOSED_PORT)),
    _row("unreachable", "Connecting gets no answer.", FetchReason.TIMEOUT, Redirects(Place.FULL_PORT)),
    _row("tls", "The https certificate is from nobody known.", FetchReason.TLS, Redirects(Place.UNTRUSTED_TLS)),
    _row("tls-plain", "Plain HTTP is spoken on the https port.", FetchReason.TLS, Redirects(Place.PLAIN_TLS)),
    _row("silent", "The request is taken and never answered.", FetchReason.TIMEOUT, always(Hold())),
    _row("close-before-headers", "The connection ends unanswered.", FetchReason.DISCONNECTED, always()),
    _row("reset-before-headers", "The connection is reset.", FetchReason.DISCONNECTED, always(Reset())),
    _row(
        "close-in-headers",
        "The connection ends amid the headers.",
        FetchReason.DISCONNECTED,
        always(Send(head(_LENGTH)[:-20])),
    ),
    _row("drip-headers", "The headers come at one byte a second.", FetchReason.TIMEOUT, always(Drip(head(_LENGTH)))),
    _row(
        "endless-headers",
        "The headers have no end.",
        FetchReason.TOO_LARGE,
        always(Send(head()[:-2]), Repeat(b"X-More: " + b"x" * 4000 + b"\r\n")),
    ),
    _row(
        "silent-after-headers",
        "The body that the headers announce never comes.",
        FetchReason.TIMEOUT,
        always(Send(head(_LENGTH)), Hold()),
    ),
    _row(
        "reset-after-headers",
        "The connection is reset after the headers.",
        FetchReason.DISCONNECTED,
        always(Send(head(_LENGTH)), Reset()),
    ),
    _row(
        "close-in-body",
        "The connection ends amid the body.",
        FetchReason.DISCONNECTED,
        Performs(lambda right: (Send(head(f"Content-Length: {len(right)}") + right[: len(right) // 2]),)),
    ),
    _row(
        "drip",
        "The body comes at one byte a second.",
        FetchReason.TIMEOUT,
        Performs(lambda right: (Send(head(f"Content-Length: {len(right)}")), Drip(right))),
    ),
    _row(
        "endless-body",
        "The body has no end.",
        FetchReason.TOO_LARGE,
        always(Send(head("Connection: close")), Repeat(bytes(4096))),
    ),
    _row(
        "length-too-great",
        "The headers announce more bytes than come, and the connection stays open.",
        FetchReason.TIMEOUT,
        Performs(lambda right: (Send(head(f"Content-Length: {len(right) + 1}") + right), Hold())),
    ),
    _row(
        "length-too-small",
        "The headers announce one byte less than comes.",
        FetchReason.PROTOCOL,
        Performs(lambda right: (Send(head(f"Content-Length: {len(right) - 1}", "Connection: close") + right),)),
    ),
    _row(
        "length-negative",
        "The length is below zero.",
        FetchReason.PROTOCOL,
        Performs(lambda right: (Send(head("Content-Length: -1") + right),)),
    ),
    _row(
        "length-twice",
        "Two lengths contradict each other.",
        FetchReason.PROTOCOL,
        Performs(lambda r: (Send(head(f"Content-Length: {len(r)}", f"Content-Length: {len(r) - 9}") + r),)),
    ),
    _row(
        "length-and-chunks",
        "There is a length, and chunks besides.",
        FetchReason.PROTOCOL,
        Performs(lambda right: (Send(head(f"Content-Length: {len(right)}", _CHUNKED) + chunk(right) + chunk(b"")),)),
    ),
    _row(
        "chunk-cut",
        "The connection ends amid a chunk.",
        FetchReason.DISCONNECTED,
        Performs(lambda right: (Send(head(_CHUNKED) + chunk(right)[:-20]),)),
    ),
    _row(
        "chunk-last-missing",
        "The connection ends without the last chunk.",
        FetchReason.DISCONNECTED,
        Performs(lambda right: (Send(head(_CHUNKED) + chunk(right)),)),
    ),
    _row(
        "chunk-size-wrong",
        "The size of a chunk is no number.",
        FetchReason.PROTOCOL,
        Performs(lambda right: (Send(head(_CHUNKED) + b"zz\r\n" + right + b"\r\n" + chunk(b"")),)),
    ),
    _row(
        "chunk-oddities",
        "The chunks are small, and have extensions and trailers: that is allowed.",
        None,
        Performs(
            lambda right: (
                Send(head(_CHUNKED)),
                *(Send(b"001;lab=1\r\n%c\r\n" % byte) for byte in right),
                Send(b"0\r\nX-Trailer: 1\r\n\r\n"),
            )
        ),
    ),
    _row(
        "http-1.0",
        "The answer is HTTP/1.0 and ends with the connection, as openssl ocsp does it.",
        None,
        Performs(lambda right: (Send(head(status="HTTP/1.0 200 OK") + right),)),
    ),
    _row(
        "early-hints",
        "A 103 (Early Hints) comes before the answer.",
        None,
        Performs(lambda right: (Send(b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n" + whole(right)),)),
    ),
    _row("not-http", "It is no web server.", FetchReason.PROTOCOL, always(Send(b"SSH-2.0-OpenSSH_9.2\r\n"), Hold())),
)

"""What mod_ssl sends to a responder: the URI as it reads it, and the bytes of the request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.ocsp import der

if TYPE_CHECKING:
    from proxy.ocsp.httpd_check import CertId
    from proxy.ocsp.httpd_notes import Note

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_HOST_END = re.compile(r"[/?#]|$")
_PORT = re.compile(r"[ \t\n\v\f\r]*([+-]?\d+)")  # what strtol takes
_HTTP_PORT = 80


class UnusableUriError(Exception):
    """Nothing can be fetched, and Apache ends the handshake for it; `note` is its line in the log."""

    def __init__(self, note: Note) -> None:
        super().__init__(note)
        self.note = note


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes."""

    host: str | None
    """None: the URI has none, and this machine is asked."""
    port: int
    """As it was written, and so perhaps none that there is."""
    path: str
    """With the query, without a fragment."""
    shown: str
    """Host and port, as they stand in the URI: for the log."""


def target(uri: str | None) -> Target:
    """Read a responder's URI as apr_uri_parse does, with all that it lets through. Raises UnusableUriError."""
    if uri is None:
        raise UnusableUriError((2621,))
    found = _SCHEME.match(uri)
    rest = uri[found.end() :] if found else uri
    if not found and not rest.startswith("//"):
        # Apache dies of a URI without a scheme; it is no more use to us than one with another scheme.
        is_wrong = not uri.startswith("/") and ":" in uri.partition("/")[0]
        raise UnusableUriError((1939 if is_wrong else 1940, uri))
    host, port, shown = None, 0, "(null)"
    if rest.startswith("//"):
        end = _HOST_END.search(rest, 2)
        assert end is not None  # it matches the end of the text
        shown, rest = rest[2 : end.start()], rest[end.start() :]
        host, port = _host_and_port(shown.rpartition("@")[2], uri)
    if not found or found[1] != "http":
        raise UnusableUriError((1940, uri))
    # A path ends at the first of both; a query goes on to the fragment.
    path = rest.partition("#")[0]
    if not path or path.startswith("?"):
        path = "/" + path
    return Target(host, port or _HTTP_PORT, path, shown)


def _host_and_port(text: str, uri: str) -> tuple[str, int]:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket:
            raise UnusableUriError((1939, uri))
        # What stands between the bracket and a colon counts to the host, for which there is no address then.
        if port and not port.startswith(":"):
            return text[1:-1], 0
        port = port[1:]
    else:
        host, _, port = text.partition(":")
    if not port:
        return host, 0
    number = _PORT.fullmatch(port)
    if not number:
        raise UnusableUriError((1939, uri))
    return host, int(number[1]) % 65_536  # it is put into 16 bits


def ocsp_request(cert_id: CertId, extensions: bytes) -> bytes:
    """Write the OCSPRequest: one CertID, no signature, and the Extensions that a client has sent, if any."""
    requests = der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, cert_id.encoded()))
    # An empty list of extensions is none.
    more = der.tlv(der.EXPLICIT_2, extensions) if extensions not in {b"", b"\x30\x00"} else b""
    return der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, requests, more))


def http_request(to: Target, body: bytes, *, by_proxy: bool) -> bytes:
    """Write the HTTP request, headers and their order as in Apache."""
    authority = f"{to.host or '(null)'}:{to.port}"
    place = f"http://{authority}{to.path}" if by_proxy else to.path
    head = (
        f"POST {place} HTTP/1.0\r\nHost: {authority}\r\nContent-Type: application/ocsp-request\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode(errors="surrogateescape") + body

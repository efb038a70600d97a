"""Feed the HTTP decoders: whole, byte by byte, in odd pieces, and with garbage after what they should read."""

from __future__ import annotations

import pytest

from proxy.errors import ClientError, UpstreamError
from proxy.http.codec import RequestDecoder, ResponseDecoder

LIMIT = 4096
MAX_HEADERS = 50
MAX_TARGET = 1000
GARBAGE = b"\x00\xff garbage\r\n\r\n"

every_way = pytest.mark.parametrize(
    ("step", "after"),
    [(None, b""), (1, b""), (7, b""), (None, GARBAGE), (1, GARBAGE)],
    ids=["whole", "bytewise", "sevens", "garbage after", "garbage after, bytewise"],
)


def cut(raw: bytes, step: int | None) -> list[bytes]:
    """Into pieces of so many bytes; None: in one."""
    return [raw[at : at + step] for at in range(0, len(raw), step)] if step else [raw]


def merged(events):
    """Join neighbouring pieces of body: how they are cut depends on how they came."""
    out = []
    for event in events:
        if isinstance(event, bytes) and out and isinstance(out[-1], bytes):
            out[-1] += event
        else:
            out.append(event)
    return out


def request_decoder() -> RequestDecoder:
    return RequestDecoder(LIMIT, MAX_HEADERS, MAX_TARGET)


def read_requests(raw: bytes, step: int | None = None):
    """The events, and the ClientError that ends them or None."""
    decoder, events = request_decoder(), []
    try:
        for piece in cut(raw, step):
            events += decoder.feed(piece)
            while decoder.is_held:
                events += decoder.release()
    except ClientError as error:
        return merged(events + decoder.events), error
    return merged(events), None


def read_response(raw: bytes, method: bytes = b"GET", step: int | None = None, *, eof: bool = False):
    """The events, the UpstreamError that ends them or None, and the decoder."""
    decoder, events = ResponseDecoder(LIMIT), []
    decoder.expect(method)
    try:
        for piece in cut(raw, step):
            events += decoder.feed(piece)
        if eof:
            events += decoder.eof()
    except UpstreamError as error:
        return merged(events + decoder.events), error, decoder
    return merged(events), None, decoder


def request(
    *lines: bytes, method: bytes = b"GET", target: bytes = b"/", version: bytes = b"HTTP/1.1", body=b""
) -> bytes:
    """A request to one host, with these header lines."""
    host = [] if any(line.lower().startswith(b"host:") for line in lines) else [b"Host: x"]
    return b"\r\n".join([b"%b %b %b" % (method, target, version), *host, *lines, b"", body])


def response(*lines: bytes, status: bytes = b"200 OK", version: bytes = b"HTTP/1.1", body=b"") -> bytes:
    """An answer with these header lines."""
    return b"\r\n".join([b"%b %b" % (version, status), *lines, b"", body])

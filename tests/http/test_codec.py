"""The decoders: every sample goes in whole, byte by byte, and with another message or garbage behind it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ClientError, UpstreamError
from proxy.http.codec import END, RequestDecoder, RequestHead, ResponseDecoder, ResponseHead

LIMIT = 4096


def merged(events):
    """Join neighbouring pieces of body: how they are cut depends on how they came."""
    out = []
    for event in events:
        if isinstance(event, bytes) and out and isinstance(out[-1], bytes):
            out[-1] += event
        else:
            out.append(event)
    return out


def requests(raw: bytes, step: int | None = None):
    decoder = RequestDecoder(LIMIT)
    events = []
    for start in range(0, len(raw), step or len(raw)):
        events += decoder.feed(raw[start : start + (step or len(raw))])
    return merged(events)


def head(method, target, *headers, version="1.1", keep_alive=True):
    return RequestHead(method, target, version, list(headers), keep_alive)


GET = b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n"
GET_EVENTS = [head(b"GET", b"/a?b", (b"Host", b"x")), END]

SAMPLES = {
    "no body": (GET, GET_EVENTS),
    "length": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        [head(b"POST", b"/", (b"Host", b"x"), (b"Content-Length", b"5")), b"hello", END],
    ),
    "chunked, an extension and a trailer, which are dropped": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;e=1\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n",
        [head(b"POST", b"/", (b"Host", b"x"), (b"Transfer-Encoding", b"chunked")), b"abcde", END],
    ),
    "an upgrade, which is read as a plain request": (
        b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        [head(b"GET", b"/ws", (b"Host", b"x"), (b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")), END],
    ),
    "an upgrade with a body, which llhttp alone would read as a next request": (
        b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nGET ",
        [
            head(b"POST", b"/", (b"Connection", b"Upgrade"), (b"Upgrade", b"h2c"), (b"Content-Length", b"4")),
            b"GET ",
            END,
        ],
    ),
    "an upgrade with a body in chunks": (
        b"PUT / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: a\r\nTransfer-encoding: chunked\r\n\r\n1\r\nG\r\n0\r\n\r\n",
        [
            head(b"PUT", b"/", (b"Connection", b"Upgrade"), (b"Upgrade", b"a"), (b"Transfer-encoding", b"chunked")),
            b"G",
            END,
        ],
    ),
    "an upgrade with an empty body": (
        b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
        [head(b"GET", b"/", (b"Connection", b"Upgrade"), (b"Upgrade", b"h2c"), (b"Content-Length", b"0")), END],
    ),
    "space around values (RFC 9112 5.1)": (
        b"GET / HTTP/1.1\r\nHost:  x \t\r\nA: b c\t \r\nB: \r\n\r\n",
        [head(b"GET", b"/", (b"Host", b"x"), (b"A", b"b c"), (b"B", b"")), END],
    ),
    "HTTP/1.0 kept alive": (
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        [head(b"GET", b"/", (b"Connection", b"keep-alive"), version="1.0"), END],
    ),
    "empty lines before the request (RFC 9112 2.2)": (b"\r\n\r\n" + GET, GET_EVENTS),
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("step", [None, 1, 2, 7])
def test_a_request_reads_the_same_however_it_is_cut(name, step):
    """Framing may not depend on how the bytes arrive."""
    raw, expected = SAMPLES[name]
    assert requests(raw, step) == expected


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("step", [None, 1, 5])
def test_a_request_behind_another_is_told_apart(name, step):
    """Pipelined requests come out in order, each with its own END."""
    raw, expected = SAMPLES[name]
    assert requests(raw + GET, step) == expected + GET_EVENTS


REFUSED = {
    "bare LF": (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    "bare CR in a value": (b"GET / HTTP/1.1\r\nHost: x\ry\r\n\r\n", 400),
    "obs-fold (RFC 9112 5.2)": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
    "space before the colon (RFC 9112 5.1)": (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    "NUL in a value": (b"GET / HTTP/1.1\r\nHost: x\x00\r\n\r\n", 400),
    "both framings (RFC 9112 6.3)": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
    "a signed length": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc", 400),
    "a list of lengths": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
    "chunked twice": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "a chunk size that is no number": (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "HTTP/2.0 in the request line": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    "a method that nobody knows": (b"FLY / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    "TLS inside TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 501),
    "an endless target": (b"GET /" + b"a" * (LIMIT + 1), 414),
    "an endless header": (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (LIMIT + 1), 431),
    "more headers than anyone sends": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 300 + b"\r\n", 431),
    "headers without end": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 300, 431),
    "an upgrade with an unknown coding": (
        b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        400,
    ),
    "an endless chunk extension": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 2 * LIMIT,
        400,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("step", [None, 1, 1000])
def test_what_two_parsers_could_read_differently_is_refused(name, step):
    """The status is the one to answer with; nothing else than ClientError comes out."""
    raw, status = REFUSED[name]
    if step is None and "endless" in name:
        step = 1000  # in one piece the rest of the head could still follow: see the frontend's own limit
    with pytest.raises(ClientError) as caught:
        requests(raw, step)
    assert caught.value.status == status


def test_requests_before_a_fault_are_still_there():
    """They were whole and come first, so they are answered first."""
    decoder = RequestDecoder(LIMIT)
    with pytest.raises(ClientError):
        decoder.feed(GET + b"GARBAGE\r\n\r\n")
    assert decoder.events == GET_EVENTS


@pytest.mark.parametrize("more", [b"", b"Connection: upgrade\r\nUpgrade: a\r\n"])
def test_thousands_of_requests_in_one_piece_are_refused(more):
    """They would take far more memory than their bytes; the first hundreds are answered."""
    decoder = RequestDecoder(LIMIT)
    with pytest.raises(ClientError) as caught:
        decoder.feed(b"GET / HTTP/1.1\r\n%b\r\n" % more * 10_000)
    assert caught.value.status == 400
    assert 200 < len(decoder.events) < 1000


def test_empty_lines_begin_no_request():
    """A client that sends one after its request, as some do, is idle all the same (RFC 9112 2.2)."""
    decoder = RequestDecoder(LIMIT)
    decoder.feed(GET + b"\r\n")
    assert decoder.is_idle


def test_is_idle_tells_a_started_request_from_none():
    """A connection may be closed quietly only where no request would be lost."""
    decoder = RequestDecoder(LIMIT)
    assert decoder.is_idle
    decoder.feed(b"GE")
    assert not decoder.is_idle
    decoder.feed(b"T / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert decoder.is_idle


@given(st.binary(max_size=300), st.integers(1, 50))
def test_garbage_is_refused_or_read_and_nothing_else(raw, step):
    """No bytes of a client make the decoder fail in another way."""
    for before in (b"", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"):
        with contextlib.suppress(ClientError):
            requests(before + raw, step)


# Responses.


def answers(raw: bytes, method: bytes = b"GET", step: int | None = None, *, eof: bool = False):
    decoder = ResponseDecoder(LIMIT)
    decoder.expect(method)
    events = []
    for start in range(0, len(raw), step or len(raw)):
        events += decoder.feed(raw[start : start + (step or len(raw))])
    if eof:
        events += decoder.eof()
    return merged(events), decoder


OK = ResponseHead(200, b"OK", "1.1", [(b"Content-Length", b"3")])
OK_RAW = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"

ANSWERS = {
    "length": (OK_RAW, b"GET", [OK, b"abc", END]),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\n\r\n",
        b"GET",
        [ResponseHead(200, b"OK", "1.1", [(b"Transfer-Encoding", b"chunked")]), b"abc", END],
    ),
    "HEAD has no body whatever its length says": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"HEAD", [OK, END]),
    "204 has none": (b"HTTP/1.1 204 No\r\n\r\n", b"GET", [ResponseHead(204, b"No", "1.1", []), END]),
    "304 has none": (
        b"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n",
        b"GET",
        [ResponseHead(304, b"No", "1.1", [(b"Content-Length", b"9")]), END],
    ),
    "103 and 100 before the answer": (
        b"HTTP/1.1 103 E\r\nLink: a\r\n\r\nHTTP/1.1 100 C\r\n\r\n" + OK_RAW,
        b"GET",
        [ResponseHead(103, b"E", "1.1", [(b"Link", b"a")]), ResponseHead(100, b"C", "1.1", []), OK, b"abc", END],
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("step", [None, 1, 3])
def test_an_answer_reads_the_same_however_it_is_cut(name, step):
    """And the connection can be used again after each of these."""
    raw, method, expected = ANSWERS[name]
    events, decoder = answers(raw, method, step)
    assert events == expected
    assert decoder.is_complete
    assert decoder.is_reusable


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("extra", [OK_RAW, b"garbage", b"\x00", b"abc"])
@pytest.mark.parametrize("step", [None, 1])
def test_more_than_the_answer_is_cut_off_and_ends_the_connection(name, extra, step):
    """nginx proxy_extra_data: what follows is nobody's, and the next request may not get it."""
    raw, method, expected = ANSWERS[name]
    events, decoder = answers(raw + extra, method, step)
    assert events == expected
    assert decoder.is_complete
    assert not decoder.is_reusable


def test_the_decoder_serves_one_request_after_another():
    """After a HEAD, whose announced body llhttp waits for, as well."""
    decoder = ResponseDecoder(LIMIT)
    for method in (b"GET", b"HEAD", b"HEAD", b"GET"):
        decoder.expect(method)
        events = decoder.feed(OK_RAW if method == b"GET" else OK_RAW.removesuffix(b"abc"))
        assert events[-1] is END
        assert decoder.is_reusable


def test_an_answer_without_framing_ends_with_the_connection():
    """RFC 9112 6.3, item 8."""
    events, decoder = answers(b"HTTP/1.0 200 OK\r\n\r\nabc", eof=True)
    assert events == [ResponseHead(200, b"OK", "1.0", []), b"abc", END]
    assert not decoder.is_reusable


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 100 C\r\n\r\n",
    ],
)
def test_a_broken_off_answer_is_an_error(raw):
    """nginx proxy_unfinished: it must never look whole to the client."""
    with pytest.raises(UpstreamError):
        answers(raw or b"H", eof=True)


@pytest.mark.parametrize(
    "raw",
    [
        b"<html>hello</html>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA\x00: b\r\n\r\n",
        b"HTTP/1.1 099 x\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * LIMIT * 2,
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_an_answer_that_is_not_http_is_an_error(raw, step):
    """HTTP/0.9, both framings, control bytes, an endless head: 502, and nothing of it to the client."""
    with pytest.raises(UpstreamError) as caught:
        answers(raw, step=step)
    assert caught.value.status == 502

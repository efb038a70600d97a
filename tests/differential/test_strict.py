"""The reader that judges: what it takes, what it does not, and that pieces read as the whole does."""

from __future__ import annotations

import pytest
from differential import strict
from differential.corpus import CASES, NEXT, head

GOOD = {
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n": (b"GET", b"/", b"a", b""),
    b"\r\n\r\nGET / HTTP/1.0\r\n\r\n": (b"GET", b"/", None, b""),
    b"GET http://B:443/x?y HTTP/1.1\r\nHost: a\r\n\r\n": (b"GET", b"/x?y", b"b", b""),
    b"OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n": (b"OPTIONS", b"*", b"b", b""),
    b"GET / HTTP/1.1\r\nHost:\t[::1]:8443 \t\r\n\r\n": (b"GET", b"/", b"[::1]:8443", b""),
    head(b"Content-Length: 3") + b"abc": (b"POST", b"/first", b"localhost", b"abc"),
    head(b"Transfer-Encoding: Chunked") + b"3;x\r\nabc\r\n00\r\nT: 1\r\n\r\n": (
        b"POST",
        b"/first",
        b"localhost",
        b"abc",
    ),
}
BAD = [
    b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\rHost: a\r\n\r\n",
    b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: [1]\r\n\r\n",
    b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    *(head(line) for line in (b"X : y", b" X: y", b"X: y\r\n z", b"X: \x00", b"X: y\rz", b"X: y\nz", b": y", b"X")),
    *(head(b"Content-Length: " + value) for value in (b"", b"+5", b"5, 5", b"0x5", b"9" * 19)),
    head(b"Content-Length: 0", b"Content-Length: 0"),
    head(b"Content-Length: 0", b"Transfer-Encoding: chunked"),
    head(b"Transfer-Encoding: gzip, chunked"),
    head(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0"),
    *(
        head(b"Transfer-Encoding: chunked") + body
        for body in (b"0x1\r\n", b"1 \r\n", b"1\n", b"1\r\nab", b"0\r\nX : y\r\n")
    ),
]


@pytest.mark.parametrize("data", GOOD)
def test_what_is_a_request(data):
    reading = strict.read(data)
    (request,) = reading.requests
    assert (request.method, request.target, request.host, request.body) == GOOD[data]
    assert (reading.fault, reading.left) == ("", b"")


@pytest.mark.parametrize("data", BAD)
def test_what_is_none(data):
    """Nor is what comes behind it."""
    for behind in (b"", NEXT):
        reading = strict.read(data + behind)
        assert reading.fault
        assert not reading.requests


@pytest.mark.parametrize("data", [*GOOD, *BAD, *CASES.values()])
def test_pieces_read_as_the_whole(data):
    """But for the bytes behind a fault, which are not looked at."""
    whole, reading = strict.read(data), strict.Reading()
    for at in range(0, len(data), 1 if len(data) < 500 else 50):
        reading.feed(data[at : at + (1 if len(data) < 500 else 50)])
    assert (reading.requests, reading.fault) == (whole.requests, whole.fault)


@pytest.mark.parametrize("data", GOOD)
def test_a_request_that_is_not_whole_is_awaited(data):
    for end in range(1, len(data)):
        reading = strict.read(data[:end])
        assert not reading.requests
        assert not reading.fault


@pytest.mark.parametrize("last", [head(b"Connection: close"), head(start=b"POST / HTTP/1.0")])
def test_nothing_may_come_behind_the_last(last):
    reading = strict.read(last + NEXT)
    assert len(reading.requests) == 1
    assert reading.fault

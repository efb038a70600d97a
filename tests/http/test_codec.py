"""The decoders, beyond the RFC: what is bounded, what is held, what a fault leaves, and that llhttp agrees."""

from __future__ import annotations

import time

import httptools
import pytest
from feeding import GARBAGE, LIMIT, MAX_HEADERS, cut, read_requests, read_response, request, request_decoder, response
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ClientError
from proxy.http import fields, head_request, head_response
from proxy.http.codec import END, End, RequestHead, ResponseDecoder, ResponseHead
from proxy.http.fields import REQUEST_FIELDS

GET = request()
UPGRADE = (b"Connection: keep-alive, Upgrade", b"Upgrade: websocket")
OK = response(b"Content-Length: 3", body=b"abc")


TOO_MUCH = {
    "an endless target": (b"GET /" + b"a" * (LIMIT + 1), 414),
    "an endless method": (b"G" * (LIMIT + 1), 400),
    "an endless header": (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (LIMIT + 1), 431),
    "a long header": (request(b"A: " + b"a" * LIMIT), 431),
    "many headers": (request(*[b"a: b"] * MAX_HEADERS), 431),
    "many headers that we would drop": (request(*[b"a_b:"] * MAX_HEADERS), 431),
    "headers without end": (b"GET / HTTP/1.1\r\n" + b"a:\r\n" * LIMIT, 431),
    "a whole head with a long target": (request(target=b"/" + b"a" * LIMIT), 414),
    "TLS inside TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
}


@pytest.mark.parametrize("name", TOO_MUCH)
@pytest.mark.parametrize("step", [None, 1, 1000])
@pytest.mark.parametrize("before", [b"", GET + GET], ids=["first", "third"])
def test_a_head_is_bounded(name, step, before):
    """However it comes, and as a later request of a connection too; at once where its end never comes."""
    raw, status = TOO_MUCH[name]
    events, error = read_requests(before + raw, step)
    assert error.status == status
    assert len(events) == (4 if before else 0)


def test_as_many_headers_as_allowed_are_read():
    """The limit is that of the setting, not one less."""
    assert read_requests(request(*[b"a: b"] * (MAX_HEADERS - 1)))[1] is None


def test_requests_before_a_fault_are_still_there():
    """They were whole and come first, so they are answered first."""
    decoder = request_decoder()
    with pytest.raises(ClientError):
        decoder.feed(GET + GARBAGE)
    assert [type(event) for event in decoder.events] == [RequestHead, End]


def test_thousands_of_requests_in_one_piece_are_refused():
    """They would take far more memory than their bytes; the first hundreds are answered."""
    decoder = request_decoder()
    with pytest.raises(ClientError) as caught:
        decoder.feed(GET * 10_000)
    assert caught.value.status == 400
    assert 200 < len(decoder.events) < 1000


def test_thousands_of_chunks_in_one_piece_are_one_event():
    """A byte of data would else take fifty of memory."""
    decoder = request_decoder()
    raw = request(b"Transfer-Encoding: chunked", method=b"POST", body=b"1\r\nx\r\n" * 10_000)
    assert decoder.feed(raw)[1:] == [b"x" * 10_000]


def test_is_idle_tells_a_started_request_from_none():
    """A connection may be closed quietly only where no request would be lost; empty lines begin none."""
    decoder = request_decoder()
    assert decoder.is_idle
    for piece, is_idle in ((b"\r\n", True), (b"GE", False), (GET[2:], True), (b"\r", True), (b"\n\r\n", True)):
        decoder.feed(piece)
        assert decoder.is_idle is is_idle
    decoder.feed(request(b"Content-Length: 2", body=b"a"))
    assert not decoder.is_idle
    decoder.feed(b"b")
    assert decoder.is_idle


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize("length", [(), (b"Content-Length: 0",)])
def test_what_follows_an_upgrade_waits_for_the_answer(step, length):
    """It may be HTTP, as nginx proxy_upgrade.t sends, or the other protocol's first bytes."""
    for becomes in ("http", "other"):
        decoder = request_decoder()
        events = [event for piece in cut(request(*UPGRADE, *length) + GET, step) for event in decoder.feed(piece)]
        assert events[0].fields.upgrade
        assert events[1:] == [END]
        assert (decoder.is_held, decoder.held_bytes) == (True, len(GET))
        if becomes == "http":
            assert [type(event) for event in decoder.release()] == [RequestHead, End]
        else:
            assert decoder.switch() == [GET]
            assert decoder.feed(b"\x00\xff") == [b"\x00\xff"]
        assert (decoder.is_held, decoder.held_bytes) == (False, 0)


@pytest.mark.parametrize(
    "raw",
    [
        request(*UPGRADE, version=b"HTTP/1.0"),
        request(*UPGRADE, b"Content-Length: 4", method=b"POST", body=b"GET "),
        request(*UPGRADE, b"Transfer-Encoding: chunked", method=b"POST", body=b"4\r\nGET \r\n0\r\n\r\n"),
        request(b"Upgrade: websocket"),
        request(b"Connection: upgrade"),
        request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
        request(b"Connection: Upgrade", b"Upgrade: websocket, h2c"),
        request(b"Connection: Upgrade", b"Upgrade: TLS/1.0, HTTP/1.1"),
    ],
)
@pytest.mark.parametrize("step", [None, 1])
def test_other_upgrades_are_ignored_and_a_body_is_kept(raw, step):
    """RFC 9110 7.8: a server may ignore it, and must in HTTP/1.0. Behind h2c the rules here would not hold."""
    events, error = read_requests(raw + GET, step)
    assert error is None
    assert not events[0].fields.upgrade
    assert b"pgrade" not in events[0].fields.lines
    assert events[-2].method == b"GET"
    assert [event for event in events if isinstance(event, bytes)] in ([], [b"GET "])


@pytest.mark.parametrize("step", [None, 1])
def test_a_101_turns_answers_into_bytes(step):
    """As they come, until the backend ends them."""
    raw = response(*UPGRADE, status=b"101 Switching Protocols", body=b"\x00raw\r\n\r\n")
    events, error, decoder = read_response(raw, b"GET", step, eof=True)
    assert (error, events[0].status) == (None, 101)
    assert b"Upgrade" in events[0].upgrade
    assert events[1:] == [b"\x00raw\r\n\r\n", END]
    assert not decoder.is_reusable


@pytest.mark.parametrize("status", [b"200 OK", b"426 Upgrade Required"])
@pytest.mark.parametrize("step", [None, 1])
def test_other_answers_to_an_upgrade_are_plain(status, step):
    """With Upgrade or without, and with what follows them on the connection."""
    events, error, decoder = read_response(
        response(*UPGRADE, b"Content-Length: 3", status=status, body=b"abc"), b"GET", step
    )
    assert (error, events[1:]) == (None, [b"abc", END])
    assert decoder.is_reusable


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("extra", [OK, b"garbage", b"\x00", b"abc", b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest.mark.parametrize("step", [None, 1])
def test_more_than_the_answer_is_cut_off_and_ends_the_connection(method, extra, step):
    """nginx proxy_extra_data: what follows is nobody's, and the next request may not get it."""
    answer = OK if method == b"GET" else OK.removesuffix(b"abc")
    events, error, decoder = read_response(answer + extra, method, step)
    assert (error, events[1:]) == (None, [b"abc", END] if method == b"GET" else [END])
    assert decoder.is_complete
    assert not decoder.is_reusable


@pytest.mark.parametrize(
    ("line", "is_kept"), [(b"Content-Length: 4", False), (b"Transfer-Encoding: chunked", False), (b"A: b", True)]
)
def test_a_204_that_speaks_of_a_body_ends_the_connection(line, is_kept):
    """Many an application sends one after it: were the connection kept, the next client might get it."""
    _, error, decoder = read_response(response(line, status=b"204 No Content"), b"GET", None)
    assert (error, decoder.is_complete, decoder.is_reusable) == (None, True, is_kept)


def test_the_decoder_serves_one_request_after_another():
    """After a HEAD, whose head speaks of a body, as well."""
    decoder = ResponseDecoder(LIMIT)
    for method in (b"GET", b"HEAD", b"HEAD", b"GET"):
        decoder.expect(method)
        events = decoder.feed(OK if method == b"GET" else OK.removesuffix(b"abc"))
        assert events[-1] is END
        assert decoder.is_reusable


@pytest.mark.parametrize("step", [1, 1000, None])
@pytest.mark.parametrize(
    "raw", [b"HTTP/1.1 200 OK\r\nA: " + b"a" * LIMIT * 2, response(*[b"a: b"] * 300), b"HTTP/1.1 200 " + b"a" * 9999]
)
def test_a_backends_head_is_bounded(raw, step):
    """In bytes and in headers."""
    assert read_response(raw, step=step)[1].status == 502


def test_secrets_are_not_remembered():
    """What lines and heads mean is, for all clients together: a bounded number, and nothing that only one may know."""
    known = (fields.REQUEST_FIELDS, fields.RESPONSE_FIELDS, head_request.KNOWN_REQUESTS, head_response.KNOWN_RESPONSES)
    for each in known:
        each.clear()
    for name in (b"Cookie", b"Authorization", b"Proxy-Authorization", b"Set-Cookie"):
        for _ in range(2):
            read_requests(request(name + b": s3cret"))
            read_response(response(name + b": s3cret", b"Content-Length: 0"))
    assert not any(b"s3cret" in key for each in known for key in each)
    for number in range(3000):
        read_requests(request(b"A: %d" % number))
        read_response(response(b"A: %d" % number, b"Content-Length: 0"))
    read_requests(request(b"Large: " + b"a" * 2000))
    assert all(0 < len(each) <= fields.MAX_REMEMBERED for each in known)
    assert max(len(key) for each in known for key in each) <= fields.MAX_REMEMBERED_BYTES


@pytest.mark.parametrize("line", [b" " * 16_000 + b"\x00", b"a" * 16_000 + b"\x00", b"A:" + b" \t" * 16_000 + b"\x00"])
def test_no_line_takes_longer_than_its_length(line):
    """A pattern that tries a line again and again could be made to take minutes."""
    begun = time.process_time()
    with pytest.raises(fields.FieldError):
        REQUEST_FIELDS[line]
    assert time.process_time() - begun < 0.1


TEXT = st.one_of(
    st.binary(max_size=300),
    st.lists(
        st.sampled_from(
            [
                b"GET / HTTP/1.1\r\n",
                b"POST / HTTP/1.1\r\n",
                b"Host: x\r\n",
                b"\r\n",
                b"Content-Length: 3\r\n",
                b"abc",
                b" ",
                b"\n",
                b"Transfer-Encoding: chunked\r\n",
                b"3\r\nabc\r\n",
                b"0\r\n\r\n",
                b"A: b\r\n",
                b"\r",
                b"\t",
                b";x",
                b"Connection: ",
                b"close\r\n",
                b"HTTP/1.1 200 OK\r\n",
                b"0\r\n",
                b"Upgrade: a\r\n",
                b"upgrade\r\n",
                b"\x00",
                b":",
                b"3",
            ]
        ),
        max_size=14,
    ).map(b"".join),
)


def assert_alike(whole, error, events, later):
    """Up to a fault; then the message that has it is lost, with more or less of its body."""
    assert (error is None) is (later is None)
    if error is not None:
        whole, events = ([each for each in some if not isinstance(each, bytes)] for some in (whole, events))
    assert whole == events


@given(TEXT, st.integers(1, 50))
def test_any_bytes_are_refused_or_read_the_same_however_they_come(raw, step):
    """No bytes make the decoders fail in another way, and how they are cut changes nothing."""
    for before in (b"", request(b"Transfer-Encoding: chunked", method=b"POST"), request(b"Content-Length: 9")):
        whole, error = read_requests(before + raw)
        events, later = read_requests(before + raw, step)
        assert_alike(whole, error, events, later)
    whole, error, _ = read_response(raw)
    events, later, _ = read_response(raw, step=step)
    assert_alike(whole, error, events, later)


class Llhttp:
    """What httptools reads of requests."""

    def __init__(self, raw: bytes):
        self.read: list[list] = []
        self.parser = httptools.HttpRequestParser(self)
        self.error = None
        try:
            self.parser.feed_data(raw)
        except httptools.HttpParserError as error:
            self.error = error

    def on_url(self, url):
        self.read.append([url, b"", False])

    def on_body(self, body):
        self.read[-1][1] += body

    def on_message_complete(self):
        self.read[-1][2] = True


@given(TEXT)
def test_what_is_accepted_llhttp_reads_alike(raw):
    """The parser of Node.js, and of many a backend: whatever we take as a request, it takes for the same one.

    But for methods that it does not know, and versions: it is asked about what we would write for the body's framing.
    """
    for before in (b"", request(b"Transfer-Encoding: chunked", method=b"POST")):
        events, error = read_requests(before + raw)
        ours: list[list] = []
        for event in events:
            if isinstance(event, RequestHead):
                ours.append([event.target, b"", False])
            elif isinstance(event, bytes):
                ours[-1][1] += event
            else:
                ours[-1][2] = True
        theirs = Llhttp(before + raw)
        if isinstance(theirs.error, httptools.HttpParserUpgrade) or b"\r\nUpgrade" in raw:
            continue
        if error is None and theirs.error is not None and "close" in str(theirs.error):
            continue  # data after `Connection: close`: it refuses, and the frontend never begins it
        whole = [each for each in ours if each[2]]
        assert whole == [each for each in theirs.read if each[2]][: len(whole)]


def test_heads_are_equal_however_often_they_come():
    """Remembered or not, the same bytes mean the same."""
    first, again = read_requests(GET + GET)[0][::2]
    assert (first, first.fields) == (again, again.fields)
    answers = [read_response(OK)[0][0] for _ in range(2)]
    assert answers[0] == answers[1]
    assert isinstance(answers[0], ResponseHead)

"""RFC 9112, from its MUSTs: each test names its section. What is read is fed whole, byte-wise, and with garbage after.

"Sender" is what we write, "recipient" what we read, from clients and from backends alike.
"""

from __future__ import annotations

import pytest
from feeding import every_way, read_requests, read_response, request, response

from proxy.http.codec import END, End, RequestHead, ResponseHead
from proxy.http.forwarded import Client
from proxy.http.head_request import request_to_upstream
from proxy.http.head_response import response_to_client
from proxy.http.messages import CHUNKED, LENGTH, NONE, UNTIL_CLOSE

CLIENT = Client.of("192.0.2.1", "fallback.test")


def date():
    return b"today"


def body_of(events):
    assert isinstance(events[0], RequestHead | ResponseHead)
    assert isinstance(events[-1], End)
    return b"".join(event for event in events[1:-1])


def refused(raw: bytes, step, after: bytes) -> int:
    _, error = read_requests(raw + after, step)
    assert error is not None
    return error.status


def bad_gateway(raw: bytes, step, after: bytes, method=b"GET"):
    events, error, _ = read_response(raw + after, method, step)
    assert error is not None, events
    assert error.status == 502
    return events


@every_way
def test_2_2_empty_lines_before_the_request_line_are_ignored(step, after):
    """2.2: a server SHOULD ignore at least one CRLF before the request line."""
    events, _ = read_requests(b"\r\n\r\n" + request() + after, step)
    assert [events[0].method, events[1]] == [b"GET", END]


@every_way
@pytest.mark.parametrize("raw", [request(b"A: b\rc"), request(b"A: b").replace(b"\r\n", b"\r"), request(b"A: b\r")])
def test_2_2_a_bare_cr_is_invalid(raw, step, after):
    """2.2: a recipient of a bare CR MUST consider that element invalid or replace it with SP."""
    assert refused(raw, step, after or b"x" * 20) == 400


@every_way
def test_2_2_a_bare_lf_is_no_line_end_here(step, after):
    """2.2: a recipient MAY take LF alone for a line's end; two that differ in this make a smuggled request."""
    assert refused(request(b"A: b").replace(b"\r\n", b"\n"), step, after) == 400
    bad_gateway(response(b"A: b\nContent-Length: 0"), step, after)


@every_way
@pytest.mark.parametrize("between", [b" ", b"\t", b" \r\n"])
def test_2_2_whitespace_before_the_first_header_is_refused(between, step, after):
    """2.2: a recipient MUST NOT take such a line for a header: reject the message or drop the lines."""
    raw = request().replace(b"\r\nHost", b"\r\n" + between + b"Host")
    assert refused(raw, step, after) == 400


@every_way
@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /", 400),
        (b"GET", 400),
        (b"GET / HTTP/1.1 x", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET\t/ HTTP/1.1", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET / http/1.1", 400),
        (b"GET / HTTP/1.10", 400),
        (b"GET /a b HTTP/1.1", 400),
        (b"G\xc3T / HTTP/1.1", 400),
        (b"GET /\x7f HTTP/1.1", 400),
        (b"GET /\xc3\xa4 HTTP/1.1", 400),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/0.9", 505),
    ],
)
def test_3_a_malformed_request_line_is_refused(line, status, step, after):
    """3, 3.2: a recipient of an invalid request-line SHOULD respond with 400; 2.3: the version is case-sensitive."""
    assert refused(line + b"\r\nHost: x\r\n\r\n", step, after) == status


@every_way
def test_3_a_request_line_of_8000_octets_would_be_read(step, after):
    """3: it is RECOMMENDED to support at least 8000; 414 beyond the limit, which tests set lower."""
    assert refused(request(target=b"/" + b"a" * 1000), step, after) == 414
    assert read_requests(request(target=b"/" + b"a" * 999), step)[1] is None


@every_way
@pytest.mark.parametrize("method", [b"GET", b"PROPFIND", b"M-SEARCH", b"VERSION-CONTROL", b"FLY"])
def test_3_1_methods_are_passed_on_as_they_are(method, step, after):
    """3.1: a method is a token, and case-sensitive; which there are the backend knows."""
    assert read_requests(request(method=method) + after, step)[0][0].method == method


@every_way
@pytest.mark.parametrize("hosts", [(), (b"Host: a", b"Host: a"), (b"Host: a", b"host: b")])
def test_3_2_missing_or_doubled_host_is_400(hosts, step, after):
    """3.2: a server MUST respond with 400 to a request that lacks Host, or has more than one."""
    raw = b"\r\n".join([b"GET / HTTP/1.1", *hosts, b"", b""])
    assert refused(raw, step, after) == 400


def test_3_2_2_the_absolute_form_is_accepted_and_decides_the_host():
    """3.2.2: a server MUST accept it; a proxy MUST ignore Host and replace it with the target's authority."""
    head = read_requests(request(b"Host: other", target=b"http://real.test/a?b"))[0][0]
    assert request_to_upstream(head, CLIENT).startswith(b"GET /a?b HTTP/1.1\r\nHost: real.test\r\n")


@every_way
@pytest.mark.parametrize(
    "line",
    [b"A : b", b"A\t: b", b": b", b"A", b"A\xe4: b", b"A\x00: b", b"A b: c", b"(A): b", b"A: b\x00", b"A: b\x7f"],
)
def test_5_malformed_header_lines_are_refused(line, step, after):
    """5.1: a server MUST reject, with 400, a request with whitespace between a name and the colon.

    The others break the grammar of 5 and of RFC 9110 5.5.
    """
    assert refused(request(line), step, after) == 400
    bad_gateway(response(line, b"Content-Length: 0"), step, after)


@every_way
def test_5_1_space_around_a_value_is_no_part_of_it(step, after):
    """5.1: OWS is excluded by the parser."""
    head = read_requests(request(b"A: \t b c \t") + after, step)[0][0]
    assert head.fields.lines == b"A: b c\r\n"


@every_way
@pytest.mark.parametrize("fold", [b"A: b\r\n c", b"A: b\r\n\tc", b"A:\r\n b"])
def test_5_2_folded_lines_are_refused(fold, step, after):
    """5.2: a server MUST reject obs-fold with 400 or replace it; a gateway likewise with 502."""
    assert refused(request(fold), step, after) == 400
    bad_gateway(response(fold, b"Content-Length: 0"), step, after)


@every_way
def test_6_1_both_framings_are_refused(step, after):
    """6.1, 6.3 item 3: it ought to be handled as an error; a gateway that goes on MUST remove the length."""
    lines = (b"Content-Length: 3", b"Transfer-Encoding: chunked")
    for order in (lines, lines[::-1]):
        assert refused(request(*order, method=b"POST", body=b"0\r\n\r\n"), step, after) == 400
        bad_gateway(response(*order, body=b"0\r\n\r\n"), step, after)


@every_way
@pytest.mark.parametrize(
    ("coding", "status"),
    [
        (b"gzip", 400),
        (b"identity", 400),
        (b"chunked, gzip", 400),
        (b"chunked, chunked", 400),
        (b"chunked\r\nTransfer-Encoding: chunked", 400),
        (b"xchunked", 400),
        (b"chunked;q=1", 400),
        (b"", 400),
        (b"gzip, chunked", 501),
        (b"gzip\r\nTransfer-Encoding: chunked", 400),
    ],
)
def test_6_1_unknown_transfer_codings(coding, status, step, after):
    """6.3 item 4: 400 where chunked is not last; 6.1: SHOULD be 501 for one that is not known. From a backend 502."""
    raw = request(b"Transfer-Encoding: " + coding, method=b"POST", body=b"0\r\n\r\n")
    assert refused(raw, step, after) == status
    bad_gateway(response(b"Transfer-Encoding: " + coding, body=b"0\r\n\r\n"), step, after)


@every_way
def test_6_1_transfer_encoding_in_http_1_0_is_faulty(step, after):
    """6.1: a recipient MUST treat the message as if its framing is faulty."""
    assert refused(request(b"Transfer-Encoding: chunked", version=b"HTTP/1.0", body=b"0\r\n\r\n"), step, after) == 400
    bad_gateway(response(b"Transfer-Encoding: chunked", version=b"HTTP/1.0", body=b"0\r\n\r\n"), step, after)


@every_way
@pytest.mark.parametrize(
    "value",
    [b"-1", b"+1", b"1 1", b"1,1", b"1, 1", b"0x1", b"1_0", b"", b"1.0", b"\xb2", b"9" * 19, b"1\r\nContent-Length: 1"],
)
def test_6_3_malformed_or_doubled_lengths_are_refused(value, step, after):
    """6.3 item 5: an unrecoverable error: 400 from a server, 502 from a proxy."""
    raw = b"Content-Length: " + value
    assert refused(request(raw, method=b"POST", body=b"x"), step, after) == 400
    bad_gateway(response(raw, body=b"x"), step, after)


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content", b"304 Not Modified"])
@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"A: b"])
def test_6_3_answers_without_a_body_end_at_their_head(status, framing, step):
    """6.3 item 1: HEAD, 204, 304, whatever their fields say; 6.1: 1xx as well."""
    method = b"HEAD" if status.startswith(b"200") else b"GET"
    early = response(framing, status=b"103 Early Hints")
    events, error, decoder = read_response(early + response(framing, status=status), method, step)
    assert error is None
    assert [type(event) for event in events] == [ResponseHead, ResponseHead, End]
    # A 204 may not speak of a body (RFC 9110 8.6, RFC 9112 6.1); who does may well send one.
    assert decoder.is_reusable is (framing == b"A: b" or not status.startswith(b"204"))


@every_way
def test_6_3_a_request_without_framing_has_no_body(step, after):
    """6.3 item 7."""
    events, _ = read_requests(request(method=b"POST") + after, step)
    assert events[:2] == [events[0], END]
    assert events[0].fields.framing is NONE


@pytest.mark.parametrize("step", [None, 1])
def test_6_3_an_answer_without_framing_ends_with_the_connection(step):
    """6.3 item 8; 8: nothing tells whether it is whole, so it is as whole as it can be."""
    events, error, decoder = read_response(response(body=b"until the end"), b"GET", step, eof=True)
    assert (error, body_of(events), decoder.is_reusable) == (None, b"until the end", False)


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize(
    "raw",
    [
        response(b"Content-Length: 9", body=b"short"),
        response(b"Transfer-Encoding: chunked", body=b"5\r\nshort\r\n"),
        response(b"Transfer-Encoding: chunked", body=b"9\r\nshort"),
        response(b"Transfer-Encoding: chunked", body=b"5\r\nshort\r\n0\r\nA: b\r\n"),
        b"HTTP/1.1 200 OK\r\nA: b\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_8_an_incomplete_answer_is_known_as_such(raw, step):
    """8: a client that gets one MUST record it as incomplete."""
    events, error, _ = read_response(raw, b"GET", step, eof=True)
    assert error.status == 502
    assert END not in events


@every_way
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"005\r\nhello\r\n000\r\n\r\n", b"hello"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b'5;a;b=c;d="e;f"\r\nhello\r\n0;x\r\n\r\n', b"hello"),
        (b"1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n", b"\r\n"),
        (b"0\r\n\r\n", b""),
    ],
)
def test_7_1_chunks_are_read(body, expected, step, after):
    """7.1: a recipient MUST be able to parse chunked; 7.1.1: it MUST ignore extensions that it does not know."""
    head = b"Transfer-Encoding: Chunked"  # 7: names of codings are case-insensitive
    events, _ = read_requests(request(head, method=b"POST", body=body) + after, step)
    assert body_of(events[: 3 if expected else 2]) == expected
    events, error, decoder = read_response(response(head, body=body) + after, b"GET", step)
    assert (error, body_of(events), decoder.is_reusable) == (None, expected, not after)


@every_way
@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n",
        b"\r\n",
        b"-5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"5 ;a\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhelloX\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\rX",
        b"5;a\x00\r\nhello\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"F" * 16 + b"\r\nx",
        b"5;" + b"a" * 5000 + b"\r\nhello\r\n",
        b"1;%b\r\nx\r\n" % (b"a" * 4000) * 5,
        b"0\r\nA : b\r\n\r\n",
        b"0\r\n A: b\r\n\r\n",
        b"0\r\nA: b\nB: c\r\n\r\n",
        b"0\r\nA: " + b"a" * 5000 + b"\r\n\r\n",
        b"0\r\n" + b"A: b\r\n" * 300 + b"\r\n",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_7_1_malformed_chunks_are_refused(body, step, after):
    """7.1: sizes are hex and may not overflow; 7.1.1, 7.1.2: extensions and trailers are bounded."""
    head = b"Transfer-Encoding: chunked"
    assert refused(request(head, method=b"POST", body=body), step, after) == 400
    bad_gateway(response(head, body=body), step, after)


@every_way
def test_7_1_2_trailers_are_kept_apart_from_headers(step, after):
    """7.1.2: a recipient MUST NOT merge them into the headers; those that frame or route are dropped."""
    body = b"0\r\nChecksum: a \r\nContent-Length: 9\r\nHost: evil\r\nTransfer-Encoding: gzip\r\n\r\n"
    head = b"Transfer-Encoding: chunked"
    events, _ = read_requests(request(head, method=b"POST", body=body) + after, step)
    assert events[1] == End((b"Checksum: a\r\n",))
    assert b"Checksum" not in events[0].fields.lines
    events, _, _ = read_response(response(head, body=body) + after, b"GET", step)
    assert events[1] == End((b"Checksum: a\r\n",))


@pytest.mark.parametrize(
    ("version", "option", "keep_alive"),
    [
        (b"HTTP/1.1", b"", True),
        (b"HTTP/1.1", b"Close", False),
        (b"HTTP/1.1", b"keep-alive, close", False),
        (b"HTTP/1.0", b"", False),
        (b"HTTP/1.0", b"Keep-Alive", True),
        (b"HTTP/1.0", b"keep-alive, close", False),
    ],
)
def test_9_3_persistence(version, option, keep_alive):
    """9.3: close ends it, 1.1 stays, 1.0 stays only when it says keep-alive; 9.6 for backends."""
    lines = [b"Connection: " + option] if option else []
    head = read_requests(request(*lines, version=version))[0][0]
    assert head.fields.keep_alive is keep_alive
    _, _, decoder = read_response(response(*lines, b"Content-Length: 0", version=version))
    assert decoder.is_reusable is keep_alive


@every_way
def test_9_3_2_pipelined_requests_come_out_in_order(step, after):
    """9.3.2: a server MUST send the answers in the order of the requests."""
    raw = b"".join(request(b"Content-Length: 1", method=b"POST", target=b"/%d" % n, body=b"%d" % n) for n in range(5))
    events, _ = read_requests(raw + after, step)
    assert [event.target for event in events[:15:3]] == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    assert events[1:15:3] == [b"0", b"1", b"2", b"3", b"4"]


@every_way
@pytest.mark.parametrize(
    "line",
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 ", b"HTTP/1.1 200", b"HTTP/1.1 200 \xfcber", b"HTTP/1.0 200 a b"],
)
def test_4_status_lines_that_are_read(line, step, after):
    """4: the reason may be empty or anything printable; a client SHOULD ignore it."""
    events, error, _ = read_response(line + b"\r\nContent-Length: 0\r\n\r\n" + after, b"GET", step)
    assert (error, events[0].status) == (None, 200)


@every_way
@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 099 x",
        b"HTTP/1.1 600 x",
        b"HTTP/1.1 20 x",
        b"HTTP/1.1 2000 x",
        b"HTTP/1.1 2x0 x",
        b"HTTP/1.1  200 x",
        b"HTTP/2.0 200 x",
        b"HTTP/1.2 200 x",
        b"http/1.1 200 x",
        b"ICY 200 OK",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 O\x01K",
        b"<html>",
        b"",
        b" HTTP/1.1 200 OK",
        b"HTTP/1.1 200 O\rK",
    ],
)
def test_4_status_lines_that_are_not(line, step, after):
    """4; RFC 9110 15: three digits from 100 to 599."""
    bad_gateway(line + b"\r\nContent-Length: 0\r\n\r\n", step, after)


# What we send.


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    ("lines", "status", "framing"),
    [
        ((b"Content-Length: 3",), b"200 OK", (LENGTH, LENGTH)),
        ((b"Transfer-Encoding: chunked",), b"200 OK", (CHUNKED, UNTIL_CLOSE)),
        ((), b"200 OK", (CHUNKED, UNTIL_CLOSE)),
        ((b"Content-Length: 3",), b"304 Not Modified", (NONE, NONE)),
        ((), b"204 No Content", (NONE, NONE)),
    ],
)
def test_6_1_chunked_is_never_sent_to_http_1_0(lines, status, framing, version):
    """6.1: a server MUST NOT send it unless the request says HTTP/1.1; nor in 1xx and 204; 9.6: close is said."""
    asked = read_requests(request(version=b"HTTP/" + version.encode()))[0][0]
    head = read_response(response(*lines, status=status))[0][0]
    data, chosen = response_to_client(head, asked, keep_alive=True, date=date)
    assert chosen is framing[version == "1.0"]
    assert (b"Transfer-Encoding: chunked\r\n" in data) is (chosen is CHUNKED)
    assert (b"Connection: close\r\n" in data) is (chosen is UNTIL_CLOSE)
    assert not (b"Content-Length" in data and b"Transfer-Encoding" in data)


@pytest.mark.parametrize(
    ("lines", "sent"),
    [
        ((b"Content-Length: 0003",), b"Content-Length: 3\r\n"),
        ((b"transfer-encoding:chunked",), b"Transfer-Encoding: chunked\r\n"),
    ],
)
def test_6_framing_is_written_anew(lines, sent):
    """6.1, 6.2: one framing, in the form that everybody reads alike."""
    head = read_requests(request(*lines, method=b"POST"))[0][0]
    data = request_to_upstream(head, CLIENT)
    assert data.count(b"Content-Length") + data.count(b"Transfer-Encoding") == 1
    assert sent in data

"""Heads: what crosses, what does not, and how it is framed on the other side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ClientError, UpstreamError
from proxy.http.codec import RequestHead, ResponseHead
from proxy.http.head import Client, Framing, error_response, request_to_upstream, response_to_client

CLIENT = Client.of("192.0.2.7", "fallback.test")


def upstream(*headers, method=b"GET", target=b"/", version="1.1", host=b"x.test"):
    given_headers = [(b"Host", host), *headers] if host is not None else list(headers)
    return request_to_upstream(RequestHead(method, target, version, given_headers, keep_alive=True), CLIENT)


def lines(data: bytes) -> list[bytes]:
    assert data.endswith(b"\r\n\r\n")
    return data[:-4].split(b"\r\n")


def test_a_plain_request():
    """Host goes on as it is, the client's address and scheme are told."""
    data, framing = upstream((b"Accept", b"*/*"), target=b"/a?b")
    assert framing is Framing.NONE
    assert lines(data) == [
        b"GET /a?b HTTP/1.1",
        b"Host: x.test",
        b"X-Forwarded-For: 192.0.2.7",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: x.test",
        b"Accept: */*",
    ]


HOP_BY_HOP = [b"Connection", b"Keep-Alive", b"Proxy-Connection", b"TE", b"Trailer", b"Upgrade", b"Proxy-Authorization"]
FORGEABLE = [
    b"X-Forwarded-For",
    b"X-Forwarded-Proto",
    b"X-Forwarded-Host",
    b"X-Forwarded-Port",
    b"X-Real-IP",
    b"X-Forwarded-Ssl",
    b"X-Forwarded-Prefix",
    b"SCRIPT_NAME",
    b"PATH_INFO",
    b"Forwarded",
]


@pytest.mark.parametrize("name", [*HOP_BY_HOP, *FORGEABLE, b"Proxy"])
@pytest.mark.parametrize("change", [bytes, bytes.lower, bytes.upper])
def test_a_client_cannot_send_these_to_the_backend(name, change):
    """Hop-by-hop headers (RFC 9110 7.6.1), claims about the client's address, and httpoxy's header."""
    data, _ = upstream((change(name), b"forged-value"))
    assert b"forged-value" not in data
    # CGI and WSGI make one variable of both spellings.
    data, _ = upstream((change(name.replace(b"-", b"_", 1)), b"forged-value"))
    assert b"forged-value" not in data


@given(st.lists(st.tuples(st.from_regex(rb"\A[A-Za-z-]{1,12}\Z"), st.from_regex(rb"\A[ -~]{0,20}\Z")), max_size=6))
def test_no_hop_by_hop_header_crosses(headers):
    """Whatever else a request has."""
    try:
        data, _ = upstream(*headers, (b"Connection", b"X-Secret"), (b"x-sEcret", b"value-1"))
    except ClientError:
        return
    names = {line.partition(b":")[0].lower() for line in lines(data)[1:]}
    assert not names & {name.lower() for name in HOP_BY_HOP}
    assert b"x-secret" not in names
    assert b"value-1" not in data


def test_connection_cannot_name_away_what_frames_or_routes():
    """`Connection: Content-Length` would leave the backend without the length."""
    data, framing = upstream(
        (b"Content-Length", b"3"), (b"Connection", b"content-length, host, x-forwarded-for"), method=b"POST"
    )
    assert framing is Framing.LENGTH
    assert b"Content-Length: 3" in lines(data)
    assert b"Host: x.test" in lines(data)
    assert b"X-Forwarded-For: 192.0.2.7" in lines(data)


def test_http_1_0_without_a_host_gets_the_sites():
    """What is sent on is HTTP/1.1, which must have one."""
    data, _ = upstream(version="1.0", host=None)
    assert b"Host: fallback.test" in lines(data)


def test_the_targets_authority_goes_before_host():
    """RFC 9112 3.2.2: a proxy must take the host from the absolute form."""
    data, _ = upstream(target=b"https://other.test:8443/path?q", host=b"x.test")
    assert lines(data)[:2] == [b"GET /path?q HTTP/1.1", b"Host: other.test:8443"]


@pytest.mark.parametrize(
    ("target", "method", "line"),
    [
        (b"*", b"OPTIONS", b"OPTIONS * HTTP/1.1"),
        (b"http://x.test", b"OPTIONS", b"OPTIONS * HTTP/1.1"),
        (b"http://x.test", b"GET", b"GET / HTTP/1.1"),
        (b"HTTP://x.test?q", b"GET", b"GET /?q HTTP/1.1"),
    ],
)
def test_target_forms(target, method, line):
    """RFC 9112 3.2."""
    assert lines(upstream(target=target, method=method)[0])[0] == line


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (400, {"host": None}),
        (400, {"host": b""}),
        (400, {"host": b"a b"}),
        (400, {"host": b"user@x.test"}),
        (400, {"host": b"x.test:port"}),
        (400, {"host": b"x.test:123456"}),
        (400, {"host": b"x.test/path"}),
        (400, {"host": b"[::1"}),
        (400, {"headers": [(b"host", b"x.test")]}),
        (400, {"target": b"relative"}),
        (400, {"target": b"/path#fragment"}),
        (400, {"target": b"*"}),
        (400, {"target": b"ftp://x.test/"}),
        (400, {"target": b"http://user@x.test/"}),
        (400, {"target": b"http:///path"}),
        (501, {"target": b"x.test:443", "method": b"CONNECT"}),
        (501, {"target": b"/", "method": b"CONNECT"}),
        (417, {"headers": [(b"Expect", b"200-ok")]}),
        (501, {"headers": [(b"Transfer-Encoding", b"gzip, chunked")]}),
        (501, {"headers": [(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")]}),
        (400, {"headers": [(b"Transfer-Encoding", b"chunked")], "version": "1.0"}),
        (400, {"headers": [(b"Authorization", b"a"), (b"authorization", b"b")]}),
        (400, {"headers": [(b"If-Range", b"a"), (b"If-Range", b"a")]}),
    ],
)
def test_a_request_that_cannot_be_passed_on(status, request_):
    """Each is a ClientError with the status to answer."""
    with pytest.raises(ClientError) as caught:
        upstream(*request_.pop("headers", []), **request_)
    assert caught.value.status == status


@pytest.mark.parametrize("host", [b"x.test", b"x.test:8443", b"[::1]:8443", b"[2001:db8::1]", b"10.0.0.1", b"x_y.test"])
def test_hosts_that_pass(host):
    """Names, addresses, brackets, ports."""
    assert b"Host: " + host in lines(upstream(host=host)[0])


def test_expect_100_continue_in_any_case_and_not_in_http_1_0():
    """RFC 9110 10.1.1."""
    assert b"Expect: 100-continue" in lines(upstream((b"expect", b"100-Continue"))[0])
    assert b"Expect" not in upstream((b"Expect", b"100-continue"), version="1.0")[0]


# Responses.


def client(status=200, *headers, method=b"GET", version="1.1", keep_alive=True, upstream_version="1.1"):
    head = ResponseHead(status, b"R", upstream_version, list(headers))
    request = RequestHead(method, b"/", version, [], keep_alive=True)
    return response_to_client(head, request, keep_alive=keep_alive)


@pytest.mark.parametrize(
    ("headers", "method", "version", "status", "framing"),
    [
        ([(b"Content-Length", b"3")], b"GET", "1.1", 200, Framing.LENGTH),
        ([(b"Transfer-Encoding", b"chunked")], b"GET", "1.1", 200, Framing.CHUNKED),
        ([(b"Transfer-Encoding", b"chunked")], b"GET", "1.0", 200, Framing.UNTIL_CLOSE),
        ([], b"GET", "1.1", 200, Framing.CHUNKED),
        ([], b"GET", "1.0", 200, Framing.UNTIL_CLOSE),
        ([(b"Content-Length", b"3")], b"HEAD", "1.1", 200, Framing.NONE),
        ([(b"Transfer-Encoding", b"chunked")], b"HEAD", "1.1", 200, Framing.NONE),
        ([], b"GET", "1.1", 204, Framing.NONE),
        ([(b"Content-Length", b"3")], b"GET", "1.1", 304, Framing.NONE),
        ([], b"GET", "1.1", 103, Framing.NONE),
    ],
)
def test_how_the_body_is_framed_for_the_client(headers, method, version, status, framing):
    """RFC 9112 6.3, with what the client's version can read."""
    data, chosen = client(status, *headers, method=method, version=version)
    assert chosen is framing
    assert (b"Transfer-Encoding: chunked" in lines(data)) is (framing is Framing.CHUNKED)
    assert (b"Connection: close" in lines(data)) is (framing is Framing.UNTIL_CLOSE)


@pytest.mark.parametrize("status", [100, 103, 204])
def test_an_answer_that_never_has_a_body_has_no_length(status):
    """RFC 9110 8.6: a client that believed it would wait for it."""
    assert b"Content-Length" not in client(status, (b"Content-Length", b"3"))[0]


def test_everything_else_of_an_answer_crosses():
    """Date and Server too: we say nothing of our own."""
    data, _ = client(
        200, (b"Date", b"d"), (b"Server", b"s"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b"), (b"Keep-Alive", b"5")
    )
    assert lines(data) == [
        b"HTTP/1.1 200 R",
        b"Date: d",
        b"Server: s",
        b"Set-Cookie: a",
        b"Set-Cookie: b",
        b"Transfer-Encoding: chunked",
    ]


def test_connection_close_and_keep_alive_are_ours_to_say():
    """The backend's own word is about the backend's connection."""
    assert b"Connection: close" in lines(client(200, (b"Content-Length", b"0"), keep_alive=False)[0])
    assert b"Connection" not in client(200, (b"Content-Length", b"0"), (b"Connection", b"close"))[0]
    assert b"Connection: keep-alive" in lines(client(200, (b"Content-Length", b"0"), version="1.0")[0])


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Transfer-Encoding", b"gzip")],
        [(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")],
    ],
)
def test_an_answer_in_an_unknown_coding_is_an_error(headers):
    """haproxy http_transfer_encoding c11."""
    with pytest.raises(UpstreamError):
        client(200, *headers)


def test_an_error_page_is_a_whole_answer():
    """With a length, and without a body for HEAD."""
    page = error_response(502, "gone", is_head=False, keep_alive=True)
    head, _, body = page.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
    assert error_response(502, "gone", is_head=True, keep_alive=True) == head + b"\r\n\r\n"

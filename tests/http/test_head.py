"""Heads: what crosses, what does not, and how it is framed on the other side."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ClientError
from proxy.http.codec import RequestDecoder, ResponseDecoder
from proxy.http.forwarded import Client, is_trusted
from proxy.http.head_request import request_to_upstream
from proxy.http.head_response import REASONS, error_response, interim_to_client, response_to_client
from proxy.http.messages import Framing, RequestHead

CLIENT = Client.of("192.0.2.7", "fallback.test")
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
VIA = b"Via: 1.1 stapleproxy"


def head_of(*headers, method=b"GET", target=b"/", version="1.1", host=b"x.test") -> RequestHead:
    given_headers = [(b"Host", host), *headers] if host is not None else list(headers)
    raw = b"%b %b HTTP/%b\r\n" % (method, target, version.encode())
    raw += b"".join(b"%b: %b\r\n" % header for header in given_headers)
    decoder = RequestDecoder(32_768, 100, 8192)
    (head, *_) = decoder.feed(raw + b"\r\n")
    return head


def upstream(*headers, client=CLIENT, **more) -> bytes:
    return request_to_upstream(head_of(*headers, **more), client)


def lines(data: bytes) -> list[bytes]:
    assert data.endswith(b"\r\n\r\n")
    return data[:-4].split(b"\r\n")


def test_a_plain_request():
    """Host goes on as it is, the client's address and scheme are told."""
    data = upstream((b"Accept", b"*/*"), target=b"/a?b")
    assert lines(data) == [
        b"GET /a?b HTTP/1.1",
        b"Host: x.test",
        b"X-Forwarded-For: 192.0.2.7",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: x.test",
        b"Accept: */*",
        VIA,
    ]


HOP_BY_HOP = [
    b"Connection",
    b"Keep-Alive",
    b"Proxy-Connection",
    b"TE",
    b"Trailer",
    b"Upgrade",
    b"Proxy-Authorization",
    b"HTTP2-Settings",
]
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
    data = upstream((change(name), b"forged-value"))
    assert b"forged-value" not in data
    # CGI and WSGI make one variable of both spellings.
    data = upstream((change(name.replace(b"-", b"_", 1)), b"forged-value"))
    assert b"forged-value" not in data


@given(st.lists(st.tuples(st.from_regex(rb"\A[A-Za-z-]{1,12}\Z"), st.from_regex(rb"\A[ -~]{0,20}\Z")), max_size=6))
def test_no_hop_by_hop_header_crosses(headers):
    """Whatever else a request has."""
    try:
        data = upstream(*headers, (b"Connection", b"X-Secret"), (b"x-sEcret", b"value-1"))
    except ClientError:
        return
    names = {line.partition(b":")[0].lower() for line in lines(data)[1:]}
    assert not names & {name.lower() for name in HOP_BY_HOP}
    assert b"x-secret" not in names
    assert b"value-1" not in data


def test_connection_cannot_name_away_what_frames_or_routes():
    """`Connection: Content-Length` would leave the backend without the length."""
    data = upstream(
        (b"Content-Length", b"3"), (b"Connection", b"content-length, host, x-forwarded-for"), method=b"POST"
    )
    assert b"Content-Length: 3" in lines(data)
    assert b"Host: x.test" in lines(data)
    assert b"X-Forwarded-For: 192.0.2.7" in lines(data)


def test_http_1_0_without_a_host_gets_the_sites():
    """What is sent on is HTTP/1.1, which must have one."""
    data = upstream(version="1.0", host=None)
    assert b"Host: fallback.test" in lines(data)


def test_the_targets_authority_goes_before_host():
    """RFC 9112 3.2.2: a proxy must take the host from the absolute form."""
    data = upstream(target=b"https://other.test:8443/path?q", host=b"x.test")
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
    assert lines(upstream(target=target, method=method))[0] == line


@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE"])
@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"1", b"0"),
        (b"10", b"9"),
        (b"007", b"6"),
        (b"0000000000001", b"0"),
        (b"999999999", b"999999998"),
        *[(many, b"999999999") for many in (b"1000000000", b"9" * 20, b"1" * 5000)],  # the most that we know
    ],
)
def test_max_forwards_is_counted_down(method, said, told):
    """RFC 9110 7.6.2; another header that speaks of it is none."""
    data = upstream((b"X-Max-Forwards", b"0"), (b"max-forwards", said), method=method)
    assert [line for line in lines(data) if b"ax-" in line] == [b"X-Max-Forwards: 0", b"Max-Forwards: " + told]


@pytest.mark.parametrize(
    ("status", "method", "headers"),
    [
        (200, b"OPTIONS", [(b"Max-Forwards", b"0")]),
        (405, b"TRACE", [(b"Max-Forwards", b"00")]),
        *[(400, b"OPTIONS", [(b"Max-Forwards", value)]) for value in (b"", b"-1", b"1, 2", b"0x1", b"1_0")],
        (400, b"TRACE", [(b"Max-Forwards", b"1"), (b"max-forwards", b"1")]),
        (400, b"TRACE", [(b"Content-Length", b"1")]),  # RFC 9110 9.3.8
        (400, b"TRACE", [(b"Transfer-Encoding", b"chunked")]),
    ],
)
def test_what_ends_here(status, method, headers):
    """A proxy answers it, and passes nothing on."""
    with pytest.raises(ClientError) as caught:
        upstream(*headers, method=method)
    assert caught.value.status == status


@pytest.mark.parametrize(("method", "value"), [(b"GET", b"0"), (b"POST", b"x"), (b"PUT", b"1")])
def test_max_forwards_of_other_methods_is_the_backends(method, value):
    """RFC 9110 7.6.2: it may be ignored there."""
    assert b"Max-Forwards: " + value in lines(upstream((b"Max-Forwards", value), method=method))


def test_an_empty_trace_is_the_backends():
    """And what only looks like the header in a value."""
    data = upstream((b"Content-Length", b"0"), (b"A", b"Max-Forwards: 0"), method=b"TRACE")
    assert b"A: Max-Forwards: 0" in lines(data)


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
        (400, {"headers": [(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")]}),
        (400, {"headers": [(b"Transfer-Encoding", b"chunked")], "version": "1.0"}),
        (400, {"headers": [(b"Authorization", b"a"), (b"authorization", b"b")]}),
        (400, {"headers": [(b"If-Range", b"a"), (b"If-Range", b"a")]}),
        (400, {"headers": [(b"If-None-Match", b"a"), (b"If-None-Match", b"b")]}),
        (400, {"headers": [(b"Content-Type", b"a"), (b"Content-Type", b"b")]}),
        (400, {"host": b"x.test:65536"}),
        (417, {"headers": [(b"Expect", b"100-continue, b")]}),
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
    assert b"Host: " + host in lines(upstream(host=host))


def test_expect_100_continue_in_any_case_and_not_in_http_1_0():
    """RFC 9110 10.1.1."""
    assert b"Expect: 100-continue" in lines(upstream((b"expect", b"100-Continue")))
    assert b"Expect" not in upstream((b"Expect", b"100-continue"), version="1.0")


TRUSTED = Client.of("192.0.2.7", "fallback.test", trusted=[ipaddress.ip_network("192.0.2.0/24")])


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ([], [b"X-Forwarded-For: 192.0.2.7", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: x.test"]),
        (
            [
                (b"X-Forwarded-For", b"203.0.113.1"),
                (b"x-forwarded-proto", b"http"),
                (b"X-Forwarded-Host", b"shop.test"),
            ],
            [b"x-forwarded-proto: http", b"X-Forwarded-Host: shop.test", b"X-Forwarded-For: 203.0.113.1, 192.0.2.7"],
        ),
        (
            [(b"X-Forwarded-For", b"a"), (b"X-Forwarded-For", b"b, c"), (b"Forwarded", b"for=a"), (b"X-Real-IP", b"a")],
            [
                b"Forwarded: for=a",
                b"X-Real-IP: a",
                b"X-Forwarded-For: a, b, c, 192.0.2.7",
                b"X-Forwarded-Proto: https",
                b"X-Forwarded-Host: x.test",
            ],
        ),
    ],
)
def test_a_trusted_proxy_may_say_who_its_client_is(sent, told):
    """X-Forwarded-For is appended to, whatever else it says goes on; what it does not say is set."""
    assert lines(upstream(*sent, client=TRUSTED))[2:-1] == told
    untrusted = lines(upstream(*sent))[2:-1]
    assert untrusted == [b"X-Forwarded-For: 192.0.2.7", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: x.test"]


@pytest.mark.parametrize("name", [b"X_Forwarded_For", b"Proxy", b"SCRIPT_NAME", b"Proxy-Authorization"])
def test_nobody_is_trusted_with_these(name):
    """Spellings that only an attack has, and httpoxy's header."""
    assert b"forged" not in upstream((name, b"forged"), client=TRUSTED)


@pytest.mark.parametrize(
    ("peer", "networks", "expected"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("10.1.2.3", ["192.0.2.0/24", "10.1.2.3/32"], True),
        ("11.1.2.3", ["10.0.0.0/8"], False),
        ("10.1.2.3", [], False),
        ("2001:db8::1", ["2001:db8::/32"], True),
        ("2001:db8::1", ["10.0.0.0/8"], False),
        ("::ffff:10.1.2.3", ["10.0.0.0/8"], True),
        ("fe80::1%eth0", ["fe80::/10"], True),
        ("", ["0.0.0.0/0", "::/0"], False),
        ("/run/socket", ["0.0.0.0/0", "::/0"], False),
    ],
)
def test_who_is_trusted(peer, networks, expected):
    """By the address of the connection and nothing else."""
    assert is_trusted(peer, [ipaddress.ip_network(network) for network in networks]) is expected


@pytest.mark.parametrize(
    ("host", "sent"),
    [(b"x.test:443", b"x.test"), (b"x.test:", b"x.test"), (b"[::1]:443", b"[::1]"), (b"x.test:80", b"x.test:80")],
)
def test_the_default_port_is_dropped(host, sent):
    """haproxy h1_host_normalization; RFC 9110 4.2.3: it names the same."""
    assert lines(upstream(host=host))[1] == b"Host: " + sent
    assert lines(upstream(target=b"https://" + host + b"/"))[1] == b"Host: " + sent


def test_only_trailers_of_te_goes_on():
    """haproxy http_transfer_encoding c5; RFC 9110 10.1.4: with TE in Connection."""
    data = upstream((b"TE", b"gzip, trailers;q=0.5"), (b"TE", b"Trailers, deflate"), (b"Connection", b"TE"))
    assert [line for line in lines(data) if b"TE" in line] == [b"TE: trailers", b"Connection: TE"]
    assert b"TE" not in upstream((b"TE", b"gzip"))
    assert b"TE" not in upstream((b"TE", b"trailers"), version="1.0")


def test_an_upgrade_goes_on_with_its_connection_option():
    """RFC 9110 7.8."""
    data = upstream((b"Upgrade", b"websocket"), (b"Connection", b"keep-alive, upgrade"), (b"Sec-WebSocket-Key", b"k"))
    assert lines(data)[5:] == [b"Sec-WebSocket-Key: k", b"Upgrade: websocket", b"Connection: Upgrade", VIA]


# Responses.


def answer_of(status, *headers, version="1.1"):
    decoder = ResponseDecoder(32_768)
    decoder.expect(b"GET")
    raw = b"HTTP/%b %d R\r\n" % (version.encode(), status) + b"".join(b"%b: %b\r\n" % header for header in headers)
    return decoder.feed(raw + b"\r\n")[0]


def client(status=200, *headers, method=b"GET", version="1.1", keep_alive=True):
    request = head_of(method=method, version=version)
    return response_to_client(answer_of(status, *headers), request, keep_alive=keep_alive, date=lambda: DATE)


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
    ],
)
def test_how_the_body_is_framed_for_the_client(headers, method, version, status, framing):
    """RFC 9112 6.3, with what the client's version can read."""
    data, chosen = client(status, *headers, method=method, version=version)
    assert chosen is framing
    assert (b"Transfer-Encoding: chunked" in lines(data)) is (framing is Framing.CHUNKED)
    assert (b"Connection: close" in lines(data)) is (framing is Framing.UNTIL_CLOSE)


def test_an_answer_that_never_has_a_body_has_no_length():
    """RFC 9110 8.6: a client that believed it would wait for it."""
    assert b"Content-Length" not in client(204, (b"Content-Length", b"3"))[0]
    for status in (100, 103):
        assert interim_to_client(
            answer_of(status, (b"Content-Length", b"3"), (b"Link", b"a"), (b"Upgrade", b"h2c"))
        ) == (b"HTTP/1.1 %d R\r\nLink: a\r\n\r\n" % status)


def test_a_101_says_what_is_spoken_now():
    """RFC 9110 15.2.2, 7.8."""
    head = answer_of(101, (b"Upgrade", b"a"), (b"Connection", b"Upgrade, X"), (b"X", b"1"), (b"Y", b"2"))
    assert lines(interim_to_client(head)) == [b"HTTP/1.1 101 R", b"Connection: Upgrade", b"Upgrade: a", b"Y: 2"]


def test_a_426_says_what_is_wanted():
    """RFC 9110 15.5.22: with Upgrade, and Connection that names it; in other answers it is only for the next hop."""
    headers = [(b"Upgrade", b"a/2"), (b"Connection", b"Upgrade"), (b"Content-Length", b"0"), (b"Date", b"d")]
    assert lines(client(426, *headers)[0])[2:] == [b"Content-Length: 0", b"Upgrade: a/2", b"Connection: Upgrade"]
    assert lines(client(426, *headers, keep_alive=False)[0])[-1] == b"Connection: Upgrade, close"
    assert b"pgrade" not in client(200, *headers)[0]


def test_a_date_is_added_where_the_backend_sends_none():
    """RFC 9110 6.6.1: who forwards an answer without Date must append one."""
    assert b"Date: " + DATE in lines(client(200, (b"Content-Length", b"0"))[0])
    assert client(200, (b"Date", b"d"))[0].count(b"Date") == 1


def test_trailer_is_announced_only_where_trailers_can_follow():
    """RFC 9110 6.6.2."""
    assert b"Trailer: A" in lines(client(200, (b"Trailer", b"A"), (b"Transfer-Encoding", b"chunked"))[0])
    assert b"Trailer" not in client(200, (b"Trailer", b"A"), (b"Transfer-Encoding", b"chunked"), version="1.0")[0]
    assert b"Trailer" not in client(200, (b"Trailer", b"A"), (b"Content-Length", b"0"))[0]
    assert b"Trailer: A" in lines(upstream((b"Trailer", b"A"), (b"Transfer-Encoding", b"chunked")))


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


@pytest.mark.parametrize("status", REASONS)
@pytest.mark.parametrize("keep_alive", [True, False])
def test_an_error_page_is_a_whole_answer(status, keep_alive):
    """With a length, and without a body for HEAD."""
    page = error_response(status, "gone", is_head=False, keep_alive=keep_alive, date=DATE)
    head, _, body = page.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
    assert b"Date: " + DATE in head.split(b"\r\n")  # RFC 9110 6.6.1
    assert (b"Connection: close" in head.split(b"\r\n")) is not keep_alive
    assert (b"\r\nAllow: " in head) is (status in {200, 405})  # RFC 9110 9.3.7, 15.5.6
    assert error_response(status, "gone", is_head=True, keep_alive=keep_alive, date=DATE) == head + b"\r\n\r\n"

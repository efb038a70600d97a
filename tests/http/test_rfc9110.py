"""RFC 9110, from its MUSTs for intermediaries, gateways and recipients: each test names its section."""

from __future__ import annotations

import pytest
from feeding import every_way, read_requests, read_response, request, response

from proxy.errors import ClientError
from proxy.http.forwarded import Client
from proxy.http.head_request import request_to_upstream
from proxy.http.head_response import interim_to_client, response_to_client
from proxy.http.messages import RequestHead

CLIENT = Client.of("192.0.2.1", "fallback.test")


def to_backend(*lines: bytes, **more) -> list[bytes]:
    events, error = read_requests(request(*lines, **more))
    if error is not None:
        raise error
    assert isinstance(events[0], RequestHead)
    return request_to_upstream(events[0], CLIENT).removesuffix(b"\r\n\r\n").split(b"\r\n")


def to_client(*lines: bytes, status=b"200 OK", method=b"GET", version=b"HTTP/1.1") -> list[bytes]:
    asked = read_requests(request(method=method, version=version))[0][0]
    head = read_response(response(*lines, status=status), method)[0][0]
    data, _ = response_to_client(head, asked, keep_alive=True, date=lambda: b"today")
    return data.removesuffix(b"\r\n\r\n").split(b"\r\n")


def named(lines: list[bytes], name: bytes) -> list[bytes]:
    return [line.partition(b": ")[2] for line in lines if line.lower().startswith(name.lower() + b":")]


def test_4_2_2_a_port_that_is_the_default_names_the_same_host():
    """4.2.2, 4.2.3: an empty or default port is normalised away."""
    for host in (b"x.test", b"x.test:443", b"x.test:"):
        assert named(to_backend(b"Host: " + host), b"host") == [b"x.test"]


def test_4_2_4_userinfo_is_an_error():
    """4.2.4: a recipient SHOULD treat it as one: it is there to deceive."""
    with pytest.raises(ClientError):
        to_backend(target=b"http://user:secret@x.test/")


@pytest.mark.parametrize("name", [b"Set-Cookie", b"Via", b"Accept", b"X-Own", b"Cache-Control"])
def test_5_3_the_order_of_lines_of_one_name_is_kept(name):
    """5.3: a proxy MUST NOT change the order of these values."""
    lines = [b"%b: %d" % (name, number) for number in range(5)]
    values = [b"%d" % number for number in range(5)]
    assert named(to_backend(*lines), name)[:5] == values
    assert named(to_client(*lines), name) == values


@every_way
@pytest.mark.parametrize("byte", [b"\r", b"\n", b"\x00"])
def test_5_5_cr_lf_and_nul_in_a_value_are_refused(byte, step, after):
    """5.5: a recipient MUST reject the message or replace each by SP."""
    assert read_requests(request(b"A: b%bc" % byte) + after, step)[1].status == 400
    assert read_response(response(b"A: b%bc" % byte, b"Content-Length: 0") + after, b"GET", step)[1].status == 502


@pytest.mark.parametrize("value", [b"\xe4\xf6", b"\xc3\xa4", b"a\tb", b'"\\""', b"a,,b", b""])
def test_5_5_other_bytes_pass_untouched(value):
    """5.5: obs-text is opaque data."""
    assert named(to_backend(b"A: " + value), b"A") == [value]
    assert named(to_client(b"A: " + value), b"A") == [value]


def test_6_6_1_a_date_is_added_where_there_is_none():
    """6.6.1: a recipient that forwards an answer without Date MUST append one; the backend's own is left alone."""
    assert named(to_client(b"Content-Length: 0"), b"date") == [b"today"]
    assert named(to_client(b"Content-Length: 0", b"Date: then"), b"date") == [b"then"]


@pytest.mark.parametrize(
    "option", [b"X-Own", b"x-own", b"close, X-OWN", b"keep-alive,x-own , Y", b",X-Own", b"Upgrade\r\nConnection: x-own"]
)
def test_7_6_1_what_connection_names_is_removed(option):
    """7.6.1: intermediaries MUST remove it, and Connection itself or replace it with their own."""
    lines = (b"Connection: " + option, b"X-Own: secret", b"Other: kept")
    for written in (to_backend(*lines), to_client(*lines)):
        assert named(written, b"x-own") == []
        assert named(written, b"connection") == []
        assert named(written, b"other") == [b"kept"]


@pytest.mark.parametrize("name", [b"Content-Length", b"Host", b"Authorization", b"Cookie", b"X-Forwarded-For", b"Via"])
def test_7_6_1_connection_does_not_name_away_what_is_not_its(name):
    """7.6.1: a sender MUST NOT list fields for all recipients: a forged list strips nothing that is needed."""
    plain = to_backend(b"Content-Length: 1", b"Authorization: a", b"Cookie: b", method=b"POST", body=b"x")
    forged = to_backend(
        b"Content-Length: 1", b"Authorization: a", b"Cookie: b", b"Connection: " + name, method=b"POST", body=b"x"
    )
    assert forged == plain


@pytest.mark.parametrize("name", [b"Keep-Alive", b"Proxy-Connection", b"Upgrade", b"TE", b"Proxy-Authorization"])
def test_7_6_1_fields_of_one_hop_are_removed_even_where_connection_does_not_say_so(name):
    """7.6.1: intermediaries SHOULD; 11.7.2: Proxy-Authorization is for the first proxy that wants it."""
    assert named(to_backend(name + b": a"), name) == []
    if name != b"Proxy-Authorization":
        assert named(to_client(name + b": a"), name) == []


def test_7_6_3_via_is_appended():
    """7.6.3: a gateway MUST send it in each inbound request, with the version that the request came in."""
    assert named(to_backend(b"Via: 1.1 first"), b"via") == [b"1.1 first", b"1.1 stapleproxy"]
    assert named(to_backend(version=b"HTTP/1.0"), b"via") == [b"1.0 stapleproxy"]


def test_7_7_content_is_not_transformed():
    """7.7: what tells of the content goes on as it is."""
    lines = (b"Content-Encoding: gzip", b"Content-Type: a/b", b"ETag: W/x", b"Content-Range: bytes 0-1/2")
    assert [line for line in lines if line in to_client(*lines)] == list(lines)
    assert [line for line in lines if line in to_backend(*lines)] == list(lines)


def test_7_8_upgrade_is_ignored_in_http_1_0():
    """7.8: a server MUST ignore it there."""
    lines = (b"Connection: upgrade", b"Upgrade: websocket")
    assert named(to_backend(*lines, version=b"HTTP/1.0"), b"upgrade") == []
    assert named(to_backend(*lines), b"upgrade") == [b"websocket"]
    assert named(to_backend(*lines), b"connection") == [b"Upgrade"]


@every_way
@pytest.mark.parametrize("value", [b"-1", b"+1", b"1 2", b"a", b"", b"1,2"])
def test_8_6_an_invalid_length_is_never_forwarded(value, step, after):
    """8.6: a sender MUST NOT forward a message with a Content-Length that is known to be wrong."""
    assert read_requests(request(b"Content-Length: " + value, method=b"POST") + after, step)[1].status == 400
    assert read_response(response(b"Content-Length: " + value) + after, b"GET", step)[1].status == 502


@pytest.mark.parametrize("status", [b"100 Continue", b"103 Early Hints"])
def test_8_6_no_length_in_1xx(status):
    """8.6: a server MUST NOT send it in 1xx or 204."""
    head = read_response(response(b"Content-Length: 3", b"Link: </a>", status=status))[0][0]
    assert interim_to_client(head) == b"HTTP/1.1 %b\r\nLink: </a>\r\n\r\n" % status
    assert named(to_client(b"Content-Length: 0", status=b"204 No Content"), b"content-length") == []


@pytest.mark.parametrize("status", [b"200 OK", b"304 Not Modified"])
def test_8_6_the_length_of_what_would_have_been_sent_passes(status):
    """8.6, 9.3.2: with HEAD and 304 it tells of the content of a GET."""
    method = b"HEAD" if status.startswith(b"200") else b"GET"
    assert named(to_client(b"Content-Length: 3", status=status, method=method), b"content-length") == [b"3"]


def test_9_3_6_connect_is_not_served():
    """9.3.6: a server that does not support it: 501 (9.1)."""
    with pytest.raises(ClientError) as caught:
        to_backend(method=b"CONNECT", target=b"x:443")
    assert caught.value.status == 501


@pytest.mark.parametrize(
    ("version", "value", "sent"),
    [
        (b"HTTP/1.1", b"100-continue", [b"100-continue"]),
        (b"HTTP/1.1", b"100-CONTINUE", [b"100-continue"]),
        (b"HTTP/1.0", b"100-continue", []),
    ],
)
def test_10_1_1_expect(version, value, sent):
    """10.1.1: case-insensitive; a server that gets it in HTTP/1.0 MUST ignore it."""
    assert named(to_backend(b"Expect: " + value, version=version), b"expect") == sent


@pytest.mark.parametrize("value", [b"a", b"100-continue, a", b"100-continue=1", b'100-continue;q="'])
def test_10_1_1_an_unknown_expectation_is_417(value):
    """10.1.1: a server MAY say so; ours does, for no backend can be asked."""
    with pytest.raises(ClientError) as caught:
        to_backend(b"Expect: " + value)
    assert caught.value.status == 417


def test_10_1_4_te_goes_on_as_trailers_or_not_at_all():
    """10.1.4: a sender of TE MUST also send "TE" in Connection."""
    written = to_backend(b"TE: gzip;q=0.5, trailers", b"Connection: TE")
    assert (named(written, b"te"), named(written, b"connection")) == ([b"trailers"], [b"TE"])


@pytest.mark.parametrize(
    "status", [b"100 a", b"199 a", b"204 a", b"226 a", b"299 a", b"399 a", b"418 a", b"499 a", b"599 a"]
)
def test_15_unknown_statuses_are_passed_on(status):
    """15: a client MUST understand the class of any; 15.2: a proxy MUST forward 1xx."""
    head = read_response(response(b"Content-Length: 0", status=status))[0][0]
    assert head.line == b"HTTP/1.1 %b\r\n" % status


def test_15_5_22_a_426_keeps_its_upgrade():
    """15.5.22: the server MUST send Upgrade in it."""
    written = to_client(b"Upgrade: b/2", b"Content-Length: 0", status=b"426 Upgrade Required")
    assert (named(written, b"upgrade"), named(written, b"connection")) == ([b"b/2"], [b"Upgrade"])

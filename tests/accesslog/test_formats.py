"""Access log formats: what nginx's and Apache's fields say of a request, and that no client can forge a line."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accesslog.fields import NAMES
from proxy.accesslog.formats import FormatError, compile_format
from proxy.accesslog.record import Certificate, Connection, Entry, Staple, Tls
from proxy.http.fields import Field
from proxy.http.messages import LENGTH, NONE, RequestFields, RequestHead, ResponseHead

PLACE = timezone(timedelta(hours=-7))


def local_time(at: float) -> datetime:
    return datetime.fromtimestamp(at, PLACE)


def request(method=b"GET", target=b"/apache_pb.gif?a=1", *, lines=None, host=b"Www.example.com:8443", forwarded=()):
    if lines is None:
        lines = [b"User-Agent: Mozilla/4.08", b"referer: http://e.test/start"]
    text = b"".join(each + b"\r\n" for each in lines)
    return RequestHead(method, target, RequestFields("1.1", host, text, forwarded, NONE, 0, True, False))


def response(status=200):
    lines = b"Content-Type: text/html\r\nServer: x\r\n"
    return ResponseHead(status, b"", lines, False, LENGTH, 2326, True, b"", b"", b"")


TLS = Tls(
    "TLSv1.3",
    "TLS_AES_128_GCM_SHA256",
    b"www.example.com",
    certificate=Certificate(b"CN=frank", b"CN=Lab CA", "0A1B"),
    staple=Staple.FRESH,
    staple_bytes=471,
    staple_age_s=3600,
)
CONNECTION = Connection(7, 4242, ("192.0.2.1", 50000), ("192.0.2.9", 8443), TLS, "www.example.com", requests=3)
BASIC = [b"Authorization: Basic ZnJhbms6c2VjcmV0"]
USUAL = [b"User-Agent: Mozilla/4.08", b"referer: http://e.test/start"]
# Begun 2000-10-10 13:55:36 in a place seven hours behind UTC, over after 1.5 s.
ENTRY = Entry(
    CONNECTION,
    lambda: 0.0,
    began_at=100.0,
    request=request(),
    response=response(),
    status=200,
    sent_bytes=2500,
    head_bytes=174,
    received_bytes=320,
    upstream="http://127.0.0.1:8000",
    asked_at=100.25,
    answered_at=100.5,
    is_whole=True,
    is_kept=True,
    ended_at=101.5,
    ended_s=971211336 + 1.5,
)


def line(text: str, entry: Entry = ENTRY) -> str:
    written = compile_format(text, local_time)(entry).decode()
    assert written.endswith("\n")
    return written[:-1]


def with_request(**parts) -> Entry:
    return replace(ENTRY, request=request(**parts))


def test_combined_is_what_apache_and_nginx_write():
    """The example of Apache's manual, to the byte."""
    assert line("combined", with_request(lines=[*BASIC, *USUAL], target=b"/apache_pb.gif")) == (
        '192.0.2.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.1" 200 2326 '
        '"http://e.test/start" "Mozilla/4.08"'
    )
    assert line("common") == line("combined").rpartition(' "http')[0]


NGINX_COMBINED = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"'
)


def test_nginx_spells_combined_otherwise_and_tells_when_the_request_was_over():
    assert line(NGINX_COMBINED).replace("13:55:37", "13:55:36") == line("combined")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%a %{c}a %A %p %{remote}p", "192.0.2.1 192.0.2.1 192.0.2.9 8443 50000"),
        ("%b %B %O %I %S", "2326 2326 2500 320 2820"),
        ("%D %T %{ms}T %{us}T", "1500000 1 1500 1500000"),
        ("%H %m %U %q", "HTTP/1.1 GET /apache_pb.gif ?a=1"),
        ("%v %V %X %k %P", "www.example.com www.example.com + 2 4242"),
        ("%s %>s %<s %%", "200 200 200 %"),
        ("%{Content-Type}o %{content-length}o %{host}i %{X-None}i", "text/html 2326 Www.example.com:8443 -"),
        ("%{sec}t %{%Y-%m-%d}t %{end:%S}t", "971211336 2000-10-10 37"),
        ("%{SSL_PROTOCOL}x %{SSL_CIPHER}x %{SSL_TLS_SNI}x", "TLSv1.3 TLS_AES_128_GCM_SHA256 www.example.com"),
        ("%{SSL_SESSION_RESUMED}x $ssl_session_reused", "Initial ."),
        ("%{SSL_CLIENT_S_DN}x|%{SSL_CLIENT_VERIFY}x $ssl_client_serial", "CN=frank|SUCCESS 0A1B"),
        ("%{STAPLE}x $staple_age $staple_bytes", "fresh 3600 471"),
        ("$time_iso8601 $msec", "2000-10-10T13:55:37-07:00 971211337.500"),
        ("$request_time $upstream_response_time $upstream_header_time", "1.500 1.250 0.250"),
        ("$upstream_addr $upstream_status", "http://127.0.0.1:8000 200"),
        ("$host ${uri}x$args $sent_http_content_type", "www.example.com /apache_pb.gifxa=1 text/html"),
        ("$connection:$connection_requests $request_length $request_completion", "7:3 320 OK"),
        ("costs 5$ 100%% $status", "costs 5$ 100% 200"),
    ],
)
def test_fields(text, expected):
    assert line(text) == expected


def test_every_name_can_be_written_of_every_request():
    """A whole one, and one of which nothing is known."""
    empty = Entry(Connection(1, 1), lambda: 0.0, 0.0)
    for name in NAMES:
        for entry in (ENTRY, empty):
            assert line(name, entry)


def test_what_was_turned_away_before_any_request():
    """nginx writes 000 where there is no status; a field with nothing in it never vanishes."""
    tls = Tls("", "", b"a.test", staple=Staple.REFUSED)
    entry = Entry(replace(CONNECTION, tls=tls), lambda: 0.0, 1.0, ended_at=1.0, ended_s=971211336.0)
    assert line('%h %u "%r" %>s %b $ssl_protocol $staple $staple_age', entry) == '192.0.2.1 - "-" 000 - - refused -'


def test_a_connection_in_mode_tcp():
    """The format of the example in nginx's manual for streams; bytes are those inside TLS."""
    entry = replace(ENTRY, request=None, response=None, head_bytes=0, upstream="tcp://127.0.0.1:25")
    form = "$remote_addr [$time_local] $protocol $status $bytes_sent $bytes_received $session_time"
    assert line(form, entry) == "192.0.2.1 [10/Oct/2000:13:55:37 -0700] TCP 200 2500 320 1.500"
    assert line("$host $upstream_addr $staple", entry) == "www.example.com tcp://127.0.0.1:25 fresh"


def test_a_request_without_tls_has_no_staple():
    """Not even one that was not asked for; nor any other fact of a handshake."""
    entry = replace(ENTRY, connection=replace(CONNECTION, tls=Tls(), site="", is_plain=True))
    assert (
        line("$scheme $https $staple $ssl_protocol $ssl_client_verify $ssl_session_reused", entry) == "http - - - - -"
    )
    told = json.loads(compile_format("json", local_time)(entry))
    assert told["staple"] is told["ssl_protocol"] is told["ssl_session_reused"] is None


def test_a_client_that_left_is_499_and_x():
    assert line("$status %X", replace(ENTRY, status=0, is_whole=False)) == "499 X"


def test_json_has_numbers_and_nulls():
    told = json.loads(compile_format("json", local_time)(replace(ENTRY, upstream="", response=None)))
    assert told["status"] == 200
    assert told["request_time"] == 1.5
    assert told["upstream_addr"] is told["upstream_status"] is told["upstream_response_time"] is None
    assert told["request_completion"] is True
    assert (told["staple"], told["staple_age"], told["staple_bytes"]) == ("fresh", 3600, 471)
    assert told["user_agent"] == "Mozilla/4.08"


def test_json_that_is_spelled_out():
    """As nginx has it: between the quotes of the format; without them a value brings its own."""
    text = 'escape=json {"ua":"$http_user_agent","status":$status,"referer":$http_referer,"x":$http_x}'
    entry = with_request(lines=[b'User-Agent: "\\\xff', b'Referer: ","status":1'])
    told = json.loads(line(text, entry))
    assert told == {"ua": '"\\\\xff', "status": "200", "referer": '","status":1', "x": None}


HOSTILE = st.binary(min_size=1, max_size=60)


@given(HOSTILE, HOSTILE, HOSTILE)
def test_a_client_cannot_forge_a_line_or_a_field(target, agent, user):
    """Whatever bytes come: one line, as many fields as the format has, each readable back."""
    entry = with_request(target=target, lines=[b"User-Agent: %b" % agent], host=user)
    written = line('$http_host|$status "%r" "%{User-Agent}i" $uri;%b', entry)
    assert written.isascii()
    assert written.isprintable()
    assert written.count('"') == 4
    rest, _, last = written.rpartition(";")
    assert last == "2326"
    assert len(rest.split(' "')[0].split("|")) == 2
    assert " " not in rest.rpartition('" ')[2]
    assert ";" not in rest.rpartition('" ')[2]
    as_json = compile_format("json", local_time)(entry)
    assert as_json.count(b"\n") == 1
    assert json.loads(as_json)["status"] == 200


def test_what_a_client_says_of_who_it_speaks_for():
    forwarded = (Field(0, b"x-forwarded-for", b"203.0.113.7", b""),)
    assert line("$http_x_forwarded_for", with_request(forwarded=forwarded)) == "203.0.113.7"


@pytest.mark.parametrize("credentials", [b"!!!!", b"", b"aGFucyAi", b"\xff"])
def test_a_user_name_is_escaped_and_a_broken_one_is_none(credentials):
    told = line("%u x", with_request(lines=[b"Authorization: Basic %b" % credentials]))
    assert told == ("hans\\x20\\x22 x" if credentials == b"aGFucyAi" else "- x")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("$remote_adr", "unknown field $remote_adr: did you mean $remote_addr?"),
        ("%{STAPEL}x", "unknown field %{STAPEL}x: did you mean %{STAPLE}x?"),
        ("%y", "unknown field %y"),
        ("${}", "must be common"),
        ("100% $status", "a % that begins no field is written %%"),
        ("combinde", "must be common, combined, json or a format with fields"),
        ("%h\n", "one line"),
        ("%h" * 3000, "at most 4096 characters"),
        ("%{a b}i", "unknown field %{a b}i"),
    ],
)
def test_a_mistake_is_told_with_what_was_meant(text, why):
    with pytest.raises(FormatError) as error:
        compile_format(text, local_time)
    assert why in str(error.value)


def test_times_follow_the_seconds():
    """What is written once for a second is not written for the next."""
    write = compile_format("$time_iso8601", lambda at: datetime.fromtimestamp(at, UTC))
    assert [write(replace(ENTRY, ended_s=at)) for at in (1.0, 1.9, 2.0)] == [
        b"1970-01-01T00:00:01+00:00\n",
        b"1970-01-01T00:00:01+00:00\n",
        b"1970-01-01T00:00:02+00:00\n",
    ]

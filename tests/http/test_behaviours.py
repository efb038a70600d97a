"""What a proxy must show, row by row of the table "HTTP through the proxy": the real one, a client and a backend.

Each row was collected from the tests of nginx, HAProxy, httpd and others. Where servers differ the docstring says what
is chosen here. More of each is tried where the parts are: in this folder, and in `integration/`.
"""

from __future__ import annotations

import re
import threading

import pytest
from integration.front import wait_until
from integration.peers import OK, Truncated, backend, chunked, proxied, request, serve_ok

ROWS = (
    (
        "both Transfer-Encoding and Content-Length in a request: refused, or Content-Length dropped and the "
        "connection closed after the answer; never a second request out of the body"
    ),
    "Transfer-Encoding in HTTP/1.0: refused, or close after the answer",
    "`chunked, chunked`; `chunked, gzip`; `gzip` alone: 400; `gzip, chunked`: 422 or 501",
    "the same from the origin: 502",
    "TE: only `trailers` goes on to the origin",
    "HEAD, 204, 304 and 1xx have no body, whatever their headers say, and the next answer is not shifted",
    "the origin sends more than it said: cut at the length, connection to it not reused",
    "the origin sends less: the client sees a broken answer (connection cut, no last chunk), never a whole one",
    "an origin connection is reused after bodies with length, chunked, empty, HEAD, 304, and is not after a close",
    "an idle origin connection that died: a GET is tried again, a POST that was sent is not",
    "the origin answers before the body is read, or closes: the client gets that answer",
    "`Expect: 100-continue` in any case: 100 in HTTP/1.1, none in 1.0; an unknown expectation: 417",
    "103 goes on or is dropped, and the final answer follows",
    (
        "Upgrade: 101 tunnels both ways, pipelined first bytes included; 200 and 426 to an Upgrade are plain "
        "answers; a POST with Upgrade keeps its body"
    ),
    "trailers pass, or are dropped, and Content-Length, Host, Transfer-Encoding never pass as trailers",
    "duplicate Host, Content-Length, Authorization, If-*: 400; Cookie, X-Forwarded-For, Via: joined or all passed",
    (
        "Host against the absolute target: the target's authority wins or must equal Host; default port dropped; "
        "bad port, empty, with userinfo, with control bytes: 400"
    ),
    (
        "target forms: `*` for OPTIONS only; authority form for CONNECT only; origin form starts with `/`; a "
        "fragment is not part of the authority"
    ),
    "a header line too long, too many headers, after keep-alive and pipelined too: 414 or 431 or 400, and close",
    "a colon first, space before the colon, control bytes in names: refused; underscores: a setting",
    (
        "keep-alive: request limit, time limit, idle time-out, `Connection: close` honoured; on shutdown the idle "
        "are closed and the busy finish"
    ),
    "pipelined requests are answered in order; the body of a refused one is discarded or the connection closed",
    "client abort while the origin works: the origin's request is ended (or not: a setting)",
)
SHOWN: list[str] = []


def row(beginning: str):
    """Say which row a test shows, by its first words."""
    (title,) = [title for title in ROWS if title.startswith(beginning)]
    SHOWN.append(title)

    def mark(test):
        test.row = title
        return test

    return mark


def test_every_row_is_shown():
    """Once, and none is left out."""
    assert sorted(SHOWN) == sorted(ROWS)


@pytest.fixture(scope="module")
def origin():
    with backend() as made:
        yield made


@pytest.fixture(scope="module")
def proxy(origin, tmp_path_factory):
    with proxied(tmp_path_factory.mktemp("behaviours"), origin.url, other_hosts="serve") as running:
        yield running


@pytest.fixture(scope="module")
def hasty(origin, tmp_path_factory):
    limits = {"client_timeout_s": 0.5, "client_idle_timeout_s": 0.5}
    with proxied(tmp_path_factory.mktemp("hasty"), origin.url, **limits) as running:
        yield running


def answers(*data: bytes):
    """A script: answer one request after another with these, then with 200."""

    def script(visit):
        for each in data:
            head = visit.head()
            if not head:
                return
            visit.body(head)
            visit.send(each)
        serve_ok(visit)

    return script


def recorder(seen: list[tuple[bytes, bytes]]):
    """A script: note each request's head and body."""

    def script(visit):
        while head := visit.head():
            seen.append((head, visit.body(head)))
            visit.send(OK)

    return script


def refused(origin, proxy, raw: bytes) -> int:
    """The status of a refusal; it must end the connection, and the backend must not hear of any request."""
    seen = []
    with origin.does(recorder(seen)), proxy.client() as client:
        client.send(raw)
        answer = client.answer()
        assert answer.get("Connection") == "close"
        assert client.is_closed()
    assert seen == []
    return answer.status


def crosses(origin, proxy, raw: bytes) -> bytes:
    """The head that the backend gets."""
    seen = []
    with origin.does(recorder(seen)), proxy.client() as client:
        client.send(raw)
        assert client.answer(raw.split(b" ")[0].decode()).status == 200
    ((head, _),) = seen
    return head


SMUGGLED = request("/smuggled")


@row("both Transfer-Encoding and Content-Length")
def test_both_framings(origin, proxy):
    """Refused."""
    lines = ("Transfer-Encoding: chunked", f"Content-Length: {len(SMUGGLED) + 5}")
    for order in (lines, lines[::-1]):
        assert refused(origin, proxy, request("/", "POST", *order) + b"0\r\n\r\n" + SMUGGLED) == 400


@row("Transfer-Encoding in HTTP/1.0")
def test_chunked_in_http_1_0(origin, proxy):
    """Refused."""
    raw = request("/", "POST", "Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0")
    assert refused(origin, proxy, raw + b"0\r\n\r\n" + SMUGGLED) == 400


@row("`chunked, chunked`")
def test_other_codings(origin, proxy):
    """501 where chunked is last, since only the coding before it is not known."""
    for coding, status in (("chunked, chunked", 400), ("chunked, gzip", 400), ("gzip", 400), ("gzip, chunked", 501)):
        assert refused(origin, proxy, request("/", "POST", f"Transfer-Encoding: {coding}") + b"0\r\n\r\n") == status


@row("the same from the origin")
def test_a_backends_faulty_framing(origin, proxy):
    """502, and the client's connection goes on."""
    faults = [
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length: 2, 2",
        "Content-Length: x",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ]
    with proxy.client() as client:
        for fault in faults:
            with origin.does(answers(f"HTTP/1.1 200 OK\r\n{fault}\r\n\r\nok".encode())):
                assert client.ask().status == 502


@row("TE: only `trailers`")
def test_te(origin, proxy):
    """With TE in Connection, as RFC 9110 10.1.4 has it."""
    head = crosses(origin, proxy, request("/", "GET", "TE: gzip, trailers, deflate;q=0.5"))
    assert re.findall(rb"(?m)^(?:TE|Connection): .*(?=\r)", head) == [b"TE: trailers", b"Connection: TE"]
    assert b"TE:" not in crosses(origin, proxy, request("/", "GET", "TE: gzip"))


@row("HEAD, 204, 304 and 1xx have no body")
def test_answers_without_a_body(origin, proxy):
    """And the next answer is not shifted: after a 204 that speaks of a body it comes on another connection."""
    for method, status in (("HEAD", 200), ("GET", 204), ("GET", 304)):
        for framing in (b"Content-Length: 10", b"Transfer-Encoding: chunked"):
            early = b"HTTP/1.1 103 Early Hints\r\n%b\r\n\r\n" % framing
            empty = early + b"HTTP/1.1 %d x\r\n%b\r\n\r\n" % (status, framing)
            with origin.does(answers(empty)) as served, proxy.client() as client:
                assert client.ask("/", method).status == status
                if status != 204:
                    assert client.ask().body == b"ok"
                    assert served.count == 1
            if status == 204:  # it may not speak of a body, so one may follow: that connection is not used again
                with origin.does(serve_ok) as served:
                    assert proxy.ask().body == b"ok"
                    assert served.count == 1


@row("the origin sends more than it said")
def test_too_much(origin, proxy):
    """Nobody gets the rest, whatever it looks like."""
    for extra in (b"x", OK, b"\r\n"):
        with origin.does(answers(OK + extra)) as served, proxy.client() as client:
            assert client.ask().body == b"ok"
            assert client.ask().body == b"ok"
            assert served.count == 2


@row("the origin sends less")
def test_too_little(origin, proxy):
    """Without close_notify too, so that HTTP/1.0 clients see it as well."""

    def script(visit):
        visit.head()
        visit.send(data)
        visit.close()

    for data in (  # noqa: B007  # the script sends it
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
    ):
        with origin.does(script), proxy.client() as client:
            client.send(request())
            with pytest.raises((Truncated, OSError)):
                client.answer()
    with origin.does(serve_ok):
        assert proxy.ask().status == 200


@row("an origin connection is reused")
def test_reuse(origin, proxy):
    """After a close of the backend's a new one is made."""
    whole = (
        OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    )
    with (
        origin.does(
            answers(*whole, b"HTTP/1.1 304 x\r\n\r\n", OK.replace(b"OK\r", b"OK\r\nConnection: close\r"))
        ) as served,
        proxy.client() as client,
    ):
        for _ in range(5):
            client.ask()
        assert served.count == 1
        client.ask()
        assert served.count == 2


@row("an idle origin connection that died")
def test_a_connection_that_died(origin, proxy):
    """The backend reads the request and closes: GET is sent again, POST is 502."""

    def script(visit):
        visit.head()
        visit.send(OK)
        if visit.number % 2 == 0 and visit.request()[0]:
            visit.close()
        else:
            serve_ok(visit)

    for method, status in (("GET", 200), ("POST", 502)):
        with origin.does(script), proxy.client() as client:
            assert client.ask().status == 200
            assert client.ask("/", method).status == status


@row("the origin answers before the body is read")
def test_an_early_answer(origin, proxy):
    """Then the connection ends, since nobody knows whether the rest of the body will come."""

    def script(visit):
        visit.head()
        visit.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        visit.close()

    with origin.does(script), proxy.client() as client:
        client.send(request("/", "POST", "Content-Length: 100000") + b"x" * 100)
        answer = client.answer()
        assert (answer.status, answer.body, answer.get("Connection")) == (413, b"big", "close")
        assert client.is_closed()


@row("`Expect: 100-continue` in any case")
def test_expect(origin, proxy):
    """The backend is who says 100."""

    def script(visit):
        head = visit.head()
        if b"Expect: 100-continue" in head:
            visit.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert visit.body(head) == b"hello"
        visit.send(OK)

    for version, first in (("1.1", 100), ("1.0", 200)):
        with origin.does(script), proxy.client() as client:
            raw = request("/", "POST", "Expect: 100-CONTINUE", "Content-Length: 5")
            client.send(raw.replace(b"HTTP/1.1", f"HTTP/{version}".encode()) + (b"hello" if first == 200 else b""))
            assert client.head().status == first
            if first == 100:
                client.send(b"hello")
                assert client.answer().body == b"ok"
    assert refused(origin, proxy, request("/", "POST", "Expect: 200-ok", "Content-Length: 5")) == 417


@row("103 goes on")
def test_early_hints(origin, proxy):
    """It goes on."""
    with origin.does(answers(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)), proxy.client() as client:
        client.send(request())
        first = client.head()
        assert (first.status, first.get("Link")) == (103, "</a>")
        assert client.answer().body == b"ok"


UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")


@row("Upgrade: 101 tunnels both ways")
def test_upgrade(origin, proxy):
    """What the client sends before the 101 waits: it is HTTP if there is none. With a body there is no Upgrade."""

    def script(visit):
        head = visit.head()
        assert (b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" in head) is (b"POST" not in head)
        if b"/plain" in head:
            visit.send(
                b"HTTP/1.1 %b x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nno" % status
            )
            serve_ok(visit)
        elif b"POST" in head:
            assert visit.body(head) == SMUGGLED
            visit.send(OK)
            serve_ok(visit)
        else:
            visit.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
            assert visit.read(9) == b"GET \x00\xff\r\n\r"
            visit.send(b"\x00" * 100_000)
            assert visit.read(5) == b"later"
            visit.close()

    with origin.does(script), proxy.client() as client:
        client.send(request("/", "GET", *UPGRADE) + b"GET \x00\xff\r\n\r")
        switched = client.head()
        assert (switched.status, switched.get("Upgrade"), switched.get("Connection")) == (101, "websocket", "Upgrade")
        assert client.exactly(5) == b"hello"
        assert client.exactly(100_000) == b"\x00" * 100_000
        client.send(b"later")
        assert client.is_closed()
    for status, told in ((b"200", None), (b"426", "websocket")):
        with origin.does(script), proxy.client() as client:
            client.send(request("/plain", "GET", *UPGRADE) + request("/next"))
            answer = client.answer()
            assert (answer.status, answer.body, answer.get("Upgrade")) == (int(status), b"no", told)
            assert client.answer().body == b"ok"
    with origin.does(script), proxy.client() as client:
        client.send(request("/", "POST", *UPGRADE, f"Content-Length: {len(SMUGGLED)}") + SMUGGLED + request("/next"))
        assert [client.answer().body, client.answer().body] == [b"ok", b"ok"]


@row("trailers pass, or are dropped")
def test_trailers(origin, proxy):
    """They pass, both ways, but for those that frame, route, authenticate, or are ours to say."""
    sent = (
        b"0\r\nChecksum: a\r\nContent-Length: 9\r\nHost: evil\r\nTransfer-Encoding: gzip\r\n"
        b"X-Forwarded-For: evil\r\n\r\n"
    )

    def script(visit):
        visit.head()
        got.append(visit.read(len(b"0\r\nChecksum: a\r\n\r\n")))
        visit.send(b"HTTP/1.1 200 OK\r\nTrailer: Checksum\r\nTransfer-Encoding: chunked\r\n\r\n" + sent)
        serve_ok(visit)

    got: list[bytes] = []
    with origin.does(script) as served, proxy.client() as client:
        client.send(request("/", "POST", "Transfer-Encoding: chunked") + sent)
        assert client.head().get("Trailer") == "Checksum"
        assert [client.line() for _ in range(3)] == [b"0", b"Checksum: a", b""]
        assert client.ask().body == b"ok"
        assert served.count == 1
    assert got == [b"0\r\nChecksum: a\r\n\r\n"]


@row("duplicate Host, Content-Length")
def test_doubled_headers(origin, proxy):
    """Cookie and Via pass as they came, a client's X-Forwarded-For is replaced; see `forwarded` for trusted proxies."""
    for name in (
        "Host",
        "Content-Length",
        "Authorization",
        "If-Match",
        "If-None-Match",
        "If-Range",
        "If-Modified-Since",
    ):
        value = "0" if name == "Content-Length" else "a"
        twice = (f"{name}: {value}",) if name == "Host" else (f"{name}: {value}", f"{name.lower()}: {value}")
        assert refused(origin, proxy, request("/", "GET", *twice)) == 400
    head = crosses(origin, proxy, request("/", "GET", "Cookie: a=1", "Cookie: b=2", "X-Forwarded-For: a", "Via: 1.0 b"))
    assert b"\r\nCookie: a=1\r\nCookie: b=2\r\nVia: 1.0 b\r\n" in head
    assert re.findall(rb"X-Forwarded-For: (.*)\r", head) == [b"127.0.0.1"]
    assert head.endswith(b"\r\nVia: 1.1 stapleproxy\r\n")


def asked(target: str, *hosts: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", *(f"Host: {host}" for host in hosts), "", ""]).encode("latin-1")


@row("Host against the absolute target")
def test_hosts(origin, proxy):
    """The target's authority wins."""
    for target, host, told in (
        ("http://localhost/a", "other", b"localhost"),
        ("https://localhost:443/a", "other", b"localhost"),
        ("/a", "localhost:443", b"localhost"),
        ("/a", "localhost:8443", b"localhost:8443"),
        ("/a", "localhost:", b"localhost"),
    ):
        head = crosses(origin, proxy, asked(target, host))
        assert head.startswith(b"GET /a HTTP/1.1\r\nHost: %b\r\n" % told)
    for target, host in (
        ("/", "localhost:x"),
        ("/", "localhost:65536"),
        ("/", ""),
        ("/", "a@localhost"),
        ("/", "local\x01host"),
        ("/", "a b"),
        ("/", "localhost/"),
        ("http://a@localhost/", "localhost"),
        ("http://:80/", "localhost"),
        ("http:///", "localhost"),
    ):
        assert refused(origin, proxy, asked(target, host)) == 400


@row("target forms")
def test_target_forms(origin, proxy):
    """Any fragment is refused: no client may send one."""
    assert crosses(origin, proxy, asked("*", "localhost", method="OPTIONS")).startswith(b"OPTIONS * ")
    for target, method, status in (
        ("*", "GET", 400),
        ("localhost:443", "GET", 400),
        ("a", "GET", 400),
        ("/#a", "GET", 400),
        ("http://localhost#/", "GET", 400),
        ("ftp://localhost/", "GET", 400),
        ("localhost:443", "CONNECT", 501),
        ("/", "CONNECT", 501),
    ):
        assert refused(origin, proxy, asked(target, "localhost", method=method)) == status


@row("a header line too long")
def test_heads_too_large(origin, proxy):
    """414 for the target, 431 for the rest; also after other requests of the connection."""
    for raw, status in (
        (request("/" + "a" * 10_000), 414),
        (request("/", "GET", "A: " + "a" * 40_000), 431),
        (request("/", "GET", *["A: b"] * 200), 431),
    ):
        assert refused(origin, proxy, raw) == status
        with origin.does(serve_ok), proxy.client() as client:
            assert client.ask().status == 200
            client.send(request() + raw)
            assert [client.answer().status, client.answer().status] == [200, status]
            assert client.is_closed()


@row("a colon first, space before the colon")
def test_header_names(origin, proxy):
    """Names with an underscore are dropped, always: no backend can tell them from those with a hyphen."""
    for line in (": a", "A : b", "A\x00: b", "A\x7f: b", "A\tB: c", "A b: c", "\xc4: a"):
        assert refused(origin, proxy, asked("/", f"localhost\r\n{line}")) == 400
    assert b"a_b" not in crosses(origin, proxy, request("/", "GET", "a_b: c"))


@pytest.mark.slow
@row("keep-alive: request limit")
def test_keep_alive(origin, proxy, hasty, tmp_path):
    """The shutdown is in test_http_client, and pipelined requests at the limit are in test_frontend."""
    with origin.does(serve_ok):
        with hasty.client() as client:
            assert client.ask().get("Connection") is None
            assert client.is_closed()  # idle
        with proxy.client() as client:
            assert client.ask("/", "GET", "Connection: close").get("Connection") == "close"
            assert client.is_closed()
    for limit in ({"max_requests_per_connection": 3}, {"max_connection_age_s": 0.2}):
        with origin.does(serve_ok), proxied(tmp_path, origin.url, **limit) as limited, limited.client() as client:
            wait_until(lambda: client.ask().get("Connection") == "close")
            assert client.is_closed()


@row("pipelined requests are answered in order")
def test_pipelining(origin, proxy):
    """A refused one is the last; its body is not read."""
    seen = []
    with origin.does(recorder(seen)), proxy.client() as client:
        faulty = request("/3", "POST", "Expect: x", f"Content-Length: {len(SMUGGLED)}") + SMUGGLED
        client.send(request("/1") + request("/2", "POST", body=b"x") + faulty + request("/4"))
        assert [client.answer().status for _ in range(3)] == [200, 200, 417]
        assert client.is_closed()
    assert [head.split(b" ")[1] for head, _ in seen] == [b"/1", b"/2"]


@row("client abort while the origin works")
def test_client_abort(origin, proxy):
    """The backend's request is ended."""

    def script(visit):
        visit.request()
        begun.set()
        assert visit.is_closed()
        ended.set()

    begun, ended = threading.Event(), threading.Event()
    with origin.does(script):
        with proxy.client() as client:
            client.send(request("/", "POST", "Transfer-Encoding: chunked") + chunked(b"x"))
            assert begun.wait(10)
        assert ended.wait(10)

"""Clients that pipeline, stall, leave, ask to go on or to close, or break the rules: raw bytes over TLS."""

from __future__ import annotations

import contextlib
import threading

import pytest
from integration.front import wait_until
from integration.peers import OK, backend, chunked, proxied, request, serve_ok

HEAD_LIMIT = 8192


@pytest.fixture(scope="module")
def origin():
    with backend() as made:
        yield made


@pytest.fixture(scope="module")
def proxy(origin, tmp_path_factory):
    with proxied(tmp_path_factory.mktemp("patient"), origin.url, max_head_bytes=HEAD_LIMIT) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(origin, tmp_path_factory):
    limits = {"client_timeout_s": 0.5, "client_idle_timeout_s": 0.5, "upstream_timeout_s": 30}
    with proxied(tmp_path_factory.mktemp("hasty"), origin.url, **limits) as running:
        yield running


def echo_target(visit):
    """Answer each request with its target and body."""
    while head := visit.head():
        method, target, _ = head.split(b" ", 2)
        body = target + visit.body(head)
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        visit.send(b"" if method == b"HEAD" else body)


def test_pipelined_requests_are_answered_in_order(origin, proxy):
    """In one write or many, bodies between them, one connection to the backend for all."""
    sent = [
        request("/1"),
        request("/2", "POST", body=b"two"),
        request("/3", "POST", "Transfer-Encoding: chunked") + chunked(b"th", b"ree"),
        request("/4", "HEAD"),
        request("/5"),
    ]
    expected = [b"/1", b"/2two", b"/3three", b"", b"/5"]
    with origin.does(echo_target) as served, proxy.client() as client:
        for cut in (10_000, 50, 7):
            raw = b"".join(sent)
            for at in range(0, len(raw), cut):
                client.send(raw[at : at + cut])
            assert [client.answer("HEAD" if not body else "GET").body for body in expected] == expected
        assert served.count == 1


FAULTS = {
    "garbage": (b"\x00\x01\x02 / HTTP/1.1\r\n\r\n", {400, 501}),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", {400}),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", {400}),
    "both framings": (request("/", "POST", "Transfer-Encoding: chunked", "Content-Length: 3"), {400}),
    "a bad chunk": (request("/", "POST", "Transfer-Encoding: chunked") + b"zz\r\n", {400}),
    "an unknown expectation": (request("/", "POST", "Expect: a miracle", body=b"x"), {417}),
    "HTTP/2 by prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}),
    "CONNECT": (b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n\r\n", {501}),
    "CONNECT with a path": (b"CONNECT / HTTP/1.1\r\nHost: localhost\r\n\r\n", {501}),
    "many headers": (request("/", "GET", *(f"a{n}: b" for n in range(300))), {431}),
    "a long head": (request("/", "GET", "A: " + "a" * HEAD_LIMIT), {431}),
    "a long head that has no end": (request("/", "GET", "A: " + "a" * HEAD_LIMIT)[:-4], {431}),
    "a long target": (request("/" + "a" * HEAD_LIMIT), {414}),
    "a long target that has no end": (b"GET /" + b"a" * HEAD_LIMIT, {414}),
}


@pytest.mark.parametrize("first", [b"", request("/first")], ids=["first", "second of two"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_request_is_refused_and_the_connection_closed(origin, proxy, name, first):
    """After the answer to what came before it, with close_notify; what follows it is not read."""
    raw, statuses = FAULTS[name]
    with origin.does(serve_ok), proxy.client() as client:
        has_end = "no end" not in name  # else its length is told for sure only where it comes alone
        client.send(first + raw + request("/after") if has_end else first)
        if first:
            answer = client.answer()
            assert (answer.status, answer.body) == (200, b"ok")
        if not has_end:
            client.send(raw)
        answer = client.answer()
        assert answer.status in statuses
        assert answer.get("Connection") == "close"
        assert client.is_closed()


def test_a_fault_in_the_middle_of_a_body_is_400_at_once(origin, proxy):
    """And the backend's request is ended: it must not take the part for the whole."""

    def script(visit):
        assert b"POST" in visit.head()
        begun.set()
        assert visit.read(10) == b"5\r\nhello\r\n"
        assert visit.is_closed()
        ended.set()

    begun, ended = threading.Event(), threading.Event()
    with origin.does(script), proxy.client() as client:
        client.send(request("/", "POST", "Transfer-Encoding: chunked") + chunked(b"hello")[:-5])
        assert begun.wait(10)
        client.send(b"zz\r\n")
        assert client.answer().status == 400
        assert client.is_closed()
        assert ended.wait(10)


def test_a_fault_after_the_answer_has_begun_cuts_it(origin, proxy):
    """An error page in the middle of an answer would be taken for its body."""

    def script(visit):
        visit.head()
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
        assert visit.is_closed()

    with origin.does(script), proxy.client() as client:
        client.send(request("/", "POST", "Transfer-Encoding: chunked"))
        assert client.head().status == 200
        assert client.exactly(5) == b"begun"
        client.send(b"zz\r\n")
        assert client.is_cut()


def test_thousands_of_requests_at_once_do_not_break_the_worker(origin, proxy):
    """As many as one read brings: a bounded number is answered, then 400; with Upgrade each needs a new parser."""
    many = 4000
    for head in (request("/"), request("/", "GET", "Connection: upgrade", "Upgrade: a")):
        with origin.does(serve_ok), proxy.client() as client:
            with contextlib.suppress(OSError):  # it may close before it has read them all
                client.send(head * many)
            statuses = []
            while len(statuses) < many and statuses[-1:] != [400]:
                statuses.append(client.answer().status)
            assert len(statuses) > 100
            assert set(statuses[:-1]) == {200}
        assert "Traceback" not in proxy.front.log


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_connection_close_is_honoured(origin, proxy, version):
    """The answer says close, and then it is closed; what the client sends after that is not answered."""
    with origin.does(serve_ok) as served, proxy.client() as client:
        client.send(
            request("/", "GET", "Connection: close").replace(b"HTTP/1.1", f"HTTP/{version}".encode()) + request()
        )
        answer = client.answer()
        assert (answer.body, answer.get("Connection")) == (b"ok", "close")
        assert client.is_closed()
        assert served.count == 1


def test_http_1_0_keeps_alive_only_when_it_says_so(origin, proxy):
    """And is told so; without Host the site's name stands in."""
    hosts = []

    def script(visit):
        while head := visit.head():
            hosts.append(next(line for line in head.split(b"\r\n") if line.startswith(b"Host: ")))
            visit.send(OK)

    with origin.does(script), proxy.client() as client:
        client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = client.answer()
        assert (answer.body, answer.get("Connection")) == (b"ok", "keep-alive")
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        answer = client.answer()
        assert (answer.body, answer.get("Connection")) == (b"ok", "close")
        assert client.is_closed()
    assert hosts == [b"Host: localhost"] * 2


def test_a_client_that_ends_its_direction_gets_every_answer_it_asked_for(origin, proxy):
    """close_notify ends one direction only (RFC 8446 6.1), as from `printf … | openssl s_client`."""
    with origin.does(echo_target), proxy.client() as client:
        client.send(request("/1") + request("/2", "POST", body=b"x") + request("/3"))
        client.end()
        assert [client.answer().body for _ in range(3)] == [b"/1", b"/2x", b"/3"]
        assert client.is_closed()


def test_a_client_that_ends_in_the_middle_gets_nothing(origin, proxy):
    """Half a request is none; and the backend does not see it as whole."""

    def script(visit):
        visit.head()
        assert visit.read(5) == b"hello"
        assert visit.is_closed()

    with origin.does(script), proxy.client() as client:
        client.send(request("/", "POST", "Content-Length: 10") + b"hello")
        client.end()
        assert client.is_closed()


@pytest.mark.parametrize("sent", [b"GET / HT", request()[:-2], request("/", "POST", "Content-Length: 5") + b"he"])
def test_a_request_that_stalls_is_408(origin, hasty, sent):
    """In its head or its body; the backend's connection is given up too."""

    def script(visit):
        assert visit.head()
        assert visit.read(2) == b"he"
        assert visit.is_closed()

    with origin.does(script), hasty.client() as client:
        client.send(sent)
        answer = client.answer()
        assert (answer.status, answer.get("Connection")) == (408, "close")
        assert client.is_closed()


@pytest.mark.slow
def test_an_idle_connection_is_closed_quietly(origin, hasty):
    """A fresh one, and one between two requests, stray empty lines or not (RFC 9112 2.2): no 408, which could be
    taken for the next request's answer."""
    with origin.does(serve_ok):
        with hasty.client() as client:
            assert client.is_closed()
        with hasty.client() as client:
            assert client.ask().status == 200
            client.send(b"\r\n")
            assert client.is_closed()


def test_a_slow_backend_is_not_the_clients_fault(origin, hasty):
    """While the backend works, the client's limits do not count."""

    def script(visit):
        visit.head()
        go_on.wait(10)
        visit.send(OK)

    go_on = threading.Event()
    with origin.does(script), hasty.client() as client, hasty.client() as idle:
        client.send(request())
        assert idle.is_closed()  # so the limits of both have passed
        go_on.set()
        assert client.answer().status == 200


def test_a_client_that_leaves_ends_the_work_for_it(origin, proxy):
    """The backend sees its connection closed, and can stop."""

    def script(visit):
        visit.head()
        begun.set()
        assert visit.is_closed()
        ended.set()

    begun, ended = threading.Event(), threading.Event()
    with origin.does(script):
        with proxy.client() as client:
            client.send(request())
            assert begun.wait(10)
        assert ended.wait(10)


def test_a_client_that_leaves_in_its_upload_ends_it(origin, proxy):
    """By FIN without close_notify, as a killed process does."""

    def script(visit):
        visit.head()
        assert visit.read(5) == b"hello"
        begun.set()
        assert visit.is_closed()
        ended.set()

    begun, ended = threading.Event(), threading.Event()
    with origin.does(script):
        with proxy.client() as client:
            client.send(request("/", "POST", "Content-Length: 10") + b"hello")
            assert begun.wait(10)
        assert ended.wait(10)


@pytest.mark.parametrize("expect", ["100-continue", "100-Continue"])
def test_expect_is_the_backends_to_answer(origin, proxy, expect):
    """100 when the backend says so, and only then the body."""

    def script(visit):
        head = visit.head()
        assert b"Expect: 100-continue" in head
        visit.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert visit.body(head) == b"hello"
        visit.send(OK)
        serve_ok(visit)

    with origin.does(script), proxy.client() as client:
        client.send(request("/", "PUT", "Content-Length: 5", f"Expect: {expect}"))
        assert client.head().status == 100
        client.send(b"hello")
        assert client.answer().body == b"ok"
        assert client.ask().body == b"ok"


def test_a_backend_that_does_not_want_the_body_says_so_at_once(origin, proxy):
    """The final answer instead of 100; the connection ends, since the client may send the body or not."""

    def script(visit):
        visit.head()
        visit.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    with origin.does(script), proxy.client() as client:
        client.send(request("/", "PUT", "Content-Length: 5", "Expect: 100-continue"))
        answer = client.answer()
        assert (answer.status, answer.get("Connection")) == (401, "close")
        assert client.is_closed()


def test_http_1_0_expects_nothing(origin, proxy):
    """It knows no 100 (RFC 9110 10.1.1), so the backend is not asked for one."""

    def script(visit):
        head, body = visit.request()
        assert (b"Expect" in head, body) == (False, b"hello")
        visit.send(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)

    with origin.does(script), proxy.client() as client:
        client.send(b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello")
        assert client.head().status == 200


def test_what_the_backend_sees_is_written_anew(origin, proxy):
    """Exactly these lines: nothing hop-by-hop, nothing that only the proxy may say, in any spelling."""
    hostile = [
        "Connection: keep-alive, X-Private, Content-Length, Host",
        "X-Private: 1",
        "Keep-Alive: timeout=5",
        "TE: trailers",
        "Proxy: http://evil/",
        "Proxy-Connection: keep-alive",
        "Forwarded: for=1.2.3.4",
        "X-Forwarded-For: 1.2.3.4",
        "X_Forwarded_For: 1.2.3.4",
        "x-forwarded_proto: http",
        "X-Forwarded-Host: evil",
        "X-Real-IP: 1.2.3.4",
        "Accept:  */* ",
        "X-Kept: a",
        "X-Kept: b",
    ]
    seen = []

    def script(visit):
        seen.extend(visit.request())
        visit.send(OK)

    with origin.does(script):
        proxy.ask("/path?q=%41", "POST", *hostile, body=b"data")
    head = (
        b"POST /path?q=%41 HTTP/1.1\r\nHost: localhost\r\n"
        b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: localhost\r\n"
        b"Accept: */*\r\nX-Kept: a\r\nX-Kept: b\r\n"
        b"TE: trailers\r\nConnection: TE\r\nContent-Length: 4\r\nVia: 1.1 stapleproxy\r\n"
    )
    assert seen == [head, b"data"]


def test_a_trusted_proxy_is_believed(origin, tmp_path):
    """What it says of its client goes on, with its own address behind; Proxy and underscores never do."""
    seen = []

    def script(visit):
        seen.extend(visit.request())
        visit.send(OK)

    told = [
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-Proto: http",
        "X_Forwarded_For: 1.2.3.4",
        "Proxy: http://evil/",
    ]
    with proxied(tmp_path, origin.url, trusted_proxies=["127.0.0.0/8"]) as trusting, origin.does(script):
        trusting.ask("/", "GET", *told)
    lines = seen[0].split(b"\r\n")
    assert b"X-Forwarded-For: 203.0.113.9, 127.0.0.1" in lines
    assert b"X-Forwarded-Proto: http" in lines
    assert not [line for line in lines if b"1.2.3.4" in line or b"evil" in line]


def test_what_the_client_sees_is_written_anew(origin, proxy):
    """Nothing hop-by-hop from the backend; repeated headers, as Set-Cookie, each on its own line."""
    answer = (
        b"HTTP/1.1 200 Fine by me\r\nConnection: keep-alive, X-Private\r\nKeep-Alive: timeout=5\r\nX-Private: 1\r\n"
        b"Date: today\r\nServer: a/1\r\nUpgrade: h2c\r\nTrailer: T\r\nSet-Cookie: a=1\r\n"
        b"Set-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok"
    )

    def script(visit):
        visit.head()
        visit.send(answer)

    with origin.does(script):
        seen = proxy.ask()
    kept = [("Date", "today"), ("Server", "a/1"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Length", "2")]
    assert seen.headers == kept


def test_a_stopping_proxy_finishes_what_is_asked(origin, tmp_path):
    """Idle connections are closed at once, the answer under way comes whole, pipelined requests behind it are not
    begun."""

    def script(visit):
        while head := visit.head():
            seen.append(head.split(b" ")[1])
            go_on.wait(10)
            visit.send(OK)

    go_on, seen = threading.Event(), []
    with origin.does(script), proxied(tmp_path, origin.url) as proxy, proxy.client() as idle, proxy.client() as busy:
        busy.send(request("/1") + request("/2", "POST", body=b"x"))
        wait_until(lambda: seen, what="the request at the backend")
        proxy.front.process.terminate()
        assert idle.is_closed()
        go_on.set()
        assert busy.answer().body == b"ok"
        assert busy.is_closed()
        idle.sock.close()
        busy.sock.close()  # for it waits a little for its clients to close
        assert proxy.front.process.wait(10) == 0
    assert seen == [b"/1"]

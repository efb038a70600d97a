"""What good servers never do: a backend that breaks the rules, and what the client sees of it."""

from __future__ import annotations

import socket
import threading

import pytest
from integration.front import wait_until
from integration.peers import OK, Truncated, backend, chunked, proxied, request, serve_ok


@pytest.fixture(scope="module")
def origin():
    with backend() as made:
        yield made


@pytest.fixture(scope="module")
def proxy(origin, tmp_path_factory):
    with proxied(
        tmp_path_factory.mktemp("origin"), origin.url, upstream_timeout_s=1, upstream_connect_timeout_s=1
    ) as it:
        yield it


def once(data: bytes):
    """A script: answer the first request with this, then close."""

    def script(visit):
        if visit.head():
            visit.send(data)
            visit.close()

    return script


def kept(*answers: bytes):
    """A script: answer one request after another with these, and leave the connection open."""

    def script(visit):
        for answer in answers:
            if not visit.head():
                return
            visit.send(answer)
        serve_ok(visit)

    return script


NO_ANSWER = {
    "closes without an answer": b"",
    "closes in the middle of the head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "answers with garbage": b"\x00\xff\x16garbage\r\n\r\n",
    "answers in HTTP/0.9": b"<html>hello</html>",
    "answers in HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "closes after an interim answer": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    "answers with status 099": b"HTTP/1.1 099 x\r\n\r\n",
    "switches protocols unasked": b"HTTP/1.1 101 x\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n",
    "says two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "says both framings": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "uses another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "folds a header": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "sends a head without end": b"HTTP/1.1 200 OK\r\nA: " + b"a" * 300_000,
}


@pytest.mark.parametrize("name", NO_ANSWER)
def test_no_usable_answer_is_502_with_a_short_body(origin, proxy, name):
    """The client is told, and may use its connection for more: its own request was in order."""
    with origin.does(once(NO_ANSWER[name])), proxy.client() as client:
        answer = client.ask()
        assert (answer.status, answer.get("Connection")) == (502, None)
        assert b"502 Bad Gateway: " in answer.body
        assert len(answer.body) < 200
        with origin.does(serve_ok):
            assert client.ask().body == b"ok"


def test_what_is_no_answer_is_shown_to_the_operator_alone(tmp_path, origin):
    """It may be of another protocol, and nothing for strangers."""
    with proxied(tmp_path, origin.url) as proxy:
        for data in (b"-ERR secret\r\n\r\n", b"-ERR secret"):
            with origin.does(once(data)):
                answer = proxy.ask()
            assert answer.body == b"502 Bad Gateway: the backend's answer does not begin as HTTP/1.1 does\n"
        proxy.front.wait_for_log(r"fails: the backend's answer does not begin as HTTP/1.1 does: '-ERR secret'; logged")


BROKEN_BODIES = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello",
    "a chunk's size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0",
}


@pytest.mark.parametrize("name", BROKEN_BODIES)
def test_a_body_that_breaks_off_is_seen_as_broken(origin, proxy, name):
    """The client's connection is cut, without last chunk and close_notify: never a whole answer."""
    with origin.does(once(BROKEN_BODIES[name])), proxy.client() as client:
        client.send(request())
        head = client.head()
        assert head.status == 200
        with pytest.raises((Truncated, OSError)):
            client.exactly(10) if name == "length" else list(iter(client.chunk, b""))


def test_a_chunk_that_is_no_chunk_cuts_the_answer(origin, proxy):
    """After the head went out there is no other way to say that the rest is wrong."""

    def script(visit):
        visit.head()
        visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        going_on.wait(10)
        visit.send(b"zz\r\n")

    going_on = threading.Event()
    with origin.does(script), proxy.client() as client:
        client.send(request())
        assert client.head().status == 200
        assert client.chunk() == b"hello"
        going_on.set()
        assert client.is_cut()


EXTRA = {
    "after the length": OK + b"EXTRA",
    "another answer": OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    "after the last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nEXTRA",
}


@pytest.mark.parametrize("name", EXTRA)
def test_more_than_the_answer_reaches_nobody(origin, proxy, name):
    """Cut at the end of the answer, and the connection is not used again."""
    with origin.does(kept(EXTRA[name])) as served, proxy.client() as client:
        assert client.ask().body == b"ok"
        assert client.ask("/next").body == (b"ok")
        assert served.count == 2


def test_what_comes_unasked_later_is_not_the_next_answer(origin, proxy):
    """An idle connection on which the backend speaks is closed."""

    def script(visit):
        visit.head()
        visit.send(OK)
        if visit.number == 0:
            answered.wait(10)
            visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
            assert visit.is_closed()
            closed.set()

    answered, closed = threading.Event(), threading.Event()
    with origin.does(script) as served, proxy.client() as client:
        assert client.ask().body == b"ok"
        answered.set()
        assert closed.wait(10)
        assert client.ask().body == b"ok"
        assert served.count == 2


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_interim_answers_go_to_clients_that_know_them(origin, proxy, version):
    """103 is passed on in HTTP/1.1 and dropped in 1.0, which has no 1xx; the final answer follows."""
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\nContent-Length: 5\r\n\r\n"
    with origin.does(kept(early + early + OK)), proxy.client() as client:
        client.send(request().replace(b"HTTP/1.1", b"HTTP/" + version.encode()))
        heads = [client.head() for _ in range(3 if version == "1.1" else 1)]
        assert [head.status for head in heads] == ([103, 103, 200] if version == "1.1" else [200])
        assert [head.get("Link") for head in heads[:-1]] == ["</style.css>"] * (len(heads) - 1)
        assert all(head.get("Content-Length") is None for head in heads[:-1])  # RFC 9110 8.6
        assert client.exactly(2) == b"ok"


def test_an_answer_before_the_request_is_read_reaches_the_client(origin, proxy):
    """A backend that refuses an upload by its head and closes: the client gets that answer, each time."""
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
    piece = b"x" * 65_536
    with origin.does(once(refusal)):
        for _ in range(10):
            with proxy.client() as client:
                client.send(request("/", "POST", "Transfer-Encoding: chunked"))
                try:
                    for _ in range(100):
                        client.send(b"10000\r\n" + piece + b"\r\n")
                except OSError:
                    pass  # the proxy has closed: it lingers, but not for ever
                answer = client.answer()
                assert (answer.status, answer.body, answer.get("Connection")) == (413, b"big", "close")


def test_an_early_answer_without_framing_ends_with_the_backends_half(origin, proxy):
    """The end of the backend's direction ends the answer, though the request is still unsent."""

    def script(visit):
        visit.head()
        visit.send(b"HTTP/1.1 413 Too Large\r\n\r\nbig")
        visit.sock.shutdown(socket.SHUT_WR)
        over.wait(10)

    over = threading.Event()
    with origin.does(script), proxy.client() as client:
        client.send(request("/", "POST", "Content-Length: 100000000"))
        answer = client.answer()
        over.set()
        assert (answer.status, answer.body) == (413, b"big")


def test_a_reset_is_502_before_the_head_and_a_cut_after(origin, proxy):
    """RST is as good an end as any."""

    def script(visit):
        if b"/late" in visit.head():
            visit.send(b"HTTP/1.1 200 OK\r\n\r\nuntil close")
            started.wait(10)
        visit.reset()

    started = threading.Event()
    with origin.does(script), proxy.client() as client:
        assert client.ask().status == 502
        client.send(request("/late"))
        assert client.head().status == 200
        started.set()
        assert client.is_cut()


def test_no_answer_is_504_in_time(origin, proxy):
    """The connection on which nothing came is given up."""

    def script(visit):
        visit.head()
        assert visit.is_closed()
        closed.set()

    closed = threading.Event()
    with origin.does(script), proxy.client() as client:
        answer = client.ask()
        assert (answer.status, answer.body) == (504, b"504 Gateway Timeout: the backend did not answer in time\n")
        assert closed.wait(10)


@pytest.mark.slow
def test_no_answer_on_a_kept_connection_is_504_and_is_not_asked_again(origin, proxy):
    """Too slow is not the same as gone: a second try would double the wait, and the work."""

    def script(visit):
        visit.head()
        visit.send(OK)
        while visit.head():
            seen.append(visit.number)

    seen = []
    with origin.does(script) as served, proxy.client() as client:
        assert client.ask().status == 200
        assert client.ask().status == 504
        assert (seen, served.count) == ([0], 1)


@pytest.mark.slow
def test_an_answer_that_stalls_is_cut(origin, proxy):
    """Half an answer is worth no more patience than none."""

    def script(visit):
        visit.head()
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        assert visit.is_closed()

    with origin.does(script), proxy.client() as client:
        client.send(request())
        assert client.head().status == 200
        assert client.is_cut()


@pytest.mark.parametrize("kind", ["TCP", "Unix"])
def test_a_backend_that_is_away_is_502(tmp_path, kind):
    """A refused connection: a short body that says so, and the log says it once."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    upstream = f"http://127.0.0.1:{port}" if kind == "TCP" else f"unix:{tmp_path}/missing.sock"
    with proxied(tmp_path, upstream) as proxy, proxy.client() as client:
        for _ in range(3):
            answer = client.ask()
            assert (answer.status, answer.get("Connection")) == (502, None)
            assert b"the backend cannot be reached" in answer.body
        answer = client.ask("/", "HEAD")
        assert (answer.status, answer.body) == (502, b"")
        assert client.ask("/", "POST", body=b"data").status == 502
        assert proxy.front.log.count("fails: the backend cannot be reached") == 1


def test_a_backend_that_does_not_accept_is_504(tmp_path):
    """A full queue of connections; the wait is bounded."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first, socket.socket() as second:
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        with proxied(tmp_path, url, upstream_connect_timeout_s=0.5, client_timeout_s=0.2) as proxy:
            answer = proxy.ask()
            assert (answer.status, b"connecting to the backend" in answer.body) == (504, True)


def test_an_answer_without_framing_is_chunked_for_1_1_and_closed_for_1_0(origin, proxy):
    """Only the proxy knows where it ends: at the end of the backend's connection."""
    with origin.does(once(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")):
        with proxy.client() as client:
            answer = client.ask()
            assert (answer.get("Transfer-Encoding"), answer.body) == ("chunked", b"until the end")
            assert client.ask().body == b"until the end"  # and the client's connection goes on
        with proxy.client() as client:
            client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            answer = client.answer()
            assert (answer.get("Transfer-Encoding"), answer.get("Connection")) == (None, "close")
            assert answer.body == b"until the end"


REUSED = {
    "length": ("GET", OK),
    "chunked": ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;e\r\nok\r\n0\r\n\r\n"),
    "empty": ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "HEAD": ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
    "HEAD, chunked": ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "204": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    "304 with a length": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"),
    "304, chunked": ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "HTTP/1.0 kept alive": ("GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"),
}


@pytest.mark.parametrize("name", REUSED)
def test_a_connection_is_used_again_and_the_next_answer_is_not_shifted(origin, proxy, name):
    """After every answer whose end is known without closing."""
    method, data = REUSED[name]
    with origin.does(kept(data, data)) as served, proxy.client() as client:
        for _ in range(2):
            client.ask("/", method)
        assert client.ask("/", "POST", body=b"x").body == b"ok"
        assert served.count == 1


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
def test_a_connection_that_the_backend_means_to_close_is_not_used_again(origin, proxy, data):
    """Also when it has not closed it yet; the client's connection is another matter."""
    with origin.does(kept(data)) as served, proxy.client() as client:
        assert client.ask().body == b"ok"
        assert client.ask().body == b"ok"
        assert served.count == 2


def test_a_get_on_a_connection_that_died_idle_is_tried_again(origin, proxy):
    """The backend closed just as the request came: not the client's fault, so it does not notice."""

    def script(visit):
        visit.head()
        visit.send(OK)
        if visit.number == 0:
            visit.head()  # the second request came, and the connection ends without an answer to it
            visit.close()
        serve_ok(visit)

    with origin.does(script) as served, proxy.client() as client:
        assert client.ask().body == b"ok"
        assert client.ask("/second").body == b"ok"
        assert served.count == 2


@pytest.mark.parametrize("body", [b"data", b""])
def test_a_post_is_never_sent_twice(origin, proxy, body):
    """It may have been carried out: 502, and the client decides."""

    def script(visit):
        visit.head()
        visit.send(OK)
        head = visit.head()
        if head:
            posts.append(visit.body(head))
        visit.close()

    posts = []
    with origin.does(script) as served, proxy.client() as client:
        assert client.ask().body == b"ok"
        assert client.ask("/second", "POST", body=body).status == 502
        assert (posts, served.count) == ([body], 1)


def test_a_new_connection_that_dies_is_not_tried_again(origin, proxy):
    """A backend that crashes on a request would crash twice."""

    def script(visit):
        visit.head()
        visit.close()

    with origin.does(script) as served:
        assert proxy.ask().status == 502
        assert served.count == 1


def test_connections_that_ended_while_idle_are_forgotten(origin, proxy):
    """The next request, a POST too, takes a new one."""

    def script(visit):
        if visit.number > 0:
            serve_ok(visit)
        else:
            visit.head()
            visit.send(OK)
            visit.sock.shutdown(socket.SHUT_WR)
            assert visit.is_closed()
            closed.set()

    closed = threading.Event()
    with origin.does(script) as served, proxy.client() as client:
        assert client.ask().body == b"ok"
        assert closed.wait(10)
        assert client.ask("/", "POST", body=b"x").body == b"ok"
        assert served.count == 2


def test_a_backend_that_leaves_the_body_unread_is_not_given_another_request(origin, proxy):
    """It answered by the head; the body still in our buffers would be read as the next request."""

    def script(visit):
        head = visit.head()
        visit.send(OK)
        if b"POST" in head:
            unread.wait(10)
            assert b"GET" not in visit.sock.recv(1 << 20)
        else:
            serve_ok(visit)

    unread = threading.Event()
    size = 20_000_000
    with origin.does(script) as served:
        with proxy.client() as client:
            client.send(request("/", "POST", f"Content-Length: {size}"))
            assert client.answer().status == 200
        assert proxy.ask().body == b"ok"
        unread.set()
        assert served.count == 2


def test_an_upload_with_upgrade_keeps_its_body(origin, proxy):
    """Its body is not taken for a next request, here or at the backend (request smuggling)."""
    smuggled = request("/smuggled")

    def script(visit):
        while head := visit.head():
            seen.append((head.split(b" ")[1], visit.body(head)))
            visit.send(OK)

    seen = []
    for framing, body in (
        (f"Content-Length: {len(smuggled)}", smuggled),
        ("Transfer-Encoding: chunked", chunked(smuggled)),
    ):
        seen.clear()
        with origin.does(script) as served, proxy.client() as client:
            head = request("/upload", "POST", "Connection: Upgrade", "Upgrade: websocket", framing)
            client.send(head + body + request("/next"))
            assert [client.answer().status, client.answer().status] == [200, 200]
            assert seen == [(b"/upload", smuggled), (b"/next", b"")]
            assert served.count == 1


def test_the_backends_trouble_and_its_end_are_logged_once(origin, proxy):
    """One line when it begins, one when it is over, however many requests there are between."""

    def lines():
        log = proxy.front.log
        return log.count(f"upstream {origin.url} fails: "), log.count(f"upstream {origin.url} works again")

    with origin.does(serve_ok):
        assert proxy.ask().status == 200
    fails, works = lines()
    with origin.does(once(b"")), proxy.client() as client:
        for _ in range(3):
            assert client.ask().status == 502
    with origin.does(serve_ok):
        assert proxy.ask().status == 200
    wait_until(lambda: lines() == (fails + 1, works + 1), what="two lines in the log")

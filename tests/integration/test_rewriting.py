"""What a site changes in heads, and what it answers itself, with the real proxy before real backends."""

from __future__ import annotations

import contextlib
import re

import pytest
from integration.peers import backend, chunked, request
from integration.peers import proxied as proxied_as_is
from integration.test_upstreams import proxied

EDITS = """
[[site.request_header]]
name = "X-Edited"
value = "yes"
[[site.response_header]]
action = "append"
name = "X-Answer"
value = "edited"
[[site.response_header]]
action = "unset"
name = "Server"
"""


def echo(visit) -> None:
    """Answer with the head that came; a query is taken for a Location, and its request redirected there."""
    while head := visit.head():
        visit.body(head)
        found = re.match(rb"[A-Z]+ [^ ?]*\?([^ ]+) ", head)
        line, more = (b"302 Found", b"Location: %b\r\n" % found[1]) if found else (b"200 OK", b"")
        more += b"Server: x\r\nX-Answer: one\r\n"
        visit.send(b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (line, more, len(head), head))


@pytest.fixture(scope="module")
def servers():
    """Two backends that tell what they got."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(backend()) for _ in range(2)]
        for each in made:
            stack.enter_context(each.does(echo))
        yield made


def test_heads_are_edited_both_ways_and_our_own_pages_too(tmp_path, servers):
    """Request after request on one connection; the body is what it was."""
    down = '[[site.route]]\nprefix = "/down"\nupstream = "unix:/nowhere"\n'
    with proxied(tmp_path, f'upstream = "{servers[0].url}"\n{down}{EDITS}') as proxy, proxy.client() as client:
        for _ in range(2):
            answer = client.ask("/", "POST", "X-Edited: no", "X-Forwarded-For: 10.0.0.1", body=b"abc")
            assert (answer.status, answer.get("X-Answer"), answer.get("Server")) == (200, "one, edited", None)
            lines = answer.body.split(b"\r\n")
            assert b"X-Edited: yes" in lines
            assert b"X-Edited: no" not in lines
            assert b"X-Forwarded-For: 127.0.0.1" in lines
            assert b"Content-Length: 3" in lines
        refused = client.ask("/", "CONNECT")
        assert (refused.status, refused.get("X-Answer")) == (501, "edited")
        unreachable = proxy.ask("/down")
        assert (unreachable.status, unreachable.get("X-Answer")) == (502, "edited")


def test_trailers_are_no_way_round_the_edits(tmp_path):
    """Of either side; other trailers pass."""
    trailers = b"X-Edited: no\r\nX-Answer: no\r\nX-Sum: 5\r\n"

    received = []

    def answer(visit) -> None:
        assert visit.head()
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += visit.read(1)
        received.append(data)
        visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n%b\r\n" % trailers)

    with (
        backend() as made,
        made.does(answer),
        proxied(tmp_path, f'upstream = "{made.url}"\n{EDITS}') as proxy,
        proxy.client() as client,
    ):
        client.send(request("/", "POST", "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n%b\r\n" % trailers)
        assert client.head().status == 200
        assert (client.chunk(), client.line()) == (b"x", b"0")
        assert list(iter(client.line, b"")) == [b"X-Edited: no", b"X-Sum: 5"]
        assert received == [b"1\r\nx\r\n0\r\nX-Answer: no\r\nX-Sum: 5\r\n\r\n"]


@pytest.fixture
def other():
    with backend() as made, made.does(echo):
        yield made


def test_paths_hosts_and_locations(tmp_path, servers, other):
    """A backend that knows neither our name nor our paths, and another beside it."""
    here, there = other.url, servers[1].url
    site = f"""
    upstream = ["{here}", "{there}"]
    upstream_path = "/in/"
    preserve_host = false
    [[site.location_rewrite]]
    url = "{here}/in/"
    path = "/"
    [[site.location_rewrite]]
    url = "{there}/in/"
    path = "/"
    [[site.route]]
    prefix = "/none/"
    upstream = []
    """
    with proxied(tmp_path, site) as proxy, proxy.client() as client:
        hosts = set()
        for _ in range(4):
            lines = client.ask("/a//b%20c").body.split(b"\r\n")
            assert lines[0] == b"GET /in/a//b%20c HTTP/1.1"
            assert b"X-Forwarded-Host: localhost" in lines
            hosts |= {line for line in lines if line.startswith(b"Host: ")}
        assert hosts == {f"Host: {url.removeprefix('http://')}".encode() for url in (here, there)}
        for url in (here, there):
            assert client.ask(f"/?{url}/in/x").get("Location") == "https://localhost/x"
        client.send(f"GET /?{here}/in/y HTTP/1.1\r\nHost: localhost:8443\r\n\r\n".encode())
        assert client.answer().get("Location") == "https://localhost:8443/y"
        assert client.ask("/?http://elsewhere.test/in/x").get("Location") == "http://elsewhere.test/in/x"
        assert client.ask("/none/x").status == 404
        assert proxy.ask("/%2e%2e/x").status == 400


def test_a_site_without_backend_says_so(tmp_path):
    """On a connection that goes on, where no body is under way."""
    with proxied(tmp_path, f"upstream = []\n{EDITS}") as proxy, proxy.client() as client:
        for method in ("GET", "HEAD", "OPTIONS"):
            answer = client.ask("/x", method)
            assert (answer.status, answer.get("Connection"), answer.get("X-Answer")) == (404, None, "edited")
            assert answer.body == (b"" if method == "HEAD" else b"404 Not Found: nothing is served here\n")
        client.send(request("/x") * 3)
        assert [client.answer().status for _ in range(3)] == [404] * 3
        client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nbegun")
        answer = client.answer()
        assert (answer.status, answer.get("Connection")) == (404, "close")
        assert client.is_closed()
        assert "upstream" not in proxy.front.log


def test_max_forwards_ends_here(tmp_path, servers):
    """RFC 9110 7.6.2; the next request is asked on a connection of its own."""
    with proxied(tmp_path, f'upstream = "{servers[1].url}"') as proxy:
        passed = proxy.ask("/", "OPTIONS", "Max-Forwards: 2")
        assert b"\r\nMax-Forwards: 1\r\n" in passed.body
        ended = proxy.ask("/", "OPTIONS", "Max-Forwards: 0")
        assert ended.status == 200
        assert "OPTIONS" in ended.get("Allow").split(", ")
        refused = proxy.ask("/", "TRACE", "Max-Forwards: 0", "Cookie: secret")
        assert (refused.status, b"secret" in refused.body) == (405, False)
        assert proxy.ask("/", "TRACE", body=b"x").status == 400
        assert proxy.ask("/", "TRACE").status == 200


@pytest.mark.parametrize(
    ("coding", "body"),
    [("Content-Length: 101", b""), ("Transfer-Encoding: chunked", chunked(b"x" * 60, b"y" * 41))],
    ids=["length", "chunks"],
)
def test_a_body_over_the_limit_is_413(tmp_path, servers, coding, body):
    """A length before anything is sent on; chunks when they are too many. At the limit it is served."""
    with proxied_as_is(tmp_path, servers[1].url, max_body_bytes=100) as proxy:
        with proxy.client() as client:
            assert client.ask("/", "POST", body=b"x" * 100).status == 200
            client.send(request("/", "POST", "Transfer-Encoding: chunked") + chunked(b"x" * 60, b"y" * 40))
            assert client.answer().status == 200
            client.send(request("/", "POST", coding) + body)
            answer = client.answer()
            assert (answer.status, answer.get("Connection")) == (413, "close")
            assert client.is_closed()
        assert proxy.ask("/").status == 200


def test_check_tells_what_is_changed(tmp_path, servers):
    """In the words of the settings."""
    from click.testing import CliRunner

    from proxy.cli import main

    site = """
    upstream = []
    upstream_path = "/in/"
    preserve_host = false
    [[site.location_rewrite]]
    url = "http://a/in/"
    path = "/"
    """
    with proxied(tmp_path, site + EDITS):
        told = CliRunner().invoke(main, ["check", str(tmp_path / "front.toml")]).output.splitlines()
    assert told[1].endswith(" -> no backend: 404")
    assert told[2:8] == [
        "  / -> /in/ of the backend",
        "  the backend gets its own name as Host",
        "  request: set X-Edited",
        "  response: append X-Answer",
        "  response: unset Server",
        "  Location http://a/in/ becomes /",
    ]

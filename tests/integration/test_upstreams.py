"""Routes and several backends, with the real proxy before them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections import Counter
from datetime import UTC, datetime

import pytest
from integration import front
from integration.peers import OK, Proxied, backend, request, serve_ok

from proxy.lab.ca import LabCA


@contextlib.contextmanager
def proxied(folder, site: str, **http):
    """The proxy with this text in its [[site]]; gives also the CA that backends may use."""
    ca = LabCA.create(datetime.now(UTC))
    issued = ca.issue(["localhost", "127.0.0.1"])
    ca.write(folder)
    stem = folder / issued.stem
    certificate = f'[[site.certificate]]\nchain = "{stem}.pem"\nkey = "{stem}.key"\n'
    with front.run(folder, front.toml(f"[[site]]\n{site}\n{certificate}", http=http)) as running:
        yield Proxied(running, folder / "root.pem")


def named(name: str):
    """Answer every request with this name, the target and the body."""

    def serve(visit) -> None:
        while head := visit.head():
            body = name.encode() + b" " + head.split(b" ")[1] + b" " + visit.body(head)
            visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    return serve


def hang_up(visit) -> None:
    """Take the request, and close without a word."""
    visit.request()
    visit.close()


@pytest.fixture
def three():
    """Three backends, which say who they are."""
    with contextlib.ExitStack() as stack:
        backends = [stack.enter_context(backend()) for _ in range(3)]
        for each, name in zip(backends, "abc", strict=True):
            stack.enter_context(each.does(named(name)))
        yield backends


def names(client, count: int) -> list[str]:
    return [client.ask("/").body.decode()[0] for _ in range(count)]


def test_paths_lead_to_their_backends_as_they_were_sent(tmp_path, three):
    """Also one after the other on one connection; what steps round a route is 400."""
    a, b, c = three
    site = f"""
    upstream = "{a.url}"
    [[site.route]]
    prefix = "/api/"
    upstream = "{b.url}"
    [[site.route]]
    prefix = "/api/v2"
    upstream = "{c.url}"
    """
    with proxied(tmp_path, site) as proxy, proxy.client() as client:
        for target, expected in {
            "/": b"a / ", "/api": b"b /api ", "/api/x%2Fy?q=/../": b"b /api/x%2Fy?q=/../ ", "/apix": b"a /apix ",
            "/api/v2/x": b"c /api/v2/x ", "http://localhost/api/v2": b"c /api/v2 ", "/api/v20": b"b /api/v20 ",
        }.items():  # fmt: skip
            answer = client.ask(target)
            assert (answer.status, answer.body) == (200, expected)
        for target in ("/x/../api/v2/", "/api/%2e%2e/", "/%61pi", "//api", "/api%2fv2"):
            assert proxy.ask(target).status == 400
    assert [each.count for each in three] == [1, 1, 1]


def test_requests_go_round_by_weight_until_one_is_gone(tmp_path, three):
    """And nobody notices that: what could not be sent goes to the next."""
    a, b, _ = three
    site = f'upstream = [{{ url = "{a.url}", weight = 2 }}, "{b.url}"]'
    with proxied(tmp_path, site, upstream_max_idle=0) as proxy, proxy.client() as client:
        assert Counter(names(client, 9)) == {"a": 6, "b": 3}
        url = a.url
        a.leave()
        answers = [client.ask("/", "POST", body=b"x") for _ in range(9)]
        assert [answer.body for answer in answers] == [b"b / x"] * 9
        proxy.front.wait_for_log(rf"upstream {url} fails: the backend cannot be reached \(Connection refused\)")
        proxy.front.wait_for_log(rf"upstream {url} is left out for 5 s after 3 failures in a row")


def test_the_least_busy_backend_is_next(tmp_path, three):
    """While one works at a request, the others get the rest."""
    a, b, _ = three
    go_on = threading.Event()

    def slow(visit) -> None:
        visit.request()
        go_on.wait(10)
        visit.send(OK)

    site = f'upstream = ["{a.url}", "{b.url}"]\nbalance = "least-connections"'
    with a.does(slow), proxied(tmp_path, site) as proxy, proxy.client() as first, proxy.client() as second:
        first.send(request("/"))
        front.wait_until(lambda: a.count == 1)
        assert names(second, 6) == ["b"] * 6
        go_on.set()
        assert first.answer().body == b"ok"


def test_a_post_that_was_sent_is_not_sent_again(tmp_path, three):
    """It may have been carried out: the client is told, and the other backend is not asked."""
    a, b, _ = three
    site = f'upstream = ["{a.url}", "{b.url}"]'
    with a.does(hang_up), proxied(tmp_path, site) as proxy, proxy.client() as client:
        answers = [client.ask("/", "POST", body=b"x") for _ in range(8)]
        assert [answer.status for answer in answers].count(502) == 3
        assert (a.count, b.count) == (3, 1)


def test_when_all_are_gone_all_are_tried(tmp_path, three):
    """A backend that comes back while it is left out is found at once, since there is no better one."""
    a, b, _ = three
    port = a.listener.getsockname()[1]
    site = f'upstream = ["{a.url}", "{b.url}"]'
    http = {"upstream_max_fails": 1, "upstream_retry_min_s": 3600, "upstream_retry_max_s": 3600}
    with proxied(tmp_path, site, **http) as proxy:
        a.leave()
        b.leave()
        assert [proxy.ask("/").status for _ in range(4)] == [502] * 4
        with socket.create_server(("127.0.0.1", port)) as listener:
            a.listener = listener
            accepting = threading.Thread(target=a.accept, daemon=True)
            accepting.start()
            assert [proxy.ask("/").status for _ in range(4)] == [200] * 4
            a.leave()
            accepting.join(10)


def test_checks_find_what_is_down_before_a_client_does(tmp_path, three):
    """A check is a GET of its own, with the site's name."""
    a, b, _ = three
    checks = []

    def ill(visit) -> None:
        head = visit.head()
        checks.append(head)
        visit.send(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")

    site = f"""
    upstream = ["{a.url}", "{b.url}"]
    [site.health]
    path = "/up?x=1"
    interval_s = 0.05
    unhealthy_after = 2
    """
    with a.does(ill), proxied(tmp_path, site) as proxy, proxy.client() as client:
        proxy.front.wait_for_log(rf"upstream {a.url} is left out, it fails its health checks: .*500 No")
        assert names(client, 6) == ["b"] * 6
        assert checks[0].startswith(b"GET /up?x=1 HTTP/1.1\r\nHost: localhost\r\n")


def test_requests_wait_for_a_connection_and_then_are_503(tmp_path, three):
    """One at a time, one in the queue, and who comes then is told at once."""
    a, _, _ = three
    go_on = threading.Event()

    def slow(visit) -> None:
        while head := visit.head():
            visit.body(head)
            go_on.wait(10)
            visit.send(OK)

    http = {"upstream_max_connections": 1, "upstream_max_waiting": 1}
    with a.does(slow), proxied(tmp_path, f'upstream = "{a.url}"', **http) as proxy:
        with proxy.client() as first, proxy.client() as second, proxy.client() as third:
            first.send(request("/"))
            front.wait_until(lambda: a.count == 1)
            second.send(request("/"))
            front.wait_until(lambda: third.ask("/").status == 503)
            go_on.set()
            assert (first.answer().status, second.answer().status) == (200, 200)
        assert a.count == 1


def test_a_backend_with_tls_is_verified(tmp_path, lab):
    """With the file's CA and the name that is set; else 502, and one sentence in the log."""
    chain, key = lab.issue("app.internal")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)

    def serve(visit) -> None:
        visit._file.close()
        with contextlib.suppress(ssl.SSLError):  # as when the proxy refuses the certificate
            visit.sock = context.wrap_socket(visit.sock, server_side=True)
            visit._file = visit.sock.makefile("rb")
            serve_ok(visit)

    with backend() as tls, tls.does(serve):
        url = tls.url.replace("http:", "https:")
        for name, status in (("app.internal", 200), ("other.internal", 502)):
            folder = tmp_path / name
            folder.mkdir()
            site = f'upstream = "{url}"\nupstream_ca = "{lab.root}"\nupstream_name = "{name}"'
            with proxied(folder, site) as proxy, proxy.client() as client:
                assert [client.ask("/").status for _ in range(2)] == [status] * 2
                said = [line for line in proxy.front.log.splitlines() if "upstream https" in line]
                if status == 502:
                    (line,) = said
                    assert "fails: the backend's certificate is refused (Hostname mismatch); logged once" in line
                else:
                    assert said == []


def test_a_ca_that_is_not_there_is_told_before_anything_begins(tmp_path):
    """By its key path, and without a traceback."""
    ca = LabCA.create(datetime.now(UTC))
    issued = ca.issue(["localhost"])
    ca.write(tmp_path)
    stem = tmp_path / issued.stem
    text = f"""
    [[site]]
    upstream = ["https://a", "https://b"]
    upstream_ca = "nowhere.pem"
    [[site.certificate]]
    chain = "{stem}.pem"
    key = "{stem}.key"
    """
    with front.run(tmp_path, text, until_ready=False) as running:
        assert running.process.wait(10) == 2
        assert "site[0].upstream_ca: " in running.log
        assert "Traceback" not in running.log

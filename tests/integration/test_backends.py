"""The servers that Python people run, as real processes, and the clients that real people use."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from integration.clients import curl
from integration.conftest import free_port
from integration.front import wait_until
from integration.peers import Client, proxied

TESTS = Path(__file__).parents[1]


@contextlib.contextmanager
def server(folder: Path, *command: str, ready: str):
    """Run a server with the applications on its path; gives its log once `ready` is in it."""
    log = folder / "server.log"
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=out, stderr=out, cwd=folder, env=environment
        )
    try:
        wait_until(lambda: re.search(ready, log.read_text()) or process.poll() is not None, 20, f"{ready} in {log}")
        assert process.poll() is None, log.read_text()
        yield log
    finally:
        process.terminate()
        process.wait(10)


@dataclass(frozen=True)
class Served:
    """How a server is started: PORT and SOCKET stand for where it shall listen."""

    command: str
    ready: str
    knows_client: bool = True
    """It can be told to take the client's address from the proxy."""
    takes_chunks: bool = True
    """False: it takes a chunked body for an empty one, as wsgiref does on which it stands, and closes with it unread: a
    reset, which may overtake the answer."""
    has_gate: bool = False
    """It serves the ASGI application, whose /gated waits."""

    @contextlib.contextmanager
    def run(self, folder: Path):
        # A Unix socket's path has at most 107 bytes, which pytest's own folders leave little of.
        port, path = free_port(), folder / "s"
        with server(folder, *self.command.format(PORT=port, SOCKET=path).split(), ready=self.ready):
            yield f"unix:{path}" if "{SOCKET}" in self.command else f"http://127.0.0.1:{port}"


_UVICORN = "--proxy-headers --forwarded-allow-ips * integration.apps:asgi"
SERVERS = {
    "gunicorn gthread": Served(
        "gunicorn --bind 127.0.0.1:{PORT} --worker-class gthread --threads 4 integration.apps:flask_app",
        "Booting worker",
        knows_client=False,
    ),
    "gunicorn gthread, Unix": Served(
        "gunicorn --bind unix:{SOCKET} --worker-class gthread --threads 4 integration.apps:flask_app",
        "Booting worker",
        knows_client=False,
    ),
    "gunicorn sync": Served(
        "gunicorn --bind 127.0.0.1:{PORT} --workers 2 integration.apps:flask_app", "Booting worker", knows_client=False
    ),
    "uvicorn": Served(f"uvicorn --port {{PORT}} {_UVICORN}", "running on ", has_gate=True),
    "uvicorn, Unix": Served(f"uvicorn --uds {{SOCKET}} {_UVICORN}", "running on ", has_gate=True),
    "hypercorn": Served(
        "hypercorn --bind 127.0.0.1:{PORT} integration.apps_more:hypercorn_asgi", "Running on ", has_gate=True
    ),
    "granian": Served(
        "granian --interface asgi --host 127.0.0.1 --port {PORT} --no-ws integration.apps_more:granian_asgi",
        "Started worker-1",
        has_gate=True,
    ),
    "aiohttp": Served("aiohttp.web -H 127.0.0.1 -P {PORT} integration.apps_more:aiohttp_app", "Running on "),
    "Django runserver": Served(
        "django runserver --noreload --settings integration.django_site 127.0.0.1:{PORT}",
        "Starting development server",
        knows_client=False,
        takes_chunks=False,
    ),
}
QUICK = {"gunicorn gthread", "gunicorn gthread, Unix", "uvicorn", "uvicorn, Unix"}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SERVERS],
)
def proxy(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("b")
    served = SERVERS[request.param]
    with served.run(folder) as upstream, proxied(folder, upstream) as running:
        running.served = served
        yield running


@pytest.fixture
def connection(proxy):
    context = ssl.create_default_context(cafile=proxy.root)
    connection = http.client.HTTPSConnection("localhost", proxy.front.port, context=context, timeout=10)
    connection._create_connection = lambda *_: socket.create_connection(("127.0.0.1", proxy.front.port), 10)
    yield connection
    connection.close()


def ask(connection, target, method="GET", **more):
    connection.request(method, target, **more)
    response = connection.getresponse()
    return response, response.read()


def test_the_application_sees_the_request_as_it_was_made(proxy, connection):
    """Host, forwarded headers, method, body; the forged ones are gone."""
    forged = {"X-Forwarded-For": "1.2.3.4", "X_Forwarded_For": "1.2.3.4", "X-Forwarded-Proto": "http", "X-Mine": "1"}
    _, body = ask(connection, "/seen", "POST", body=b"data", headers=forged)
    seen = json.loads(body)
    headers = {name.lower(): value for name, value in seen["headers"]}
    host = f"localhost:{proxy.front.port}"
    assert (seen["method"], seen["body"]) == ("POST", "data")
    assert headers["host"] == headers["x-forwarded-host"] == host
    assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == ("127.0.0.1", "https")
    assert headers["x-mine"] == "1"
    assert not any("1.2.3.4" in value for value in headers.values())


def test_the_application_knows_the_client_and_the_scheme(proxy, connection):
    """With the servers' own option to trust the proxy."""
    seen = json.loads(ask(connection, "/seen")[1])
    host = f"localhost:{proxy.front.port}"
    assert seen["url"] == f"https://{host}/seen"
    if proxy.served.knows_client:
        assert seen["remote"] == "127.0.0.1"


def test_bodies_come_with_length_and_chunked(proxy, connection):
    """Both ways of http.client, on one connection."""
    text = "some text " * 10_000
    pieces = (text[at : at + 1000].encode() for at in range(0, len(text), 1000))
    chunked = {"body": pieces, "encode_chunked": True, "headers": {"Transfer-Encoding": "chunked"}}
    for more in ({"body": text.encode()}, *([chunked] if proxy.served.takes_chunks else [])):
        _, body = ask(connection, "/seen", "POST", **more)
        assert json.loads(body)["body"] == text


def test_answers_without_body_do_not_shift_the_next(connection):
    """HEAD, 204 and 304 on one connection."""
    for target, method, status in (
        ("/seen", "HEAD", 200), ("/status/204", "GET", 204), ("/status/304", "GET", 304), ("/seen", "GET", 200),
    ):  # fmt: skip
        response, body = ask(connection, target, method)
        assert (response.status, body == b"") == (status, method == "HEAD" or status != 200)


def test_every_cookie_arrives(connection):
    """Several Set-Cookie stay several."""
    response, _ = ask(connection, "/cookies")
    assert [value[:1] for value in response.headers.get_all("Set-Cookie")] == ["a", "b", "c"]


def test_curl_is_served(proxy, tmp_path):
    """GET, HEAD, POST by length, chunked, and with Expect: 100-continue; all in one curl on one connection."""
    url = f"https://localhost:{proxy.front.port}/seen"
    upload = tmp_path / "upload"
    upload.write_text("x" * 100_000)
    requests = [
        [],
        ["--head"],
        ["--data-binary", f"@{upload}"],
        *([["--data-binary", f"@{upload}", "--header", "Transfer-Encoding: chunked"]] * proxy.served.takes_chunks),
        ["--upload-file", str(upload), "--header", "Expect: 100-continue", "--expect100-timeout", "10"],
    ]
    command = []
    for options in requests:
        command += ["--next", "--silent", "--show-error", "--cacert", str(proxy.root), "--fail"] if command else []
        command += [*options, url, "--write-out", "\n%{http_code} %{num_connects}\n"]
    done = curl("--resolve", f"localhost:{proxy.front.port}:127.0.0.1", *command, ca=proxy.root)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(\d{3}) (\d)$", done.stdout, re.MULTILINE) == [
        ("200", "1"),
        *[("200", "0")] * (len(requests) - 1),
    ]
    bodies = [json.loads(line)["body"] for line in done.stdout.splitlines() if line.startswith("{")]
    assert [len(body) for body in bodies] == [0, *[100_000] * (len(requests) - 2)]


def test_a_generated_answer_comes_whole(connection):
    """Without a length, so chunked to the client, however the server marks its end."""
    response, body = ask(connection, "/pieces")
    assert response.getheader("Transfer-Encoding") == "chunked"
    assert body == b"".join(b"piece %d\n" % number for number in range(1000))


def test_the_first_piece_comes_before_the_second_is_sent(proxy):
    """Nothing is gathered on the way."""
    if not proxy.served.has_gate:
        pytest.skip("only the ASGI application has such a page")
    with proxy.client() as reader, proxy.client() as opener:
        assert isinstance(reader, Client)
        reader.send(b"GET /gated HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert reader.head().status == 200
        assert reader.chunk() == b"first"
        assert opener.ask("/open", "POST").status == 204
        assert (reader.chunk(), reader.chunk()) == (b"second", b"")

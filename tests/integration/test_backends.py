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
from pathlib import Path

import pytest
from integration.clients import curl
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


@contextlib.contextmanager
def gunicorn(folder: Path, kind: str):
    bind = f"unix:{folder}/g.sock" if kind == "Unix" else "127.0.0.1:0"
    command = ("gunicorn", "--bind", bind, "--worker-class", "gthread", "--threads", "4", "integration.apps:flask_app")
    with server(folder, *command, ready=r"Booting worker") as log:
        yield re.search(r"Listening at: (\S+)", log.read_text())[1]


@contextlib.contextmanager
def uvicorn(folder: Path, kind: str):
    path = folder / "u.sock"
    address = ("--uds", str(path)) if kind == "Unix" else ("--port", "0")
    command = ("uvicorn", *address, "--proxy-headers", "--forwarded-allow-ips", "*", "integration.apps:asgi")
    with server(folder, *command, ready=r"running on ") as log:
        yield f"unix:{path}" if kind == "Unix" else re.search(r"running on (\S+)", log.read_text())[1]


@pytest.fixture(scope="module", params=["gunicorn TCP", "gunicorn Unix", "uvicorn TCP", "uvicorn Unix"])
def proxy(request, tmp_path_factory):
    # A Unix socket's path has at most 107 bytes, which pytest's own folders leave little of.
    folder = tmp_path_factory.mktemp("b")
    name, kind = request.param.split()
    serve = {"gunicorn": gunicorn, "uvicorn": uvicorn}[name]
    with serve(folder, kind) as upstream, proxied(folder, upstream) as running:
        running.server = name
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
    if proxy.server == "uvicorn":
        assert seen["remote"] == "127.0.0.1"


def test_bodies_come_with_length_and_chunked(connection):
    """Both ways of http.client, on one connection."""
    text = "some text " * 10_000
    for more in (
        {"body": text.encode()},
        {"body": (text[at : at + 1000].encode() for at in range(0, len(text), 1000)), "encode_chunked": True,
         "headers": {"Transfer-Encoding": "chunked"}},
    ):  # fmt: skip
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
        ["--data-binary", f"@{upload}", "--header", "Transfer-Encoding: chunked"],
        ["--upload-file", str(upload), "--header", "Expect: 100-continue", "--expect100-timeout", "10"],
    ]
    command = []
    for options in requests:
        command += ["--next", "--silent", "--show-error", "--cacert", str(proxy.root), "--fail"] if command else []
        command += [*options, url, "--write-out", "\n%{http_code} %{num_connects}\n"]
    done = curl("--resolve", f"localhost:{proxy.front.port}:127.0.0.1", *command, ca=proxy.root)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(\d{3}) (\d)$", done.stdout, re.MULTILINE) == [("200", "1"), *[("200", "0")] * 4]
    bodies = [json.loads(line)["body"] for line in done.stdout.splitlines() if line.startswith("{")]
    assert [len(body) for body in bodies] == [0, 100_000, 100_000, 100_000]


def test_a_generated_answer_comes_whole(proxy, connection):
    """Chunked from gunicorn, chunked to the client."""
    if proxy.server != "gunicorn":
        pytest.skip("the ASGI application has no such page")
    response, body = ask(connection, "/pieces")
    assert response.getheader("Transfer-Encoding") == "chunked"
    assert body == b"".join(b"piece %d\n" % number for number in range(1000))


def test_the_first_piece_comes_before_the_second_is_sent(proxy):
    """Nothing is gathered on the way."""
    if proxy.server != "uvicorn":
        pytest.skip("the WSGI application has no such page")
    with proxy.client() as reader, proxy.client() as opener:
        assert isinstance(reader, Client)
        reader.send(b"GET /gated HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert reader.head().status == 200
        assert reader.chunk() == b"first"
        assert opener.ask("/open", "POST").status == 204
        assert (reader.chunk(), reader.chunk()) == (b"second", b"")

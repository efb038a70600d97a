"""The real proxy's log: for programs, without secrets, without tracebacks, and short when trouble repeats itself."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import socket
import ssl

import pytest
from integration.admin import staples
from integration.clients import s_client
from integration.front import run, site, toml, wait_until
from integration.test_policies import FAST

from proxy.errors import FetchReason, Reason
from proxy.sites import NotStapled

PASSWORD = "hunter2-in-the-environment"
TOKEN = "bearer-token-of-a-client"
COOKIE = "session-of-a-client"
ADMIN_TOKEN = "admin-token-of-an-operator"
KEY_LINES = 3


def lines_of(front):
    whole, _, _ = front.log.rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


@pytest.mark.slow
def test_json_has_one_object_a_line_with_reasons(lab, backend, tmp_path, monkeypatch):
    """From the start to the end, of all processes; what went wrong has the code that all else has too."""
    monkeypatch.delenv("STAPLEPROXY_LOG_FORMAT")
    pair = lab.issue("localhost")
    with run(tmp_path, toml(site(backend, pair), stapling={**FAST, "warmup_timeout_s": 0.5})) as front:
        refused = wait_until(lambda: [line for line in lines_of(front) if line.get("reasons")])[0]
        with lab.responder():
            wait_until(lambda: "stapled until" in front.log)
        assert front.stop() == 0
    assert refused["level"] == "warning"
    assert refused["role"] == "keeper"
    assert refused["certificate"].startswith(pair[0].name)
    assert refused["responder"] == f"http://127.0.0.1:{lab.port}"
    assert refused["reasons"] == [FetchReason.CONNECT]
    told = lines_of(front)
    assert {line["role"] for line in told} >= {"master", "keeper"}
    codes = {str(code) for codes in (Reason, FetchReason, NotStapled) for code in codes}
    for line in told:
        assert {"time", "level", "role", "pid", "logger", "message"} <= set(line)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert set(line.get("reasons", ())) <= codes


@pytest.mark.slow
def test_the_same_trouble_again_and_again_is_a_few_lines(lab, backend, tmp_path):
    """A responder that is down is asked several times a second; at the end all attempts have been counted."""
    pair = lab.issue("localhost")
    settings = {"stapling": {**FAST, "warmup_timeout_s": 0.5}, "admin": {"socket": str(tmp_path / "admin.sock")}}
    with run(tmp_path, toml(site(backend, pair), **settings)) as front:
        at_once = wait_until(lambda: re.findall("no new staple", front.log))
        asked = wait_until(lambda: asked_in_vain(front) >= 8 and asked_in_vain(front))
        assert len(at_once) == 1
        assert len(re.findall("no new staple", front.log)) == 1, front.log
        with lab.responder():
            front.wait_for_log("stapled until")
        told = front.log.splitlines()
        front.stop()
    lines = [line for line in told if "no new staple" in line]
    assert len(lines) == 2
    assert int(re.search(r"\((\d+) more times in the last ", lines[1])[1]) >= asked - 1
    assert told.index(lines[1]) < next(at for at, line in enumerate(told) if "stapled until" in line)


def asked_in_vain(front) -> int:
    """By the keeper's own count."""
    return staples(front.log_path.parent / "admin.sock")["localhost"]["failures"]


@contextlib.contextmanager
def connected(port, **options):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=20, **options)
    try:
        yield connection
    finally:
        connection.close()


@pytest.mark.parametrize("form", ["human", "json"])
def test_no_secret_and_no_traceback_even_at_debug(lab, backend, tmp_path, monkeypatch, form):
    """Keys, passwords in the environment, tokens and cookies of clients; and garbage at every door."""
    monkeypatch.setenv("http_proxy", f"http://user:{PASSWORD}@127.0.0.1:1/")
    monkeypatch.delenv("no_proxy", raising=False)
    pair, admin = lab.issue("localhost"), tmp_path / "admin.sock"
    token_file = tmp_path / "token"
    token_file.write_text(ADMIN_TOKEN)
    token_file.chmod(0o600)
    text = toml(
        site(backend, pair) + site("http://127.0.0.1:1", lab.issue("gone.test")),
        log_level="debug",
        log_format=form,
        stapling={**FAST, "warmup_timeout_s": 0.5},
        admin={"socket": str(admin), "token_file": str(token_file)},
    ).replace("[admin]\n", '[admin]\nlisten = "127.0.0.1:0"\n')
    with run(tmp_path, text) as front:
        headers = {"Authorization": f"Bearer {TOKEN}", "Cookie": f"id={COOKIE}"}
        for host in ("localhost", "gone.test"):
            with connected(front.port) as connection:
                connection.request("GET", f"/?token={TOKEN}", headers={**headers, "Host": host})
                connection.getresponse().read()
        for garbage in (b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", os.urandom(500), b"\x16\x03\x01\xff\xff" + b"x" * 300):
            with socket.create_connection(("127.0.0.1", front.port)) as sock:
                sock.sendall(garbage)
        with connected(front.port) as connection:
            connection.connect()
            connection.sock.sendall(f"GET / HTTP/1.1\r\nCookie {COOKIE}\r\n\r\n".encode())
            connection.sock.recv(1000)
        s_client(front.port, "-status", ca=lab.root)
        port = int(re.search(r"the admin interface is at http://127\.0\.0\.1:(\d+)/", front.log)[1])
        for garbage in (
            b"\0\1\2\r\n\r\n",
            b"GET /\x80 HTTP/1.1\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {ADMIN_TOKEN}\r\n\r\n".encode(),
            f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n".encode(),
            b"PUT /api/staples/00 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        ):
            for family, address in ((socket.AF_INET, ("127.0.0.1", port)), (socket.AF_UNIX, str(admin))):
                with socket.socket(family) as sock:
                    sock.settimeout(20)
                    sock.connect(address)
                    sock.sendall(garbage)
                    with contextlib.suppress(ConnectionResetError):
                        sock.recv(1000)
        front.wait_for_log("no new staple")
        front.stop()
    for secret in (PASSWORD, TOKEN, COOKIE, ADMIN_TOKEN):
        assert secret not in front.log
        assert base64.b64encode(f"user:{secret}".encode()).decode() not in front.log
    for line in pair[1].read_text().splitlines()[1:KEY_LINES]:
        assert line not in front.log
    assert "Traceback" not in front.log
    assert "Logging error" not in front.log

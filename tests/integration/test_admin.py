"""The admin interface of a real proxy: by its Unix socket, and by TCP for those who may."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import time
from datetime import timedelta

import pytest
from integration.admin import ask, ask_bytes
from integration.conftest import free_port
from integration.front import run, site, toml, wait_until
from integration.test_policies import FAST, response

from proxy.lab.client import probe

TOKEN = "0123456789abcdef-a-secret"


def configuration(folder, sites, **admin):
    return toml(sites, stapling=FAST, admin={"socket": str(folder / "admin.sock"), "listen": "127.0.0.1:0", **admin})


def token_file(folder, text=TOKEN + "\n", mode=0o600):
    path = folder / "admin.token"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def port_of(front):
    return int(front.wait_for_log(r"the admin interface is at http://127\.0\.0\.1:(\d+)/")[1])


def by_tcp(port, method, target, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def stapled_der(front, lab):
    return probe("127.0.0.1", front.port, "localhost", roots=lab.root).staple_der


def test_a_response_that_is_put_there_is_what_clients_get(lab, backend, tmp_path):
    """At once, from a client with the token; and an older one changes nothing."""
    pair = lab.issue("localhost")
    sites = site(backend, pair)
    with lab.responder(), run(tmp_path, configuration(tmp_path, sites, token_file=token_file(tmp_path))) as front:
        wait_until(lambda: stapled_der(front, lab))
        port = port_of(front)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/ocsp-response"}
        status, text = by_tcp(port, "GET", "/api/staples", **headers)
        assert status == 200
        target = f"/api/staples/{json.loads(text)['staples'][0]['key']}"
        newer = response(lab, pair, days=20, ago=timedelta(0))
        assert by_tcp(port, "PUT", target, newer)[0] == 401
        assert by_tcp(port, "PUT", target, newer, **headers)[0] == 200
        assert stapled_der(front, lab) == newer == by_tcp(port, "GET", f"{target}/response", **headers)[1]
        status, text = by_tcp(port, "PUT", target, response(lab, pair, days=30, ago=timedelta(days=9)), **headers)
        assert (status, json.loads(text)["reason"]) == (422, "older-than-held")
        assert stapled_der(front, lab) == newer
        assert "from the admin interface" in front.log


@pytest.mark.slow
def test_the_status_has_what_was_served(lab, backend, tmp_path):
    """Handshakes by staple, responders with their latency, the cache, the master's news."""
    with lab.responder(), run(tmp_path, configuration(tmp_path, site(backend, lab.issue("localhost")))) as front:
        for _ in range(3):
            assert stapled_der(front, lab)

        def status():
            return json.loads(ask(tmp_path / "admin.sock", "/api/status")[1])

        wait_until(lambda: status()["traffic"]["handshakes_by"].get("fresh", 0) >= 3)
        wait_until(lambda: status()["cache"]["hits"] >= 3)
        told = status()
        assert told["certificates"]["stapled"] == 1
        (responder,) = told["responders"]
        assert (responder["responder"], responder["failed"]) == (f"127.0.0.1:{lab.port}", 0)
        assert 0 < responder["p50_s"] < 10
        assert told["cache"]["entries"] == 1
        assert told["generation"]["generation"] == 1
        assert told["generation"]["config"].endswith("front.toml")


@pytest.mark.slow
def test_the_master_is_ordered_by_the_unix_socket_alone(lab, backend, tmp_path):
    """A reload with a mistake is told with it, one without is taken in, the TCP port stays the same; then it stops."""
    path = tmp_path / "admin.sock"
    settings = configuration(tmp_path, site(backend, lab.issue("localhost")), token_file=token_file(tmp_path))
    with lab.responder(), run(tmp_path, settings) as front:
        port = port_of(front)
        right = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        assert by_tcp(port, "POST", "/api/reload", **right)[0] == 403

        def reloaded(times):
            assert ask(path, "/api/reload", "POST")[0] == 202

            def ended():
                with contextlib.suppress(OSError, http.client.HTTPException):  # while one keeper follows the other
                    news = json.loads(ask(path, "/api/reload")[1])
                    return news["reloads"] == times and news

            return wait_until(ended)

        token_file(tmp_path, "short")
        news = reloaded(1)
        assert not news["last_reload"]["ok"]
        assert "less than 16 characters" in news["last_reload"]["mistakes"][0]
        assert by_tcp(port, "GET", "/api/status", **right)[0] == 200, "the old token holds"
        token_file(tmp_path, "another-secret-of-the-operator")
        assert reloaded(2)["generation"] == 2
        assert by_tcp(port, "GET", "/api/status", **right)[0] == 401
        right["Authorization"] = "Basic " + base64.b64encode(b"x:another-secret-of-the-operator").decode()
        assert by_tcp(port, "GET", "/api/status", **right)[0] == 200
        assert ask(path, "/api/stop", "POST")[0] == 202
        assert front.process.wait(20) == 0


@pytest.mark.slow
def test_a_reload_takes_the_port_elsewhere_and_back(lab, backend, tmp_path):
    """Nobody is left waiting at the old address, which is free for whoever wants it."""
    first, second = free_port(), free_port()
    settings = configuration(tmp_path, site(backend, lab.issue("localhost")), listen=f"127.0.0.1:{first}")
    with lab.responder(), run(tmp_path, settings) as front:
        file = tmp_path / "front.toml"
        for generation, (old, new) in enumerate([(first, second), (second, first)], 2):
            file.write_text(file.read_text().replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}"))
            front.process.send_signal(signal.SIGHUP)
            front.wait_for_log(f"reloaded, generation {generation}", 20)
            assert by_tcp(new, "GET", "/healthz")[0] == 200
            with pytest.raises(ConnectionRefusedError):
                by_tcp(old, "GET", "/healthz")


@pytest.mark.slow
def test_those_who_hold_the_port_open_keep_nobody_from_the_socket(lab, backend, tmp_path):
    """Slow clients by TCP, more than there is room for: the others by TCP, and all by the Unix socket, are served."""
    with lab.responder(), run(tmp_path, configuration(tmp_path, site(backend, lab.issue("localhost")))) as front:
        port = port_of(front)
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                slow = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
            assert by_tcp(port, "GET", "/healthz")[0] == 200
            assert ask(tmp_path / "admin.sock", "/healthz")[0] == 200
            slow.sendall(b"x\r\n\r\n")
            assert slow.recv(12) == b"HTTP/1.1 200"


@pytest.mark.slow
def test_wrong_tokens_are_answered_late(lab, backend, tmp_path):
    settings = configuration(tmp_path, site(backend, lab.issue("localhost")), token_file=token_file(tmp_path))
    with lab.responder(), run(tmp_path, settings) as front:
        began_at = time.monotonic()
        assert by_tcp(port_of(front), "GET", "/", Authorization="Bearer wrong")[0] == 401
        assert time.monotonic() - began_at >= 1


@pytest.mark.parametrize(
    ("admin", "mode", "what"),
    [
        ({"listen": "0.0.0.0:9180"}, 0o600, "set allow and token_file too"),
        ({"token_file": True}, 0o604, "every user of this machine can read or write it"),
        ({"token_file": "none"}, 0o600, "cannot read"),
    ],
)
def test_what_would_be_open_to_all_does_not_start(lab, backend, tmp_path, admin, mode, what):
    path = token_file(tmp_path, mode=mode)
    admin = {name: path if value is True else value for name, value in admin.items()}
    with run(
        tmp_path, configuration(tmp_path, site(backend, lab.issue("localhost")), **admin), until_ready=False
    ) as front:
        assert front.process.wait(20) == 2
        assert what in front.log
        assert "Traceback" not in front.log


def test_as_in_apache_it_tells_what_the_cache_has(lab, backend, tmp_path):
    """Nothing is fetched ahead, and none can be ordered or set: a handshake brings it, and then it is told."""
    sites = site(backend, lab.issue("localhost"))
    path = tmp_path / "admin.sock"
    settings = toml(sites, stapling={"profile": "httpd-2.4"}, admin={"socket": str(path)})

    def certificate():
        told = json.loads(ask(path, "/api/status")[1])
        return told["sites"][0]["certificates"][0]

    with lab.responder(), run(tmp_path, settings) as front:
        assert certificate()["state"] == "on-demand"
        target = f"/api/staples/{certificate()['key']}"
        assert ask(path, f"{target}/response")[0] == 404
        der = stapled_der(front, lab)
        assert (certificate()["state"], certificate()["status"]) == ("stapled", "good")
        assert ask_bytes(path, f"{target}/response") == der
        for method, order in (("POST", f"{target}/refresh"), ("PUT", target)):
            status, text = ask(path, order, method)
            assert (status, "as in Apache" in text) == (409, True)
        assert "localhost" in ask(path, "/")[1]


@pytest.mark.slow
def test_the_port_goes_on_in_the_next_program(lab, backend, tmp_path):
    """SIGUSR2: the new program answers on the same port, and whoever watches notices nothing but its number."""
    settings = configuration(tmp_path, site(backend, lab.issue("localhost")))
    with lab.responder(), run(tmp_path, settings) as front:
        port = port_of(front)

        def master():
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                return json.loads(by_tcp(port, "GET", "/api/reload")[1])["master_pid"]

        before = wait_until(master)
        front.process.send_signal(signal.SIGUSR2)
        try:
            assert front.process.wait(30) == 0
            after = wait_until(master)
            assert after != before
            assert after == int(front.wait_for_log(r"process (\d+) has taken over")[1])
        finally:
            os.kill(int(front.wait_for_log(r"process (\d+) has taken over")[1]), signal.SIGTERM)

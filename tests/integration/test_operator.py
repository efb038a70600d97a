"""The operator's files, commands and missing issuers, in the keeper as a process."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from integration.clients import is_stapled, s_client
from integration.front import run, site, toml, wait_until
from integration.test_policies import FAST, response, with_file

from proxy.lab.client import probe


def stapled_der(front, lab):
    return probe("127.0.0.1", front.port, "localhost", roots=lab.root).staple_der


@pytest.mark.slow
@pytest.mark.parametrize("with_uri", [True, False], ids=["and a responder", "alone"])
def test_a_staple_file_is_served_and_its_updates_too(lab, backend, tmp_path, with_uri):
    """'a staple loaded from a file and still long valid causes no fetch'; 'an update put in by hand replaces the
    served one at once'; 'a staple from a file is sent as it is, revoked too'.
    """
    pair = lab.issue("localhost", with_uri=with_uri)
    path = tmp_path / "staple.der"
    path.write_bytes(response(lab, pair, days=20))
    with run(tmp_path, with_file(toml(site(backend, pair), stapling=FAST), path)) as front:
        assert stapled_der(front, lab) == path.read_bytes()
        assert "trying again" not in front.log, "the responder, which is not there, was not asked"
        for days, status in ((21, ocsp.OCSPCertStatus.GOOD), (22, ocsp.OCSPCertStatus.REVOKED)):
            newer = response(lab, pair, days=days, ago=timedelta(minutes=30 - days), status=status)
            path.with_suffix(".new").write_bytes(newer)
            path.with_suffix(".new").replace(path)
            wait_until(lambda newer=newer: stapled_der(front, lab) == newer)


@contextlib.contextmanager
def web_page(content: bytes):
    """A web server with one page, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_an_issuer_is_fetched_once(lab, backend, tmp_path):
    """From where the certificate says; a restart needs no download."""
    issuer = x509.load_pem_x509_certificate(lab.intermediate.read_bytes()).public_bytes(Encoding.DER)
    with web_page(issuer) as (url, asked), lab.responder():
        chain, key = lab.issue("localhost", ca_issuers_url=f"{url}/ca.der")
        leaf = x509.load_pem_x509_certificate(chain.read_bytes())
        chain.write_bytes(leaf.public_bytes(Encoding.PEM))
        settings = {**FAST, "fetch_issuer": True, "cache": f"shmcb:{tmp_path}/cache(65536)"}
        for _ in range(2):
            with run(tmp_path, toml(site(backend, (chain, key)), stapling=settings)) as front:
                assert is_stapled(s_client(front.port, "-status", ca=lab.root)), front.log
        assert asked == ["/ca.der"]


@pytest.mark.slow
def test_a_command_hears_what_happens(lab, backend, tmp_path):
    """Refused while the responder is away, fetched when it is there."""
    pair = lab.issue("localhost")
    command = tmp_path / "on-event"
    heard = tmp_path / "heard"
    command.write_text(f"#!/bin/sh\ncat >> {heard}\n")
    command.chmod(0o700)
    settings = {**FAST, "warmup_timeout_s": 0.5, "on_event": [str(command)]}
    with run(tmp_path, toml(site(backend, pair), stapling=settings)) as front:
        wait_until(lambda: heard.exists() and '"refused"' in heard.read_text())
        with lab.responder():
            wait_until(lambda: '"fetched"' in heard.read_text())
        front.stop()
    events = [json.loads(line) for line in heard.read_text().splitlines()]
    assert events[0]["names"] == ["localhost"]
    assert events[0]["reasons"] == ["connect"]
    assert events[-1]["serve_until"]

"""Configurations of Apache's as people have them, served to real clients."""

from __future__ import annotations

import json
import socket

import pytest
from cli.httpd_files import SAMPLES, install
from click.testing import CliRunner
from integration.conftest import backend, free_port, lab  # noqa: F401  fixtures
from integration.front import run_file, wait_until

from proxy.cli import main
from proxy.lab.client import probe


@pytest.fixture
def installed(lab, tmp_path):  # noqa: F811  pytest's way to ask for a fixture
    """Install a sample with certificates of the lab's CA; gives the file, the options that it needs, and its port."""

    def installed(name):
        pairs = [lab.issue(each) for each in SAMPLES[name].names]
        port = free_port()
        path = install(name, tmp_path / "conf", pairs, port=port, http_port=free_port())
        return path, ["--lenient"] if SAMPLES[name].needs_lenient else [], port

    return installed


@pytest.mark.parametrize("name", SAMPLES)
def test_check(installed, name):
    """Each is understood whole; where it takes --lenient, what is told without it are lines of the file."""
    path, options, _ = installed(name)
    result = CliRunner().invoke(main, ["check", *options, str(path)])
    assert result.exit_code == 0, result.stderr
    for host in SAMPLES[name].names:
        assert host in result.stdout
    if options:
        strict = CliRunner().invoke(main, ["check", str(path)])
        assert strict.exit_code == 2
        told = [line.split(": ")[0] for line in strict.stderr.splitlines()]
        assert all(str(path.parents[1]) in place and place.rsplit(":", 1)[1].isdigit() for place in told), told


def accepts(port):
    """Somebody listens there; Debian's LogLevel keeps our own word for it out of the log."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["httpd-2.4", "prefetch"])
@pytest.mark.parametrize("name", SAMPLES)
def test_run(installed, lab, name, profile):  # noqa: F811  as above
    """Each host has its certificate, and a response stapled if and only if its file says so."""
    path, options, port = installed(name)
    with lab.responder(), run_file(path, "--profile", profile, *options, until_ready=False) as front:
        wait_until(lambda: accepts(port) or front.process.poll() is not None)
        assert front.process.poll() is None, front.log
        for host, is_stapled in zip(SAMPLES[name].names, SAMPLES[name].is_stapled, strict=True):
            seen = probe("127.0.0.1", port, host, roots=lab.root)
            assert (seen.staple is not None) == is_stapled, seen.staple_refusal


@pytest.mark.slow
def test_requests_get_to_the_backend(installed, lab, backend):  # noqa: F811  as above
    """Of ProxyPass; and with no backend there is no page."""
    path, _, port = installed("two-hosts")
    path.write_text(path.read_text().replace("http://127.0.0.1:8000/", f"{backend}/"))
    with run_file(path):
        seen = probe("127.0.0.1", port, "on.example.com", roots=lab.root, request_path="/?it=goes")
        assert (seen.http_status, json.loads(seen.body)["path"]) == (200, "/?it=goes")
    path, _, port = installed("ssl-howto")
    with run_file(path):
        assert probe("127.0.0.1", port, "www.example.com", roots=lab.root, request_path="/").http_status == 404


def test_with_a_backend_certbots_is_understood_whole(installed):
    """What it takes --lenient for is the folder of files alone."""
    path, _, _ = installed("certbot")
    path.write_text(path.read_text().replace("DocumentRoot /var/www/html", "ProxyPass / http://127.0.0.1:8000/"))
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 0, result.stderr

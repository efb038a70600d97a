"""The redirecting port's decisions, each a value in and a value out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.redirect_answer import Answer, decide, read, usable_host, write
from proxy.settings.modes import RedirectSettings

PLAIN = RedirectSettings()
ACME = RedirectSettings(acme_folder="/var/acme")
CHALLENGE = "/.well-known/acme-challenge/"


def ask(target: str, *lines: str, method: str = "GET", version: str = "1.1", settings=PLAIN) -> Answer:
    lines = lines or ("Host: www.test",)
    head = "\r\n".join([f"{method} {target} HTTP/{version}", *lines, "", ""]).encode("latin-1")
    return decide(read(head), settings)


@pytest.mark.parametrize(
    ("target", "host", "location"),
    [
        ("/", "www.test", "https://www.test/"),
        ("/a/b?c=d&e=%20", "WWW.Test:80", "https://www.test/a/b?c=d&e=%20"),
        ("//evil.test/x", "www.test", "https://www.test//evil.test/x"),
        ("/", "[::1]:8080", "https://[::1]/"),
        ("/", "192.0.2.1", "https://192.0.2.1/"),
        ("/", "www.test.", "https://www.test/"),
        ("http://abs.test:80/x?y", "www.test", "https://abs.test/x?y"),
        ("http://abs.test", "www.test", "https://abs.test/"),
        ("http://abs.test?q", "www.test", "https://abs.test/?q"),
    ],
)
def test_same_host_and_same_target(target, host, location):
    """For every method, and in HTTP/1.0 too."""
    for how in ({}, {"method": "POST"}, {"version": "1.0"}):
        answer = ask(target, f"Host: {host}", **how)
        assert (answer.status, answer.location) == (301, location)


def test_status_and_port_are_settings():
    settings = RedirectSettings(status=308, https_port=8443)
    answer = ask("/x", settings=settings)
    assert (answer.status, answer.location) == (308, "https://www.test:8443/x")


@pytest.mark.parametrize(
    "host",
    ["", " ", "a b", "user@www.test", "www.test/x", "www.test:x", "www.test:123456", "[::1", "[::g]", "::1", "a..b",
     "*.test", "www.test?", "www.test#", "www%2etest", "a" * 64 + ".test", "b\xfccher.test", "www.test, other.test"],
)  # fmt: skip
def test_without_a_usable_host_there_is_nowhere_to_send_to(host):
    assert ask("/", f"Host: {host}").status == 400


@pytest.mark.parametrize(
    "lines", [("A: b",), ("Host: a.test", "Host: a.test"), ("Host : a.test",), ("Host: a.test", " b")]
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_host_stands_there_once(lines, version):
    assert ask("/", *lines, version=version).status == 400


@pytest.mark.parametrize(
    "line", ["GET / HTTP/2.0", "GET /", "GET  / HTTP/1.1", "GET / x HTTP/1.1", "", "\0", "G(T / HTTP/1.1"]
)
def test_a_request_line_is_one(line):
    assert decide(read(f"{line}\r\nHost: www.test\r\n\r\n".encode()), PLAIN).status == 400


@pytest.mark.parametrize(
    "target", ["*", "www.test:443", "x", "/a#b", "ftp://www.test/", "/\u00fc", "https:///x", "http://u@h/"]
)
def test_a_target_is_a_path_or_a_url(target):
    assert ask(target).status == 400


def test_challenges_are_files_with_plain_names():
    """Everything else below that path is not there; and above it all is redirected."""
    assert ask(f"{CHALLENGE}aZ09-_", settings=ACME) == Answer(200, token="aZ09-_")
    assert ask(f"{CHALLENGE}{'a' * 128}", method="HEAD", settings=ACME).is_head
    for name in ("", "a" * 129, "a/b", "../a", "%61", "a?b", ".a", "a.txt", "a%00"):
        assert ask(CHALLENGE + name, settings=ACME).status == 404, name
    assert ask(f"{CHALLENGE}a", method="POST", settings=ACME).status == 405
    assert ask("/.well-known/other", settings=ACME).status == 301
    assert ask(f"{CHALLENGE}a").location == f"https://www.test{CHALLENGE}a"


@given(st.binary(max_size=300))
def test_no_bytes_raise_and_no_answer_has_a_line_too_many(data):
    """Whatever is sent, the answer's head has the fields that it should have."""
    for head in (data, b"GET / HTTP/1.1\r\nHost: " + data, b"GET /" + data + b" HTTP/1.1\r\nHost: a.test"):
        lines = write(decide(read(head + b"\r\n\r\n"), ACME)).partition(b"\r\n\r\n")[0].split(b"\r\n")
        names = [line.partition(b":")[0] for line in lines[1:]]
        assert names[:3] == [b"Content-Type", b"Content-Length", b"Connection"]
        assert set(names[3:]) <= {b"Location", b"Allow"}


@given(st.text(max_size=40))
def test_a_usable_host_has_nothing_that_ends_it(text):
    host = usable_host(text)
    assert host is None or not set(host) & set("/?#@ \\%")

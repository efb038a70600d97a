"""``stapleproxy bench``: its help, and where it lets a load go."""

from __future__ import annotations

import socket

import click
import pytest
from click.testing import CliRunner

from proxy.bench.context import BenchError
from proxy.bench.target import find_target
from proxy.cli.bench import bench


def test_every_option_stands_under_a_title():
    """What has no section of its own is under the last one; there are two of these."""
    said = CliRunner().invoke(bench, ["--help"], terminal_width=200).output
    *_, other = said.split("\nOther:\n")
    first, second = [line for line in other.splitlines() if line.startswith("  -")]
    assert first.startswith("  --i-may-load ")
    assert "--help" in second
    lines = [line.split()[0] for line in said.splitlines() if line.startswith("  -")]
    assert sorted(lines[:-1]) == sorted(each.opts[0] for each in bench.params if isinstance(each, click.Option))


@pytest.mark.parametrize(
    ("option", "value"),
    [("--rate", "nan"), ("--rate", "inf"), ("--rate", "1e30"), ("--resume", "nan"), ("--duration", "0s")],
)
def test_a_number_that_nothing_can_be_done_with_is_refused(option, value):
    """Each of them ended in a traceback, or never."""
    done = CliRunner().invoke(bench, ["127.0.0.1:1", option, value])
    assert (done.exit_code, type(done.exception)) == (2, SystemExit)
    assert f"Invalid value for '{option}'" in done.output


def addresses(monkeypatch, *found):
    """Let every name have these addresses."""
    real = socket.getaddrinfo

    def look_up(host, port, *arguments, **more):
        if host in found:
            return real(host, port, *arguments, **more)
        return [(socket.AF_INET6 if ":" in each else socket.AF_INET, 1, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_of_several_addresses_the_one_that_answers_is_loaded(monkeypatch):
    """``localhost`` is ::1 and 127.0.0.1 on many machines, and a server is at one of them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        addresses(monkeypatch, "127.0.0.2", "127.0.0.1")
        assert find_target("localhost", port, None) == ("127.0.0.1", port)
    assert find_target("localhost", port, None) == ("127.0.0.2", port), "nobody answers: the run says so"


@pytest.mark.parametrize(
    "found",
    [("192.0.2.1",), ("127.0.0.1", "192.0.2.1"), ("::ffff:192.0.2.1",), ("fe80::1%lo",), ("::127.0.0.1",)],
)
def test_a_name_that_leads_anywhere_else_is_not_loaded(monkeypatch, found):
    """By one of its addresses is enough; nobody is asked before."""
    addresses(monkeypatch, *found)
    for allowed in (None, "other.example", ""):
        with pytest.raises(BenchError, match=r"--i-may-load www\.example"):
            find_target("www.example", 443, allowed)
    assert find_target("192.0.2.9", 443, "192.0.2.9")[1] == 443


def test_leave_is_for_the_host_as_it_is_written(monkeypatch):
    """In any case of letters, and with the brackets of an address or without."""
    addresses(monkeypatch, "2001:db8::1")
    for host, allowed in (("www.example", "WWW.example"), ("2001:db8::1", "[2001:db8::1]")):
        assert find_target(host, 443, allowed) == ("2001:db8::1", 443)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_the_address_of_all_interfaces_is_none_to_connect_to(host):
    with pytest.raises(BenchError, match=r"write 127\.0\.0\.1"):
        find_target(host, 443, None)

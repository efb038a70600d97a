"""The supervisor's one decision that is apart from its I/O, and the sockets that the master opens."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import StartError
from proxy.listening import describe, open_sockets
from proxy.settings.values import ListenAddress
from proxy.supervisor import restart_pause_s


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=40))
def test_the_pause_is_bounded_and_only_grows_while_a_child_keeps_dying(lives_s):
    """Whatever a child does: never over 30 s, nothing after a minute of life, else at least doubled up to the bound."""
    pause_s = 0.0
    for lived_s in lives_s:
        after_s = restart_pause_s(pause_s, lived_s)
        assert 0 <= after_s <= 30
        if lived_s >= 60:
            assert after_s == 0
        else:
            assert after_s >= min(2 * pause_s, 30)
            assert after_s > 0
        pause_s = after_s


def closed(sockets):
    for each in sockets:
        for sock in each:
            sock.close()


def test_each_worker_has_a_socket_for_each_address_on_one_port():
    """Port 0 is chosen once, so that all workers share it."""
    sockets = open_sockets([ListenAddress("127.0.0.1", 0), ListenAddress("127.0.0.2", 0)], 3)
    try:
        names = [[sock.getsockname() for sock in own] for own in sockets]
        assert len(names) == 3
        assert names[0] == names[1] == names[2]
        assert [name[0] for name in names[0]] == ["127.0.0.1", "127.0.0.2"]
        assert describe(sockets[0]) == ", ".join(f"{host}:{port}" for host, port in names[0])
    finally:
        closed(sockets)


def test_no_host_means_every_address_of_both_kinds():
    """``:8443`` listens on IPv4 and, where there is one, IPv6, with the same port."""
    sockets = open_sockets([ListenAddress("", 0)], 1)
    try:
        families = {sock.family for sock in sockets[0]}
        assert socket.AF_INET in families
        assert len({sock.getsockname()[1] for sock in sockets[0]}) == 1
    finally:
        closed(sockets)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "127.0.0.1.5", "a b"])
def test_an_unknown_host_is_one_sentence(host):
    """Not a traceback out of the resolver."""
    with pytest.raises(StartError, match=r"cannot listen on .*: the host is not known"):
        open_sockets([ListenAddress(host, 8443)], 1)


def test_nothing_stays_open_after_a_failure():
    """The first address was free and the second is not: the first is free again."""
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
        probe.close()
        with pytest.raises(StartError, match="another program"):
            open_sockets([ListenAddress("127.0.0.1", free), ListenAddress("127.0.0.1", taken.getsockname()[1])], 2)
        socket.create_server(("127.0.0.1", free)).close()

"""The sockets that the master opens, and keeps from one generation to the next."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from proxy.errors import StartError
from proxy.listening import describe, open_ports, places
from proxy.settings.values import ListenAddress

LOOPBACK = ListenAddress("127.0.0.1", 0)


@pytest.fixture
def opened():
    """Opens ports, and closes them all at the end."""
    with ExitStack() as stack:

        def opened(addresses, workers, before=None):
            ports = open_ports(addresses, workers, before or {})
            for slot in (slot for slots in ports.values() for slot in slots):
                stack.callback(slot.close)
            return ports

        yield opened


def numbers(slots):
    return [slot.sock.fileno() for slot in slots]


def test_each_worker_has_a_socket_for_each_address_on_one_port(opened):
    """Port 0 is chosen once, so that all workers share it."""
    ports = opened([LOOPBACK, ListenAddress("127.0.0.2", 0)], 3)
    assert [len(slots) for slots in ports.values()] == [3, 3]
    assert [{slot.name for slot in slots} for slots in ports.values()] == [{slots[0].name} for slots in ports.values()]
    assert [place.host for place in ports] == ["127.0.0.1", "127.0.0.2"]
    said = ", ".join(f"{place.host}:{slots[0].port}" for place, slots in ports.items())
    assert describe(slots[0] for slots in ports.values()) == said


def test_no_host_means_every_address_of_both_kinds(opened):
    """``:8443`` listens on IPv4 and, where there is one, IPv6, with the same port."""
    ports = opened([ListenAddress("", 0)], 1)
    assert socket.AF_INET in {place.family for place in ports}
    assert len({slots[0].port for slots in ports.values()}) == 1


@pytest.mark.parametrize("host", ["no-such-host.invalid", "127.0.0.1.5", "a b"])
def test_an_unknown_host_is_one_sentence(host):
    """Not a traceback out of the resolver."""
    with pytest.raises(StartError, match=r"cannot listen on .*: the host is not known"):
        open_ports([ListenAddress(host, 8443)], 1, {})


def test_nothing_stays_open_after_a_failure():
    """The first address was free and the second is not: the first is free again."""
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
        probe.close()
        with pytest.raises(StartError, match="another program"):
            open_ports([ListenAddress("127.0.0.1", free), ListenAddress("127.0.0.1", taken.getsockname()[1])], 2, {})
        socket.create_server(("127.0.0.1", free)).close()


def test_the_same_address_keeps_its_very_sockets(opened):
    """Port 0 its port too; more workers get more, and fewer leave all there are."""
    before = opened([LOOPBACK], 2)
    more, fewer = opened([LOOPBACK], 3, before), opened([LOOPBACK], 1, before)
    (place,) = before
    assert numbers(more[place])[:2] == numbers(fewer[place]) == numbers(before[place])
    assert len({slot.port for slot in more[place]}) == 1


def test_a_failure_leaves_what_was_kept(opened):
    before = opened([LOOPBACK], 1)
    (kept,) = numbers(*before.values())
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StartError, match="another program"):
        open_ports([LOOPBACK, ListenAddress("127.0.0.1", taken.getsockname()[1])], 2, before)
    assert numbers(*before.values()) == [kept]
    assert len(*before.values()) == 1


def test_all_addresses_of_a_port_may_follow_one_of_them(opened):
    """The probe for other programs would find ourselves."""
    (slots,) = opened([LOOPBACK], 1).values()
    slots[0].sock.listen()
    address = ListenAddress("", slots[0].port)
    (place, *_) = places(LOOPBACK)
    assert opened([address], 1, {place: slots})


def test_a_socket_that_somebody_else_has_opened_stays_the_only_one(opened):
    """It may not be shared by its address, so the workers have it in common."""
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        from proxy.listening import Slot

        address = ListenAddress("127.0.0.1", theirs.getsockname()[1])
        (place,) = places(address)
        assert numbers(*opened([address], 3, {place: [Slot(theirs)]}).values()) == [theirs.fileno()]


def test_two_names_of_one_address_are_refused():
    with pytest.raises(StartError, match="is the same address"):
        open_ports([LOOPBACK, LOOPBACK], 1, {})


def test_closed_and_opened_again_it_has_the_same_name(opened):
    (slots,) = opened([LOOPBACK], 2).values()
    name = slots[0].name
    slots[0].close()
    slots[0].open()
    assert slots[0].sock.getsockname() == name


def test_more_workers_get_sockets_of_their_own_while_one_is_closed(opened):
    """It was ours: that its worker is not there just now makes it nobody else's."""
    before = opened([LOOPBACK], 2)
    (slots,) = before.values()
    slots[0].close()
    (after,) = opened([LOOPBACK], 3, before).values()
    assert len(after) == 3

"""The watchdog is fed while some worker's event loop turns, and not for a process that merely exists."""

import contextlib
import math
import os
import socket

import pytest

from proxy.pulse import Pulse, Watchdog
from proxy.systemd import Manager

NAME = f"@stapleproxy-pulse-{os.getpid()}"


@pytest.fixture(autouse=True)
def heard():
    """The service manager's end; gives how often it was told WATCHDOG=1 since it was last asked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(NAME.replace("@", "\0"))
        sock.setblocking(False)

        def count():
            times = 0
            with contextlib.suppress(BlockingIOError):
                while sock.recv(100) == b"WATCHDOG=1":
                    times += 1
            return times

        yield count


def look(watchdog, *times, workers=(0, 1)):
    """As the master does, then; these workers are ready."""
    for now in times:
        watchdog.look(now, workers)


def test_twice_in_its_interval_while_a_worker_beats(heard):
    """And no more often, however often the master looks."""
    pulse = Pulse(2)
    watchdog = Watchdog(Manager(NAME, 10.0), pulse)
    pulse.beat(1, 100.0)
    look(watchdog, 100.0, 101.0, 104.9)
    assert heard() == 1
    assert watchdog.due_at == 105.0
    pulse.beat(0, 104.0)
    look(watchdog, 105.0, 109.0, 110.0)
    assert heard() == 1, "at 110 the last sign is six seconds old"


def test_a_worker_that_hangs_is_no_worker(heard):
    """Only those that are ready are asked after; with none of them the manager acts."""
    pulse = Pulse(2)
    pulse.beat(0, 100.0)
    watchdog = Watchdog(Manager(NAME, 10.0), pulse)
    look(watchdog, 100.0, workers=[0])
    assert heard() == 1
    look(watchdog, 105.0, workers=[])
    assert heard() == 0
    look(Watchdog(Manager(NAME, 10.0), pulse), 100.0, workers=[1])
    assert heard() == 0


def test_without_a_watchdog_nothing_is_due(heard):
    """The master sleeps until something happens."""
    watchdog = Watchdog(Manager(NAME), Pulse(2))
    assert watchdog.due_at == math.inf
    look(watchdog, 1e9)
    assert heard() == 0


def test_it_is_felt_in_another_process():
    """The memory is shared, and the clock is the machine's."""
    pulse = Pulse(3)
    if (pid := os.fork()) == 0:
        pulse.beat(2, 50.0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert pulse.is_felt([2], 50.0)
    assert not pulse.is_felt([0, 1], 50.0)

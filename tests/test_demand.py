"""Misses on their way to the keeper: each once at a time, in a queue with an end."""

from __future__ import annotations

import os

from proxy.demand import Demands

KEYS = [bytes([number]) * 20 for number in range(4)]


def test_a_miss_is_reported_once_in_a_while():
    """Thousands of handshakes a second for one missing staple are one report a second."""
    demands = Demands()
    for step in range(10):
        for key in KEYS:
            demands.ask(key, 100 + step / 100)
    assert demands.receive() == KEYS
    assert demands.receive() == []
    demands.ask(KEYS[0], 101.5)
    assert demands.receive() == [KEYS[0]]
    demands.ask(KEYS[0], 50)
    assert demands.receive() == [KEYS[0]], "a clock that is set back does not silence it"


def test_many_workers_reports_are_whole_and_counted_once():
    """They share one pipe: what comes out are keys, each once."""
    demands = Demands()
    for _ in range(4):
        if os.fork() == 0:
            try:
                for number in range(200):
                    demands.ask(number.to_bytes(20), 100)
            finally:
                os._exit(0)
    for _ in range(4):
        os.wait()
    received = []
    while keys := demands.receive():
        received += keys
    assert set(received) == {number.to_bytes(20) for number in range(200)}


def test_the_queue_has_an_end():
    """When nobody reads, reports are dropped; nobody waits, nothing grows."""
    demands = Demands()
    for number in range(100_000):
        demands.ask(number.to_bytes(20), 100)
    received = []
    while keys := demands.receive():
        received += keys
    assert 1000 < len(received) < 10_000

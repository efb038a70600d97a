"""Turns at responders, as values: no responder gets more than it is meant to, and nobody is forgotten."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from proxy.identity import CacheKey
from proxy.keeper.lanes import Lanes


def key(number: int) -> CacheKey:
    return CacheKey(number.to_bytes(20))


def begun(lanes: Lanes, now_s: float) -> list[int]:
    return [int.from_bytes(each) for _, each in lanes.begin(now_s)]


def test_so_many_at_a_time() -> None:
    """The next begins when one is over."""
    lanes = Lanes(2, 1000)
    for number in range(4):
        lanes.enter("a", key(number), urgent=False)
    assert begun(lanes, 0) == [0, 1]
    assert begun(lanes, 1) == []
    lanes.leave("a")
    assert begun(lanes, 1) == [2]


def test_a_full_lane_holds_up_no_other() -> None:
    lanes = Lanes(1, 1000)
    lanes.enter("slow", key(0), urgent=False)
    lanes.enter("slow", key(1), urgent=False)
    lanes.enter("quick", key(2), urgent=False)
    assert begun(lanes, 0) == [0, 2]


def test_those_without_a_staple_go_first() -> None:
    lanes = Lanes(1, 1000)
    lanes.enter("a", key(0), urgent=False)
    lanes.enter("a", key(1), urgent=True)
    assert begun(lanes, 0) == [1]


def test_a_clock_set_back_stops_nothing() -> None:
    lanes = Lanes(1, 1)
    lanes.enter("a", key(0), urgent=False)
    assert begun(lanes, 1e9) == [0]
    lanes.leave("a")
    lanes.enter("a", key(1), urgent=False)
    assert begun(lanes, 0) == [1]


def test_idle_lanes_are_forgotten() -> None:
    """A responder that nobody asks costs nothing."""
    lanes = Lanes(1, 10)
    for number in range(100):
        lanes.enter(str(number), key(number), urgent=False)
    for name, _ in lanes.begin(0):
        lanes.leave(name)
    lanes.begin(1)
    assert lanes._lanes == {}


@given(
    at_once=st.integers(1, 5),
    per_second=st.floats(0.5, 50),
    lasts_s=st.floats(0.001, 3),
    count=st.integers(1, 60),
)
def test_never_more_than_the_rate_and_nobody_forgotten(
    at_once: int, per_second: float, lasts_s: float, count: int
) -> None:
    """In any window of t seconds at most `at_once + t * per_second` begin; all begin, each once."""
    lanes = Lanes(at_once, per_second)
    for number in range(count):
        lanes.enter("a", key(number), urgent=number % 3 == 0)
    now_s, started, ends = 0.0, [], []
    seen: list[int] = []
    while len(seen) < count:
        found = begun(lanes, now_s)
        seen += found
        started += [now_s] * len(found)
        ends += [now_s + lasts_s] * len(found)
        assert len([end for end in ends if end > now_s]) <= at_once
        now_s = min([*[end for end in ends if end > now_s], *[each for each in [lanes.next_s()] if each > now_s]])
        for _ in [end for end in ends if end <= now_s]:
            lanes.leave("a")
        ends = [end for end in ends if end > now_s]
        assert now_s < math.inf
    assert sorted(seen) == list(range(count))
    for first in range(count):
        for last in range(first, count):
            assert last - first + 1 <= at_once + (started[last] - started[first]) * per_second + 1e-6


def test_those_refused_again_and_again_do_not_keep_the_others_waiting() -> None:
    """They come back each minute; a responder that refuses many would have no time left for its other certificates."""
    lanes = Lanes(1, 1000)
    for number in range(3):
        lanes.enter("a", key(number), urgent=True)
    lanes.enter("a", key(9), urgent=False)
    order = []
    for now_s in range(4):
        (number,) = begun(lanes, now_s)
        order.append(number)
        lanes.leave("a")
        lanes.enter("a", key(number), urgent=number != 9)
    assert order == [0, 9, 1, 9]

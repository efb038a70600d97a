"""What a machine of a fleet decides: values in, values out."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.keeper.fleet import decide
from proxy.keeper.fleet.decide import Free, InVain, Ours, Sync, Theirs
from proxy.keeper.fleet.value import Head

JITTER = st.floats(0, 1, exclude_max=True)
OLD, SAME, NEW = Head(100, 5), Head(100, 9), Head(200, 1)


@pytest.mark.parametrize(
    ("word", "left_ms", "expected"),
    [
        (b"free", 0, Free()),
        (b"ours", 0, Ours()),
        (b"theirs", 1500, Theirs(1.5)),
        (b"theirs", -1, Theirs(decide.LOCK_LIFE_S)),  # a lock without end: somebody's hand
        (b"theirs", 10**9, Theirs(decide.LOCK_LIFE_S)),
        (b"in-vain", 10, InVain()),
    ],
)
def test_what_the_server_says(word, left_ms, expected):
    assert decide.turn_of(word, left_ms) == expected


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        (None, None, Sync.NOTHING),
        (None, OLD, Sync.TAKE),
        (OLD, None, Sync.PUT),
        (OLD, OLD, Sync.NOTHING),
        (OLD, SAME, Sync.TAKE),  # the same response, asked for later: so it need not be asked for here
        (SAME, OLD, Sync.NOTHING),
        (OLD, NEW, Sync.TAKE),
        (NEW, OLD, Sync.PUT_NEWER),
    ],
)
def test_who_gives_and_who_takes(mine, theirs, expected):
    assert decide.sync(mine, theirs) is expected


@given(st.floats(0, decide.LOCK_LIFE_S), JITTER)
def test_a_lock_is_waited_for_as_long_as_it_may_live(left_s, jitter):
    """Not less, or it would be looked at in vain; not much more, or a dead holder's certificate would wait."""
    longest_s = max(left_s, decide.WAIT_LEAST_S) + decide.WAIT_SPREAD_S
    assert max(left_s, decide.WAIT_LEAST_S) <= decide.wait_s(left_s, jitter) <= longest_s


@given(st.none() | st.floats(-10, 10**7), JITTER)
def test_the_pause_before_asking_alone_is_bounded_and_leaves_most_of_the_staples_life(remaining_s, jitter):
    pause_s = decide.alone_pause_s(remaining_s, jitter)
    assert 0 <= pause_s <= decide.ALONE_MAX_S
    if remaining_s is None:
        assert pause_s <= decide.ALONE_WITHOUT_S
    elif remaining_s > 0:
        assert pause_s <= remaining_s * decide.ALONE_PART


@given(st.integers(1, 10**6), JITTER)
def test_a_server_that_is_away_is_tried_ever_less_often(failures, jitter):
    assert decide.RETRY_MIN_S * 0.75 <= decide.retry_s(failures, jitter) <= decide.RETRY_MAX_S * 1.25
    assert decide.retry_s(failures + 1, jitter) >= decide.retry_s(failures, jitter)


@given(st.integers(0, 10**6))
def test_the_poll_is_bounded_in_operations_and_in_time(certificates):
    interval_s = decide.poll_interval_s(certificates)
    assert interval_s >= 1 / decide.POLL_PER_S
    assert certificates * interval_s <= max(decide.POLL_LEAST_S, certificates / decide.POLL_PER_S) * 1.001


def test_a_lock_may_be_held_for_all_responders_and_not_for_ever():
    assert decide.hold_s(1, 10) >= 10
    assert decide.hold_s(3, 10) == 3 * decide.hold_s(1, 10)


def test_a_lock_is_waited_for_as_long_as_its_holder_may_need_and_not_for_ever():
    assert decide.hold_s(2, 10) + decide.LOCK_LIFE_S <= decide.patience_s(2, 10) <= 2 * decide.hold_s(2, 10)


@given(st.binary(min_size=20, max_size=20), st.binary(), JITTER, JITTER)
def test_machines_agree_on_a_part_of_the_jitter(key, der, one, other):
    """And not on the rest, or all of them would look at once, and ask at once when they have lost the server."""
    first, second = (decide.shared_jitter(key, der, own) for own in (one, other))
    assert all(0 <= jitter < 1 for jitter in (first, second))
    assert abs(first - second) == pytest.approx((1 - decide.SHARED_PART) * abs(one - other))


def test_what_was_fetched_together_is_refreshed_apart():
    """Although the first of 1,000 machines asks, that with the greatest jitter, which is always about the same."""
    draw = random.Random(1).random
    first_to_come = [
        max(decide.shared_jitter(bytes([n // 256, n % 256]), b"a response", draw()) for _ in range(1000))
        for n in range(300)
    ]
    latest = max(first_to_come)
    fifths = Counter(int((latest - jitter) * 5 / decide.SHARED_PART) for jitter in first_to_come)
    assert min(fifths[n] for n in range(4)) > 30

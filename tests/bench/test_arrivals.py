"""Who comes when, and as whom: reckoned, not drawn."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.bench.arrivals import Arrivals, Names, is_in_share, read_names, share_of
from proxy.bench.plan import Phase, sensible_processes
from proxy.errors import ConfigError

RATES = st.floats(0.5, 50_000)
TIMES = st.floats(0, 60)


def test_without_a_ramp_they_come_evenly():
    assert [Arrivals(4).due_s(number) for number in range(5)] == [0, 0.25, 0.5, 0.75, 1.0]


def test_in_a_ramp_the_rate_rises_evenly():
    """Half as many come in it as later in the same time, and three quarters of these in its second half."""
    arrivals = Arrivals(100, ramp_s=10)
    assert arrivals.first_from(10) == 500
    assert arrivals.first_from(5) == 125
    assert arrivals.due_s(600) == pytest.approx(11)


@given(RATES, TIMES, st.integers(0, 100_000))
def test_nobody_comes_before_who_came_first(rate, ramp_s, number):
    arrivals = Arrivals(rate, ramp_s)
    assert 0 <= arrivals.due_s(number) <= arrivals.due_s(number + 1)


@given(RATES, TIMES, st.floats(0, 30))
def test_the_first_from_a_time_on_is_due_then_or_later(rate, ramp_s, at_s):
    """And the one before it is not."""
    arrivals = Arrivals(rate, ramp_s)
    first = arrivals.first_from(at_s)
    assert arrivals.due_s(first) >= at_s
    assert first == 0 or arrivals.due_s(first - 1) < at_s


@given(st.integers(0, 1000), st.integers(1, 20))
def test_what_is_dealt_out_adds_up(count, parts):
    shares = [share_of(count, index, parts) for index in range(parts)]
    assert sum(shares) == count
    assert max(shares) - min(shares) <= 1


@given(st.floats(0, 1), st.integers(1, 2000))
def test_a_share_is_kept_at_any_time(share, count):
    """Of the first n there are n times the share, give or take one."""
    assert abs(sum(is_in_share(number, share) for number in range(count)) - share * count) <= 1


def test_a_share_of_nobody_and_of_everybody():
    assert not any(is_in_share(number, 0.0) for number in range(100))
    assert all(is_in_share(number, 1.0) for number in range(100))


def test_names_come_as_often_as_their_weights_say():
    names = read_names("# ours\nwww.test 6\n\nAPI.test 3 # more of these soon\nold.test\n", "names.txt")
    counts = Counter(names.pick(number) for number in range(10_000))
    assert {name: round(count / 1000, 1) for name, count in counts.items()} == {
        "www.test": 6,
        "api.test": 3,
        "old.test": 1,
    }


def test_a_name_is_not_bound_to_who_resumes():
    """Each name has its share of those who resume."""
    names = Names.of([("a", 1), ("b", 1)])
    resuming = Counter(names.pick(number) for number in range(10_000) if is_in_share(number, 0.5))
    assert resuming["a"] == pytest.approx(resuming["b"], rel=0.02)


def test_all_mistakes_of_a_file_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        read_names("www.test -1\n*.test\nok.test 2\na b c\nhttps://x\nwww.test nan\nwww.test 1e308\n", "names.txt")
    said = [str(problem) for problem in caught.value.problems]
    assert [line.partition(":")[0] for line in said] == [f"names.txt, line {number}" for number in (1, 2, 4, 5, 6, 7)]
    assert said[0] == "names.txt, line 1: the weight of www.test must be a number above 0, and at most 1000000000"


def test_a_file_without_names_is_a_mistake():
    with pytest.raises(ConfigError, match="holds no name"):
        read_names("# none yet\n", "names.txt")


@given(st.floats(1, 1000), st.floats(0, 3), st.floats(0, 3), st.integers(1, 8))
def test_processes_share_the_arrivals_and_none_comes_twice(rate, ramp_s, warmup_s, parts):
    phase = Phase(seconds=2, rate=rate, ramp_s=ramp_s, warmup_s=warmup_s)
    shares = [phase.part(index, parts) for index in range(parts)]
    numbers = sorted(n for each in shares for n in range(each.index, each.end, each.parts))
    first, end = phase.numbers()
    assert numbers == list(range(end))
    assert end - first == pytest.approx(2 * rate, abs=1)


def test_so_many_handshakes_are_counted_as_are_wanted():
    """In an open loop the warm-up's come before them."""
    first, end = Phase(handshakes=50, rate=100, warmup_s=1).numbers()
    assert (first, end) == (100, 150)
    closed = [Phase(handshakes=50, concurrency=3).part(index, 2) for index in range(2)]
    assert [(each.handshakes, each.concurrency) for each in closed] == [(25, 2), (25, 1)]


def test_no_process_is_started_for_nothing():
    assert sensible_processes(8, Phase(seconds=1, concurrency=3)) == 3
    assert sensible_processes(8, Phase(handshakes=2, concurrency=100)) == 2
    assert sensible_processes(8, Phase(seconds=1, rate=0.5)) == 1
    assert sensible_processes(2, Phase(seconds=1, rate=5000)) == 2

"""Who is next: turns by weight, least load, and who is left out for how long."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.balance import Ejection, Standing, choose

EJECTION = Ejection(max_fails=3, min_s=5, max_s=60)


@dataclass(eq=False)
class Fake:
    """A server as the choice sees it."""

    name: str
    weight: int = 1
    load: int = 0
    is_full: bool = False
    standing: Standing = field(default_factory=lambda: Standing(EJECTION))


def turns(servers, count, balance="round-robin", now=0.0, tried=()):
    return "".join(choose(servers, balance, now, tried).name for _ in range(count))


def fail(server, now, times=EJECTION.max_fails):
    return [server.standing.fail(now) for _ in range(times)][-1]


def test_turns_are_smooth():
    """A heavy server does not get its share in one row; the sequence is nginx's."""
    servers = [Fake("a", 5), Fake("b"), Fake("c")]
    assert turns(servers, 14) == "aabacaa" * 2


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6))
def test_each_gets_its_share(weights):
    """In a whole round exactly, and on the way never more than one request off per server."""
    servers = [Fake(str(number), weight) for number, weight in enumerate(weights)]
    total = sum(weights)
    got = Counter()
    for asked in range(1, total + 1):
        got[choose(servers, "round-robin", 0.0).name] += 1
        for server in servers:
            assert abs(got[server.name] - asked * server.weight / total) < len(servers)
    assert [got[server.name] for server in servers] == weights


def test_the_least_loaded_for_its_weight_is_next():
    """Two requests at a server of weight 4 are less than one at a server of weight 1."""
    a, b = Fake("a", 4, load=2), Fake("b", 1, load=1)
    assert turns([a, b], 3, "least-connections") == "aaa"
    a.load = 5
    assert turns([a, b], 3, "least-connections") == "bbb"


def test_equal_loads_take_turns_by_weight():
    """An idle group does not give everything to its first server."""
    assert turns([Fake("a", 2), Fake("b")], 6, "least-connections") == "abaaba"


@pytest.mark.parametrize("balance", ["round-robin", "least-connections"])
def test_full_and_tried_ones_are_passed_over_as_long_as_there_are_others(balance):
    """And when there are none, they are chosen from all the same."""
    _, b, c = servers = [Fake("a", is_full=True), Fake("b"), Fake("c")]
    assert turns(servers, 3, balance, tried=[b]) == "ccc"
    assert turns(servers, 1, balance, tried=[b, c]) == "a"
    assert sorted(turns(servers, 3, balance, tried=servers)) in (["b", "b", "c"], ["b", "c", "c"])
    b.is_full = c.is_full = True
    assert sorted(turns(servers, 3, balance)) == ["a", "b", "c"]


def test_a_server_is_left_out_after_failures_in_a_row():
    """One success in between, and counting begins anew."""
    a, _ = servers = [Fake("a"), Fake("b")]
    assert fail(a, 100, 2) is None
    a.standing.succeed()
    assert fail(a, 100, 2) is None
    assert "a" in turns(servers, 2, now=100)
    assert a.standing.fail(100) == 5
    assert turns(servers, 4, now=104.9) == "bbbb"


def test_it_comes_back_on_trial_with_one_request():
    """Not with all that wait: it may still be as it was."""
    a, _ = servers = [Fake("a"), Fake("b")]
    fail(a, 0)
    assert turns(servers, 20, now=5).count("a") == 1
    assert turns(servers, 4, now=9.9).count("a") == 0
    a.standing.succeed()
    assert turns(servers, 4, now=9.9).count("a") == 2


def test_an_unanswered_trial_is_followed_by_another():
    """The client may have left: a trial must not be the last."""
    a, _ = servers = [Fake("a"), Fake("b")]
    fail(a, 0)
    assert turns(servers, 4, now=5).count("a") == 1
    assert turns(servers, 4, now=10).count("a") == 1


def test_the_pause_doubles_up_to_the_cap():
    """One failure on trial is enough."""
    a, _ = servers = [Fake("a"), Fake("b")]
    pauses, now = [fail(a, 0)], 0.0
    for _ in range(5):
        now += pauses[-1]
        assert "a" in turns(servers, 2, now=now)
        pauses.append(a.standing.fail(now))
    assert pauses == [5, 10, 20, 40, 60, 60]


def test_late_news_of_the_same_trouble_changes_nothing():
    """Requests that were under way when it was left out may still fail."""
    a = Fake("a")
    assert fail(a, 0) == 5
    assert fail(a, 4, 100) is None
    assert a.standing.left_out_until == 5


def test_when_all_are_left_out_all_are_tried():
    """Nobody is refused because of health alone."""
    servers = [Fake("a"), Fake("b")]
    for server in servers:
        fail(server, 0)
    assert sorted(turns(servers, 4)) == ["a", "a", "b", "b"]
    servers[1].standing.succeed()
    assert turns(servers, 2) == "bb"


def test_zero_failures_allowed_means_any_number():
    """`upstream_max_fails = 0`."""
    standing = Standing(Ejection(0, 5, 60))
    assert [standing.fail(0) for _ in range(1000)] == [None] * 1000
    assert standing.is_trusted(0)


def test_checks_in_a_row_leave_a_server_out_and_bring_it_back():
    """A check that agrees with what is held begins the row anew."""
    standing = Standing(EJECTION)

    def checked(*results):
        return [standing.check(is_good=each, healthy_after=2, unhealthy_after=3) for each in results]

    assert not any(checked(True, False, False, True, False, False))
    assert checked(False) == [True]
    assert not standing.is_trusted(1e9)
    assert checked(True, False, True, True) == [False, False, False, True]
    assert standing.is_trusted(0)


@given(st.lists(st.tuples(st.sampled_from("fsct"), st.integers(0, 3), st.floats(0, 100)), max_size=60))
def test_whatever_happens_somebody_is_chosen_and_pauses_are_bounded(story):
    """Failures, successes, checks and turns in any order, while time goes on."""
    servers = [Fake(name) for name in "abcd"]
    now = 0.0
    for what, which, later in story:
        standing = servers[which].standing
        now += later
        match what:
            case "f":
                pause_s = standing.fail(now)
                assert pause_s is None or EJECTION.min_s <= pause_s <= EJECTION.max_s
            case "s":
                standing.succeed()
            case "c":
                standing.check(is_good=later > 50, healthy_after=1, unhealthy_after=1)
            case "t":
                assert choose(servers, "round-robin", now, servers[:which]) in servers[which:]
        assert all(each.standing.left_out_until <= now + EJECTION.max_s for each in servers)
    assert sum(each.standing.turn for each in servers) == 0

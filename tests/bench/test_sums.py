"""What is made of the counts: rounds added up, steps judged, differences and their intervals."""

import math
import random

import pytest

from proxy.bench.difference import differences, interval, order_of
from proxy.bench.outcomes import Failure, StapleOutcome
from proxy.bench.report import by_outcome, duration_words, facts_rows, failure_rows, span_words, staple_facts
from proxy.bench.staples import Verdict
from proxy.bench.steps import judge_step, read_goal, read_steps
from proxy.bench.tally import Second, Tally, chained, merged

MS = 1_000_000
SECOND = 1_000_000_000


def a_tally(*latencies_ms, begin=0, every_ms=100, outcome=StapleOutcome.GOOD):
    tally = Tally(begin, begin)
    for number, latency in enumerate(latencies_ms, 1):
        tally.latencies.total.add(int(latency * MS))
        tally.latencies.handshake.add(int(latency * MS))
        tally.staples[outcome, ""] += 1
        tally.second(begin + number * every_ms * MS).staples[outcome] += 1
    return tally


def test_processes_add_up_side_by_side():
    """The round lasts from the first begin to the last end, and its seconds are the same for all."""
    whole = merged([a_tally(1, 2, begin=5 * SECOND), a_tally(3, 4, 5, begin=5 * SECOND)])
    assert (whole.handshakes, whole.elapsed_s) == (5, pytest.approx(0.3))
    assert whole.rate == pytest.approx(5 / 0.3)
    assert whole.seconds[0].staples == {StapleOutcome.GOOD: 5}


def test_a_second_is_small_however_many_clients_it_has():
    """Between one millisecond and a second there are ten doublings."""
    second = Second()
    for number in range(20_000):
        second.add(MS + number * 50_000, StapleOutcome.GOOD)
    assert len(second.total.counts) <= 11 * 32
    assert second.total.total == second.staples[StapleOutcome.GOOD] == 20_000
    assert second.total.quantile(0.5) == pytest.approx(501 * MS, rel=1 / 30)


def test_rounds_add_up_one_after_the_other():
    """A pause between them is no time of theirs."""
    rounds = [a_tally(1, 2), a_tally(3, 4, begin=100 * SECOND)]
    whole = chained(rounds)
    assert (whole.handshakes, whole.elapsed_s, sorted(whole.seconds)) == (4, pytest.approx(0.4), [0, 1])
    assert [each.handshakes for each in rounds] == [2, 2], "they are left as they were"


def test_a_response_is_one_wherever_it_was_seen():
    """Its first and last time, and so its age and the life that it had left, are of all processes."""
    verdict = Verdict(StapleOutcome.GOOD, "", 1000.0, 100.0, 1000.0, b"digest", 8)
    tallies = []
    for times in ((200.0, 300.0), (150.0, 900.0)):
        tally = Tally(0)
        for now in times:
            tally.see(verdict, now)
        tallies.append(tally)
    facts = staple_facts(merged(tallies))
    assert (facts.distinct, facts.sizes, facts.ages, facts.least_life) == (1, (8, 8), (50, 800), 100)


def test_responses_without_end_are_not_held_without_end(monkeypatch):
    """A server that staples another one to each client; those that were seen before go on counting."""
    monkeypatch.setattr("proxy.bench.tally.MAX_SEEN", 10)
    monkeypatch.setattr("proxy.bench.report.MAX_SEEN", 10)
    tallies = [Tally(0), Tally(0)]
    for number, tally in enumerate(tallies):
        for each in (*range(20), 0):
            digest = bytes([number, each])
            tally.see(Verdict(StapleOutcome.INVALID, "unparsable", 1.0, None, None, digest, 8), 0.0)
    whole = merged(tallies)
    assert (len(whole.seen), whole.seen[b"\0\0"].count) == (10, 2)
    assert facts_rows(staple_facts(whole))[0] == ("distinct", "10 or more")


def test_all_outcomes_are_told_even_those_that_did_not_come():
    tally = a_tally(1, 2)
    tally.staples[StapleOutcome.INVALID, "expired"] += 3
    tally.staples[StapleOutcome.INVALID, "bad-signature"] += 4
    assert list(by_outcome(tally)) == list(StapleOutcome)
    assert by_outcome(tally)[StapleOutcome.INVALID] == 7


def test_many_kinds_of_failure_are_no_endless_table():
    tally = Tally(0)
    for number in range(100):
        tally.fail(Failure.TLS, f"word {number}", 0)
    rows = failure_rows(tally)
    assert len(rows) == 13
    assert rows[-1] == ("others", "88")


@pytest.mark.parametrize(
    ("text", "rates"), [("100:300:100", (100, 200, 300)), ("5:5:1", (5,)), ("0.1:0.4:0.1", (0.1, 0.2, 0.3, 0.4))]
)
def test_steps_go_up_to_the_last_one(text, rates):
    assert read_steps(text) == pytest.approx(rates)


@pytest.mark.parametrize(
    "text",
    ["", "100", "1:2", "0:10:1", "10:5:1", "1:2:0", "1:2:-1", "a:b:c", "1:inf:1", "1:1e9:1", "1:1e6:1", "nan:nan:nan"],
)
def test_steps_that_are_none_are_told_in_a_sentence(text):
    with pytest.raises(ValueError, match=r"write FROM|must be above|at most"):
        read_steps(text)


def test_a_goal_is_a_quantile_and_a_time():
    goal = read_goal("p99.9=20ms")
    assert (goal.part, goal.at_most_ns) == (pytest.approx(0.999), 20 * MS)
    for text in ("p99", "p0=1ms", "p99=0ms", "99=1ms", "p100=1s", "p99=1h"):
        with pytest.raises(ValueError, match="such as p99=50ms"):
            read_goal(text)


def test_a_step_is_broken_by_what_is_late_and_by_what_fails():
    goal = read_goal("p99=50ms")
    assert judge_step(10, a_tally(*[40] * 100), goal).broken == ""
    assert judge_step(10, a_tally(*[40] * 98, 60, 60), goal).broken == "p99 was 60 ms"
    failing = a_tally(*[40] * 98)
    for _ in range(2):
        failing.fail(Failure.HANDSHAKE_TIMEOUT, "", 0)
    assert judge_step(10, failing, goal).broken == "2 of 100 clients failed"
    assert judge_step(10, Tally(0), goal).broken == "no handshake was completed"


def test_a_step_that_the_generator_broke_says_so():
    """Else its own limit would be taken for the server's."""
    goal = read_goal("p99=50ms")
    for late_ms, is_ours in ((50, True), (20, False)):
        tally = a_tally(*[60] * 100)
        for _ in range(100):
            tally.latencies.late.add(late_ms * MS)
        assert judge_step(10, tally, goal).broken.startswith("p99 was 60 ms")
        assert ("this program was late" in judge_step(10, tally, goal).broken) == is_ours


def test_the_interval_is_students():
    """By hand: mean 3, standard deviation 1.5811, t of 4 degrees of freedom 2.776."""
    found = interval([1, 2, 3, 4, 5])
    assert (found.mean, found.half_width) == (3, pytest.approx(1.963, abs=0.001))
    assert found.is_sure
    assert (interval([7]).half_width, interval([7]).ends) == (math.inf, None)
    assert found.ends == (found.mean - found.half_width, found.mean + found.half_width)
    assert not interval([-1, 1]).is_sure


def test_the_interval_holds_the_truth_in_95_of_100():
    """Drawn again and again with a fixed seed, at few pairs and at many."""
    chance = random.Random(1)
    for pairs in (3, 10, 60):
        runs = [interval([chance.gauss(5, 2) for _ in range(pairs)]) for _ in range(2000)]
        held = sum(abs(each.mean - 5) <= each.half_width for each in runs) / len(runs)
        assert held == pytest.approx(0.95, abs=0.015)


def test_a_difference_is_of_pairs():
    """What a whole pair has in common, as a machine that is slow for a while, is none of the staple's."""
    pairs = [(a_tally(slow + 1), a_tally(slow)) for slow in (10, 50, 200, 30)]
    mean = differences(pairs)[0]
    assert mean.measure == "handshake, mean"
    assert (mean.difference.mean, mean.difference.half_width) == (pytest.approx(MS), pytest.approx(0, abs=1))
    assert mean.difference.is_sure


def test_pairs_without_handshakes_tell_nothing():
    assert differences([(Tally(0), a_tally(1)), (a_tally(1), Tally(0))]) == ()


def test_neither_kind_is_always_the_second():
    assert [order_of(pair) for pair in range(3)] == [(True, False), (False, True), (True, False)]


@pytest.mark.parametrize(
    ("nanoseconds", "words"),
    [(0, "0 ns"), (999, "999 ns"), (1500, "1.5 µs"), (999_400, "999 µs"), (999_600, "1 ms"), (2.5e9, "2.5 s"),
     (1.5e12, "1500 s")],
)  # fmt: skip
def test_times_have_three_digits_and_a_unit(nanoseconds, words):
    assert duration_words(nanoseconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min"), (90_061, "1 d 1 h"), (-5, "over since 5 s")],
)
def test_spans_have_two_units(seconds, words):
    assert span_words(seconds) == words

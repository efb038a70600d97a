"""Repeated identical trouble: told at once, then counted, then told together, and never lost."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.log_repeats import MAX_KINDS, MAX_SUBJECTS, WINDOWS_S, Repeats, Told


def test_the_first_is_told_at_once_and_the_others_at_ever_longer_intervals():
    """One every 10 s for three hours: 1,080 of them make a handful of lines, and none is left out of the count."""
    repeats, lines = Repeats(), []
    for now in range(0, 3 * 3600, 10):
        lines += [(now, told) for told in (*repeats.due(now), *repeats.trouble("www", "timeout", now, now))]
    assert lines[0] == (0, Told(0))
    windows = [told.within_s for _, told in lines[1:]]
    assert windows == sorted(windows)
    assert windows[:3] == list(WINDOWS_S[:3])
    lines += [(3 * 3600, told) for told in repeats.end(3 * 3600)]
    assert 1 + sum(told.times for _, told in lines) == 1080
    assert len(lines) < 8


def test_what_is_told_together_is_the_last_of_them():
    """It has the newest times in it."""
    repeats = Repeats()
    assert repeats.trouble("www", "timeout", "first", 0) == [Told("first")]
    assert repeats.trouble("www", "timeout", "second", 1) == []
    assert repeats.trouble("www", "timeout", "third", 2) == []
    assert repeats.due(59) == []
    assert repeats.due(61) == [Told("third", 2, 61)]


def test_another_trouble_or_another_subject_is_told_at_once():
    """Only what is identical is counted together."""
    repeats = Repeats()
    for subject, kind in (("a", "timeout"), ("a", "connect"), ("b", "timeout")):
        assert repeats.trouble(subject, kind, kind, 0) == [Told(kind)]


def test_what_was_well_meanwhile_is_told_at_once_again():
    """And what was counted before it got well is told first."""
    repeats = Repeats()
    for now in (0, 1, 2):
        told = repeats.trouble("a", "timeout", now, now)
    assert told == []
    assert repeats.over("a", 3) == [Told(2, 2, 3)]
    assert repeats.over("a", 4) == []
    assert repeats.trouble("a", "timeout", 5, 5) == [Told(5)]


def test_a_window_in_which_nothing_came_makes_the_next_one_news():
    """Once an hour is no repetition that anybody wants to be spared."""
    repeats = Repeats()
    for now in range(0, 36_000, 3600):
        assert repeats.due(now) == []
        assert repeats.trouble("a", "timeout", now, now) == [Told(now)]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 4000), st.booleans()), max_size=60))
def test_each_trouble_is_told_or_counted_exactly_once(events):
    """Whatever comes when: nothing is lost, nothing twice, and a line is never told of nothing."""
    repeats, now, told, count = Repeats(), 0.0, [], 0
    for subject, kind, pause_s, is_over in events:
        now += pause_s
        told += repeats.due(now)
        if is_over:
            told += repeats.over(subject, now)
        else:
            count += 1
            told += repeats.trouble(subject, kind, (subject, kind), now)
    told += repeats.end(now)
    assert sum(each.times or 1 for each in told) == count
    assert repeats.due(now + 1e9) == []


def test_its_memory_is_bounded():
    """What is pushed out is told before it is forgotten."""
    repeats, told, count = Repeats(), [], 0
    for subject in range(MAX_SUBJECTS + 100):
        for kind in range(MAX_KINDS + 2 if subject < 3 else 1):
            for _ in range(2):
                count += 1
                told += repeats.trouble(subject, kind, "x", 0)
    assert sum(each.times or 1 for each in (*told, *repeats.end(0))) == count
    last = Repeats()
    for subject in range(MAX_SUBJECTS + 100):
        last.trouble(subject, 0, "x", 0)
        last.trouble(subject, 0, "x", 0)
    assert len(last.end(0)) == MAX_SUBJECTS

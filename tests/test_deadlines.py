"""Deadlines: who is late is told, at each sweep, until it moves its deadline or is discarded."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.deadlines import NEVER, Deadlines, Pace


@dataclass(eq=False)
class Waiting:
    deadline_at: float
    told: list[float] = field(default_factory=list)
    forget: Deadlines | None = None
    is_cut: bool = False

    def on_deadline(self) -> None:
        self.told.append(self.deadline_at)
        if self.forget is not None:
            self.forget.discard(self)

    def abort(self) -> None:
        self.is_cut = True


def test_only_who_is_late_is_told():
    """At the very moment too; NEVER is never."""
    deadlines = Deadlines()
    late, now, early, never = (Waiting(at) for at in (1.0, 2.0, 3.0, NEVER))
    for each in (late, now, early, never):
        deadlines.add(each)
    deadlines.sweep(2.0)
    assert [len(each.told) for each in (late, now, early, never)] == [1, 1, 0, 0]
    late.deadline_at = 5.0
    deadlines.sweep(4.0)
    assert [len(each.told) for each in (late, now, early, never)] == [1, 2, 1, 0]


def test_it_may_be_discarded_while_it_is_told():
    """The usual case: a connection that is late is closed, and so discarded, by its own on_deadline."""
    deadlines = Deadlines()
    both = [Waiting(1.0, forget=deadlines) for _ in range(2)]
    for each in both:
        deadlines.add(each)
    deadlines.sweep(1.0)
    deadlines.sweep(1.0)
    assert [len(each.told) for each in both] == [1, 1]
    assert len(deadlines) == 0


def test_whom_an_others_end_has_given_time_or_discarded_is_not_told():
    """One sweep ends a backend's connection, say, and its client's goes on with a deadline of its own."""
    deadlines = Deadlines()

    @dataclass(eq=False)
    class First(Waiting):
        def on_deadline(self) -> None:
            super().on_deadline()
            for each in others:
                each.deadline_at = 9.0
            deadlines.discard(gone)

    others = [First(1.0), First(1.0)]
    gone = Waiting(9.0)
    for each in (*others, gone):
        deadlines.add(each)
    deadlines.sweep(1.0)
    assert sum(len(each.told) for each in others) == 1
    assert gone.told == []


def test_one_that_raises_is_cut_and_the_others_are_told(caplog):
    """A bug of ours in one connection; it is told once, with its traceback, and the next sweeps are as ever."""
    deadlines = Deadlines()

    @dataclass(eq=False)
    class Broken(Waiting):
        def on_deadline(self) -> None:
            super().on_deadline()
            raise ZeroDivisionError

    broken, others = [Broken(1.0) for _ in range(3)], [Waiting(1.0) for _ in range(8)]
    for each in (*others[:4], *broken, *others[4:]):
        deadlines.add(each)
    deadlines.sweep(1.0)
    deadlines.sweep(2.0)
    assert [(each.is_cut, len(each.told)) for each in broken] == [(True, 1)] * 3
    assert [(each.is_cut, len(each.told)) for each in others] == [(False, 2)] * 8
    (told,) = caplog.records
    assert told.exc_info is not None
    assert told.exc_info[0] is ZeroDivisionError


def test_a_trickle_is_too_slow_and_a_pace_is_kept():
    """A window of 10 s at 5 bytes a second; counts are totals."""
    pace = Pace(10.0, 5.0, 100.0, 1000)
    assert pace.move(101.0) == 110.0  # never later than the end of the window
    assert pace.look(110.0, 1050) == 111.0
    assert pace.move(112.0) == 120.0
    assert pace.look(120.0, 1099) is None


def test_silence_is_as_long_as_a_window_at_most():
    """However much came before it."""
    pace = Pace(10.0, 5.0, 100.0, 0)
    pace.move(101.0)
    assert pace.look(110.0, 9999) == 111.0
    assert pace.look(111.0, 9999) is None


@pytest.mark.parametrize("least", [0.0, 0.01])
def test_with_no_least_pace_something_must_come_all_the_same(least):
    pace = Pace(10.0, least, 100.0, 0)
    pace.move(109.0)
    assert pace.look(110.0, 1) == 119.0
    assert pace.look(119.0, 1) is None


@given(st.lists(st.tuples(st.floats(0.01, 15), st.integers(0, 200)), max_size=60))
def test_whoever_is_let_go_on_has_moved_enough(steps):
    """Over any run of windows: no fewer bytes than the pace asks for, and no silence longer than one."""
    now, count, look_at = 0.0, 0, 10.0
    pace = Pace(10.0, 5.0, now, count)
    moved_at = now
    for pause, more in steps:
        now += pause
        while look_at is not None and look_at <= now:
            at = look_at
            look_at = pace.look(at, count)
            if look_at is not None:
                assert at < look_at <= at + 10.0
                assert at - moved_at < 10.0
        if look_at is None:
            break
        count += more
        moved_at, look_at = now, pace.move(now)
    if look_at is not None:
        assert count >= 5.0 * 10.0 * (now // 10.0 - 1)

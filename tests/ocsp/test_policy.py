"""When a responder is asked again, as a rule of values: for every response, time and jitter."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.errors import Reason, StapleRejected
from proxy.ocsp.policy import LEAST_PAUSE_S, Pace, first_refresh, half_life, may_replace, next_refresh, retry_pause_s
from proxy.ocsp.response import CertStatus, Rules, Staple
from proxy.settings.model import StaplingSettings

START = datetime(2030, 1, 1, tzinfo=UTC)
PACE = Pace()
HOUR, DAY = 3600.0, 86_400.0


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def staple(life_s: float, this_update: datetime = START) -> Staple:
    end = this_update + timedelta(seconds=life_s)
    return Staple(b"", CertStatus.GOOD, this_update, end, this_update, end, "CN=Test", "sha1")


def wait_s(
    life_s: float, now_s: float = 0, jitter: float = 0, pace: Pace = PACE, max_age_s: float | None = None
) -> float:
    """Seconds from `now_s` after thisUpdate until the next refresh."""
    return (next_refresh(staple(life_s), at(now_s), jitter, pace, max_age_s) - at(now_s)).total_seconds()


@pytest.mark.parametrize(
    ("case", "expected_s"),
    [
        ({"life_s": DAY}, DAY / 2),
        ({"life_s": DAY, "now_s": HOUR}, DAY / 2 - HOUR),
        ({"life_s": DAY, "jitter": 0.5}, DAY * 0.45),
        ({"life_s": 7 * DAY}, PACE.refresh_max_s),
        ({"life_s": 7 * DAY, "jitter": 0.5}, PACE.refresh_max_s * 0.9),
        ({"life_s": 10}, 5),
        ({"life_s": 50}, 25),
        ({"life_s": 61}, 30.5),
        ({"life_s": 65, "now_s": 5}, 30),
        ({"life_s": DAY, "now_s": DAY * 0.6}, DAY * 0.2),
        ({"life_s": DAY, "now_s": DAY - 40}, 20),
        ({"life_s": DAY, "now_s": DAY - 0.001}, LEAST_PAUSE_S),
        ({"life_s": DAY, "max_age_s": 60}, DAY / 2),
        ({"life_s": DAY, "max_age_s": DAY * 0.6}, DAY * 0.6),
        ({"life_s": DAY, "max_age_s": DAY * 5}, DAY * 0.75),
        ({"life_s": 7 * DAY, "max_age_s": DAY * 5}, PACE.refresh_max_s),
    ],
    ids=[
        "half of its life",
        "half of its life, fetched later",
        "up to a tenth of it sooner",
        "but not later than the greatest spacing",
        "which is jittered too, or all that began together would ask together for ever",
        "ten-second responses: the least spacing gives way",
        "so for one shorter than twice the least spacing",
        "just longer than that",
        "the least spacing holds where it can",
        "past half-life: half of what remains",
        "ever closer to the end",
        "but no storm in the last second",
        "a short max-age hurries nothing",
        "a longer one puts off",
        "to three quarters at most",
        "and not past the greatest spacing",
    ],
)
def test_next_refresh(case, expected_s):
    """The rules of the schedule, one by one."""
    assert wait_s(**case) == pytest.approx(expected_s)


lives = st.floats(1, 400 * DAY)
jitters = st.floats(0, 1, exclude_max=True)
spacings = st.floats(0.01, 365 * DAY)


@st.composite
def paces(draw: st.DrawFn) -> Pace:
    return Pace(draw(spacings), draw(spacings), draw(spacings), draw(spacings))


@given(lives, st.floats(0, 1, exclude_max=True), jitters, paces(), st.none() | st.floats(0, 10 * DAY))
def test_a_refresh_is_in_the_future_bounded_and_before_the_end(life_s, lived, jitter, pace, max_age_s):
    """Whatever is set: later than now, within the greatest spacing, and in time as long as there is time."""
    remaining_s = life_s * (1 - lived)
    waited_s = wait_s(life_s, life_s * lived, jitter, pace, max_age_s)
    assert waited_s >= LEAST_PAUSE_S
    assert waited_s <= max(pace.refresh_max_s, LEAST_PAUSE_S) + 1e-3
    if remaining_s > 2 * LEAST_PAUSE_S:
        assert waited_s <= remaining_s * 0.75 + 1e-3


@pytest.mark.parametrize(
    ("life_s", "now_s", "expected_s"),
    [(DAY, HOUR, DAY / 2), (DAY, DAY * 0.6, DAY / 2), (90 * DAY, HOUR, HOUR + PACE.refresh_max_s)],
    ids=["at half-life", "which may be over", "within the greatest spacing"],
)
def test_first_refresh(life_s, now_s, expected_s):
    """A staple that an earlier run left is refreshed as if it had been fetched now, or at once."""
    assert first_refresh(staple(life_s), at(now_s), 0.0, PACE) == at(expected_s)


@given(lives, jitters, jitters)
def test_half_life_is_spread_but_never_late(life_s, one, other):
    """Jitter moves the refresh of a new response, to sooner only and by a tenth of its life at most."""
    assume(life_s > 10)
    for jitter in (one, other):
        lived = (half_life(staple(life_s), jitter) - START).total_seconds() / life_s
        assert 0.4 - 1e-3 <= lived <= 0.5 + 1e-3


def test_a_responder_that_repeats_itself_is_asked_a_few_times_only():
    """The same response of a week until its end: some twenty questions, not one every thirty seconds."""
    now_s, asked = 0.0, 0
    while now_s < 7 * DAY:
        now_s += wait_s(7 * DAY, now_s)
        asked += 1
    assert asked < 40


@pytest.mark.parametrize(
    ("failures", "expected_s"), [(1, 5), (2, 10), (3, 20), (9, 1280), (10, 2560), (11, 2880), (1_000_000, 2880)]
)
def test_retries_double_up_to_a_cap(failures, expected_s):
    """5, 10, 20 … seconds while a staple lasts; without jitter the cap leaves a fifth for it."""
    assert retry_pause_s(failures, 0, PACE, remaining_s=math.inf) == pytest.approx(expected_s)


@given(st.integers(1, 10_000), jitters, paces())
def test_without_a_staple_the_responders_return_is_noticed_within_a_minute(failures, jitter, pace):
    """However long it was away: a client that asks gets none meanwhile."""
    assert retry_pause_s(failures, jitter, pace) <= max(60 * (1 + 1e-9), LEAST_PAUSE_S)


@pytest.mark.parametrize(
    ("case", "expected_s"),
    [
        ({"remaining_s": DAY}, 1280),
        ({"remaining_s": 600}, 300),
        ({"remaining_s": 8}, 5),
        ({"retry_after_s": 2000}, 2000),
        ({"retry_after_s": 1}, 48),
        ({"retry_after_s": 10 * DAY}, 3600),
        ({"retry_after_s": 2000, "remaining_s": 600}, 300),
    ],
    ids=[
        "a staple that lasts changes nothing",
        "half of what remains, if that is sooner",
        "but not sooner than the least pause",
        "Retry-After is obeyed",
        "it does not hurry",
        "within the longest pause",
        "and while the staple lasts",
    ],
)
def test_retry_pause(case, expected_s):
    """The rules for the ninth failure, one by one."""
    assert retry_pause_s(9, 0, PACE, **case) == pytest.approx(expected_s)


@given(st.integers(1, 10_000), jitters, paces(), st.none() | st.floats(0, DAY), st.none() | st.floats(0, 10 * DAY))
def test_pauses_grow_and_are_capped(failures, jitter, pace, remaining_s, retry_after_s):
    """More failures never mean a shorter pause; no pause is longer than set, or shorter than a second."""
    more = {"remaining_s": remaining_s, "retry_after_s": retry_after_s}
    pause_s = retry_pause_s(failures, jitter, pace, **more)
    assert LEAST_PAUSE_S <= pause_s <= max(pace.retry_max_s * (1 + 1e-9), LEAST_PAUSE_S)
    assert pause_s <= retry_pause_s(failures + 1, jitter, pace, **more)


@pytest.mark.parametrize(("new_s", "is_refused"), [(-1, True), (0, False), (1, False)])
def test_nothing_older_than_what_is_held(new_s, is_refused):
    """An older thisUpdate is refused; the same response again and a newer one are not."""
    may_replace(None, staple(DAY, at(new_s)))
    if is_refused:
        with pytest.raises(StapleRejected) as caught:
            may_replace(staple(DAY), staple(DAY, at(new_s)))
        assert caught.value.reason is Reason.OLDER_THAN_HELD
    else:
        may_replace(staple(DAY), staple(DAY, at(new_s)))


def test_defaults_are_the_settings():
    """The plain values and the configuration agree on the defaults."""
    assert Pace() == Pace.from_settings(StaplingSettings())
    assert Rules() == Rules.from_settings(StaplingSettings())

"""The rules of the schedule at work for a long time: responders that are away, responses and certificates that end."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.ocsp.policy import (
    LEAST_PAUSE_S,
    WITHOUT_STAPLE_MAX_PAUSE_S,
    Pace,
    half_life,
    may_replace,
    next_refresh,
    retry_pause_s,
)
from proxy.ocsp.response import CertStatus, Staple

START = datetime(2030, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
PACE = Pace()
LIVES = (5 * MINUTE, HOUR, 12 * HOUR, 7 * DAY)
"""Of responses, as private CAs and public ones had them."""
ROUNDING_S = 1e-3
"""Dates have microseconds, and sums of floats less."""


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def since(moment: datetime) -> float:
    return (moment - START).total_seconds()


@dataclass(frozen=True)
class Responder:
    """Signs a response valid for `life_s`, when asked or each `period_s`; is away in the outage."""

    life_s: float
    period_s: float = 0.0
    away_from_s: float = math.inf
    away_until_s: float = math.inf
    certificate_end_s: float = math.inf

    def is_away(self, now_s: float) -> bool:
        return self.away_from_s <= now_s < self.away_until_s

    def response(self, now_s: float) -> Staple:
        signed_s = now_s // self.period_s * self.period_s if self.period_s else now_s
        end, leaf_end_s = at(signed_s + self.life_s), min(self.certificate_end_s, 400 * DAY)
        return Staple(
            b"", CertStatus.GOOD, at(signed_s), end, at(signed_s), min(end, at(leaf_end_s)), "CN=Test", "sha1"
        )


@dataclass
class History:
    """What was asked when, and what was held from when on."""

    asked: list[tuple[float, bool]] = field(default_factory=list)
    """The second, and whether an answer came."""
    held: list[tuple[float, Staple]] = field(default_factory=list)

    def served(self, now_s: float) -> Staple | None:
        """What a handshake gets: the comparison with `serve_until` is in the cache's reader."""
        taken = [staple for begin_s, staple in self.held if begin_s <= now_s]
        return taken[-1] if taken and at(now_s) < taken[-1].serve_until else None

    def gaps(self) -> list[tuple[float, float]]:
        """From when to when there was nothing to serve, between the first staple and the last."""
        return [
            (since(staple.serve_until), later_s)
            for (_, staple), (later_s, _) in pairwise(self.held)
            if since(staple.serve_until) < later_s
        ]

    def answers(self) -> list[float]:
        return [moment_s for moment_s, is_answered in self.asked if is_answered]


def live(responder: Responder, end_s: float, chance: random.Random, pace: Pace = PACE) -> History:
    """Ask as the rules say, from second 0 to `end_s` or the certificate's end. An exchange takes no time."""
    history, now_s, failures = History(), 0.0, 0
    held: Staple | None = None
    jitter = 0.0
    while now_s < min(end_s, responder.certificate_end_s):
        is_away = responder.is_away(now_s)
        history.asked.append((now_s, not is_away))
        if is_away:
            failures += 1
            remaining_s = since(held.serve_until) - now_s if held else 0
            now_s += retry_pause_s(
                failures, chance.random(), pace, remaining_s=remaining_s if remaining_s > 0 else None
            )
            continue
        response = responder.response(now_s)
        may_replace(held, response)
        if held is None or response.this_update != held.this_update:
            held, jitter = response, chance.random()  # once for each response
            history.held.append((now_s, held))
        failures = 0
        now_s = since(next_refresh(held, at(now_s), jitter, pace))
    return history


few = settings(max_examples=25, deadline=None)  # an example is weeks, and a machine may be busy
chances = st.integers(0, 2**32).map(random.Random)
lives = st.sampled_from(LIVES)


@st.composite
def outages(draw: st.DrawFn, longest: float = 3.0) -> Responder:
    """A responder that goes away in its third life or so, for up to `longest` lives."""
    life_s = draw(lives)
    period_s = draw(st.sampled_from((0.0, life_s / 10, life_s / 2)))
    begin_s = life_s * draw(st.floats(1, 3))
    return Responder(life_s, period_s, begin_s, begin_s + life_s * draw(st.floats(0.01, longest)))


@few
@given(outages(), chances)
def test_nothing_is_served_at_or_after_its_end(responder, chance):
    """Looked at round every moment at which something changes; and what is held only ever gets newer."""
    history = live(responder, responder.away_until_s + 2 * responder.life_s, chance)
    for begin_s, staple in history.held:
        assert begin_s < since(staple.serve_until), "no response is taken that is over"
    looks = [moment_s for moment_s, _ in history.asked[:200]]
    looks += [since(staple.serve_until) + d for _, staple in history.held[-50:] for d in (-ROUNDING_S, 0, ROUNDING_S)]
    for now_s in looks:
        served = history.served(now_s)
        assert served is None or at(now_s) < served.serve_until
    assert all(one.this_update < other.this_update for (_, one), (_, other) in pairwise(history.held))


@few
@given(outages(longest=1.0), chances)
def test_no_gap_when_the_outage_is_shorter_than_what_was_left(responder, chance):
    """As long as the responder is back `retry_min_s` before the end of what was held when it left."""
    history = live(responder, responder.away_until_s + 2 * responder.life_s, chance)
    (*_, held) = (staple for begin_s, staple in history.held if begin_s < responder.away_from_s)
    assume(responder.away_until_s <= since(held.serve_until) - PACE.retry_min_s)
    assert history.gaps() == []


@few
@given(outages(), chances)
def test_a_gap_is_no_longer_than_it_must_be(responder, chance):
    """It begins when the staple held ends, and is over within a minute of the responder's return."""
    history = live(responder, responder.away_until_s + 2 * responder.life_s, chance)
    for begin_s, end_s in history.gaps():
        assert begin_s >= responder.away_from_s
        assert end_s <= max(responder.away_until_s, begin_s) + WITHOUT_STAPLE_MAX_PAUSE_S


@few
@given(outages(), chances)
def test_the_responders_return_is_noticed(responder, chance):
    """Within the longest pause while a staple lasts, or before that ends if it is sooner; else within a minute."""
    history = live(responder, responder.away_until_s + 2 * responder.life_s, chance)
    missed = [moment_s for moment_s, is_answered in history.asked if not is_answered]
    assume(missed)  # else nobody had noticed that it was away
    back_s = next(moment_s for moment_s in history.answers() if moment_s >= responder.away_until_s)
    (*_, held) = (staple for begin_s, staple in history.held if begin_s < responder.away_from_s)
    is_held = since(held.serve_until) > responder.away_until_s
    within_s = PACE.retry_max_s if is_held else WITHOUT_STAPLE_MAX_PAUSE_S
    assert back_s - responder.away_until_s <= within_s + ROUNDING_S
    if is_held and since(held.serve_until) - missed[-1] > 2 * PACE.retry_min_s:
        assert back_s < since(held.serve_until)


@few
@given(outages(), chances)
def test_questions_are_few(responder, chance):
    """Never two within a second; in an outage a few at its beginning, then about one an hour, or a minute without."""
    history = live(responder, responder.away_until_s + 2 * responder.life_s, chance)
    for (one_s, _), (other_s, _) in pairwise(history.asked):
        assert other_s - one_s >= LEAST_PAUSE_S - ROUNDING_S
    missed = [moment_s for moment_s, is_answered in history.asked if not is_answered]
    (*_, held) = (staple for begin_s, staple in history.held if begin_s < responder.away_from_s)
    end_s = min(max(since(held.serve_until), responder.away_from_s), responder.away_until_s)
    while_held_s, without_s = end_s - responder.away_from_s, responder.away_until_s - end_s
    doublings = math.log2(PACE.retry_max_s / PACE.retry_min_s)  # up to the longest pause, and down as the end comes
    assert len(missed) <= 2 * doublings + 5 + while_held_s / (PACE.retry_max_s * 0.8) + without_s / 48
    # Each response is asked for once; one that is repeated, again when half of what remains is over.
    answered = len(history.answers())
    sooner_s = min(responder.life_s * 0.4, PACE.refresh_max_s * 0.8)
    repeats = 1 + math.log2(responder.life_s / PACE.refresh_min_s) if responder.period_s else 1
    lived_s = responder.away_until_s + 2 * responder.life_s
    assert answered <= (lived_s / min(sooner_s, responder.period_s or sooner_s) + 2) * repeats


@pytest.mark.parametrize("life_s", [*LIVES, 90 * DAY])
@settings(few, max_examples=5)
@given(chance=chances)
def test_a_certificate_of_two_days(life_s, chance):
    """Stapled to its last second, also by responses that outlive it, and asked for no more; not often either."""
    responder = Responder(life_s, certificate_end_s=2 * DAY)
    history = live(responder, 10 * DAY, chance)
    assert history.gaps() == []
    assert history.served(2 * DAY - ROUNDING_S)
    assert history.served(2 * DAY) is None
    assert history.asked[-1][0] < 2 * DAY
    until_the_end = math.log2(2 * DAY / LEAST_PAUSE_S) + 5  # each question halves what remains
    assert len(history.asked) <= 2 * DAY / (0.4 * life_s) + until_the_end + 1


@settings(few, max_examples=10)
@given(chance=chances)
def test_a_year_of_a_week_with_an_outage_of_five_days_and_one_of_nine(chance):
    """The first is not noticed by any client; in the second they go without for two days and what was lived before."""
    for length_s, has_gap in ((5 * DAY, False), (9 * DAY, True)):
        pace = Pace(refresh_max_s=30 * DAY)
        # The refresh is at 0.4 to 0.5 of the life: at least three and a half days are always left.
        responder = Responder(7 * DAY, 0.0, 180 * DAY, 180 * DAY + length_s)
        history = live(responder, 365 * DAY, chance, pace)
        (*_, held) = (staple for begin_s, staple in history.held if begin_s < responder.away_from_s)
        left_s = since(held.serve_until) - responder.away_from_s
        assert left_s >= 3.5 * DAY
        assert bool(history.gaps()) is (has_gap or left_s < length_s)
        assert sum(end_s - begin_s for begin_s, end_s in history.gaps()) <= max(length_s - left_s, 0) + 60
        assert len(history.answers()) <= 365 / 2.8 + 1


@given(lives, st.floats(0.5, 1), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_jitter_is_drawn_once_for_a_response(life_s, lived, one, other):
    """Past half-life it no longer moves the question within the response's life: drawn anew it would change nothing."""
    pace = Pace(refresh_max_s=365 * DAY)
    staple = Responder(life_s).response(0.0)
    now = at(life_s * min(lived, 0.999))
    assert half_life(staple, one) <= now
    assert next_refresh(staple, now, one, pace) == next_refresh(staple, now, other, pace)

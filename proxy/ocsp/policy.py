"""When to ask a responder again, and which response to keep. Time and jitter are arguments; jitter is in [0, 1).

The schedule of one certificate:

1. A new response is refreshed at half of its life, a tenth of the life sooner or less, by a jitter drawn once for it.
2. Past that point, because the responder still gives the same response: when half of what remains is over, so the
   questions come closer together as the end does.
3. `refresh_min_s` and `refresh_max_s` bound both, the latter with the same jitter: what was fetched together drifts
   apart. The lower bound gives way to the response's end: it is never more than half of what remains.
4. `Cache-Control` may put a refresh off, to at most three quarters of what remains, and never hurries one.
5. After a failure: `retry_min_s`, doubled each time up to `retry_max_s`; while a staple is held, half of what remains
   of it if that is sooner, but not sooner than `retry_min_s`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from proxy.errors import Reason, StapleRejected
from proxy.ocsp.response import CertStatus

if TYPE_CHECKING:
    from proxy.ocsp.response import Staple
    from proxy.settings.model import StaplingSettings

LEAST_PAUSE_S = 1.0
"""Halving what remains of a response's life would otherwise end in ever more questions within its last second."""
WITHOUT_STAPLE_MAX_PAUSE_S = 60.0
_LATEST = 0.75
_JITTERED_LIFE = 0.1
_JITTERED_PAUSE = 0.25


@dataclass(frozen=True, slots=True)
class Pace:
    """How close together and how far apart questions about one certificate are."""

    refresh_min_s: float = 30
    refresh_max_s: float = 86_400
    retry_min_s: float = 5
    retry_max_s: float = 3_600

    @classmethod
    def from_settings(cls, settings: StaplingSettings) -> Pace:
        return cls(
            settings.refresh_min_interval_s,
            settings.refresh_max_interval_s,
            settings.retry_min_interval_s,
            settings.retry_max_interval_s,
        )


def half_life(staple: Staple, jitter: float) -> datetime:
    """Rule 1: from when on a response is due for a refresh, whenever it was fetched."""
    return staple.this_update + (staple.serve_until - staple.this_update) * (0.5 - _JITTERED_LIFE * jitter)


def next_refresh(staple: Staple, now: datetime, jitter: float, pace: Pace, max_age_s: float | None = None) -> datetime:
    """When to ask again after `staple` was fetched at `now`; always after `now`.

    `max_age_s`: how long caches may keep the answer, None if it did not say. RFC 5019 6.2: a responder sets it to when
    it will have a newer response, so asking sooner gets the same. A short one hurries nothing: nextUpdate guards
    already what it would guard, and a cache before a responder says "60 seconds" of a response valid for days.
    """
    remaining_s = (staple.serve_until - now).total_seconds()
    due_s = (half_life(staple, jitter) - now).total_seconds()
    if due_s <= 0:
        due_s = remaining_s / 2
    if max_age_s is not None:
        due_s = max(due_s, min(max_age_s, remaining_s * _LATEST))
    due_s = min(max(due_s, min(pace.refresh_min_s, remaining_s / 2)), _longest_s(jitter, pace))
    return now + timedelta(seconds=max(due_s, LEAST_PAUSE_S))


def first_refresh(staple: Staple, now: datetime, jitter: float, pace: Pace) -> datetime:
    """When to ask for one that an earlier run left: at once where that is due."""
    return min(half_life(staple, jitter), now + timedelta(seconds=_longest_s(jitter, pace)))


def _longest_s(jitter: float, pace: Pace) -> float:
    return min(max(pace.refresh_max_s * (1 - 2 * _JITTERED_LIFE * jitter), pace.refresh_min_s), pace.refresh_max_s)


def retry_pause_s(
    failures: int, jitter: float, pace: Pace, *, remaining_s: float | None = None, retry_after_s: float | None = None
) -> float:
    """How long to wait after the `failures`-th failure in a row.

    The jitter keeps machines that failed together from asking together. `remaining_s` is what is left of the staple
    held, None without one, infinite where none is to be had (revoked); it outranks `retry_after_s`, the responder's
    wish: a lost staple costs clients, a few questions cost little.
    """
    doubled_s = pace.retry_min_s * float(2 ** min(failures - 1, 30))  # 30: far above any cap, far below an overflow
    spread = 1 + _JITTERED_PAUSE * jitter
    # Without a staple clients go without: the responder's return is to be noticed within a minute.
    cap_s = pace.retry_max_s if remaining_s is not None else min(pace.retry_max_s, WITHOUT_STAPLE_MAX_PAUSE_S)
    pause_s = min(doubled_s, cap_s / (1 + _JITTERED_PAUSE)) * spread
    if retry_after_s is not None:
        pause_s = min(max(pause_s, retry_after_s), pace.retry_max_s)
    if remaining_s is not None:
        pause_s = min(pause_s, max(remaining_s / 2, pace.retry_min_s))
    return max(pause_s, LEAST_PAUSE_S)


def may_replace(held: Staple | None, new: Staple) -> None:
    """Refuse a response older than the one held: responders of one name may be out of step, and old ones replayed."""
    if held is not None and (
        new.this_update < held.this_update
        # A certificate does not come back from 'revoked' in the same second: that is the older word, replayed. It may
        # well be revoked in the second of a 'good'.
        or (new.this_update == held.this_update and held.status is CertStatus.REVOKED and new.status is not held.status)
    ):
        raise StapleRejected(
            Reason.OLDER_THAN_HELD, f"its thisUpdate is {new.this_update}, that of the response held {held.this_update}"
        )

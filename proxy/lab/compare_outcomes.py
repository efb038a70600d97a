"""What a client of the comparison was served, as one word, and how often each word came. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from proxy.errors import Reason, StapleRejected
from proxy.ocsp.response import Rules, check

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from cryptography import x509

    from proxy.lab.compare_plan import Phase, Plan


class Outcome(StrEnum):
    """From what a client wants to what it cannot use."""

    GOOD = "good"
    OLD = "old"
    EXPIRED = "expired"
    BAD = "bad"
    TRY_LATER = "tryLater"
    NONE = "none"
    ALERT = "alert"
    LATE = "late"


MEANING = {
    Outcome.GOOD: "a verified staple that says 'good' and is not old",
    Outcome.OLD: "a verified staple that says 'good', kept from before the latest trouble began (by its thisUpdate)",
    Outcome.EXPIRED: "a staple past its nextUpdate",
    Outcome.BAD: "another staple that a client must refuse, such as one that says 'revoked' or is signed wrongly",
    Outcome.TRY_LATER: "a response that holds an error status, such as tryLater, instead of the certificate's status",
    Outcome.NONE: "no staple",
    Outcome.ALERT: "no handshake: the server ended it, by an alert or by closing the connection",
    Outcome.LATE: "no handshake: it was not over when the client gave up",
}
_ERROR_STATUSES = {
    Reason.MALFORMED_REQUEST,
    Reason.INTERNAL_ERROR,
    Reason.TRY_LATER,
    Reason.SIG_REQUIRED,
    Reason.UNAUTHORIZED,
}


@dataclass(frozen=True, slots=True)
class Handshake:
    """One client. Times are seconds, and `due_s` counts from the start of the comparison."""

    profile: str
    due_s: float
    wait_s: float
    """From when it was due, not from when it came to run: so a client held up by others before it counts in full."""
    outcome: Outcome
    why: str = ""
    """The reason's word, or the client's sentence, where the outcome alone does not tell."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What the clients of one profile were served."""

    counts: Mapping[Outcome, int]
    """Those that did not come are not in it."""
    longest_wait_s: float

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Report:
    """A whole comparison."""

    plan: Plan
    begun: datetime
    handshakes: tuple[Handshake, ...]
    """In order of time, and of profile as they were named."""

    def of(self, profile: str, phase: Phase | None = None) -> tuple[Handshake, ...]:
        """Give the clients of one profile, those of all times or those that were due in a phase."""
        return tuple(
            each
            for each in self.handshakes
            if each.profile == profile and (phase is None or phase.begin_s <= each.due_s < phase.end_s)
        )


def judge(
    der: bytes | None,
    *,
    leaf: x509.Certificate,
    issuer: x509.Certificate,
    now: datetime,
    trouble_since: datetime | None,
) -> tuple[Outcome, str]:
    """Say what a handshake that succeeded at `now` brought; `trouble_since`: None before any trouble."""
    if der is None:
        return Outcome.NONE, ""
    try:
        staple = check(der, leaf=leaf, issuer=issuer, now=now, rules=Rules())
    except StapleRejected as error:
        if error.reason is Reason.EXPIRED:
            return Outcome.EXPIRED, error.reason
        return (Outcome.TRY_LATER if error.reason in _ERROR_STATUSES else Outcome.BAD), error.reason
    is_old = trouble_since is not None and staple.this_update < trouble_since
    return (Outcome.OLD if is_old else Outcome.GOOD), ""


def summarize(handshakes: Iterable[Handshake]) -> Summary:
    """Count, whatever profiles and times these are of."""
    counts: Counter[Outcome] = Counter()
    longest_wait_s = 0.0
    for handshake in handshakes:
        counts[handshake.outcome] += 1
        longest_wait_s = max(longest_wait_s, handshake.wait_s)
    return Summary(counts, longest_wait_s)

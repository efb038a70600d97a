"""What one machine of a fleet does about one certificate. PURE: what the server said goes in, what to do comes out.

The life of a certificate that is due:

1. *Look*: what the server has is newer than what is held → `Found`, it is taken, and this round is over. Somebody asks
   just now → `Theirs`, look again when that may be over; the announcement will come before. Somebody has asked in vain
   a moment ago → `InVain`, it counts as an own failure, but not twice in a row: one machine with a wrong clock, or
   without a way to the responder, would else fail for all. Else `Free`: it waits for its turn at the responder. Who
   *insists* hears neither that another one has asked in vain nor that it got the same again: near the end of what is
   held each machine sees for itself, one after the other.
2. *Begin*, when its turn has come: the same look, and in the same step the lock → `Ours`.
3. The responder is asked; the lock is extended meanwhile, for a bounded time.
4. *End*: the response is stored unless the server has a newer one, announced, and the lock released, in one step. Where
   nothing came, the lock stays for a moment as a sign of it.

The server is away → `Alone`: each machine asks by itself, after a pause drawn by each for itself. So it is where a lock
was waited for longer than its holder can need: somebody else has put it there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.keeper.fleet.value import Head

LOCK_LIFE_S = 5.0
"""Of a lock that nobody extends: so long after its holder's death another one takes over."""
EXTEND_EVERY_S = LOCK_LIFE_S / 3
IN_VAIN_MAX_S = 10.0
"""So long one failure counts for all: a machine whose own way to the responder is broken holds nobody up for longer."""
WAIT_SPREAD_S = 1.0
"""Those who wait for one lock do not come back together."""
WAIT_LEAST_S = 0.2

ALONE_MAX_S = 300.0
ALONE_PART = 0.25
"""Of the life that is left of the staple held: so much may be waited, so that all who have lost the server at once do
not come to the responder at once."""
ALONE_WITHOUT_S = 3.0
"""The same for who holds nothing, whose clients go without meanwhile."""

SHARED_PART = 0.25
"""Of the jitter of a refresh, see `shared_jitter`. Without the server the rest keeps machines apart."""

RETRY_MIN_S = 0.5
RETRY_MAX_S = 30.0
STEADY_S = 30.0
"""A server that has been there for so long had no trouble before."""

POLL_LEAST_S = 15.0
POLL_PER_S = 20.0
"""All certificates are looked at once in `POLL_LEAST_S`, or at `POLL_PER_S`, whichever takes longer: lost
announcements are the exception, and the look before each question finds them too."""
RESYNC_PER_S = 200.0
"""The same once after the server has come back: it may be empty, and announcements were missed."""


class Turn:
    """What to do now about a certificate that is due."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Found(Turn):
    """The server has a newer one. It is not proved yet."""

    head: Head
    der: bytes
    age_s: float
    """Since a responder gave it."""
    digest: str
    """SHA-1 of the value, by which the server finds it again should it be refused here."""


@dataclass(frozen=True, slots=True)
class Free(Turn):
    """Nobody has a newer one, and nobody asks."""


@dataclass(frozen=True, slots=True)
class Ours(Turn):
    """The lock is ours: ask."""


@dataclass(frozen=True, slots=True)
class Theirs(Turn):
    """Another machine asks."""

    left_s: float
    """Of the lock's life, if it is not extended."""


@dataclass(frozen=True, slots=True)
class InVain(Turn):
    """Another machine has just asked, and nothing came."""


@dataclass(frozen=True, slots=True)
class Alone(Turn):
    """The server is of no help."""


class Sync(Enum):
    """What to do about a certificate that is not due, after a look at its head on the server."""

    NOTHING = auto()
    TAKE = auto()
    PUT = auto()
    """It is not there: who holds it gives it back."""
    PUT_NEWER = auto()
    """What is there is older: give ours, and announce it."""


def turn_of(word: bytes, left_ms: int) -> Turn:
    """Read what `scripts.TURN` says, unless it has found something."""
    match word:
        case b"free":
            return Free()
        case b"ours":
            return Ours()
        case b"theirs":
            # Without an end it is none of ours.
            return Theirs(LOCK_LIFE_S if left_ms < 0 else min(left_ms / 1000, LOCK_LIFE_S))
        case b"in-vain":
            return InVain()
    raise ValueError(f"the server's script said {word!r}")


def wait_s(left_s: float, jitter: float) -> float:
    """How long to leave a certificate alone for which somebody else asks."""
    return max(left_s, WAIT_LEAST_S) + WAIT_SPREAD_S * jitter


def alone_pause_s(remaining_s: float | None, jitter: float) -> float:
    """How long to put off a question that is asked without the fleet; `remaining_s` None: nothing is held."""
    longest_s = ALONE_WITHOUT_S if remaining_s is None else min(remaining_s * ALONE_PART, ALONE_MAX_S)
    return max(longest_s, 0.0) * jitter


def shared_jitter(key: bytes, der: bytes, own: float) -> float:
    """The jitter of the refresh of a response: a part of it is the same on all machines, by key and response.

    Were it each machine's own, the first of many would come at nearly the same moment of each response's life, and what
    was fetched together would be due together ever after.
    """
    return joint_jitter(int.from_bytes(sha256(key + der).digest()[:4], "big") / 2**32, own)


def joint_jitter(shared: float, own: float) -> float:
    """Put it together of two numbers in [0, 1)."""
    return SHARED_PART * shared + (1 - SHARED_PART) * own


def retry_s(failures: int, jitter: float) -> float:
    """How long to leave a server alone after its `failures`-th failure in a row."""
    doubled_s = RETRY_MIN_S * float(2 ** min(failures - 1, 20))
    return min(doubled_s, RETRY_MAX_S) * (0.75 + 0.5 * jitter)


def hold_s(responders: int, fetch_timeout_s: float) -> float:
    """For how long a lock may be extended: each responder once, with some time in the queue of each."""
    return responders * (fetch_timeout_s + LOCK_LIFE_S)


def patience_s(responders: int, fetch_timeout_s: float) -> float:
    """For how long in all a lock is waited for in one round: as long as it may be extended, and its life."""
    return hold_s(responders, fetch_timeout_s) + LOCK_LIFE_S


def poll_interval_s(certificates: int, per_s: float = POLL_PER_S, least_s: float = POLL_LEAST_S) -> float:
    """How long after one certificate the next one is looked at."""
    return max(1 / per_s, least_s / max(certificates, 1))


def sync(mine: Head | None, theirs: Head | None) -> Sync:
    """Compare what is held with the head on the server; None: there is none. A tie by `rank` is no difference."""
    if mine is None:
        return Sync.NOTHING if theirs is None else Sync.TAKE
    if theirs is None:
        return Sync.PUT
    if theirs.rank > mine.rank:
        return Sync.TAKE
    return Sync.PUT_NEWER if theirs.this_update_s < mine.this_update_s else Sync.NOTHING

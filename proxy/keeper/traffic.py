"""What the workers serve, in a few figures: from their counts, and how fast these grow. PURE."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from proxy.keeper.status import Traffic

if TYPE_CHECKING:
    from proxy.counters_totals import Totals

NOTED_EVERY_S = 5.0
_NOTES = 13
"""Rates are means of the last minute."""


class Meter:
    """Remembers the counts of a minute. `now_s`: of a clock that is not set back."""

    def __init__(self) -> None:
        self._notes: deque[tuple[float, int, int]] = deque(maxlen=_NOTES)

    def note(self, totals: Totals, now_s: float) -> None:
        """Remember the counts of now; to be called each `NOTED_EVERY_S`."""
        self._notes.append((now_s, _handshakes(totals), _requests(totals)))

    def traffic(self, totals: Totals, now_s: float) -> Traffic:
        """Put the figures together."""
        workers = totals.workers.values()
        handshakes, requests = _handshakes(totals), _requests(totals)
        # Between what was noted longest ago and now: also right when a page is asked for before the first minute ends.
        then_s, handshakes_then, requests_then = self._notes[0] if self._notes else (now_s, 0, 0)
        elapsed_s = now_s - then_s
        failures = Counter[str]()
        for worker in workers:
            failures.update({str(failure): count for failure, count in worker.failures.items() if count})
        return Traffic(
            workers=len(workers),
            connections_open=totals.connections_open,
            connections_refused=sum(sum(worker.refused.values()) for worker in workers),
            handshakes=handshakes,
            handshakes_per_s=_rate(handshakes - handshakes_then, elapsed_s),
            handshakes_by={str(staple): count for staple, count in totals.handshakes_by_staple.items()},
            handshake_failures=dict(failures.most_common()),
            requests=requests,
            requests_per_s=_rate(requests - requests_then, elapsed_s),
            requests_by=dict(sorted(totals.requests_by_class.items())),
            backend_failures=sum(worker.upstream_failures for worker in workers),
        )


def _rate(count: int, elapsed_s: float) -> float:
    # Negative where all counts began again, as after a reload with very many other sites.
    return round(max(count, 0) / elapsed_s, 2) if elapsed_s > 0 else 0.0


def _handshakes(totals: Totals) -> int:
    return sum(worker.handshakes for worker in totals.workers.values())


def _requests(totals: Totals) -> int:
    return sum(sum(worker.requests.values()) for worker in totals.workers.values())

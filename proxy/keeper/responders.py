"""How the responders have been answering: the last questions to each, and what came of them."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from proxy.keeper.asker import FETCHED, NOT_MODIFIED
from proxy.keeper.reporter import Observer
from proxy.keeper.status import Responder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REMEMBERED = 100
"""Questions to each responder: enough for a 90th percentile, and few enough that an hour's outage fades."""
MAX_RESPONDERS = 1_000
"""When one more is asked, the one that was asked longest ago is forgotten."""
GOOD = frozenset({FETCHED, NOT_MODIFIED})


@dataclass(slots=True)
class _Past:
    asked: int = 0
    failed: int = 0
    recent: deque[tuple[str, float]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    last_s: float = 0.0


class Responders(Observer):
    """Remembers what it is told. `clock` gives the wall clock's seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pasts: dict[str, _Past] = {}
        """The one asked last is at the end."""

    def asked(self, responder: str, outcome: str, elapsed_s: float) -> None:
        past = self._pasts.pop(responder, None) or _Past()
        if len(self._pasts) == MAX_RESPONDERS:
            del self._pasts[next(iter(self._pasts))]
        self._pasts[responder] = past
        past.asked += 1
        past.failed += outcome not in GOOD
        past.recent.append((outcome, elapsed_s))
        past.last_s = self._clock()

    def told(self) -> tuple[Responder, ...]:
        """All of them: those that fail most first, then by name."""
        found = [_responder(name, past) for name, past in list(self._pasts.items())]
        return tuple(sorted(found, key=lambda each: (-each.error_ratio, each.responder)))


def _responder(name: str, past: _Past) -> Responder:
    recent = tuple(past.recent)
    wrong = Counter(outcome for outcome, _ in recent if outcome not in GOOD)
    times_s = sorted(elapsed_s for _, elapsed_s in recent)
    last = recent[-1][0]
    return Responder(
        responder=name,
        asked=past.asked,
        failed=past.failed,
        recent=len(recent),
        recent_failed=wrong.total(),
        error_ratio=wrong.total() / len(recent),
        reasons={str(outcome): count for outcome, count in wrong.most_common()},
        p50_s=quantile(times_s, 0.5),
        p90_s=quantile(times_s, 0.9),
        last_asked=datetime.fromtimestamp(past.last_s, UTC),
        last_reason="" if last in GOOD else str(last),
    )


def quantile(ordered: Sequence[float], part: float) -> float:
    """The least of `ordered` that at least `part` of them do not exceed."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]

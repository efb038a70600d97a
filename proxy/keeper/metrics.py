"""What ``/metrics`` says: counts what the keeper is told of, and looks at all else when asked. See metrics_table.py."""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography.hazmat.backends.openssl import backend

from proxy import __version__
from proxy.cache.figures import figures, prometheus_lines
from proxy.counters import Counters
from proxy.keeper import metrics_text
from proxy.keeper.metrics_table import GROUPS, Build, Look
from proxy.keeper.metrics_text import Spread
from proxy.keeper.reporter import Observer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from proxy.cache.segment import Segment
    from proxy.control import Bulletin, News
    from proxy.forecast import Forecast
    from proxy.keeper.events import Event
    from proxy.keeper.status import Fleet
    from proxy.keeper.watched import Watched

Forecasting = Callable[[Mapping[bytes, float], datetime], "Iterable[Forecast]"]
"""(end of what is held by key, now) -> one for each site."""

_EXCHANGE_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics(Observer):
    """Written to by the event loop, and read by a thread: each count is one step for both."""

    def __init__(self, segment: Segment, counters: Counters | None = None, bulletin: Bulletin | None = None) -> None:
        """Tell of the cache in `segment`, of what the workers count, and of the master's news, where there are any."""
        self._segment = segment
        self._counters = counters or Counters()
        self._bulletin = bulletin
        self._build = Build(__version__, platform.python_version(), backend.openssl_version_text())
        self._watched: Callable[[], Iterable[Watched]] = tuple
        self._forecast: Forecasting = lambda _ends, _now: ()
        self._exchanges: Counter[tuple[str, str]] = Counter()
        self._exchange_counts: dict[str, list[int]] = {}
        self._exchange_sums: dict[str, float] = {}
        self._events: Counter[str] = Counter()
        self._fleet: Callable[[], Fleet | None] = lambda: None

    def tell_of(self, watched: Callable[[], Iterable[Watched]]) -> None:
        """Have metrics for each of these certificates."""
        self._watched = watched

    def tell_forecast(self, forecast: Forecasting) -> None:
        """Have a metric for each site, of what is told of its certificates."""
        self._forecast = forecast

    def tell_fleet(self, fleet: Callable[[], Fleet]) -> None:
        """Have metrics of what is shared with other machines."""
        self._fleet = fleet

    def asked(self, responder: str, outcome: str, elapsed_s: float) -> None:
        self._exchanges[responder, outcome] += 1
        self._exchange_sums.setdefault(responder, 0.0)
        counts = self._exchange_counts.setdefault(responder, [0] * (len(_EXCHANGE_S) + 1))
        counts[bisect_left(_EXCHANGE_S, elapsed_s)] += 1
        self._exchange_sums[responder] += elapsed_s

    def happened(self, event: Event) -> None:
        self._events[event.kind] += 1

    def text(self) -> str:
        """Write all of them, and the cache's, in Prometheus' text format."""
        return "".join(self._lines())

    def _lines(self) -> Iterator[str]:
        look = self._look()
        for _, metrics in GROUPS:
            for metric in metrics:
                yield from metrics_text.lines(
                    metric.name, metric.kind, metric.meaning, metric.labels, metric.read(look)
                )
        for line in prometheus_lines(figures(self._segment, look.now.timestamp())):
            yield line + "\n"

    def _look(self) -> Look:
        now = datetime.now(UTC)
        watched = tuple(self._watched())
        ends: dict[bytes, float] = {
            each.identity.cache_key: held.serve_until.timestamp()
            for each in watched
            if (held := each.held(now)) is not None
        }
        return Look(
            now=now,
            build=self._build,
            news=self._news(),
            totals=self._counters.totals(),
            watched=watched,
            forecasts=tuple(self._forecast(ends, now)),
            exchanges=self._exchanges.copy(),
            exchange_seconds={
                responder: Spread(_EXCHANGE_S, tuple(counts), self._exchange_sums[responder])
                for responder, counts in self._exchange_counts.copy().items()
            },
            events=self._events.copy(),
            fleet=self._fleet(),
        )

    def _news(self) -> News | None:
        try:
            return self._bulletin.read() if self._bulletin else None
        except BlockingIOError:  # the master was killed in the middle of writing: we end too
            return None

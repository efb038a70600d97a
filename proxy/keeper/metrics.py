"""The keeper's figures, by Prometheus' conventions: each metric stands in this file once.

Labels are bounded: responders and certificates are those of the configuration, outcomes those of `proxy.errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from proxy.cache.figures import figures, prometheus_lines
from proxy.keeper.reporter import Observer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from proxy.cache.segment import Segment
    from proxy.forecast import Forecast
    from proxy.keeper.events import Event
    from proxy.keeper.watched import Watched

disable_created_metrics()  # type: ignore[no-untyped-call]  # theirs; else a second series comes with each counter

Forecasting = Callable[[Mapping[bytes, float], datetime], "Iterable[Forecast]"]
"""(end of what is held by key, now) -> one for each site."""

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# Name, meaning, value; None: there is nothing to tell.
_OF_CERTIFICATES: tuple[tuple[str, str, Callable[[Watched, datetime], float | None]], ...] = (
    (
        "stapleproxy_staple_until_timestamp_seconds",
        "until when what is held is stapled, though the responder were gone from now; absent: nothing is held",
        lambda watched, now: held.serve_until.timestamp() if (held := watched.held(now)) else None,
    ),
    (
        "stapleproxy_staple_this_update_timestamp_seconds",
        "thisUpdate of what is held",
        lambda watched, now: held.this_update.timestamp() if (held := watched.held(now)) else None,
    ),
    (
        "stapleproxy_staple_next_attempt_timestamp_seconds",
        "when the responders are asked next; absent: being asked now, or never",
        lambda watched, _: watched.due_s,
    ),
    (
        "stapleproxy_staple_failures",
        "rounds in a row in which no responder helped",
        lambda watched, _: watched.failures,
    ),
    (
        "stapleproxy_staple_required",
        "1: the certificate says must-staple",
        lambda watched, _: float(watched.identity.must_staple),
    ),
)


class Metrics(Observer):
    """Counts what it is told of, and reads the rest when asked."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._watched: Callable[[], Iterable[Watched]] = tuple
        self._registry = CollectorRegistry()
        self._exchanges = Counter(
            "stapleproxy_ocsp_exchanges",
            "questions to responders, by HOST:PORT and what came of them",
            ("responder", "outcome"),
            registry=self._registry,
        )
        self._exchange_seconds = Histogram(
            "stapleproxy_ocsp_exchange_seconds",
            "how long questions to responders took, in vain too",
            ("responder",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._events = Counter(
            "stapleproxy_staple_events",
            "what happened to staples: fetched, refused, expiring, expired, revoked",
            ("event",),
            registry=self._registry,
        )

    def tell_of(self, watched: Callable[[], Iterable[Watched]]) -> None:
        """Have a metric for each of these certificates."""
        self._watched = watched
        self._registry.register(_Certificates(watched))

    def tell_forecast(self, forecast: Forecasting) -> None:
        """Have a metric for each site, after `tell_of`."""
        self._registry.register(_Forecasts(self._watched, forecast))

    def asked(self, responder: str, outcome: str, elapsed_s: float) -> None:
        self._exchanges.labels(responder, outcome).inc()
        self._exchange_seconds.labels(responder).observe(elapsed_s)

    def happened(self, event: Event) -> None:
        self._events.labels(event.kind).inc()

    def text(self) -> str:
        """Write all of them, and the cache's, in Prometheus' text format."""
        of_cache = "".join(
            f"{line}\n" for line in prometheus_lines(figures(self._segment, datetime.now(UTC).timestamp()))
        )
        return generate_latest(self._registry).decode() + of_cache


class _Certificates(Collector):
    def __init__(self, watched: Callable[[], Iterable[Watched]]) -> None:
        self._watched = watched

    def collect(self) -> Iterator[GaugeMetricFamily]:
        now = datetime.now(UTC)
        for name, meaning, value_of in _OF_CERTIFICATES:
            family = GaugeMetricFamily(name, meaning, labels=("certificate", "key"))
            for each in self._watched():
                if (value := value_of(each, now)) is not None:
                    family.add_metric((each.identity.label, each.identity.cache_key.hex()), value)
            yield family


class _Forecasts(Collector):
    def __init__(self, watched: Callable[[], Iterable[Watched]], forecast: Forecasting) -> None:
        self._watched = watched
        self._forecast = forecast

    def collect(self) -> Iterator[GaugeMetricFamily]:
        now = datetime.now(UTC)
        ends: dict[bytes, float] = {
            each.identity.cache_key: held.serve_until.timestamp()
            for each in self._watched()
            if (held := each.held(now)) is not None
        }
        family = GaugeMetricFamily(
            "stapleproxy_site_stapled_until_timestamp_seconds",
            "until when all of a site is stapled, though the responders were gone from now; 0: not all of it is",
            labels=("site",),
        )
        for each in self._forecast(ends, now):
            family.add_metric(
                (each.names[0] if each.names else "any name",), each.until.timestamp() if each.until else 0
            )
        yield family

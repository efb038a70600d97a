"""All metrics: the one table that ``/metrics`` and docs/metrics.md are written from. Pure.

Labels are bounded: sites, certificates and responders are those of the configuration, and the other values are from
closed sets. Latency is by worker and not by site: its fifteen lines for each of 10,000 sites would be more than all the
rest. The cache's rows are those of `proxy.cache.figures`, which has Apache's names for them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from proxy.cache.figures import FIGURES, Figure
from proxy.counters_layout import LATENCY_S, site_label
from proxy.keeper.metrics_text import Sample, Spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from proxy.control import News
    from proxy.counters_totals import SiteTotals, Totals, WorkerTotals
    from proxy.forecast import Forecast
    from proxy.keeper.metrics_text import Kind
    from proxy.keeper.status import Fleet
    from proxy.keeper.watched import Watched

Label = TypeVar("Label", bound=str | int)


@dataclass(frozen=True, slots=True)
class Build:
    """What runs."""

    version: str
    python: str
    openssl: str


@dataclass(frozen=True, slots=True)
class Look:
    """All that the metrics tell of, at one moment."""

    now: datetime
    build: Build
    news: News | None
    totals: Totals
    watched: Sequence[Watched]
    forecasts: Sequence[Forecast]
    exchanges: Mapping[tuple[str, str], int]
    """By responder and outcome."""
    exchange_seconds: Mapping[str, Spread]
    """By responder."""
    events: Mapping[str, int]
    fleet: Fleet | None = None
    """What is shared with other machines; None: nothing."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One row; `read` gives the samples of a look, whose values are in the order of `labels`."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...]
    read: Callable[[Look], Iterable[Sample]]


def unit_of(name: str) -> str:
    """Give the last part of a metric's name, where it is a unit; empty: it is a number of things."""
    word = name.removesuffix("_total").rpartition("_")[2]
    return word if word in {"seconds", "bytes", "ratio"} else ""


# The kinds of rows.


def _of_program(value: Callable[[News], float | None]) -> Callable[[Look], Iterator[Sample]]:
    def read(look: Look) -> Iterator[Sample]:
        if look.news is not None and (found := value(look.news)) is not None:
            yield (), found

    return read


def _of_workers(
    values: Callable[[WorkerTotals], Iterable[tuple[tuple[str, ...], float | Spread]]],
) -> Callable[[Look], Iterator[Sample]]:
    def read(look: Look) -> Iterator[Sample]:
        for number, worker in look.totals.workers.items():
            for labels, value in values(worker):
                yield (str(number), *labels), value

    return read


def _of_worker(value: Callable[[WorkerTotals], float]) -> Callable[[Look], Iterator[Sample]]:
    return _of_workers(lambda worker: [((), value(worker))])


def _by(counts: Callable[[WorkerTotals], Mapping[Label, int]]) -> Callable[[Look], Iterator[Sample]]:
    return _of_workers(lambda worker: [((str(label),), count) for label, count in counts(worker).items()])


def _of_sites(values: Callable[[SiteTotals], Iterable[Sample]]) -> Callable[[Look], Iterator[Sample]]:
    def read(look: Look) -> Iterator[Sample]:
        for name, site in look.totals.sites.items():
            for labels, value in values(site):
                yield (name, *labels), value

    return read


def _of_certificates(value: Callable[[Watched, datetime], float | None]) -> Callable[[Look], Iterator[Sample]]:
    def read(look: Look) -> Iterator[Sample]:
        for each in look.watched:
            if (found := value(each, look.now)) is not None:
                yield (each.identity.label, each.identity.cache_key.hex()), found

    return read


def _of_fleet(values: Callable[[Fleet], Iterable[Sample]]) -> Callable[[Look], Iterable[Sample]]:
    return lambda look: values(look.fleet) if look.fleet else ()


# What is more than a word to read.


def _last_reload_s(news: News) -> float | None:
    last = news["last_reload"]
    return datetime.fromisoformat(last["at"]).timestamp() if last else None


def _last_reload_ok(news: News) -> float | None:
    last = news["last_reload"]
    return int(last["ok"]) if last else None


def _age_s(watched: Watched, now: datetime) -> float | None:
    held = watched.held(now)
    return (now - held.this_update).total_seconds() if held else None


def _remaining_s(watched: Watched, now: datetime) -> float:
    held = watched.held(now)
    return (held.serve_until - now).total_seconds() if held else 0


def _until_s(watched: Watched, now: datetime) -> float | None:
    held = watched.held(now)
    return held.serve_until.timestamp() if held else None


def _forecasts(look: Look) -> Iterator[Sample]:
    """Two sites may have the same first name, at different addresses: the worse of them is told."""
    worst: dict[str, float] = {}
    for each in look.forecasts:
        name, until_s = site_label(each.names), each.until.timestamp() if each.until else 0
        worst[name] = min(until_s, worst.get(name, until_s))
    return (((name,), until_s) for name, until_s in worst.items())


_PROGRAM = (
    Metric(
        "stapleproxy_build_info",
        "gauge",
        "always 1: what runs",
        ("version", "python", "openssl"),
        lambda look: [((look.build.version, look.build.python, look.build.openssl), 1)],
    ),
    Metric(
        "stapleproxy_start_timestamp_seconds",
        "gauge",
        "when the master was started",
        (),
        _of_program(lambda news: datetime.fromisoformat(news["started"]).timestamp()),
    ),
    Metric(
        "stapleproxy_generation",
        "gauge",
        "which configuration is served: 1 at the start, one more with each reload that was taken in",
        (),
        _of_program(lambda news: news["generation"]),
    ),
    Metric(
        "stapleproxy_reloads_total",
        "counter",
        "reloads that were tried and are over",
        (),
        _of_program(lambda news: news["reloads"]),
    ),
    Metric(
        "stapleproxy_last_reload_successful",
        "gauge",
        "1: the last reload was taken in; 0: it had mistakes, and nothing was changed; absent: there was none",
        (),
        _of_program(_last_reload_ok),
    ),
    Metric(
        "stapleproxy_last_reload_timestamp_seconds",
        "gauge",
        "when the last reload ended; absent: there was none",
        (),
        _of_program(_last_reload_s),
    ),
)
_CLIENTS = (
    Metric(
        "stapleproxy_connections_total",
        "counter",
        "clients that connected, by port: tls, or redirect; those to tls end in a handshake or in a failure",
        ("worker", "port"),
        _by(lambda worker: worker.connections),
    ),
    Metric(
        "stapleproxy_open_connections",
        "gauge",
        "clients that are connected now; told once a second",
        ("worker",),
        _of_worker(lambda worker: worker.open),
    ),
    Metric(
        "stapleproxy_refused_connections_total",
        "counter",
        "clients that were closed as they came, by the key of limits that says so; told once a second",
        ("worker", "limit"),
        _by(lambda worker: worker.refused),
    ),
    Metric(
        "stapleproxy_open_handshakes",
        "gauge",
        "clients that are in the handshake now, or before it",
        ("worker",),
        _of_worker(lambda worker: worker.in_handshake),
    ),
    Metric(
        "stapleproxy_handshakes_total",
        "counter",
        "handshakes that were done, by the first name of the site, and what the client got of OCSP: fresh, none (it"
        " asked, and there was nothing), not-asked (or nothing is ever stapled there), resumed; absent: there was none",
        ("site", "version", "resumed", "staple"),
        _of_sites(
            lambda site: [
                ((version, "true" if staple == "resumed" else "false", staple), count)
                for (version, staple), count in site.handshakes.items()
            ]
        ),
    ),
    Metric(
        "stapleproxy_refused_handshakes_total",
        "counter",
        "clients that were turned away, since they asked for a staple and there was none; absent: there was none."
        " They are failures of the reason no-staple too",
        ("site",),
        _of_sites(lambda site: [((), site.refused)] if site.refused else []),
    ),
    Metric(
        "stapleproxy_handshake_failures_total",
        "counter",
        "clients of the port tls that came to no session, by why",
        ("worker", "reason"),
        _by(lambda worker: worker.failures),
    ),
    Metric(
        "stapleproxy_received_bytes_total",
        "counter",
        "bytes from clients, out of TLS; told once a second",
        ("worker",),
        _of_worker(lambda worker: worker.received_bytes),
    ),
    Metric(
        "stapleproxy_sent_bytes_total",
        "counter",
        "bytes to clients, into TLS; told once a second",
        ("worker",),
        _of_worker(lambda worker: worker.sent_bytes),
    ),
)
_REQUESTS = (
    Metric(
        "stapleproxy_requests_total",
        "counter",
        "HTTP requests that are over, by what the client was told; 499: it left before; absent: there was none",
        ("worker", "status"),
        _by(lambda worker: worker.requests),
    ),
    Metric(
        "stapleproxy_site_requests_total",
        "counter",
        "the same by site and class of the status; absent: there was none",
        ("site", "class"),
        _of_sites(lambda site: [((name,), count) for name, count in site.requests.items()]),
    ),
    Metric(
        "stapleproxy_upstream_latency_seconds",
        "histogram",
        "from when a backend had the whole request until the head of its answer had come; told once a second",
        ("worker",),
        _of_workers(lambda worker: [((), Spread(LATENCY_S, worker.latency, worker.latency_sum_s))]),
    ),
    Metric(
        "stapleproxy_upstream_failures_total",
        "counter",
        "requests that no backend answered, or not to the end",
        ("worker",),
        _of_worker(lambda worker: worker.upstream_failures),
    ),
    Metric(
        "stapleproxy_tunnels_total",
        "counter",
        "connections in mode tcp that are over: relayed, no-backend, client-left (before there was one)",
        ("worker", "outcome"),
        _by(lambda worker: worker.tunnels),
    ),
    Metric(
        "stapleproxy_redirect_requests_total",
        "counter",
        "requests to the redirecting port, by what the client was told; absent: there was none",
        ("worker", "status"),
        _by(lambda worker: worker.redirects),
    ),
    Metric(
        "stapleproxy_access_log_lost_lines_total",
        "counter",
        "lines that the access log could not take; told once a second",
        ("worker",),
        _of_worker(lambda worker: worker.lost_lines),
    ),
)
_CERTIFICATE = ("certificate", "key")
_STAPLES = (
    Metric(
        "stapleproxy_staple_age_seconds",
        "gauge",
        "since thisUpdate of what is held; absent: nothing is held",
        _CERTIFICATE,
        _of_certificates(_age_s),
    ),
    Metric(
        "stapleproxy_staple_remaining_seconds",
        "gauge",
        "how long what is held is stapled, though the responder were gone from now; 0: nothing is held",
        _CERTIFICATE,
        _of_certificates(_remaining_s),
    ),
    Metric(
        "stapleproxy_staple_until_timestamp_seconds",
        "gauge",
        "the same as a moment; absent: nothing is held",
        _CERTIFICATE,
        _of_certificates(_until_s),
    ),
    Metric(
        "stapleproxy_staple_next_attempt_timestamp_seconds",
        "gauge",
        "when the responders are asked next; absent: being asked now, or never",
        _CERTIFICATE,
        _of_certificates(lambda watched, _: watched.due_s),
    ),
    Metric(
        "stapleproxy_staple_failures",
        "gauge",
        "rounds in a row in which no responder helped",
        _CERTIFICATE,
        _of_certificates(lambda watched, _: watched.failures),
    ),
    Metric(
        "stapleproxy_staple_required",
        "gauge",
        "1: the certificate says must-staple; absent: it does not",
        _CERTIFICATE,
        _of_certificates(lambda watched, _: 1 if watched.identity.must_staple else None),
    ),
    Metric(
        "stapleproxy_site_stapled_until_timestamp_seconds",
        "gauge",
        "until when all of a site is stapled, though the responders were gone from now; 0: not all of it is",
        ("site",),
        _forecasts,
    ),
    Metric(
        "stapleproxy_staple_events_total",
        "counter",
        "what happened to staples: fetched, refused, expiring, expired, revoked",
        ("event",),
        lambda look: (((kind,), count) for kind, count in look.events.items()),
    ),
)
_RESPONDERS = (
    Metric(
        "stapleproxy_ocsp_exchanges_total",
        "counter",
        "questions to responders, by HOST:PORT and what came of them: fetched, not-modified, or the reason",
        ("responder", "outcome"),
        lambda look: look.exchanges.items(),
    ),
    Metric(
        "stapleproxy_ocsp_exchange_seconds",
        "histogram",
        "how long questions to responders took, in vain too",
        ("responder",),
        lambda look: (((responder,), spread) for responder, spread in look.exchange_seconds.items()),
    ),
)

_FLEET = (
    Metric(
        "stapleproxy_fleet_up",
        "gauge",
        "1: the server that machines share is there and takes what it is given; 0: each machine asks by itself",
        ("server",),
        _of_fleet(lambda fleet: (((each.server,), int(each.is_up)) for each in fleet.servers)),
    ),
    Metric(
        "stapleproxy_fleet_trouble",
        "gauge",
        "1: the server is away, by the reason; absent: it is there",
        ("server", "reason"),
        _of_fleet(lambda fleet: (((each.server, each.reason), 1) for each in fleet.servers if each.reason)),
    ),
    Metric(
        "stapleproxy_fleet_operations_total",
        "counter",
        "operations on servers that machines share",
        (),
        _of_fleet(lambda fleet: [((), fleet.operations)]),
    ),
    Metric(
        "stapleproxy_fleet_failures_total",
        "counter",
        "operations on these servers, and connections to them, that failed",
        (),
        _of_fleet(lambda fleet: [((), fleet.failures)]),
    ),
    Metric(
        "stapleproxy_fleet_events_total",
        "counter",
        "taken (from another machine), announced (heard, one's own too), stored (for the others), older (not stored:"
        " there was a newer one), unknown-format (not stored: a newer version's is there), returned (to a server that"
        " had lost it), locked (a turn to ask for all), waited (another one asked), in-vain (it got nothing), alone"
        " (without the server)",
        ("event",),
        _of_fleet(lambda fleet: (((word,), count) for word, count in fleet.counts.items())),
    ),
    Metric(
        "stapleproxy_fleet_refused_total",
        "counter",
        "responses from these servers that were refused, by the reason, as a responder's would have been; malformed:"
        " it was none",
        ("reason",),
        _of_fleet(lambda fleet: (((reason,), count) for reason, count in fleet.refused.items())),
    ),
    Metric(
        "stapleproxy_fleet_locks",
        "gauge",
        "certificates that this machine asks for now, for all",
        (),
        _of_fleet(lambda fleet: [((), fleet.locks_held)]),
    ),
)

GROUPS = (
    ("The program", _PROGRAM),
    ("Clients", _CLIENTS),
    ("Requests", _REQUESTS),
    ("Staples", _STAPLES),
    ("Responders", _RESPONDERS),
    ("The fleet", _FLEET),
)
"""All but the cache's."""


def cache_rows() -> Iterator[tuple[str, str, str, str]]:
    """Name, kind, meaning and label (empty: none) of each of the cache's metrics."""

    def name_of(figure: Figure) -> str:
        return figure.prometheus.partition("{")[0]

    for name, figures in groupby(FIGURES, name_of):
        first = next(figures)
        yield name, first.kind, first.meaning, first.prometheus.partition("{")[2].partition("=")[0]

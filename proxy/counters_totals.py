"""The workers' counts with their names, for whoever shows them. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy import counters_layout as layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from proxy.accesslog.record import Staple
    from proxy.limits import Refusal
    from proxy.tls.failures import Failure


@dataclass(frozen=True, slots=True)
class WorkerTotals:
    """Of all processes that have had one worker's number."""

    connections: Mapping[str, int]
    """By port: ``tls`` or ``redirect``."""
    open: int
    """Clients that are connected now."""
    refused: Mapping[Refusal, int]
    handshakes_by: Mapping[tuple[str, Staple], int]
    """By version and staple; only those that there were."""
    failures: Mapping[Failure, int]
    received_bytes: int
    sent_bytes: int
    requests: Mapping[int, int]
    """By status; only those that there were."""
    redirects: Mapping[int, int]
    """Likewise, to the redirecting port."""
    upstream_failures: int
    latency: tuple[int, ...]
    """Answers by bucket, see `counters_layout.LATENCY_S`; the last is what took longer."""
    latency_sum_s: float
    tunnels: Mapping[str, int]
    lost_lines: int

    @property
    def handshakes(self) -> int:
        return sum(self.handshakes_by.values())

    @property
    def in_handshake(self) -> int:
        """Connections that are neither through the handshake nor have failed."""
        return self.connections["tls"] - self.handshakes - sum(self.failures.values())


@dataclass(frozen=True, slots=True)
class SiteTotals:
    """Of one site, over all workers."""

    handshakes: Mapping[tuple[str, Staple], int]
    """By version and staple; only those that there were."""
    refused: int
    """Clients turned away for want of a staple."""
    requests: Mapping[str, int]
    """By class of status, such as ``2xx``; only those that there were."""


@dataclass(frozen=True, slots=True)
class Totals:
    """All that was counted; a site that nobody has come to is left out, and all are where they were not asked for."""

    workers: Mapping[int, WorkerTotals]
    sites: Mapping[str, SiteTotals]

    @property
    def connections_open(self) -> int:
        return sum(worker.open for worker in self.workers.values())

    @property
    def handshakes_by_staple(self) -> Mapping[Staple, int]:
        """Only the outcomes that there were."""
        found: Counter[Staple] = Counter()
        for worker in self.workers.values():
            for (_, staple), count in worker.handshakes_by.items():
                found[staple] += count
        return found

    @property
    def requests_by_class(self) -> Mapping[str, int]:
        """Only the classes that there were."""
        found: Counter[str] = Counter()
        for worker in self.workers.values():
            for status, count in worker.requests.items():
                found[f"{status // 100}xx"] += count
        return found


def worker_totals(words: Sequence[int]) -> WorkerTotals:
    """Name a worker's words."""
    quick = words[layout.QUICK_AT : layout.QUICK_END]
    return WorkerTotals(
        connections={"tls": words[layout.TLS_CONNECTIONS], "redirect": words[layout.REDIRECT_CONNECTIONS]},
        open=words[layout.OPEN],
        refused={refusal: words[at] for refusal, at in layout.REFUSAL_AT.items()},
        handshakes_by=_handshakes(words[layout.HANDSHAKES_AT : layout.HANDSHAKES_AT + len(layout.HANDSHAKE_AT)]),
        failures={failure: words[at] for failure, at in layout.FAILURE_AT.items()},
        received_bytes=quick[layout.RECEIVED_BYTES],
        sent_bytes=quick[layout.SENT_BYTES],
        requests=_by_status(words, layout.REQUESTS_AT),
        redirects=_by_status(words, layout.REDIRECTS_AT),
        upstream_failures=words[layout.UPSTREAM_FAILURES],
        latency=tuple(quick[layout.LATENCY_AT :]),
        latency_sum_s=quick[layout.LATENCY_SUM_US] / 1e6,
        tunnels={outcome: words[at] for outcome, at in layout.TUNNEL_AT.items()},
        lost_lines=words[layout.LOST_LINES],
    )


def _handshakes(own: Sequence[int]) -> dict[tuple[str, Staple], int]:
    return {
        (layout.VERSIONS[version], staple): own[at] for (version, staple), at in layout.HANDSHAKE_AT.items() if own[at]
    }


def _by_status(words: Sequence[int], begin: int) -> dict[int, int]:
    found = words[begin : begin + layout.STATUSES]
    return {status: count for status, count in enumerate(found) if count}


def site_totals(words: Sequence[int], begin: int) -> SiteTotals | None:
    """Name the words of the site that begin there; None: nobody has come to it."""
    own = words[begin : begin + layout.SITE_WORDS]
    if not any(own):
        return None
    return SiteTotals(
        _handshakes(own),
        own[layout.REFUSED_AT],
        {f"{number}xx": own[layout.CLASSES_AT + number] for number in range(1, 6) if own[layout.CLASSES_AT + number]},
    )

"""Writes docs/metrics.md from the table of metrics: ``python -m proxy.keeper.metrics_page > docs/metrics.md``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.counters_layout import LATENCY_S
from proxy.keeper.metrics_table import GROUPS, Metric, cache_rows, unit_of
from proxy.tls.failures import FAILED_BECAUSE

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEAD = """\
# Metrics

Written by `python -m proxy.keeper.metrics_page` from the one table that `/metrics` is written from too.

With `socket` in `[admin]`: `curl --unix-socket admin.sock http://admin/metrics`. The format is Prometheus' text format.

Counts of clients and requests are kept in shared memory that the master holds. They survive a worker that is killed, a
keeper that is killed, and a reload, over which a site keeps its counts by its first name. They begin again when the
program is started, and when a reload leaves more names of former sites behind than there are sites now, and more than
1024. A site that nobody has come to has no lines.

Each connection to a port with TLS ends in exactly one of two: a handshake that was done, or a failure with its reason.
So the sum of `stapleproxy_connections_total{port="tls"}` is that of `stapleproxy_handshakes_total`,
`stapleproxy_handshake_failures_total` and `stapleproxy_open_handshakes`.
"""
_COLUMNS = "| name | type | unit | labels | meaning |\n|---|---|---|---|---|\n"


def page() -> str:
    """Give the whole text."""
    parts = [_HEAD]
    for title, metrics in GROUPS:
        parts.append(_table(title, map(_row, metrics)))
        if title == "Clients":
            parts.append(_reasons())
        if title == "Requests":
            parts.append(f"The histogram's buckets end at {', '.join(map(str, LATENCY_S))} seconds.\n")
    rows = [_cells(name, kind, unit_of(name), label, meaning) for name, kind, meaning, label in cache_rows()]
    first = _cells("stapleproxy_cache_info", "gauge", "", "type, eviction", "kind of the cache")
    parts.append(_table("The cache", [first, *rows]))
    return "\n".join(parts)


def _table(title: str, rows: Iterable[str]) -> str:
    return f"## {title}\n\n{_COLUMNS}{''.join(rows)}"


def _row(metric: Metric) -> str:
    return _cells(metric.name, metric.kind, unit_of(metric.name), ", ".join(metric.labels), metric.meaning)


def _cells(name: str, kind: str, unit: str, labels: str, meaning: str) -> str:
    return f"| `{name}` | {kind} | {unit} | {labels} | {meaning} |\n"


def _reasons() -> str:
    rows = "".join(f"| `{failure}` | {what} |\n" for failure, what in FAILED_BECAUSE.items())
    return f"Why handshakes fail:\n\n| reason | meaning |\n|---|---|\n{rows}"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 (what it is for)

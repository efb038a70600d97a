"""What a run tells: as a table for people, and as data for programs. PURE."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from proxy.bench.outcomes import StapleOutcome
from proxy.bench.tally import MAX_SEEN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from proxy.bench.histogram import Histogram
    from proxy.bench.plan import Phase
    from proxy.bench.tally import Latencies, Tally, Uncounted

QUANTILES = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max"))
LATENCIES = {
    "total": "from due to the end of the handshake",
    "late": "from due to begun: what this program takes to come to it and to make its ClientHello",
    "connect": "TCP: from SYN to SYN and ACK",
    "handshake": "TLS: from the ClientHello to the end of the handshake",
    "first_byte": "from a request to the first byte of its answer",
}
_LATE_PART = 0.1
"""Of the median of a whole handshake: a generator that is later than this at p99 measures itself as well."""
_REACHED_PART = 0.95
"""Of the rate that was asked for: with less, clients wait for each other and `total` grows with the run's length."""
_MAX_KINDS = 12


@dataclass(frozen=True, slots=True)
class Report:
    """A run that is over."""

    target: str
    options: Mapping[str, object]
    """Those that are not at their default, as they were given."""
    begun: datetime
    processes: int
    phase: Phase
    tally: Tally


@dataclass(frozen=True, slots=True)
class StapleFacts:
    """The distinct responses taken together, in seconds and bytes; None where none was valid."""

    distinct: int
    sizes: tuple[int, int]
    """The smallest and the largest."""
    ages: tuple[float, float] | None
    """Of the youngest and the oldest when they were given out."""
    least_life: float | None
    """What was left of the one nearest to its end when it was last given out; negative: it was over."""


def staple_facts(tally: Tally) -> StapleFacts | None:
    """Sum up the responses; None if there were none."""
    if not tally.seen:
        return None
    seen = tally.seen.values()
    sizes = [each.size for each in seen]
    ages = [at - each.this_update for each in seen if each.this_update is not None for at in (each.first, each.last)]
    lives = [each.serve_until - each.last for each in seen if each.serve_until is not None]
    return StapleFacts(
        distinct=len(tally.seen),
        sizes=(min(sizes), max(sizes)),
        ages=(min(ages), max(ages)) if ages else None,
        least_life=min(lives) if lives else None,
    )


def by_outcome(tally: Tally) -> dict[StapleOutcome, int]:
    """Count the staples of each outcome, reasons apart; all outcomes are there."""
    counts: Counter[StapleOutcome] = Counter()
    for (outcome, _), count in tally.staples.items():
        counts[outcome] += count
    return {outcome: counts[outcome] for outcome in StapleOutcome}


def duration_words(nanoseconds: float) -> str:
    """Say how long, with three digits."""
    if nanoseconds < 1_000:
        return f"{nanoseconds:.0f} ns"
    for unit, size in (("µs", 1e3), ("ms", 1e6), ("s", 1e9)):
        if nanoseconds < 999.5 * size or unit == "s":
            return (
                f"{nanoseconds / size:.3g} {unit}" if nanoseconds < 999.5 * size else f"{nanoseconds / size:.0f} {unit}"
            )
    raise AssertionError


def span_words(seconds: float) -> str:
    """Say how long in the two largest units: of lives and ages."""
    if seconds < 0:
        return f"over since {span_words(-seconds)}"
    whole = round(seconds)
    parts = [(whole // 86_400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next((index for index, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2])


def latency_rows(latencies: Latencies) -> list[tuple[str, ...]]:
    """Quantiles in words, a row for each step that was made."""
    parts = [part for part, _ in QUANTILES]
    return [
        (name.replace("_", " "), *map(duration_words, histogram.quantiles(parts)))
        for name, histogram in _by_name(latencies)
        if histogram.total
    ]


def staple_rows(tally: Tally) -> list[tuple[str, str, str]]:
    """Each outcome that came, with its reason if it has one, how often, and its share."""
    order = list(StapleOutcome)
    ordered = sorted(tally.staples.items(), key=lambda item: (order.index(item[0][0]), -item[1]))
    return [
        (f"{outcome}: {reason}" if reason else str(outcome), str(count), share_words(count, tally.handshakes))
        for (outcome, reason), count in ordered
    ]


def failure_rows(tally: Tally) -> list[tuple[str, str]]:
    """The most frequent failures with their details, and how often; the rest is one row."""
    common = tally.failures.most_common(_MAX_KINDS)
    rows = [(f"{kind}: {detail}" if detail else str(kind), str(count)) for (kind, detail), count in common]
    rest = tally.failed - sum(count for _, count in common)
    return [*rows, ("others", str(rest))] if rest else rows


def share_words(count: int, total: int) -> str:
    return f"{count / total:.2%}" if total else "-"


def notes(report: Report) -> list[str]:
    """What the reader must know to believe the figures."""
    latencies, found = report.tally.latencies, []
    if not report.tally.handshakes:
        found.append("No handshake was completed: there is nothing to tell of latencies and staples.")
    late = latencies.late.quantile(0.99)
    if report.phase.rate and late > max(latencies.total.quantile(0.5) * _LATE_PART, 1_000_000):
        found.append(
            f"1 % of the clients began {duration_words(late)} late or more: this machine could not begin them in time, "
            "and `total` tells of it as well as of the server."
        )
    reached = _reached(report.tally)
    has_any = bool(report.tally.handshakes)  # a port without TLS is not slow
    if has_any and report.phase.rate and reached is not None and reached < report.phase.rate * _REACHED_PART:
        found.append(
            f"{report.phase.rate:g} clients a second were to come, and {reached:.1f} a second were done: this server "
            "and this machine can do no more. Clients waited for each other, and the longer the run, the longer."
        )
    if report.tally.failures and latencies.total.total:
        found.append("Clients that failed are in no latency: look at their number first.")
    return found


def _reached(tally: Tally) -> float | None:
    """Clients a second, the failed ones too; None for a run of less than a second, which tells nothing of that."""
    # What the last ones take when nothing is in their way is no part of the time in which clients come.
    took_s = tally.elapsed_s - tally.latencies.total.quantile(0.5) / 1e9
    return (tally.handshakes + tally.failed) / took_s if took_s >= 1 else None


def table(report: Report) -> list[list[tuple[str, ...]]]:
    """The report as blocks of rows, the first row of each being its titles; empty blocks are left out."""
    tally = report.tally
    facts = staple_facts(tally)
    head: list[tuple[str, ...]] = [
        (report.target, ""),
        ("handshakes", f"{tally.handshakes} in {tally.elapsed_s:.2f} s, {tally.rate:.1f} a second"),
        ("resumed", f"{tally.resumed} ({share_words(tally.resumed, tally.handshakes)})"),
        ("failed", str(tally.failed)),
        ("not counted", _warmup_words(tally.warmup)),
        ("connections", f"{tally.connections}, those of ramp and warm-up too"),
        ("bytes", f"{tally.bytes_in:,} received, {tally.bytes_out:,} sent"),
        *(("protocol", f"{' '.join(filter(None, words))}: {count}") for words, count in tally.protocols.most_common(4)),
        *(("answers", f"{status}: {count}") for status, count in sorted(tally.statuses.items())),
    ]
    blocks: list[list[tuple[str, ...]]] = [
        head,
        [("latency", *(name for _, name in QUANTILES)), *latency_rows(tally.latencies)],
        [("staple", "clients", "share"), *staple_rows(tally)],
    ]
    if facts:
        blocks.append([("responses", ""), *facts_rows(facts)])
    blocks.append([("failure", "clients"), *failure_rows(tally)])
    return [block for block in blocks if len(block) > 1]


def _warmup_words(warmup: Uncounted) -> str:
    resumed = f", {warmup.resumed} of them resumed" if warmup.resumed else ""
    failed = f", and {warmup.failed} failed" if warmup.failed else ""
    return f"{warmup.handshakes} handshakes of ramp and warm-up{resumed}{failed}"


def facts_rows(facts: StapleFacts) -> list[tuple[str, str]]:
    smallest, largest = facts.sizes
    rows = [
        ("distinct", f"{facts.distinct} or more" if facts.distinct >= MAX_SEEN else str(facts.distinct)),
        ("size", f"{smallest} bytes" if smallest == largest else f"{smallest} to {largest} bytes"),
    ]
    if facts.ages and facts.least_life is not None:
        rows += [
            ("age when given out", " to ".join(dict.fromkeys(map(span_words, facts.ages)))),
            ("least life left", span_words(facts.least_life)),
        ]
    return rows


def as_data(report: Report) -> dict[str, object]:
    """Give everything for programs; latencies in seconds."""
    return {
        "target": report.target,
        "options": dict(report.options),
        "begun": report.begun.isoformat(),
        "processes": report.processes,
        **tally_data(report.tally),
        "notes": notes(report),
    }


def tally_data(tally: Tally) -> dict[str, object]:
    """One round, or all of a run."""
    facts = staple_facts(tally)
    return {
        "handshakes": tally.handshakes,
        "seconds": round(tally.elapsed_s, 6),
        "handshakes_per_second": round(tally.rate, 3),
        "resumed": tally.resumed,
        "failed": tally.failed,
        "not_counted": asdict(tally.warmup),
        "connections": tally.connections,
        "bytes_received": tally.bytes_in,
        "bytes_sent": tally.bytes_out,
        "latency_s": {name: _quantiles(histogram) for name, histogram in _by_name(tally.latencies)},
        "staples": {str(outcome): count for outcome, count in by_outcome(tally).items()},
        "staple_reasons": {f"{outcome}: {why}": count for (outcome, why), count in tally.staples.items() if why},
        "signatures_verified": tally.verified,
        "responses": facts
        and {
            "distinct": facts.distinct,
            "bytes_min": facts.sizes[0],
            "bytes_max": facts.sizes[1],
            "age_min_s": facts.ages and round(facts.ages[0], 3),
            "age_max_s": facts.ages and round(facts.ages[1], 3),
            "least_life_s": facts.least_life and round(facts.least_life, 3),
        },
        "failures": [
            {"kind": str(kind), "detail": detail, "count": count}
            for (kind, detail), count in tally.failures.most_common()
        ],
        "protocols": [
            {"tls": tls, "cipher": cipher, "group": group, "count": count}
            for (tls, cipher, group), count in tally.protocols.most_common()
        ],
        "answers": {str(status): count for status, count in sorted(tally.statuses.items())},
        "over_time": [
            {
                "second": second,
                "handshakes": each.total.total,
                "failed": each.failures,
                "p50_s": each.total.quantile(0.5) / 1e9,
                "p99_s": each.total.quantile(0.99) / 1e9,
                "staples": {str(outcome): count for outcome, count in each.staples.items()},
            }
            for second, each in sorted(tally.seconds.items())
        ],
    }


def _by_name(latencies: Latencies) -> list[tuple[str, Histogram]]:
    return [(each.name, getattr(latencies, each.name)) for each in fields(latencies)]


def _quantiles(histogram: Histogram) -> dict[str, float] | None:
    if not histogram.total:
        return None
    values = histogram.quantiles([part for part, _ in QUANTILES])
    named = {name: value / 1e9 for (_, name), value in zip(QUANTILES, values, strict=True)}
    return {"count": histogram.total, "mean": round(histogram.mean / 1e9, 9), "min": histogram.min / 1e9, **named}

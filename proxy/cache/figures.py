"""What the cache tells about itself: Apache's figures (socache_shmcb_status), under its names and Prometheus' own.

Pure but for the memory that is read: nothing is written and nothing waited for, so a look costs the others nothing.
Apache frees what is expired at the head of each subcache before it looks; here the figures are as if that were done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.cache.entries import ring_of, slots_of
from proxy.cache.layout import COUNTERS_AT, LINE_BYTES, MAX_READERS, READERS_AT, WORD_BYTES, Counter
from proxy.cache.room import expired_head, in_order_of_use, ring_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from proxy.cache.layout import Eviction, Place
    from proxy.cache.segment import Segment

_TYPE = "SHMCB"
_LINE_WORDS = LINE_BYTES // WORD_BYTES


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of one look."""

    eviction: Eviction
    size_bytes: int
    subcaches: int
    indexes_per_subcache: int
    data_bytes_per_subcache: int
    slots: int
    """In use; with `fifo` those of removed entries too, until they are the oldest."""
    data_bytes: int
    """In use, likewise; with `fifo` the key and a byte more for each, as in Apache."""
    oldest_left_s: tuple[float, ...]
    """For each subcache that is not empty: how long the entry that goes first will live."""
    counts: dict[Counter, int]

    @property
    def index_ratio(self) -> float:
        return self.slots / (self.subcaches * self.indexes_per_subcache)

    @property
    def data_ratio(self) -> float:
        return self.data_bytes / (self.subcaches * self.data_bytes_per_subcache)


def figures(segment: Segment, now_s: float) -> Figures:
    """Take a look; while others write, each figure is right for some moment during it."""
    shape = segment.geometry
    looks = [
        (_look_at_ring if segment.eviction == "fifo" else _look)(segment, place, now_s) for place in shape.places()
    ]
    counts = counts_of(segment)
    counts[Counter.EXPIRIES] += sum(look.expiries for look in looks)
    return Figures(
        eviction=segment.eviction,
        size_bytes=segment.argument.size_bytes,
        subcaches=shape.subcaches,
        indexes_per_subcache=shape.indexes_per_subcache,
        data_bytes_per_subcache=shape.data_bytes_per_subcache,
        slots=sum(look.slots for look in looks),
        data_bytes=sum(look.data_bytes for look in looks),
        oldest_left_s=tuple(look.first_end - now_s for look in looks if look.first_end is not None),
        counts=counts,
    )


def counts_of(segment: Segment) -> dict[Counter, int]:
    """Read the eight counters, those of retrieval as the sum over the readers."""
    counts = {counter: segment.words[COUNTERS_AT + counter] for counter in Counter}
    for line in range(READERS_AT, READERS_AT + MAX_READERS * _LINE_WORDS, _LINE_WORDS):
        counts[Counter.RETRIEVE_HITS] += segment.words[line]
        counts[Counter.RETRIEVE_MISSES] += segment.words[line + 1]
    return counts


@dataclass(frozen=True, slots=True)
class _Look:
    """One subcache."""

    slots: int
    data_bytes: int
    first_end: float | None
    """When the entry ends that goes first; None: there is none."""
    expiries: int
    """Not yet counted by the writer."""


def _look(segment: Segment, place: Place, now_s: float) -> _Look:
    live = [slot for slot in slots_of(segment, place, only_live=True) if slot.expiry > now_s]
    first = next(iter(in_order_of_use(live, now_s)), None)
    return _Look(len(live), sum(slot.length for slot in live), first.expiry if first else None, 0)


def _look_at_ring(segment: Segment, place: Place, now_s: float) -> _Look:
    found = ring_of(segment, place)
    count_gone = expired_head(found, now_s)
    expiries = len(found.over) + sum(slot.is_live for slot in found.taken[:count_gone])
    left = found.taken[count_gone:]
    return _Look(len(left), ring_bytes(left), left[0].expiry if left else None, expiries)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure's names; `value` gives None where there is nothing to tell."""

    apache: str
    """The key in the server status' ``?auto`` form."""
    prometheus: str
    """The metric, with its labels if it has any."""
    kind: str
    meaning: str
    value: Callable[[Figures], float | None]
    apache_text: Callable[[float], str] = lambda value: str(int(value))


def _percent(ratio: float) -> str:
    return f"{int(ratio * 100 + 1e-9)}%"  # Apache's are integers, cut off; 0.29 * 100 is less than 29


def _oldest(choose: Callable[[tuple[float, ...]], float]) -> Callable[[Figures], float | None]:
    return lambda found: choose(found.oldest_left_s) if found.oldest_left_s else None


def _count(counter: Counter) -> Callable[[Figures], float]:
    return lambda found: found.counts[counter]


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)


_PREFIX = "stapleproxy_cache"
_LEFT = "seconds that the entry lives which goes first, over the subcaches"
_RETRIEVES = "look-ups in handshakes, by result"
_REMOVES = "removals asked for by the keeper, by result"
FIGURES = (
    Figure("CacheSharedMemory", f"{_PREFIX}_size_bytes", "gauge", "size as configured", lambda found: found.size_bytes),
    Figure("CacheCurrentEntries", f"{_PREFIX}_entries", "gauge", "responses held", lambda found: found.slots),
    Figure("CacheSubcaches", f"{_PREFIX}_subcaches", "gauge", "subcaches", lambda found: found.subcaches),
    Figure(
        "CacheIndexesPerSubcaches",
        f"{_PREFIX}_subcache_entries",
        "gauge",
        "most entries of one subcache",
        lambda found: found.indexes_per_subcache,
    ),
    Figure("CacheTimeLeftOldestAvg", f'{_PREFIX}_first_left_seconds{{of="avg"}}', "gauge", _LEFT, _oldest(_mean)),
    Figure("CacheTimeLeftOldestMin", f'{_PREFIX}_first_left_seconds{{of="min"}}', "gauge", _LEFT, _oldest(min)),
    Figure("CacheTimeLeftOldestMax", f'{_PREFIX}_first_left_seconds{{of="max"}}', "gauge", _LEFT, _oldest(max)),
    Figure(
        "CacheIndexUsage",
        f"{_PREFIX}_index_used_ratio",
        "gauge",
        "part of the entries in use",
        lambda found: found.index_ratio,
        _percent,
    ),
    Figure(
        "CacheUsage",
        f"{_PREFIX}_data_used_ratio",
        "gauge",
        "part of the data bytes in use",
        lambda found: found.data_ratio,
        _percent,
    ),
    Figure(
        "CacheStoreCount",
        f"{_PREFIX}_stores_total",
        "counter",
        "responses stored under a key that had none",
        _count(Counter.STORES),
    ),
    Figure(
        "CacheReplaceCount",
        f"{_PREFIX}_replaced_total",
        "counter",
        "responses stored in the place of another",
        _count(Counter.REPLACED),
    ),
    Figure(
        "CacheExpireCount",
        f"{_PREFIX}_expired_total",
        "counter",
        "responses dropped because they were over",
        _count(Counter.EXPIRIES),
    ),
    Figure(
        "CacheDiscardCount",
        f"{_PREFIX}_discarded_total",
        "counter",
        "responses dropped before they were over, to make room",
        _count(Counter.SCROLLED),
    ),
    Figure(
        "CacheRetrieveHitCount",
        f'{_PREFIX}_retrieves_total{{result="hit"}}',
        "counter",
        _RETRIEVES,
        _count(Counter.RETRIEVE_HITS),
    ),
    Figure(
        "CacheRetrieveMissCount",
        f'{_PREFIX}_retrieves_total{{result="miss"}}',
        "counter",
        _RETRIEVES,
        _count(Counter.RETRIEVE_MISSES),
    ),
    Figure(
        "CacheRemoveHitCount",
        f'{_PREFIX}_removes_total{{result="hit"}}',
        "counter",
        _REMOVES,
        _count(Counter.REMOVE_HITS),
    ),
    Figure(
        "CacheRemoveMissCount",
        f'{_PREFIX}_removes_total{{result="miss"}}',
        "counter",
        _REMOVES,
        _count(Counter.REMOVE_MISSES),
    ),
)
"""In the order in which Apache shows them, below the type."""


def apache_lines(found: Figures) -> Iterator[str]:
    """Write the figures as Apache's ``server-status?auto`` does."""
    yield f"CacheType: {_TYPE}"
    for figure in FIGURES:
        if (value := figure.value(found)) is not None:
            yield f"{figure.apache}: {figure.apache_text(value)}"


def prometheus_lines(found: Figures) -> Iterator[str]:
    """Write the figures in Prometheus' text format (0.0.4)."""
    yield f"# HELP {_PREFIX}_info kind of the cache"
    yield f"# TYPE {_PREFIX}_info gauge"
    yield f'{_PREFIX}_info{{type="{_TYPE}",eviction="{found.eviction}"}} 1'
    told = ""
    for figure in FIGURES:
        if (value := figure.value(found)) is None:
            continue
        name = figure.prometheus.partition("{")[0]
        if name != told:
            yield f"# HELP {name} {figure.meaning}"
            yield f"# TYPE {name} {figure.kind}"
            told = name
        yield f"{figure.prometheus} {value}"

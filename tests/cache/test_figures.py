"""What the cache tells of itself."""

from __future__ import annotations

import os

import pytest

from proxy.cache.figures import FIGURES, apache_lines, counts_of, figures, prometheus_lines
from proxy.cache.layout import CacheArgument, Counter
from proxy.cache.reader import TELL_INTERVAL_S, CacheReader
from proxy.cache.segment import Segment
from proxy.cache.writer import CacheWriter

NOW = 1000.0
LATER = NOW + 1e6


def key(number):
    return bytes([number]) * 20


@pytest.fixture
def ring():
    segment = Segment.create(CacheArgument("", 16384), "fifo")
    yield segment
    segment.close()


def told(segment, now):
    return [line for line in apache_lines(figures(segment, now)) if not line.endswith(": 0")]


def test_an_empty_cache_has_apaches_lines(ring):
    """Without those on the oldest, as there."""
    assert list(apache_lines(figures(ring, NOW))) == [
        "CacheType: SHMCB",
        "CacheSharedMemory: 16384",
        "CacheCurrentEntries: 0",
        "CacheSubcaches: 2",
        "CacheIndexesPerSubcaches: 5",
        "CacheIndexUsage: 0%",
        "CacheUsage: 0%",
        "CacheStoreCount: 0",
        "CacheReplaceCount: 0",
        "CacheExpireCount: 0",
        "CacheDiscardCount: 0",
        "CacheRetrieveHitCount: 0",
        "CacheRetrieveMissCount: 0",
        "CacheRemoveHitCount: 0",
        "CacheRemoveMissCount: 0",
    ]


def test_the_figures_of_a_ring_in_use(ring):
    """The oldest of each subcache live 30 and 50 s; 2 x 8008 bytes hold records of 1021, 2021 and 21 bytes."""
    writer, reader = CacheWriter(ring), CacheReader(ring)
    writer.put(key(0), b"x" * 1000, NOW + 30, NOW)
    writer.put(key(2), b"x" * 2000, NOW + 90, NOW)
    writer.put(key(1), b"", NOW + 50, NOW)
    reader.get(key(0), NOW)
    reader.get(key(4), NOW)
    writer.remove(key(5))
    found = figures(ring, NOW)
    assert (found.slots, found.data_bytes) == (3, 3063)
    assert list(apache_lines(found))[5:13] == [
        "CacheTimeLeftOldestAvg: 40",
        "CacheTimeLeftOldestMin: 30",
        "CacheTimeLeftOldestMax: 50",
        "CacheIndexUsage: 30%",
        "CacheUsage: 19%",
        "CacheStoreCount: 3",
        "CacheReplaceCount: 0",
        "CacheExpireCount: 0",
    ]
    assert list(apache_lines(found))[-4:] == [
        "CacheRetrieveHitCount: 1",
        "CacheRetrieveMissCount: 1",
        "CacheRemoveHitCount: 0",
        "CacheRemoveMissCount: 1",
    ]


def test_prometheus_gets_the_same_values_with_type_and_help(ring):
    CacheWriter(ring).put(key(0), b"x" * 1000, NOW + 30, NOW)
    lines = list(prometheus_lines(figures(ring, NOW)))
    assert lines[:3] == [
        "# HELP stapleproxy_cache_info kind of the cache",
        "# TYPE stapleproxy_cache_info gauge",
        'stapleproxy_cache_info{type="SHMCB",eviction="fifo"} 1',
    ]
    assert 'stapleproxy_cache_first_left_seconds{of="min"} 30.0' in lines
    assert "stapleproxy_cache_index_used_ratio 0.1" in lines
    assert lines[-4:] == [
        "# HELP stapleproxy_cache_removes_total removals asked for by the keeper, by result",
        "# TYPE stapleproxy_cache_removes_total counter",
        'stapleproxy_cache_removes_total{result="hit"} 0',
        'stapleproxy_cache_removes_total{result="miss"} 0',
    ]
    samples = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    assert samples[1:] == [figure.prometheus for figure in FIGURES]
    typed = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(typed) == len(set(typed))


def test_each_reader_counts_on_its_own_line(small):
    """So none is lost when they count at once; and the next reader of that number goes on."""
    CacheWriter(small).put(key(1), b"one", LATER, NOW)
    reader = CacheReader(small)
    reads = 20_000
    children = []
    for number in range(1, 4):
        child = os.fork()
        if not child:
            try:
                reader.count_as(number)
                for step in range(reads):
                    reader.get(key(1), NOW + step)
                reader.get(key(2), NOW)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    CacheReader(small, 2).get(key(1), NOW)
    counts = counts_of(small)
    assert (counts[Counter.RETRIEVE_HITS], counts[Counter.RETRIEVE_MISSES]) == (3 * reads + 1, 3)
    assert 0 < CacheWriter(small).get(key(1)).hits <= 3 * reads + 1


@pytest.fixture
def busy(small):
    """Writer and reader, and how often the memory says that they hit, in all and key(1)."""
    writer, reader = CacheWriter(small), CacheReader(small)
    writer.put(key(1), b"one", NOW + 100, NOW)
    return writer, reader, lambda: (counts_of(small)[Counter.RETRIEVE_HITS], writer.get(key(1)).hits)


def test_hits_close_together_are_told_with_the_next_one(busy):
    """The first ones at once, each further one within a second of an entry's traffic, also after a clock set back."""
    writer, reader, told = busy
    for _ in range(6):
        assert reader.get(key(1), NOW) == b"one"
    assert told() == (2, 2)
    reader.get(key(1), NOW + TELL_INTERVAL_S)
    assert (told(), writer.get(key(1)).last_stapled_s) == ((7, 7), NOW + TELL_INTERVAL_S)
    reader.tell(NOW + TELL_INTERVAL_S)
    for _ in range(3):
        reader.get(key(1), NOW - 50)
    assert (told(), writer.get(key(1)).last_stapled_s) == ((8, 8), NOW - 50)
    reader.tell(NOW - 49)
    assert (told(), writer.get(key(1)).last_stapled_s) == ((10, 10), NOW - 49)
    reader.tell(NOW)
    assert (told(), writer.get(key(1)).last_stapled_s) == ((10, 10), NOW - 49)


def test_no_hit_is_lost_when_its_entry_is_replaced(busy):
    """Nor counted for another entry that has its slot now."""
    writer, reader, told = busy
    for _ in range(6):
        reader.get(key(1), NOW)
    writer.put(key(1), b"new", NOW + 90, NOW)
    reader.tell(NOW)
    assert told() == (6, 6)
    for _ in range(6):
        assert reader.get(key(1), NOW) == b"new"
    writer.put(key(1), b"newer", NOW + 80, NOW)
    assert reader.get(key(1), NOW + 80) is None
    reader.tell(NOW + 95)
    assert told() == (12, 12)
    assert writer.get(key(1)).last_stapled_s == NOW + 80  # and not after its end
    writer.put(key(1), b"one", NOW + 200, NOW)
    for _ in range(6):
        reader.get(key(1), NOW + 100)
    writer.remove(key(1))
    writer.put(key(2), b"two", NOW + 200, NOW + 100)
    reader.tell(NOW + 100)
    assert (writer.get(key(2)).hits, writer.get(key(2)).last_stapled_s) == (0, None)
    writer.put(key(1), b"one", NOW + 200, NOW + 100)
    assert told() == (18, 0)


def test_hits_are_told_when_the_first_level_is_emptied(busy):
    _, reader, told = busy
    for _ in range(6):
        reader.get(key(1), NOW)
    for number in range(10, 15):
        reader.get(key(number), NOW)  # more than the first level takes
    assert told() == (6, 6)


def test_hits_in_the_middle_of_a_write_are_told_after_it(busy, small):
    """The writer has died there: what was kept is served, and counted once the next writer has come."""
    _, reader, told = busy
    for _ in range(6):
        reader.get(key(1), NOW)
    small.words[small.geometry.places()[0].sequence_at] |= 1
    for _ in range(3):
        assert reader.get(key(1), NOW) == b"one"
    reader.tell(NOW)
    assert told() == (2, 2)
    CacheWriter(small)
    reader.tell(NOW)
    assert told() == (9, 9)


def test_a_new_end_counts_at_once(busy):
    """Also when it was only read to tell the hits of the response before."""
    writer, reader, _ = busy
    for _ in range(3):
        reader.get(key(1), NOW)
    writer.put(key(1), b"new", NOW + 0.5, NOW)
    reader.tell(NOW)
    assert reader.get(key(1), NOW + 0.4) == b"new"
    assert reader.get(key(1), NOW + 0.4) == b"new"
    assert reader.get(key(1), NOW + 0.4) == b"new"
    assert reader.get(key(1), NOW + 0.5) is None


def test_damaged_counts_begin_anew(small):
    """A handshake must not fail on them."""
    CacheWriter(small).put(key(1), b"one", NOW + 10, NOW)
    for at in range(8, small.geometry.places()[0].sequence_at):
        small.words[at] = 2**64 - 1
    place = small.geometry.places()[0]
    small.words[16] = 0  # the generation
    small.words[place.slots_at // 8 + 10] = 2**64 - 1
    reader = CacheReader(small, 3)
    assert reader.get(key(1), NOW) == b"one"
    assert reader.get(key(2), NOW) is None
    assert CacheWriter(small).get(key(1)).hits == 1
    assert list(apache_lines(figures(small, NOW)))

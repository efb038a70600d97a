"""Apache's ring: the cases that are easily done otherwise. `test_model` compares any sequence with Apache's source."""

from __future__ import annotations

import pytest

from proxy.cache.figures import figures
from proxy.cache.layout import CacheArgument, Counter
from proxy.cache.reader import CacheReader
from proxy.cache.segment import Segment
from proxy.cache.writer import CacheWriter

NOW = 1000.0


def key(number):
    return bytes([number]) * 20


@pytest.fixture
def ring():
    """One subcache of 5 entries in 7968 bytes."""
    segment = Segment.create(CacheArgument("", 8192), "fifo")
    yield segment
    segment.close()


def held(segment, now=NOW):
    return [number for number in range(20) if CacheReader(segment).get(key(number), now) is not None]


def counted(segment, now=NOW):
    counts = figures(segment, now).counts
    return {name: counts[Counter[name]] for name in ("STORES", "REPLACED", "EXPIRIES", "SCROLLED")}


def test_the_one_stored_longest_ago_goes_however_busy(ring):
    writer, reader = CacheWriter(ring), CacheReader(ring)
    for number in range(5):
        writer.put(key(number), b"x", NOW + 900, NOW)
        reader.get(key(0), NOW)
    writer.put(key(5), b"x", NOW + 900, NOW)
    assert held(ring) == [1, 2, 3, 4, 5]
    assert counted(ring) == {"STORES": 6, "REPLACED": 0, "EXPIRIES": 0, "SCROLLED": 1}


def test_a_replaced_one_is_the_newest_and_leaves_a_hole(ring):
    """The hole takes a slot until it is the oldest, so a fifth one pushes out nothing but it."""
    writer = CacheWriter(ring)
    for number in range(4):
        writer.put(key(number), b"x", NOW + 900, NOW)
    writer.put(key(1), b"y", NOW + 900, NOW)
    assert figures(ring, NOW).slots == 5
    writer.put(key(4), b"x", NOW + 900, NOW)
    assert held(ring) == [1, 2, 3, 4]
    assert counted(ring) == {"STORES": 5, "REPLACED": 1, "EXPIRIES": 0, "SCROLLED": 1}
    writer.put(key(5), b"x", NOW + 900, NOW)  # the hole is the oldest now, and goes uncounted
    assert held(ring) == [1, 2, 3, 4, 5]
    assert counted(ring) == {"STORES": 6, "REPLACED": 1, "EXPIRIES": 0, "SCROLLED": 1}


def test_one_that_expires_behind_the_oldest_stays_in_the_way(ring):
    writer = CacheWriter(ring)
    for number in range(5):
        writer.put(key(number), b"x", NOW + (5 if number == 3 else 900), NOW)
    writer.put(key(5), b"x", NOW + 900, NOW + 6)
    assert held(ring, NOW + 6) == [1, 2, 4, 5]
    # Over it was found by a reader, just now.
    assert counted(ring, NOW + 6) == {"STORES": 6, "REPLACED": 0, "EXPIRIES": 1, "SCROLLED": 1}


def test_what_a_reader_found_over_is_removed(ring):
    """As by Apache's retrieval, which counts it then: storing it again replaces nothing, removing it finds nothing."""
    writer = CacheWriter(ring)
    for number in range(3):
        writer.put(key(number), b"x", NOW + (5 if number else 900), NOW)
    for _ in range(2):
        assert CacheReader(ring).get(key(1), NOW + 6) is None
    assert counted(ring)["EXPIRIES"] == 1
    writer.put(key(1), b"new", NOW + 900, NOW + 6)
    assert CacheReader(ring).get(key(1), NOW + 6) == b"new"
    assert CacheReader(ring).get(key(2), NOW + 6) is None
    assert not writer.remove(key(2))
    assert counted(ring) == {"STORES": 4, "REPLACED": 0, "EXPIRIES": 2, "SCROLLED": 0}


def test_what_was_found_over_says_nothing_of_the_next_in_its_slot(ring):
    """Even with the same end, as when the clock was set back and the same response is stored again."""
    writer = CacheWriter(ring)
    writer.put(key(0), b"x", NOW + 5, NOW)
    assert CacheReader(ring).get(key(0), NOW + 6) is None
    for number in range(1, 5):
        writer.put(key(number), b"x", NOW + 900, NOW)
    writer.put(key(0), b"x", NOW + 5, NOW)
    assert held(ring) == [0, 1, 2, 3, 4]
    assert writer.remove(key(0))


def test_a_replaced_one_keeps_what_is_known_of_its_use(ring):
    """Though it gets another slot."""
    writer = CacheWriter(ring)
    writer.put(key(0), b"old", NOW + 900, NOW)
    writer.note_refresh(key(0), NOW + 450)
    CacheReader(ring).get(key(0), NOW + 1)
    writer.put(key(0), b"new", NOW + 900, NOW + 2)
    entry = writer.get(key(0))
    assert (entry.response, entry.last_stapled_s, entry.hits, entry.refresh_at_s) == (b"new", NOW + 1, 1, NOW + 450)


def test_the_one_that_empties_the_ring_is_not_counted(ring):
    """Apache leaves its loop before it counts."""
    writer = CacheWriter(ring)
    for number in range(3):
        writer.put(key(number), b"x" * 1000, NOW + 900, NOW)
    writer.put(key(3), b"x" * 7947, NOW + 900, NOW)
    assert held(ring) == [3]
    assert counted(ring)["SCROLLED"] == 2


def test_the_key_and_a_byte_take_room_too(ring):
    """7968 bytes hold four records of 1992, and not one byte more."""
    writer = CacheWriter(ring)
    for number in range(4):
        writer.put(key(number), b"x" * 1971, NOW + 900, NOW)
    assert held(ring) == [0, 1, 2, 3]
    assert figures(ring, NOW).data_ratio == 1
    writer.put(key(4), b"", NOW + 900, NOW)
    assert held(ring) == [1, 2, 3, 4]


def test_one_that_is_too_large_takes_its_predecessor_with_it(ring):
    writer = CacheWriter(ring)
    writer.put(key(1), b"x", NOW + 900, NOW)
    with pytest.raises(
        ValueError, match=r"7948 bytes does not fit .* takes 7947 at most: shmcb:PATH\(16384\) would do"
    ):
        writer.put(key(1), b"x" * 7948, NOW + 900, NOW)
    assert held(ring) == []
    assert counted(ring) == {"STORES": 1, "REPLACED": 0, "EXPIRIES": 0, "SCROLLED": 0}


def test_the_order_survives_a_restart(tmp_path):
    argument = CacheArgument(str(tmp_path / "cache"), 8192)
    for number in range(12):
        segment = Segment.create(argument, "fifo")
        CacheWriter(segment).put(key(number), b"x", NOW + 900, NOW - number)
        segment.close()
    segment = Segment.create(argument, "fifo")
    assert held(segment) == [7, 8, 9, 10, 11]
    segment.close()


def test_a_removed_one_with_a_damaged_length_does_not_push_the_others_out(ring):
    writer = CacheWriter(ring)
    for number in range(4):
        writer.put(key(number), b"x", NOW + 900, NOW)
    writer.remove(key(2))
    ring.words[ring.geometry.places()[0].slots_at // 8 + 2 * 16 + 4] = 2**60
    CacheWriter(ring).put(key(5), b"x", NOW + 900, NOW)
    assert held(ring) == [0, 1, 3, 5]

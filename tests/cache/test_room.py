"""How many responses there is room for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.cache.entries import columns_of, slots_of
from proxy.cache.layout import CacheArgument, geometry
from proxy.cache.room import count_fitting, room_by_lru, room_to_spare, size_for_all
from proxy.cache.segment import Segment
from proxy.cache.writer import CacheWriter

NOW = 1000.0


def test_a_subcache_that_is_full_does_not_borrow_of_another():
    """16384 bytes make two subcaches of 5 entries in 8008 bytes; the first byte of the key says which."""
    shape = geometry(16384)
    lengths = {bytes([number]) * 20: 2000 for number in (0, 2, 4, 6, 8, 1)}
    assert count_fitting(lengths, shape, "lru") == 4 + 1
    assert count_fitting(lengths, shape, "fifo") == 3 + 1  # 21 bytes more for each, as in Apache
    assert count_fitting(dict.fromkeys(lengths, 0), shape, "lru") == 5 + 1
    assert count_fitting(dict.fromkeys(lengths, 9000), shape, "lru") == 0
    assert count_fitting({}, shape, "lru") == 0
    assert size_for_all(lengths, "lru", 8192) == 32768
    assert size_for_all(lengths, "lru", 40000) == 65536
    assert size_for_all(dict.fromkeys(lengths, 9_000_000), "lru", 8192) is None


@pytest.mark.parametrize("eviction", ["lru", "fifo"])
@given(
    lengths=st.dictionaries(st.binary(min_size=20, max_size=20), st.integers(0, 4000), max_size=30),
    size_bytes=st.sampled_from((8192, 16384, 65536)),
)
@settings(max_examples=50, deadline=None)
def test_the_writer_holds_as_many(eviction, lengths, size_bytes):
    """All, where all fit; never more."""
    segment = Segment.create(CacheArgument("", size_bytes), eviction)
    writer = CacheWriter(segment)
    for key, length in lengths.items():
        writer.put(key, bytes(length), NOW + 10, NOW)
    fitting, held = count_fitting(lengths, segment.geometry, eviction), len(writer.entries())
    segment.close()
    assert held == fitting if fitting == len(lengths) else held <= fitting


@given(
    lengths=st.dictionaries(st.integers(0, 9), st.integers(0, 3000), max_size=8),
    number=st.integers(0, 9),
    length=st.one_of(st.integers(0, 9000), st.just(None)),
    more=st.integers(0, 1),
    later_s=st.sampled_from((0, 20)),
)
@settings(max_examples=200, deadline=None)
def test_where_there_is_room_to_spare_both_ways_say_the_same(lengths, number, length, more, later_s):
    """The short way says nothing only where somebody has to go; `length` None: what just fits, or one byte `more`."""
    segment = Segment.create(CacheArgument("", 16384))
    writer = CacheWriter(segment)
    for each, taken in lengths.items():
        writer.put(bytes([2 * each]) * 20, bytes(taken), NOW + 10, NOW)
    key, (place, _), shape = bytes([2 * number]) * 20, segment.geometry.places(), segment.geometry
    slots = slots_of(segment, place, only_live=True)
    old = next((slot for slot in slots if slot.key == key), None)
    if length is None:
        length = shape.data_bytes_per_subcache - sum(slot.length for slot in slots if slot is not old) + more
    short = room_to_spare(columns_of(segment, place), shape, old, length)
    long = room_by_lru(slots, shape, key, length, NOW + later_s)
    segment.close()
    if short:
        assert short == long._replace(gone=())
        assert not long.gone
    else:
        assert long.gone or length > shape.data_bytes_per_subcache

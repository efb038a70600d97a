"""Writer and reader together, on real shared memory."""

from __future__ import annotations

import os

import pytest

from proxy.cache.layout import COUNTERS_AT, STAMP_WORD, CacheArgument, Counter
from proxy.cache.reader import CacheReader
from proxy.cache.segment import Segment
from proxy.cache.writer import CacheWriter

NOW = 1000.0


def key(number):
    return bytes([number]) * 20


def counters(segment):
    counts = {counter.name: segment.words[COUNTERS_AT + counter] for counter in Counter}
    return {name: count for name, count in counts.items() if count}


def test_a_response_is_served_until_its_time_and_not_at_it(small):
    """Compared at each call, also when the first level holds it."""
    CacheWriter(small).put(key(1), b"one", NOW + 10, NOW)
    reader = CacheReader(small)
    for _ in range(2):
        assert reader.get(key(1), NOW + 9.999) == b"one"
        assert reader.get(key(1), NOW + 10) is None
    assert CacheReader(small).get(key(1), NOW + 10) is None


def test_a_first_level_sees_what_the_writer_does(small):
    writer, reader = CacheWriter(small), CacheReader(small)
    assert reader.get(key(1), NOW) is None
    writer.put(key(1), b"old", NOW + 10, NOW)
    assert reader.get(key(1), NOW) == b"old"
    writer.put(key(1), b"new", NOW + 10, NOW)
    assert reader.get(key(1), NOW) == b"new"
    assert writer.remove(key(1))
    assert not writer.remove(key(1))
    assert reader.get(key(1), NOW) is None
    assert writer.get(key(1)) is None
    assert counters(small) == {"STORES": 1, "REPLACED": 1, "REMOVE_HITS": 1, "REMOVE_MISSES": 1}


def test_the_first_level_is_bounded(small):
    """It takes no more keys than the segment has entries, whatever is asked for."""
    CacheWriter(small).put(key(1), b"one", NOW + 10, NOW)
    reader = CacheReader(small)
    for number in range(200):
        assert reader.get(key(number), NOW) == (b"one" if number == 1 else None)
        assert len(reader._held) <= 5


def test_a_key_within_other_keys_is_not_found(small):
    """Keys stand side by side, so one may begin in the middle of another."""
    writer = CacheWriter(small)
    writer.put(b"a" * 10 + b"b" * 10, b"ab", NOW + 10, NOW)
    writer.put(b"c" * 10 + b"d" * 10, b"cd", NOW + 10, NOW)
    assert CacheReader(small).get(b"b" * 10 + b"c" * 10, NOW) is None
    assert CacheReader(small).get(bytes(20), NOW) is None


def test_the_one_stapled_longest_ago_goes(small):
    writer, reader = CacheWriter(small), CacheReader(small)
    for number in range(5):
        writer.put(key(number), b"x", NOW + 900, NOW + number)
    reader.get(key(0), NOW + 10)
    reader.get(key(1), NOW + 11)
    writer.put(key(5), b"x", NOW + 900, NOW + 12)
    assert sorted(entry.key[0] for entry in writer.entries()) == [0, 1, 3, 4, 5]
    assert counters(small) == {"STORES": 6, "SCROLLED": 1}


def test_being_refreshed_is_not_being_used(small):
    """An entry that nobody asks for goes first, however often it was fetched again."""
    writer, reader = CacheWriter(small), CacheReader(small)
    for number in range(5):
        writer.put(key(number), b"x", NOW + 900, NOW + number)
    for number in range(1, 5):
        reader.get(key(number), NOW + 10)
    writer.put(key(0), b"refreshed", NOW + 900, NOW + 20)
    writer.put(key(5), b"x", NOW + 900, NOW + 30)
    assert writer.get(key(0)) is None


def test_expired_entries_go_before_live_ones(small):
    writer, reader = CacheWriter(small), CacheReader(small)
    for number in range(5):
        writer.put(key(number), b"x", NOW + (5 if number == 3 else 900), NOW + number)
    assert reader.get(key(3), NOW + 4.5) == b"x"
    writer.put(key(5), b"x", NOW + 900, NOW + 6)
    assert sorted(entry.key[0] for entry in writer.entries()) == [0, 1, 2, 4, 5]
    assert counters(small) == {"STORES": 6, "EXPIRIES": 1}


def test_no_more_goes_than_must(small):
    """Room for 3000 bytes is there once one of 2000 has gone; the rest is moved together, not dropped."""
    writer, reader = CacheWriter(small), CacheReader(small)
    for number, length in enumerate((2000, 1000, 2000, 1900)):
        writer.put(key(number), bytes([number]) * length, NOW + 900, NOW + number)
    for number in (0, 2, 3):
        reader.get(key(number), NOW + 10 + number)
    writer.remove(key(1))
    writer.put(key(5), b"5" * 3000, NOW + 900, NOW + 20)
    assert {entry.key[0]: entry.response for entry in writer.entries()} == {
        2: b"\x02" * 2000,
        3: b"\x03" * 1900,
        5: b"5" * 3000,
    }
    assert reader.get(key(3), NOW + 30) == b"\x03" * 1900


def test_an_entry_takes_its_own_room_before_that_of_others(small):
    writer = CacheWriter(small)
    writer.put(key(1), b"1" * 4000, NOW + 900, NOW)
    writer.put(key(2), b"2" * 3000, NOW + 900, NOW)
    writer.put(key(1), b"3" * 4968, NOW + 900, NOW)
    assert {entry.key[0]: len(entry.response) for entry in writer.entries()} == {1: 4968, 2: 3000}


def test_a_response_that_fits_no_subcache_is_refused_and_the_old_one_stays(small):
    writer = CacheWriter(small)
    writer.put(key(1), b"x" * 7968, NOW + 900, NOW)
    with pytest.raises(
        ValueError, match=r"8009 bytes does not fit .* takes 7968 at most: shmcb:PATH\(32768\) would do"
    ):
        writer.put(key(1), b"y" * 8009, NOW + 900, NOW)
    assert writer.get(key(1)).response == b"x" * 7968
    with pytest.raises(ValueError, match="no size would do"):
        writer.put(key(1), bytes(9_000_000), NOW + 900, NOW)
    with pytest.raises(ValueError, match="a key has 20 bytes"):
        writer.put(b"short", b"y", NOW + 900, NOW)


def test_each_staple_leaves_its_time_and_is_counted(small):
    """And a stamp that makes no sense is written over. Being fetched again is not being used: both are kept."""
    writer, reader = CacheWriter(small), CacheReader(small)
    writer.put(key(1), b"one", NOW + 900, NOW)
    assert (writer.get(key(1)).last_stapled_s, writer.get(key(1)).hits) == (None, 0)
    small.times[small.geometry.places()[0].slots_at // 8 + STAMP_WORD] = float("nan")
    for now in (NOW + 1, NOW + 1.5):
        reader.get(key(1), now)
        reader.tell(now)
        assert writer.get(key(1)).last_stapled_s == now
    writer.put(key(1), b"new", NOW + 950, NOW + 2)
    assert (writer.get(key(1)).last_stapled_s, writer.get(key(1)).hits) == (NOW + 1.5, 2)
    reader.get(key(1), NOW + 999)
    assert writer.get(key(1)).hits == 2
    assert writer.remove(key(1))
    writer.put(key(1), b"one", NOW + 900, NOW)
    assert (writer.get(key(1)).last_stapled_s, writer.get(key(1)).hits) == (None, 0)


def test_when_it_will_be_refreshed_can_be_noted(small):
    writer = CacheWriter(small)
    writer.note_refresh(key(1), NOW + 5)
    writer.put(key(1), b"one", NOW + 900, NOW)
    assert writer.get(key(1)).refresh_at_s is None
    writer.note_refresh(key(1), NOW + 450)
    assert writer.get(key(1)).refresh_at_s == NOW + 450


def test_what_an_earlier_run_left_is_served_once_it_is_vouched_for(small):
    """Also to readers that have already found nothing."""
    CacheWriter(small).put(key(1), b"one", NOW + 900, NOW)
    CacheWriter(small).put(key(2), b"two", NOW + 900, NOW)
    small.distrust()
    writer, reader = CacheWriter(small), CacheReader(small)
    assert [entry.response for entry in writer.entries()] == [b"one", b"two"]
    assert reader.get(key(1), NOW) is None
    assert reader.get(key(2), NOW) is None
    writer.vouch_for(key(1))
    assert reader.get(key(1), NOW) == b"one"
    writer.put(key(3), b"three", NOW + 900, NOW)
    assert [reader.get(key(number), NOW) for number in (1, 2, 3)] == [b"one", None, b"three"]
    assert CacheReader(small).get(key(1), NOW) == b"one"


def test_a_read_in_the_middle_of_a_write_is_a_miss(small):
    """Unless the worker has a copy of its own: that is whole, and goes on being served until its time."""
    CacheWriter(small).put(key(1), b"one", NOW + 10, NOW)
    knowing, fresh = CacheReader(small), CacheReader(small)
    assert knowing.get(key(1), NOW) == b"one"
    small.words[small.geometry.places()[0].sequence_at] |= 1
    assert fresh.get(key(1), NOW) is None
    assert knowing.get(key(1), NOW) == b"one"
    assert knowing.get(key(1), NOW + 10) is None
    CacheWriter(small)
    assert fresh.get(key(1), NOW) == b"one"
    assert knowing.get(key(1), NOW) == b"one"


def test_a_damaged_entry_is_a_miss_and_goes_when_the_next_writer_comes(small, caplog):
    writer = CacheWriter(small)
    writer.put(key(1), b"one", NOW + 10, NOW)
    writer.put(key(2), b"two", NOW + 10, NOW)
    small.raw[small.geometry.places()[0].data_at] ^= 1
    assert CacheReader(small).get(key(1), NOW) is None
    assert writer.get(key(1)) is None
    assert CacheReader(small).get(key(2), NOW) == b"two"
    repaired = CacheWriter(small)
    assert [entry.key for entry in repaired.entries()] == [key(2)]
    assert caplog.messages == ["stapling cache: 1 damaged or unfinished entries were dropped"]
    repaired.put(key(1), b"one", NOW + 10, NOW)
    assert CacheReader(small).get(key(1), NOW) == b"one"


def test_each_key_lives_in_the_subcache_of_its_first_byte():
    """Writing in one subcache leaves the copies of the others' entries good."""
    segment = Segment.create(CacheArgument("", 65536))
    writer, reader = CacheWriter(segment), CacheReader(segment)
    for number in range(40):
        writer.put(key(number), key(number), NOW + 10, NOW)
    assert [reader.get(key(number), NOW) for number in range(40)] == [key(number) for number in range(40)]
    copies = {each: held.response for each, held in reader._held.items()}
    writer.put(key(41), b"x", NOW + 10, NOW)
    for number in range(40):
        reader.get(key(number), NOW)
    changed = {each[0] for each, held in reader._held.items() if held.response is not copies[each]}
    assert changed == set(range(1, 40, 4))
    assert reader.get(key(1), NOW) is None
    segment.close()


def test_two_forked_readers_see_the_writers_puts(small):
    """The reader is made before the fork, as the master does."""
    reader = CacheReader(small)
    children = []
    for _ in range(2):
        ready, tell = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(tell, b".")
                while reader.get(key(1), NOW) is None:
                    os.sched_yield()
                os._exit(0 if reader.get(key(1), NOW) == b"one" else 1)
            finally:
                os._exit(2)
        os.read(ready, 1)
        os.close(ready)
        os.close(tell)
        children.append(child)
    writer = CacheWriter(small)
    writer.put(key(1), b"one", NOW + 10, NOW)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert writer.get(key(1)).last_stapled_s == NOW

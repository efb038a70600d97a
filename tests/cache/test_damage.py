"""A writer killed anywhere, a byte flipped anywhere: a miss or the right response, never another one."""

from __future__ import annotations

import dataclasses
import hashlib
import mmap
import os
import random
import signal
import time
import traceback
from typing import Any

import pytest

from proxy.cache.layout import (
    COUNTERS_AT,
    EVICTIONS,
    FLAGS_WORD,
    MAGIC,
    SLOT,
    USED,
    WORD_BYTES,
    CacheArgument,
    Counter,
)
from proxy.cache.reader import CacheReader
from proxy.cache.segment import Segment
from proxy.cache.writer import CacheWriter
from proxy.errors import StartError

NOW = 1000.0
LATER = NOW + 1e6


def key(number):
    return bytes([number]) * 20


class Killed(BaseException):
    pass


@dataclasses.dataclass
class Dying:
    """A segment whose writer dies instead of its n-th store: this one and all after it do not happen."""

    segment: Segment
    stores_left: int

    def __post_init__(self):
        self.geometry = self.segment.geometry
        self.eviction = self.segment.eviction
        self.mapping = self
        self.raw = Memory(self, self.segment.raw)
        self.words = Memory(self, self.segment.words)
        self.times = Memory(self, self.segment.times)

    def store(self):
        self.stores_left -= 1
        if self.stores_left < 0:
            raise Killed

    def move(self, to, start, length):
        self.store()
        self.segment.mapping.move(to, start, length)


@dataclasses.dataclass
class Memory:
    dying: Dying
    view: Any

    def __getitem__(self, item):
        return self.view[item]

    def __setitem__(self, item, value):
        self.dying.store()
        self.view[item] = value


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda writer: writer.put(key(9), b"9" * 100, LATER, NOW + 10), id="new, no slot is free"),
        pytest.param(lambda writer: writer.put(key(2), b"b" * 100, LATER, NOW + 10), id="refreshed beside the old"),
        pytest.param(lambda writer: writer.put(key(2), b"b" * 1100, LATER, NOW + 10), id="refreshed, moving others"),
        pytest.param(lambda writer: writer.put(key(2), b"b" * 7000, LATER, NOW + 10), id="refreshed, dropping others"),
        pytest.param(lambda writer: writer.remove(key(2)), id="removed"),
    ],
)
@pytest.mark.parametrize("eviction", EVICTIONS)
def test_a_writer_that_dies_at_any_store_leaves_whole_entries_and_the_next_one_goes_on(write, eviction):
    small = Segment.create(CacheArgument("", 8192), eviction)
    before = {0: b"0" * 2000, 1: b"1" * 1000, 2: b"2" * 1000, 3: b"3" * 2000, 4: b"4" * 1500}
    writer = CacheWriter(small)
    writer.put(key(7), b"7" * 300, LATER, NOW)
    for number, response in before.items():
        if number == 4:
            writer.remove(key(7))  # leaves a gap at the front
        writer.put(key(number), response, LATER, NOW + number)
    image = bytes(small.raw)
    write(writer)
    after = {entry.key[0]: entry.response for entry in writer.entries()}
    for stores in range(1000):
        small.raw[:] = image
        # It knows of the old entries, as the workers do when the keeper dies.
        knowing = CacheReader(small)
        for number in before:
            knowing.get(key(number), NOW + 20)
        dying = CacheWriter(Dying(small, 1000))
        dying._segment.stores_left = stores
        try:
            write(dying)
        except Killed:
            pass
        else:
            assert stores > 3
            break
        for reader in (knowing, CacheReader(small)):
            for number in range(10):
                assert reader.get(key(number), NOW + 20) in {None, before.get(number), after.get(number)}
        successor, reader = CacheWriter(small), CacheReader(small)
        assert sum(before.get(entry.key[0]) != entry.response for entry in successor.entries()) <= 1
        # One that was being written, one that was being moved; besides what had to go anyway.
        assert len(successor.entries()) >= len(before.keys() & after.keys()) - 2
        for number in range(10):
            entry = successor.get(key(number))
            assert reader.get(key(number), NOW + 20) == knowing.get(key(number), NOW + 20)
            assert reader.get(key(number), NOW + 20) == (entry.response if entry else None)
        write(successor)
        assert (reader.get(key(2), NOW + 20) or b"") == after.get(2, b"")
    else:
        pytest.fail("the write never came to its end")
    small.close()


@pytest.mark.parametrize("eviction", EVICTIONS)
def test_of_two_under_one_key_the_later_one_stays(eviction):
    """Room would be made as if both went, and the next subcache be written over."""
    segment = Segment.create(CacheArgument("", 16384), eviction)
    shape, place = segment.geometry, segment.geometry.places()[0]
    half = shape.data_bytes_per_subcache // 2 - 50
    writer = CacheWriter(segment)
    writer.put(key(2), b"2" * half, LATER, NOW)
    writer.put(key(0), b"a" * half, LATER, NOW + 1)
    writer.remove(key(0))
    writer.remove(key(2))
    writer.put(key(0), b"b" * half, LATER, NOW + 2)
    segment.words[(place.slots_at + SLOT.size) // WORD_BYTES + FLAGS_WORD] = USED  # the first removal is undone
    assert len(writer.entries()) == 2
    behind = bytes(segment.raw[place.data_at + shape.data_bytes_per_subcache :])
    writer = CacheWriter(segment)
    assert [entry.response for entry in writer.entries()] == [b"b" * half]
    writer.put(key(0), b"c" * (2 * half), LATER, NOW + 3)
    assert [entry.response for entry in writer.entries()] == [b"c" * (2 * half)]
    assert bytes(segment.raw[place.data_at + shape.data_bytes_per_subcache :]) == behind
    segment.close()


def _flip_every(stride, tmp_path, eviction):
    """Flip a byte, attach, read before and after the repair."""
    argument = CacheArgument(str(tmp_path / "cache"), 8192)
    file = tmp_path / "cache"
    segment = Segment.create(argument, eviction)
    # Alike on purpose: an offset that is a little wrong finds a response that looks right.
    responses = {number: bytes([number // 2]) * 1500 for number in range(5)}
    for number, response in responses.items():
        CacheWriter(segment).put(key(number), response, NOW + 10, NOW)
    segment.close()
    image = file.read_bytes()
    for at in range(0, len(image), stride):
        for flip in (0x01, 0x80, 0xFF):
            with file.open("r+b") as opened:
                opened.write(image)
                opened.seek(at)
                opened.write(bytes([image[at] ^ flip]))
            try:
                segment = Segment.create(argument, eviction)
            except StartError:
                assert at < len(MAGIC)  # the one place where it is the right answer
                continue
            early = CacheReader(segment)
            early_answers = [(early.get(key(number), NOW + 5), early.get(key(number), NOW + 10)) for number in range(5)]
            writer, late = CacheWriter(segment), CacheReader(segment)
            late_answers = [(late.get(key(number), NOW + 5), late.get(key(number), NOW + 10)) for number in range(5)]
            for number, response in responses.items():
                assert early_answers[number] in {(None, None), (response, None)}
                assert late_answers[number] in {(None, None), (response, None)}
            assert all(responses[entry.key[0]] == entry.response for entry in writer.entries())
            if at >= 64:
                assert len(writer.entries()) >= 4
            writer.put(key(3), b"new", NOW + 10, NOW)
            assert early.get(key(3), NOW) == b"new"
            segment.close()
            for aside in tmp_path.glob("cache.bad-*"):
                assert at < 64
                aside.unlink()


@pytest.mark.parametrize("eviction", EVICTIONS)
def test_a_flipped_byte_costs_one_entry_at_most(tmp_path, eviction):
    _flip_every(149, tmp_path, eviction)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("eviction", EVICTIONS)
def test_any_flipped_byte_costs_one_entry_at_most(tmp_path, eviction):
    _flip_every(1, tmp_path, eviction)


def _cut_at_every(stride, tmp_path):
    """Cut the file, attach: what is there is whole, or it is a new file and the old one stands beside it."""
    file = tmp_path / "cache"
    argument = CacheArgument(str(file), 8192)
    segment = Segment.create(argument)
    CacheWriter(segment).put(key(1), b"1" * 1500, NOW + 10, NOW)
    segment.close()
    image = file.read_bytes()
    for length in range(0, len(image) + 1, stride):
        file.write_bytes(image[:length])
        segment = Segment.create(argument)
        reader, writer = CacheReader(segment), CacheWriter(segment)
        assert reader.get(key(1), NOW) == (b"1" * 1500 if length == len(image) else None)
        writer.put(key(1), b"new", NOW + 10, NOW)
        assert reader.get(key(1), NOW) == b"new"
        segment.close()
        set_aside = [aside.read_bytes() for aside in tmp_path.glob("cache.bad-*")]
        assert set_aside == ([image[:length]] if 0 < length < len(image) else [])
        (tmp_path / "cache.bad-1").unlink(missing_ok=True)


def test_a_file_cut_short_is_set_aside(tmp_path):
    _cut_at_every(113, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_file_cut_short_anywhere_is_set_aside(tmp_path):
    _cut_at_every(1, tmp_path)


@pytest.mark.parametrize("eviction", EVICTIONS)
@pytest.mark.parametrize("lost", ["the old state", "zeros"])
def test_after_a_power_cut_each_entry_is_whole_or_gone(tmp_path, eviction, lost):
    """Which of the written blocks reached the disk is chance; the header's was made sure of at the start."""
    file = tmp_path / "cache"
    argument = CacheArgument(str(file), 65536)
    chance = random.Random(1)
    segment = Segment.create(argument, eviction)
    writer = CacheWriter(segment)
    states = []
    known: dict[bytes, set[bytes | None]] = {own_key: {None} for own_key in KEYS}
    for _ in range(2):
        for own_key in chance.choices(KEYS, k=100):
            response = _sealed(own_key, chance.randbytes(chance.randrange(3000)))
            known[own_key].add(response)
            writer.put(own_key, response, LATER, NOW)
        states.append(file.read_bytes())
    segment.close()
    old, new = states if lost == "the old state" else (bytes(len(states[1])), states[1])
    for _ in range(200):
        image = bytearray(new)
        for at in range(512, len(image), 512):
            if chance.random() < 0.2:
                image[at : at + 512] = old[at : at + 512]
        file.write_bytes(image)
        segment = Segment.create(argument, eviction)
        early, writer, late = CacheReader(segment), CacheWriter(segment), CacheReader(segment)
        for own_key, responses in known.items():
            assert early.get(own_key, NOW) in responses
            assert late.get(own_key, NOW) in responses
        writer.put(KEYS[0], b"new", LATER, NOW)
        assert late.get(KEYS[0], NOW) == b"new"
        segment.close()


KEYS = [hashlib.sha256(bytes([number])).digest()[:20] for number in range(64)]


def _sealed(own_key, body):
    return body + hashlib.sha256(own_key + body).digest()


def _write_for_ever(segment):
    writer = CacheWriter(segment)
    chance = random.Random()
    for entry in writer.entries():
        assert entry.response == _sealed(entry.key, entry.response[:-32])
    while True:
        own_key = chance.choice(KEYS)
        if chance.random() < 0.05:
            writer.remove(own_key)
        else:
            writer.put(
                own_key, _sealed(own_key, chance.randbytes(chance.randrange(3000))), LATER, NOW + chance.random()
            )


def _read_until_told(segment, control, number):
    """Count hits, and tell the longest time that one read took of the processor."""
    reader = CacheReader(segment)
    chance = random.Random()
    hits = 0
    longest = 0.0
    while not control[0]:
        for own_key in chance.sample(KEYS, 16):
            began = time.thread_time()
            response = reader.get(own_key, NOW + chance.random())
            longest = max(longest, time.thread_time() - began)
            if response is not None:
                hits += 1
                assert response == _sealed(own_key, response[:-32])
        control[2 * number], control[2 * number + 1] = hits, int(longest * 1e6)


def _forked(work, *args):
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work(*args)
        status = 0
    except Exception:  # noqa: BLE001 - the edge of a process: nobody else would show it
        traceback.print_exc()
    finally:
        os._exit(status)  # pytest goes on in the parent only


def _torture(size_bytes, writes, readers, eviction):
    """Kill the writer after random numbers of writes, wherever it then is."""
    segment = Segment.create(CacheArgument("", size_bytes), eviction)
    control = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
    chance = random.Random()

    def written():
        return segment.words[COUNTERS_AT + Counter.STORES] + segment.words[COUNTERS_AT + Counter.REPLACED]

    children = [_forked(_read_until_told, segment, control, number) for number in range(1, readers + 1)]
    deadline = time.monotonic() + 30 + writes / 100
    try:
        while written() < writes:
            goal = written() + chance.randrange(200)
            writer = _forked(_write_for_ever, segment)
            try:
                while written() < goal:
                    assert time.monotonic() < deadline
                    assert os.waitpid(writer, os.WNOHANG) == (0, 0), "the writer failed"
                    time.sleep(0.001)  # the processors are for the others
            finally:
                os.kill(writer, signal.SIGKILL)
                os.waitpid(writer, 0)
        while not all(control[2 * number] for number in range(1, readers + 1)):
            assert time.monotonic() < deadline
            time.sleep(0.001)  # between two looks
    finally:
        control[0] = 1
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert statuses == [0] * readers
    for number in range(1, readers + 1):
        hits, longest_us = control[2 * number], control[2 * number + 1]
        assert hits
        assert longest_us < 100_000
    CacheWriter(segment)
    assert all(entry.response == _sealed(entry.key, entry.response[:-32]) for entry in CacheWriter(segment).entries())
    segment.close()


@pytest.mark.parametrize("eviction", EVICTIONS)
def test_readers_see_no_wrong_byte_while_writers_are_killed(eviction):
    _torture(16384, writes=3000, readers=4, eviction=eviction)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("eviction", EVICTIONS)
@pytest.mark.parametrize("size_bytes", [8192, 65536])
def test_readers_see_no_wrong_byte_in_100_000_writes(size_bytes, eviction):
    _torture(size_bytes, writes=100_000, readers=4, eviction=eviction)

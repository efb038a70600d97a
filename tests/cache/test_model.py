"""Any sequence of operations gives what a few lines on plain dicts give, or what Apache's source does."""

from __future__ import annotations

import copy
import os
import tempfile
from pathlib import Path

import pytest
from cache.apache import Shmcb
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxy.cache.entries import Entry
from proxy.cache.figures import counts_of, figures
from proxy.cache.layout import CacheArgument, Counter
from proxy.cache.reader import CacheReader
from proxy.cache.segment import Segment
from proxy.cache.writer import CacheWriter

SIZES = [8192, 16384, 32768, 65536, 128000, 524288, 1048576, 5242880]
KEYS = [bytes([number % 5]) + bytes(18) + bytes([number // 5]) for number in range(20)]
"""Of five subcaches, where there are so many."""

lengths = {
    "key": st.sampled_from(KEYS),
    "part": st.sampled_from([0.0, 0.05, 0.2, 0.3, 0.4, 0.6, 1.0]),
    "more": st.integers(-22, 1),
    "ttl_s": st.integers(1, 60),
}


class Machine(RuleBasedStateMachine):
    """The real cache in a file; the clock moves on by a second in each step, so that no two entries are equally old."""

    eviction = "lru"

    def create(self, size_bytes):
        self.folder = tempfile.TemporaryDirectory()
        self.argument = CacheArgument(str(Path(self.folder.name) / "cache"), size_bytes)
        self.now = 1000.0
        self.steps = 0
        self.attach()

    def attach(self):
        self.segment = Segment.create(self.argument, self.eviction)
        self.shape = self.segment.geometry
        self.writer = CacheWriter(self.segment)
        self.reader = CacheReader(self.segment, 1)

    def teardown(self):
        if hasattr(self, "segment"):
            self.segment.close()
            self.folder.cleanup()

    def next_response(self, part, more, ttl_s):
        """A response unlike any before, and its end, unlike any other."""
        self.now += 1
        self.steps += 1
        length = max(0, int(self.shape.data_bytes_per_subcache * part) + more)
        response = self.steps.to_bytes(4, "big") * (length // 4 + 1)
        return response[:length], self.now + ttl_s + self.steps * 1e-6

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def restart(self):
        self.segment.close()
        self.attach()

    @rule()
    def restart_keeper(self):
        self.writer = CacheWriter(self.segment)


class LruMachine(Machine):
    """Beside a dict of entries."""

    @initialize(size_bytes=st.sampled_from(SIZES))
    def begin(self, size_bytes):
        self.held: dict[bytes, Entry] = {}
        self.recency: dict[bytes, float] = {}
        self.create(size_bytes)

    @rule(**lengths)
    def put(self, key, part, more, ttl_s):
        response, serve_until = self.next_response(part, more, ttl_s)
        capacity = self.shape.data_bytes_per_subcache
        try:
            self.writer.put(key, response, serve_until, self.now)
        except ValueError:
            assert len(response) > capacity
            return
        mask = self.shape.subcaches - 1
        others = [other for other in self.held if other[0] & mask == key[0] & mask and other != key]
        order = sorted(
            others,
            key=lambda other: (
                (False, self.held[other].serve_until_s)
                if self.held[other].serve_until_s <= self.now
                else (True, self.recency[other])
            ),
        )
        while (
            sum(len(self.held[other].response) for other in order) + len(response) > capacity
            or len(order) >= self.shape.indexes_per_subcache
        ):
            del self.held[order.pop(0)]
        old = self.held.get(key)
        if old is None:
            self.recency[key] = self.now
        used = (old.last_stapled_s, old.hits, old.refresh_at_s) if old else (None, 0, None)
        self.held[key] = Entry(key, response, serve_until, self.now, *used)

    @rule(key=st.sampled_from(KEYS), times=st.integers(1, 4), step_s=st.sampled_from((0.25, 1.0)))
    def get(self, key, times, step_s):
        """The time of the telling counts for the hits before it."""
        self.now += step_s
        entry = self.held.get(key)
        expected = entry.response if entry and self.now < entry.serve_until_s else None
        assert [self.reader.get(key, self.now) for _ in range(times)] == [expected] * times
        assert CacheReader(self.segment).get(key, self.now) == expected
        self.reader.tell(self.now)
        if entry and expected is not None:
            hits = entry.hits + times + 1
            self.held[key] = Entry(
                key, entry.response, entry.serve_until_s, entry.stored_s, self.now, hits, entry.refresh_at_s
            )
            self.recency[key] = self.now

    @rule(key=st.sampled_from(KEYS))
    def remove(self, key):
        assert self.writer.remove(key) == (self.held.pop(key, None) is not None)

    @invariant()
    def holds_what_the_model_holds(self):
        if hasattr(self, "segment"):
            assert {entry.key: entry for entry in self.writer.entries()} == self.held
            assert all(self.writer.get(key) == self.held.get(key) for key in KEYS)
            live = [entry for entry in self.held.values() if entry.serve_until_s > self.now]
            found = figures(self.segment, self.now)
            assert (found.slots, found.data_bytes) == (len(live), sum(len(entry.response) for entry in live))


class FifoMachine(Machine):
    """Beside Apache's rings: the same entries, the same counters, as full, after each step."""

    eviction = "fifo"

    @initialize(size_bytes=st.sampled_from(SIZES))
    def begin(self, size_bytes):
        self.create(size_bytes)
        self.apache = Shmcb(
            *(self.shape.subcaches, self.shape.indexes_per_subcache), self.shape.data_bytes_per_subcache
        )

    @rule(**lengths)
    def put(self, key, part, more, ttl_s):
        response, serve_until = self.next_response(part, more, ttl_s)
        taken = True
        try:
            self.writer.put(key, response, serve_until, self.now)
        except ValueError:
            taken = False
        assert self.apache.store(key, response, serve_until, self.now) is taken

    @rule(key=st.sampled_from(KEYS), is_fresh=st.booleans())
    def get(self, key, is_fresh):
        self.now += 1
        reader = CacheReader(self.segment) if is_fresh else self.reader
        assert reader.get(key, self.now) == self.apache.retrieve(key, self.now)

    @rule(key=st.sampled_from(KEYS))
    def remove(self, key):
        assert self.writer.remove(key) == self.apache.remove(key)

    @invariant()
    def is_as_apache_is(self):
        if not hasattr(self, "apache"):
            return
        assert list(counts_of(self.segment).values())[Counter.SCROLLED] == self.apache.scrolled
        looked_at = copy.deepcopy(self.apache)
        looked_at.expire(self.now)  # as Apache's status does before it shows anything
        found = figures(self.segment, self.now)
        assert list(found.counts.values()) == looked_at.counters()
        assert found.slots == sum(subcache.idx_used for subcache in looked_at.subcaches)
        assert found.data_bytes == sum(subcache.data_used for subcache in looked_at.subcaches)
        oldest = [subcache.index(0).expires - self.now for subcache in looked_at.subcaches if subcache.idx_used]
        assert list(found.oldest_left_s) == oldest


few = settings(max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
many = settings(few, max_examples=int(os.environ.get("CACHE_EXAMPLES", "1000")), stateful_step_count=80)

TestLru = LruMachine.TestCase
TestLru.settings = few
TestFifo = FifoMachine.TestCase
TestFifo.settings = few


@pytest.mark.slow
@pytest.mark.timeout(1200)
class TestLruAtLength(LruMachine.TestCase):
    settings = many


@pytest.mark.slow
@pytest.mark.timeout(1200)
class TestFifoAtLength(FifoMachine.TestCase):
    settings = many

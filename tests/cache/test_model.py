"""Any sequence of operations gives what a few lines on plain dicts give."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxy.cache.layout import CacheArgument
from proxy.cache.reader import CacheReader
from proxy.cache.segment import Segment
from proxy.cache.writer import CacheWriter, Entry

KEYS = [bytes([number % 5]) + bytes(18) + bytes([number // 5]) for number in range(20)]


class CacheMachine(RuleBasedStateMachine):
    """The clock moves on by a second at least in each step, so that no two entries are equally old."""

    @initialize(size_bytes=st.sampled_from([8192, 16384, 65536, 524288]))
    def create(self, size_bytes):
        self.folder = tempfile.TemporaryDirectory()
        self.argument = CacheArgument(str(Path(self.folder.name) / "cache"), size_bytes)
        self.now = 1000.0
        self.steps = 0
        self.held: dict[bytes, Entry] = {}
        self.recency: dict[bytes, float] = {}
        self.attach()

    def attach(self):
        self.segment = Segment.create(self.argument)
        self.shape = self.segment.geometry
        self.writer = CacheWriter(self.segment)
        self.reader = CacheReader(self.segment)

    def teardown(self):
        if hasattr(self, "segment"):
            self.segment.close()
            self.folder.cleanup()

    @rule(
        key=st.sampled_from(KEYS),
        part=st.sampled_from([0.0, 0.05, 0.2, 0.3, 0.4, 0.6, 1.0]),
        more=st.integers(-1, 1),
        ttl_s=st.integers(1, 60),
    )
    def put(self, key, part, more, ttl_s):
        self.now += 1
        self.steps += 1
        capacity = self.shape.data_bytes_per_subcache
        length = max(0, int(capacity * part) + more)
        response = self.steps.to_bytes(4, "big") * (length // 4 + 1)
        response, serve_until = response[:length], self.now + ttl_s + self.steps * 1e-6
        try:
            self.writer.put(key, response, serve_until, self.now)
        except ValueError:
            assert length > capacity
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
            sum(len(self.held[other].response) for other in order) + length > capacity
            or len(order) >= self.shape.indexes_per_subcache
        ):
            del self.held[order.pop(0)]
        stapled = self.held[key].last_stapled_s if key in self.held else None
        if key not in self.held:
            self.recency[key] = self.now
        self.held[key] = Entry(key, response, serve_until, self.now, stapled)

    @rule(key=st.sampled_from(KEYS))
    def get(self, key):
        self.now += 1
        entry = self.held.get(key)
        expected = entry.response if entry and self.now < entry.serve_until_s else None
        assert self.reader.get(key, self.now) == expected
        assert CacheReader(self.segment).get(key, self.now) == expected
        if entry and expected is not None:
            self.held[key] = Entry(key, entry.response, entry.serve_until_s, entry.stored_s, self.now)
            self.recency[key] = self.now

    @rule(key=st.sampled_from(KEYS))
    def remove(self, key):
        assert self.writer.remove(key) == (self.held.pop(key, None) is not None)

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

    @invariant()
    def holds_what_the_model_holds(self):
        if hasattr(self, "segment"):
            assert {entry.key: entry for entry in self.writer.entries()} == self.held
            assert all(self.writer.get(key) == self.held.get(key) for key in KEYS)


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)


@pytest.mark.slow
@pytest.mark.timeout(1200)
class TestCacheAtLength(CacheMachine.TestCase):
    settings = settings(max_examples=1000, stateful_step_count=80, deadline=None)

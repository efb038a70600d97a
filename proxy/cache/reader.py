"""The reading side of the stapling cache: one for each worker, asked in every handshake."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from zlib import crc32

from proxy.cache.layout import (
    FOUND,
    GENERATION_AT,
    HITS_WORD,
    KEY_BYTES,
    LINE_BYTES,
    MAX_READERS,
    READERS_AT,
    SEEN_OVER_WORD,
    SLOT,
    STAMP_WORD,
    SUMMED,
    USED,
    WORD_BYTES,
)

if TYPE_CHECKING:
    from proxy.cache.layout import Place
    from proxy.cache.segment import Segment

MAX_ATTEMPTS = 64
"""How often a read that met the writer is tried again: a few microseconds while the sequence is odd.

The usual write is over by then. One that makes room takes longer, and a writer that is suspended or dead has no end:
neither is waited for.
"""

TELL_INTERVAL_S = 0.01
"""How long hits of one entry are only counted here, before the memory is told of them with the next one.

So that its line is not written in each handshake, which costs as much as all the rest. The figures, and what LRU goes
by, are behind by this much of one reader's traffic at most.
"""

_LARGEST_COUNT = 2**63
_NOTHING = (-math.inf, None, 0)


class _Held:
    """What was read under one key. The response is served from `told_at` on, before `tell_at`, without a second look.

    Then the memory is told of the hits, unless `serve_until` has come.
    """

    __slots__ = ("hits", "response", "sequence", "sequence_at", "serve_until", "slot_at", "tell_at", "told_at")

    def __init__(
        self, sequence_at: int, sequence: int, serve_until: float, response: bytes | None, slot_at: int, hits: int
    ) -> None:
        self.sequence_at = sequence_at
        self.sequence = sequence
        self.serve_until = serve_until
        self.response = response
        """None: there was nothing."""
        self.slot_at = slot_at
        """Its first word."""
        self.hits = hits
        """Not yet told."""
        self.told_at = self.tell_at = -math.inf


class CacheReader:
    """Reads without locks. May be made before the fork; each process then has its own first level.

    The first level keeps what was read, also that there was nothing, for as long as the sequence number of the subcache
    stands. Where the memory is in the middle of a write, what was kept goes on being served until its own serve_until.
    """

    __slots__ = (
        "_data_bytes",
        "_held",
        "_hits_at",
        "_keys_bytes",
        "_mask",
        "_max_held",
        "_places",
        "_raw",
        "_times",
        "_words",
    )

    def __init__(self, segment: Segment, number: int = 0) -> None:
        shape = segment.geometry
        self._raw = segment.raw
        self._words = segment.words
        self._times = segment.times
        self._places = shape.places()
        self._mask = shape.subcaches - 1
        self._keys_bytes = shape.indexes_per_subcache * KEY_BYTES
        self._data_bytes = shape.data_bytes_per_subcache
        self._held: dict[bytes, _Held] = {}
        # As many as the segment has: so the copies of one worker take about as much memory as the segment at most.
        self._max_held = shape.entries
        self.count_as(number)

    def count_as(self, number: int) -> None:
        """Count hits and misses as the reader of this number, going on where one before it stopped.

        Each process has its own, from 0. A reader made before the fork is told its number after it.
        """
        self._hits_at = READERS_AT + number % MAX_READERS * (LINE_BYTES // WORD_BYTES)
        self._make_countable(self._hits_at)
        self._make_countable(self._hits_at + 1)

    def get(self, key: bytes, now_s: float) -> bytes | None:
        """Return the response to staple at `now_s` (unix time), or None."""
        held = self._held.get(key)
        if held is None or self._words[held.sequence_at] != held.sequence:
            held = self._read(key)
        if held.told_at <= now_s < held.tell_at:
            held.hits += 1
            return held.response
        return self._look_again(held, now_s)

    def _look_again(self, held: _Held, now_s: float) -> bytes | None:
        """Compare with the end, and tell the memory; also when the clock was set back."""
        words = self._words
        if now_s < held.serve_until:
            self._times[held.slot_at + STAMP_WORD] = now_s
            words[held.slot_at + HITS_WORD] += held.hits + 1
            words[self._hits_at] += held.hits + 1
            held.hits = 0
            held.told_at, held.tell_at = now_s, min(now_s + TELL_INTERVAL_S, held.serve_until)
            return held.response
        if held.response is not None:
            self._times[held.slot_at + SEEN_OVER_WORD] = held.serve_until
        words[self._hits_at] += held.hits
        held.hits = 0
        words[self._hits_at + 1] += 1
        return None

    def _make_countable(self, at: int) -> None:
        # Adding to a damaged word may not raise in a handshake; no count comes near to this by itself.
        if self._words[at] > _LARGEST_COUNT:
            self._words[at] = 0

    def _read(self, key: bytes) -> _Held:
        place = self._places[key[0] & self._mask]
        sequence_at, words = place.sequence_at, self._words
        before = self._held.get(key)
        for _ in range(MAX_ATTEMPTS):
            sequence = words[sequence_at]
            if sequence & 1:
                continue
            serve_until, response, slot_at = self._copy(place, key)
            if words[sequence_at] == sequence:
                if before is None and len(self._held) >= self._max_held:
                    self._forget()
                hits = before.hits if before else 0
                held = self._held[key] = _Held(sequence_at, sequence, serve_until, response, slot_at, hits)
                return held
        return before or _Held(0, 0, *_NOTHING, 0)

    def _forget(self) -> None:
        self._words[self._hits_at] += sum(held.hits for held in self._held.values())
        self._held.clear()

    def _copy(self, place: Place, key: bytes) -> tuple[float, bytes | None, int]:
        """Copy the entry and check its sum. What the writer does meanwhile makes it wrong, never raise."""
        raw = self._raw
        keys = bytes(raw[place.keys_at : place.keys_at + self._keys_bytes])
        at = keys.find(key)
        while at >= 0:
            number, within = divmod(at, KEY_BYTES)
            if not within:
                slot_at = place.slots_at + number * SLOT.size
                slot = bytes(raw[slot_at : slot_at + FOUND.size])
                _, serve_until, _, flags, length, offset, checksum, generation = FOUND.unpack(slot)
                is_vouched_for = generation == self._words[GENERATION_AT]
                if flags & USED and is_vouched_for and offset + length <= self._data_bytes:
                    start = place.data_at + offset
                    response = bytes(raw[start : start + length])
                    if crc32(response, crc32(slot[: SUMMED.size], crc32(key))) == checksum:
                        self._make_countable(slot_at // WORD_BYTES + HITS_WORD)
                        return serve_until, response, slot_at // WORD_BYTES
            # Dropped slots keep their key, and a key may begin within another.
            at = keys.find(key, (number + 1) * KEY_BYTES)
        return _NOTHING

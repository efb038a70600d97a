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

TELL_INTERVAL_S = 1.0
"""How long hits of one entry are only counted here after the memory was told of one.

So that neither its line nor the slot's is touched in each handshake: with very many entries both are far away from the
processor, and that costs more than all the rest. What LRU goes by is behind by this much at most.
"""

_LARGEST_COUNT = 2**63
_NEVER = -math.inf
_NOTHING = (_NEVER, None, 0)
_UNREAD = -1
"""No sequence number is equal to it."""


class _Held:
    """What was read under one key. Before `count_until` a hit is counted here and the memory is not told of it.

    That is never after `serve_until`, and `_NEVER` unless the record is among those that `CacheReader.tell` looks at.
    """

    __slots__ = ("count_until", "hits", "key", "response", "sequence", "sequence_at", "serve_until", "slot_at")

    def __init__(self, key: bytes, sequence_at: int) -> None:
        self.key = key
        self.sequence_at = sequence_at
        self.sequence = _UNREAD
        self.serve_until: float = _NEVER
        self.response: bytes | None = None
        """None: there was nothing."""
        self.slot_at = 0
        """Its first word."""
        self.hits = 0
        """Not yet told."""
        self.count_until = _NEVER


class CacheReader:
    """Reads without locks. May be made before the fork; each process then has its own first level.

    The first level keeps what was read, also that there was nothing, for as long as the sequence number of the subcache
    stands. Where the memory is in the middle of a write, what was kept goes on being served until its own serve_until.
    """

    __slots__ = (
        "_counting",
        "_data_bytes",
        "_held",
        "_hits_at",
        "_keys_bytes",
        "_mask",
        "_max_held",
        "_places",
        "_raw",
        "_sequences",
        "_tell_at",
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
        # Of each subcache the last one read: one object for all its records, which costs less than one for each.
        self._sequences = [_UNREAD] * shape.subcaches
        self._tell_at = _NEVER
        self._counting: set[_Held] = set()
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
        try:
            held = self._held[key]
        except KeyError:
            held = self._meet(key, now_s)
        if self._words[held.sequence_at] == held.sequence and now_s < held.count_until:
            held.hits += 1
            return held.response
        return self._look_again(held, now_s)

    def tell(self, now_s: float) -> None:
        """Tell the memory of all hits that were only counted; to be called each second, and before the process ends.

        For the entries that are not asked for any more: the others tell by themselves.
        """
        counting, self._counting = self._counting, set()
        for held in counting:
            if not held.hits or self._is_current(held) or self._read(held):
                self._tell(held, min(now_s, held.serve_until))
                held.count_until = _NEVER
            else:
                self._counting.add(held)  # the writer is in the middle; the next time it will not be

    def _look_again(self, held: _Held, now_s: float) -> bytes | None:
        """Read if it must be, compare with the end, and tell the memory."""
        was_current = self._is_current(held)
        is_current = was_current or self._read(held)
        if now_s < held.serve_until:
            held.hits += 1
            if is_current:
                self._tell(held, now_s)
            if was_current or held.hits:
                self._counting.add(held)
                if not self._tell_at - TELL_INTERVAL_S <= now_s < self._tell_at:  # also when the clock was set back
                    self._tell_at = now_s + TELL_INTERVAL_S
                held.count_until = min(self._tell_at, held.serve_until)
            return held.response
        if held.response is not None:
            self._times[held.slot_at + SEEN_OVER_WORD] = held.serve_until
        self._words[self._hits_at + 1] += 1
        return None

    def _is_current(self, held: _Held) -> bool:
        return self._words[held.sequence_at] == held.sequence

    def _tell(self, held: _Held, stapled_s: float) -> None:
        if not held.hits:
            return
        if held.response is not None:  # or the entry has gone meanwhile
            self._times[held.slot_at + STAMP_WORD] = stapled_s
            self._words[held.slot_at + HITS_WORD] += held.hits
        self._words[self._hits_at] += held.hits
        held.hits = 0

    def _make_countable(self, at: int) -> None:
        # Adding to a damaged word may not raise in a handshake; no count comes near to this by itself.
        if self._words[at] > _LARGEST_COUNT:
            self._words[at] = 0

    def _meet(self, key: bytes, now_s: float) -> _Held:
        """Make a record for a key, which is yet to be read."""
        if len(self._held) >= self._max_held:
            self.tell(now_s)
            self._held.clear()
        held = self._held[key] = _Held(key, self._places[key[0] & self._mask].sequence_at)
        return held

    def _read(self, held: _Held) -> bool:
        """Read what there is now under the key; False: the writer did not let us, and the record is as it was."""
        number = held.key[0] & self._mask
        place, words = self._places[number], self._words
        for _ in range(MAX_ATTEMPTS):
            sequence = words[place.sequence_at]
            if sequence & 1:
                continue
            found = self._copy(place, held.key)
            if words[place.sequence_at] == sequence:
                if sequence != self._sequences[number]:
                    self._sequences[number] = sequence
                held.sequence = self._sequences[number]
                held.serve_until, held.response, held.slot_at = found
                held.count_until = min(held.count_until, held.serve_until)
                return True
        return False

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

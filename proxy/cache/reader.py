"""The reading side of the stapling cache: one for each worker, asked in every handshake."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from zlib import crc32

from proxy.cache.layout import KEY_BYTES, SLOT, STAMP_WORD, SUMMED, USED, WORD_BYTES

if TYPE_CHECKING:
    from typing import TypeAlias

    from proxy.cache.layout import Place
    from proxy.cache.segment import Segment

    Held: TypeAlias = "tuple[int, int, float, bytes | None, int]"
    """Sequence word, its value when this was read, serve_until, response, stamp word."""

MAX_ATTEMPTS = 64
"""How often a read that met the writer is tried again: a few microseconds while the sequence is odd.

The usual write is over by then. One that makes room takes longer, and a writer that is suspended or dead has no end:
neither is waited for.
"""

_NOTHING: Held = (0, 0, -math.inf, None, 0)


class CacheReader:
    """Reads without locks. May be made before the fork; each process then has its own first level.

    The first level keeps what was read, also that there was nothing, for as long as the sequence number of the subcache
    stands. Where the memory is in the middle of a write, what was kept goes on being served until its own serve_until.
    """

    __slots__ = ("_data_bytes", "_held", "_keys_bytes", "_mask", "_max_held", "_places", "_raw", "_times", "_words")

    def __init__(self, segment: Segment) -> None:
        shape = segment.geometry
        self._raw = segment.raw
        self._words = segment.words
        self._times = segment.times
        self._places = shape.places()
        self._mask = shape.subcaches - 1
        self._keys_bytes = shape.indexes_per_subcache * KEY_BYTES
        self._data_bytes = shape.data_bytes_per_subcache
        self._held: dict[bytes, Held] = {}
        # As many as the segment has: so the copies of one worker take about as much memory as the segment at most.
        self._max_held = shape.entries

    def get(self, key: bytes, now_s: float) -> bytes | None:
        """Return the response to staple at `now_s` (unix time), or None."""
        held = self._held.get(key)
        if held is None or self._words[held[0]] != held[1]:
            held = self._read(key)
        _, _, serve_until, response, stamp_at = held
        if now_s < serve_until:
            # Written once a second at most, so that the line stays shared between the processors. Asked this way
            # round, a damaged stamp (far in the future, or not a number) is written over too.
            if not -1 < now_s - self._times[stamp_at] < 1:
                self._times[stamp_at] = now_s
            return response
        return None

    def _read(self, key: bytes) -> Held:
        place = self._places[key[0] & self._mask]
        sequence_at, words = place.sequence_at, self._words
        for _ in range(MAX_ATTEMPTS):
            sequence = words[sequence_at]
            if sequence & 1:
                continue
            serve_until, response, stamp_at = self._copy(place, key)
            if words[sequence_at] == sequence:
                if len(self._held) >= self._max_held:
                    self._held.clear()
                held = self._held[key] = (sequence_at, sequence, serve_until, response, stamp_at)
                return held
        return self._held.get(key, _NOTHING)

    def _copy(self, place: Place, key: bytes) -> tuple[float, bytes | None, int]:
        """Copy the entry and check its sum. What the writer does meanwhile makes it wrong, never raise."""
        raw = self._raw
        keys = bytes(raw[place.keys_at : place.keys_at + self._keys_bytes])
        at = keys.find(key)
        while at >= 0:
            number, within = divmod(at, KEY_BYTES)
            if not within:
                slot_at = place.slots_at + number * SLOT.size
                slot = bytes(raw[slot_at : slot_at + SLOT.size])
                _, serve_until, _, flags, length, offset, checksum, _ = SLOT.unpack(slot)
                if flags & USED and offset + length <= self._data_bytes:
                    start = place.data_at + offset
                    response = bytes(raw[start : start + length])
                    if crc32(response, crc32(slot[: SUMMED.size], crc32(key))) == checksum:
                        return serve_until, response, slot_at // WORD_BYTES + STAMP_WORD
            # Dropped slots keep their key, and a key may begin within another.
            at = keys.find(key, (number + 1) * KEY_BYTES)
        return _NOTHING[2:]

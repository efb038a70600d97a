"""The one writer of the stapling cache: the keeper."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from proxy.cache import layout
from proxy.cache.layout import FLAGS_WORD, KEY_BYTES, OFFSET_WORD, SLOT, STAMP_WORD, SUMMED, USED, WORD_BYTES, Counter
from proxy.cache.room import Slot, first_free, first_gap, in_order_of_data, least_recent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from proxy.cache.layout import Place
    from proxy.cache.segment import Segment

logger = logging.getLogger(__name__)

_WORD_MASK = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """What the cache holds under one key; `last_stapled_s` is None when it has not been stapled yet."""

    key: bytes
    response: bytes
    serve_until_s: float
    stored_s: float
    last_stapled_s: float | None


class CacheWriter:
    """Stores and drops responses. There must be only one at a time; what an earlier one left half done is repaired.

    It keeps no state of its own besides the segment, so it may die anywhere.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._shape = segment.geometry
        self._places = segment.geometry.places()
        dropped = sum(self._repair(place) for place in self._places)
        if dropped:
            logger.warning("stapling cache: %d damaged or unfinished entries were dropped", dropped)

    def put(self, key: bytes, response: bytes, serve_until_s: float, now_s: float) -> None:
        """Store a response, in the place of the one held before; raise ValueError when it fits no subcache."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        length = len(response)
        if length > self._shape.data_bytes_per_subcache:
            size = layout.size_for(length)
            raise ValueError(
                f"a response of {length} bytes does not fit into the stapling cache, which takes"
                f" {self._shape.data_bytes_per_subcache} at most: "
                + (f"shmcb:PATH({size}) would do" if size else "no size would do")
            )
        # It expires, which is to go first, when it may not be served any more.
        summed = SUMMED.pack(serve_until_s, serve_until_s, now_s, USED, length)
        checksum = crc32(response, crc32(summed, crc32(key)))
        place = self._place(key)
        slots = self._slots(place)
        old = next((slot for slot in slots if slot.key == key), None)
        number = old.number if old else first_free(slots)
        offset = first_gap(slots, self._shape, length) if number < self._shape.indexes_per_subcache else None
        if offset is not None:
            # No entry points there. A reader that copies one dropped earlier sees that the sequence has moved on.
            self._fill(place, offset, response)
        with self._writing(place):
            if offset is None:
                number, offset = self._make_room(place, slots, old, length, now_s)
                self._fill(place, offset, response)
            slot_at = self._slot_word(place, number)
            key_at = place.keys_at + number * KEY_BYTES
            self._segment.raw[key_at : key_at + KEY_BYTES] = key
            self._segment.raw[slot_at * WORD_BYTES : slot_at * WORD_BYTES + SUMMED.size] = summed
            self._segment.words[slot_at + OFFSET_WORD] = offset
            if not old:  # a refreshed entry keeps its stamp: being fetched again is not being used
                self._segment.times[slot_at + STAMP_WORD] = -now_s
            self._segment.words[slot_at + layout.CHECKSUM_WORD] = checksum
        self._count(Counter.REPLACED if old else Counter.STORES)

    def get(self, key: bytes) -> Entry | None:
        """Return the entry, expired or not; None when there is no whole one."""
        place = self._place(key)
        return next((self._entry(place, slot) for slot in self._slots(place) if slot.key == key), None)

    def remove(self, key: bytes) -> bool:
        """Drop the entry; tell whether there was one."""
        place = self._place(key)
        held = [slot for slot in self._slots(place) if slot.key == key]
        if held:
            self._drop(place, held)
        self._count(Counter.REMOVE_HITS if held else Counter.REMOVE_MISSES)
        return bool(held)

    def entries(self) -> list[Entry]:
        """Return all whole entries, expired or not."""
        found = (self._entry(place, slot) for place in self._places for slot in self._slots(place))
        return [entry for entry in found if entry]

    def _place(self, key: bytes) -> Place:
        return self._places[key[0] & (self._shape.subcaches - 1)]

    def _slots(self, place: Place) -> list[Slot]:
        size = self._shape.indexes_per_subcache
        keys = bytes(self._segment.raw[place.keys_at : place.keys_at + size * KEY_BYTES])
        table = self._segment.raw[place.slots_at : place.slots_at + size * SLOT.size]
        return [
            Slot(number, keys[number * KEY_BYTES : (number + 1) * KEY_BYTES], *fields)
            for number, fields in enumerate(SLOT.iter_unpack(table))
            if fields[FLAGS_WORD] & USED
        ]

    def _slot_word(self, place: Place, number: int) -> int:
        return (place.slots_at + number * SLOT.size) // WORD_BYTES

    def _entry(self, place: Place, slot: Slot) -> Entry | None:
        if slot.offset + slot.length > self._shape.data_bytes_per_subcache:
            return None
        start = place.data_at + slot.offset
        response = bytes(self._segment.raw[start : start + slot.length])
        summed = SUMMED.pack(slot.expiry, slot.serve_until, slot.stored, slot.flags, slot.length)
        if crc32(response, crc32(summed, crc32(slot.key))) != slot.checksum:
            return None
        stapled = slot.stamp if slot.stamp > 0 else None
        return Entry(slot.key, response, slot.serve_until, slot.stored, stapled)

    @contextlib.contextmanager
    def _writing(self, place: Place) -> Iterator[None]:
        """Hold the sequence number odd.

        It is odd for the few stores of one slot (see `put`), unless room is to be made: then for as long as it takes
        to move one subcache's data and write one word for each of its entries. Readers do not wait for either.
        """
        words, at = self._segment.words, place.sequence_at
        odd = words[at] | 1  # it is odd already when the last writer died here
        words[at] = odd
        try:
            yield
        finally:
            words[at] = (odd + 1) & _WORD_MASK

    def _fill(self, place: Place, offset: int, response: bytes) -> None:
        start = place.data_at + offset
        self._segment.raw[start : start + len(response)] = response

    def _clear(self, place: Place, slot: Slot) -> None:
        self._segment.words[self._slot_word(place, slot.number) + FLAGS_WORD] = 0

    def _drop(self, place: Place, slots: Iterable[Slot]) -> None:
        with self._writing(place):
            for slot in slots:
                self._clear(place, slot)

    def _make_room(
        self, place: Place, slots: list[Slot], old: Slot | None, length: int, now_s: float
    ) -> tuple[int, int]:
        """Drop and move entries until `length` bytes fit; return the number of a free slot and the offset."""
        others = [slot for slot in slots if slot is not old]
        victims = least_recent(others, self._shape, length, now_s)
        for slot in victims:
            self._clear(place, slot)
            self._count(Counter.SCROLLED if slot.expiry > now_s else Counter.EXPIRIES)
        if old:
            self._clear(place, old)
        gone = {slot.number for slot in victims}
        rest = [slot for slot in others if slot.number not in gone]
        number = old.number if old else first_free(rest)  # its own slot has its stamp
        offset = first_gap(rest, self._shape, length)
        if offset is None:
            offset = self._compact(place, rest)
        return number, offset

    def _compact(self, place: Place, slots: Iterable[Slot]) -> int:
        """Move the data of all `slots` to the front; return where it ends.

        In the order of offsets, so no move overwrites what is yet to move: a kill costs the one entry being moved.
        """
        end = 0
        for slot in in_order_of_data(slots):
            if slot.offset != end:
                self._segment.mapping.move(place.data_at + end, place.data_at + slot.offset, slot.length)
                self._segment.words[self._slot_word(place, slot.number) + OFFSET_WORD] = end
            end += slot.length
        return end

    def _repair(self, place: Place) -> int:
        """Drop what is not whole, and whatever lies over another; return how many."""
        damaged, end = [], 0
        for slot in in_order_of_data(self._slots(place)):
            if slot.offset >= end and self._entry(place, slot):
                end = slot.offset + slot.length
            else:
                damaged.append(slot)
        if damaged or self._segment.words[place.sequence_at] & 1:
            self._drop(place, damaged)
        return len(damaged)

    def _count(self, counter: Counter) -> None:
        at = layout.COUNTERS_AT + counter
        self._segment.words[at] = (self._segment.words[at] + 1) & _WORD_MASK

"""The one writer of the stapling cache: the keeper."""

from __future__ import annotations

import contextlib
import logging
from operator import attrgetter
from typing import TYPE_CHECKING

from proxy.cache import layout
from proxy.cache.entries import checksum, columns_of, entry_of, ring_of, slots_of, whole_entries
from proxy.cache.layout import (
    CHECKSUM_WORD,
    FLAGS_WORD,
    GENERATION_AT,
    GENERATION_WORD,
    HEAD_WORD,
    HITS_WORD,
    HOLE,
    KEY_BYTES,
    OFFSET_WORD,
    REFRESH_WORD,
    RING_RECORD_BYTES,
    SEEN_OVER_WORD,
    SLOT,
    STAMP_WORD,
    SUMMED,
    USED,
    WORD_BYTES,
    Counter,
)
from proxy.cache.room import (
    Slot,
    first_gap,
    in_order_of_data,
    ring_bytes,
    room_by_fifo,
    room_by_lru,
    room_to_spare,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from proxy.cache.entries import Entry
    from proxy.cache.layout import Place
    from proxy.cache.segment import Segment

logger = logging.getLogger(__name__)

_WORD_MASK = 2**64 - 1


class CacheWriter:
    """Stores and drops responses. There must be only one at a time; what an earlier one left half done is repaired.

    It keeps no state of its own besides the segment, so it may die anywhere.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._shape = segment.geometry
        self._places = segment.geometry.places()
        self._is_ring = segment.eviction == "fifo"
        dropped = sum(self._repair(place) for place in self._places)
        if dropped:
            logger.warning("stapling cache: %d damaged or unfinished entries were dropped", dropped)

    def put(self, key: bytes, response: bytes, serve_until_s: float, now_s: float) -> None:
        """Store a response, in the place of the one held before; raise ValueError when it fits no subcache.

        With `fifo` the old one is gone even then, as in Apache.
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        place = self._place(key)
        self._take_note_of_those_over(place)
        old = next(self._of_key(place, key), None)
        self._require_fit(place, old, len(response))
        columns = columns_of(self._segment, place)
        if self._is_ring:
            found = ring_of(self._segment, place)
            room = room_by_fifo(without(found, [old] if old else []), self._shape, len(response), now_s)
        else:
            spare = room_to_spare(columns, self._shape, old, len(response))
            room = spare or room_by_lru(self._live(place), self._shape, key, len(response), now_s)
        offset = first_gap(columns, self._shape, len(response))
        if offset is not None:
            # No entry points there. A reader that copies one dropped earlier sees that the sequence has moved on.
            self._fill(place, offset, response)
        with self._writing(place):
            if old and (self._is_ring or offset is None):
                self._mark(place, [old], self._removed)
            self._mark(place, room.gone, 0)
            if self._is_ring:
                # Before the slot is written, which may be the one that was the oldest.
                self._segment.words[place.sequence_at + HEAD_WORD] = found.head + len(room.gone)
            if offset is None:
                offset = self._make_gap(place, len(response))
                self._fill(place, offset, response)
            self._write_slot(place, room.number, old, key, response, offset, serve_until_s, now_s)
        self._count(Counter.REPLACED if old else Counter.STORES)
        self._count(Counter.EXPIRIES, room.expiries)
        self._count(Counter.SCROLLED, room.scrolled)

    def get(self, key: bytes) -> Entry | None:
        """Return the entry, expired or not; None when there is no whole one."""
        place = self._place(key)
        held = (entry_of(self._segment, place, slot) for slot in self._of_key(place, key))
        return next((entry for entry in held if entry), None)

    def remove(self, key: bytes) -> bool:
        """Drop the entry; tell whether there was one."""
        place = self._place(key)
        self._take_note_of_those_over(place)
        held = list(self._of_key(place, key))
        if held:
            self._drop(place, held)
        self._count(Counter.REMOVE_HITS if held else Counter.REMOVE_MISSES)
        return bool(held)

    def entries(self) -> list[Entry]:
        """Return all whole entries, expired or not."""
        return whole_entries(self._segment)

    def vouch_for(self, key: bytes) -> None:
        """Let an entry be served that was there when the segment was attached to: it has been verified again."""
        place = self._place(key)
        for slot in self._of_key(place, key):
            if slot.generation != self._generation:
                with self._writing(place):  # readers keep that there was nothing to serve
                    self._segment.words[self._slot_word(place, slot.number) + GENERATION_WORD] = self._generation

    def note_refresh(self, key: bytes, refresh_at_s: float) -> None:
        """Note when the next response will be asked for. Nothing here goes by it: it is for who looks on."""
        place = self._place(key)
        for slot in self._of_key(place, key):
            self._segment.times[self._slot_word(place, slot.number) + REFRESH_WORD] = refresh_at_s

    @property
    def _generation(self) -> int:
        return self._segment.words[GENERATION_AT]

    @property
    def _removed(self) -> int:
        """The flags of an entry that was removed."""
        return HOLE if self._is_ring else 0

    def _place(self, key: bytes) -> Place:
        return self._places[key[0] & (self._shape.subcaches - 1)]

    def _live(self, place: Place) -> list[Slot]:
        return slots_of(self._segment, place, only_live=True)

    def _of_key(self, place: Place, key: bytes) -> Iterator[Slot]:
        """Read the live slots of a key, and no others: a subcache can have many hundreds."""
        keys = bytes(self._segment.raw[place.keys_at : place.keys_at + self._shape.indexes_per_subcache * KEY_BYTES])
        at = keys.find(key)
        while at >= 0:
            number, within = divmod(at, KEY_BYTES)
            if not within:
                start = place.slots_at + number * SLOT.size
                slot = Slot(number, key, *SLOT.unpack(self._segment.raw[start : start + SLOT.size]))
                if slot.is_live:
                    yield slot
            at = keys.find(key, at + 1)

    def _slot_word(self, place: Place, number: int) -> int:
        return (place.slots_at + number * SLOT.size) // WORD_BYTES

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

    def _require_fit(self, place: Place, old: Slot | None, length: int) -> None:
        overhead = RING_RECORD_BYTES if self._is_ring else 0
        most = self._shape.data_bytes_per_subcache - overhead
        if length <= most:
            return
        if old and self._is_ring:
            self._drop(place, [old])  # Apache removes the old one before it looks whether the new one fits
        size = layout.size_for(length + overhead)
        raise ValueError(
            f"a response of {length} bytes does not fit into the stapling cache, which takes {most} at most: "
            + (f"shmcb:PATH({size}) would do" if size else "no size would do")
        )

    def _take_note_of_those_over(self, place: Place) -> None:
        """Make holes of what readers found expired, and count it, as Apache's retrieval does by itself."""
        if self._is_ring and (over := ring_of(self._segment, place).over):
            self._drop(place, over)
            self._count(Counter.EXPIRIES, len(over))

    def _fill(self, place: Place, offset: int, response: bytes) -> None:
        start = place.data_at + offset
        self._segment.raw[start : start + len(response)] = response

    def _write_slot(
        self,
        place: Place,
        number: int,
        old: Slot | None,
        key: bytes,
        response: bytes,
        offset: int,
        serve_until_s: float,
        now_s: float,
    ) -> None:
        raw, words, times = self._segment.raw, self._segment.words, self._segment.times
        at, key_at = self._slot_word(place, number), place.keys_at + number * KEY_BYTES
        # It expires, which is to go first, when it may not be served any more.
        summed = SUMMED.pack(serve_until_s, serve_until_s, now_s, USED, len(response))
        raw[key_at : key_at + KEY_BYTES] = key
        raw[at * WORD_BYTES : at * WORD_BYTES + SUMMED.size] = summed
        words[at + OFFSET_WORD] = offset
        words[at + GENERATION_WORD] = self._generation
        times[at + SEEN_OVER_WORD] = 0.0
        # A refreshed entry keeps its stamp and its hits: being fetched again is not being used.
        if not old:
            times[at + STAMP_WORD], words[at + HITS_WORD], times[at + REFRESH_WORD] = -now_s, 0, 0.0
        elif old.number != number:
            times[at + STAMP_WORD], words[at + HITS_WORD] = old.stamp, old.hits
            times[at + REFRESH_WORD] = old.refresh_at
        words[at + CHECKSUM_WORD] = checksum(key, serve_until_s, serve_until_s, now_s, USED, response)

    def _mark(self, place: Place, slots: Iterable[Slot], flags: int) -> None:
        for slot in slots:
            self._segment.words[self._slot_word(place, slot.number) + FLAGS_WORD] = flags

    def _drop(self, place: Place, slots: Iterable[Slot]) -> None:
        with self._writing(place):
            self._mark(place, slots, self._removed)

    def _make_gap(self, place: Place, length: int) -> int:
        """Return the offset of `length` free bytes, which there are; entries are moved together where it must be."""
        offset = first_gap(columns_of(self._segment, place), self._shape, length)
        return self._compact(place, self._live(place)) if offset is None else offset

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
        """Free what is not whole, whatever lies over another, and the older of two under one key; return how many.

        A machine that lost its power may have written to the disk that one came, and not that the other one went.
        """
        damaged, end = [], 0
        latest: dict[bytes, Slot] = {}
        for slot in in_order_of_data(self._live(place)):
            if slot.offset >= end and entry_of(self._segment, place, slot):
                end = slot.offset + slot.length
                older, latest[slot.key] = sorted((latest.get(slot.key, slot), slot), key=attrgetter("stored"))
                if older is not latest[slot.key]:
                    damaged.append(older)
            else:
                damaged.append(slot)
        if damaged or self._segment.words[place.sequence_at] & 1:
            with self._writing(place):
                self._mark(place, damaged, 0)
        if self._is_ring:
            found = ring_of(self._segment, place)
            if ring_bytes(found.taken) > self._shape.data_bytes_per_subcache:
                # The length of a removed one is damaged: what it says it takes would push others out.
                self._mark(place, [slot for slot in found.taken if not slot.is_live], 0)
        return len(damaged)

    def _count(self, counter: Counter, more: int = 1) -> None:
        at = layout.COUNTERS_AT + counter
        self._segment.words[at] = (self._segment.words[at] + more) & _WORD_MASK

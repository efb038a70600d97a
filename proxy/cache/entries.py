"""What a segment holds, read out of its memory: for the writer, and for those who look on from another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from proxy.cache.layout import (
    FLAGS_WORD,
    HEAD_WORD,
    KEY_BYTES,
    LENGTH_WORD,
    OFFSET_WORD,
    SLOT,
    SUMMED,
    USED,
    WORD_BYTES,
)
from proxy.cache.room import Columns, Ring, Slot, ring

if TYPE_CHECKING:
    from proxy.cache.layout import Place
    from proxy.cache.segment import Segment

MAX_ATTEMPTS = 64
"""How often a look at a subcache that met the writer is taken again; after that the checksums alone decide."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the cache holds under one key."""

    key: bytes
    response: bytes
    serve_until_s: float
    stored_s: float
    last_stapled_s: float | None
    """None: not yet."""
    hits: int
    """How often it was stapled since it was first stored; less by a few when workers counted at the same moment."""
    refresh_at_s: float | None
    """When the keeper means to ask for the next one; None: it has not said."""


def slots_of(segment: Segment, place: Place, *, only_live: bool = False) -> list[Slot]:
    """Read all slots of a subcache, free ones too, in the order of their numbers; or those that hold an entry."""
    size = segment.geometry.indexes_per_subcache
    keys = bytes(segment.raw[place.keys_at : place.keys_at + size * KEY_BYTES])
    table = segment.raw[place.slots_at : place.slots_at + size * SLOT.size]
    return [
        Slot(number, keys[number * KEY_BYTES : (number + 1) * KEY_BYTES], *fields)
        for number, fields in enumerate(SLOT.iter_unpack(table))
        if not only_live or fields[FLAGS_WORD] & USED
    ]


def columns_of(segment: Segment, place: Place) -> Columns:
    """Read what says where there is room: an eighth of the time of `slots_of`, in a large subcache."""
    size = segment.geometry.indexes_per_subcache
    table = segment.words[place.slots_at // WORD_BYTES : (place.slots_at + size * SLOT.size) // WORD_BYTES]
    flags, offsets, lengths = (
        table[word :: SLOT.size // WORD_BYTES].tolist() for word in (FLAGS_WORD, OFFSET_WORD, LENGTH_WORD)
    )
    return Columns([each & USED for each in flags], offsets, lengths)


def ring_of(segment: Segment, place: Place) -> Ring:
    """Read the ring of a subcache, `fifo` only."""
    return ring(slots_of(segment, place), segment.words[place.sequence_at + HEAD_WORD])


def entry_of(segment: Segment, place: Place, slot: Slot) -> Entry | None:
    """Copy the entry of a slot; None when it is not whole."""
    if slot.offset + slot.length > segment.geometry.data_bytes_per_subcache:
        return None
    start = place.data_at + slot.offset
    response = bytes(segment.raw[start : start + slot.length])
    if checksum(slot.key, slot.expiry, slot.serve_until, slot.stored, slot.flags, response) != slot.checksum:
        return None
    stapled = slot.stamp if slot.stamp > 0 else None
    refresh = slot.refresh_at if slot.refresh_at > 0 else None
    return Entry(slot.key, response, slot.serve_until, slot.stored, stapled, slot.hits, refresh)


def checksum(key: bytes, expiry: float, serve_until: float, stored: float, flags: int, response: bytes) -> int:
    """Sum up an entry, over all that may not be wrong."""
    return crc32(response, crc32(SUMMED.pack(expiry, serve_until, stored, flags, len(response)), crc32(key)))


def whole_entries(segment: Segment) -> list[Entry]:
    """Read all whole entries, expired or not, while others may write; in the order of subcaches and slots."""
    found: list[Entry] = []
    for place in segment.geometry.places():
        for _ in range(MAX_ATTEMPTS):
            sequence = segment.words[place.sequence_at]
            held = [entry_of(segment, place, slot) for slot in slots_of(segment, place, only_live=True)]
            if not sequence & 1 and segment.words[place.sequence_at] == sequence:
                break
        found += [entry for entry in held if entry]
    return found

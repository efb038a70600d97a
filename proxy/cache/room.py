"""Who has to go, and where a response fits. Pure: a keeper's decisions, without the memory they are about."""

from __future__ import annotations

from itertools import accumulate, compress, count
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from proxy.cache.layout import ADVISED_SIZES, HOLE, RING_RECORD_BYTES, USED, geometry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from proxy.cache.layout import Eviction, Geometry

TYPICAL_RESPONSE_BYTES = 2048
"""What to reckon with before there is a response: one that carries its signer's certificate, with RSA keys."""


class Slot(NamedTuple):
    """One slot of a subcache; the fields after the key as in `layout.SLOT`, whose order they have."""

    number: int
    key: bytes
    expiry: float
    serve_until: float
    stored: float
    flags: int
    length: int
    offset: int
    checksum: int
    generation: int
    stamp: float
    seen_over: float
    hits: int
    refresh_at: float

    @property
    def is_live(self) -> bool:
        """It holds an entry, expired or not."""
        return bool(self.flags & USED)


class Columns(NamedTuple):
    """What is taken of a subcache; a slot's number is its place in each column."""

    used: Sequence[int]
    """1: it holds an entry; 0: the other columns say nothing."""
    offsets: Sequence[int]
    lengths: Sequence[int]


class Room(NamedTuple):
    """What makes room for one more entry: `number` is the slot that it gets."""

    number: int
    gone: Sequence[Slot]
    """Live ones and holes, to be freed."""
    expiries: int
    """How many of them are to be counted so, and as scrolled out."""
    scrolled: int


# --- lru ---


def room_to_spare(columns: Columns, shape: Geometry, old: Slot | None, length: int) -> Room | None:
    """Give the room where nobody has to go for it: then `room_by_lru`, which takes far longer, says the same."""
    lent_slots, lent_bytes = (1, old.length) if old else (0, 0)
    spare_slots = shape.indexes_per_subcache - sum(columns.used) + lent_slots
    spare_bytes = shape.data_bytes_per_subcache - sum(compress(columns.lengths, columns.used)) + lent_bytes
    if not spare_slots or spare_bytes < length:
        return None
    return Room(old.number if old else columns.used.index(0), (), 0, 0)


def room_by_lru(slots: Sequence[Slot], shape: Geometry, key: bytes, length: int, now_s: float) -> Room:
    """Make room for a response of `length` bytes: the expired go, then those stapled longest ago.

    The entry held under the key lends its slot, and its bytes as far as they are needed.
    """
    others = [slot for slot in slots if slot.key != key]
    old = next((slot for slot in slots if slot.key == key), None)
    gone = least_recent(others, shape, length, now_s)
    numbers = {slot.number for slot in gone}
    number = old.number if old else first_free(slot for slot in others if slot.number not in numbers)
    scrolled = sum(slot.expiry > now_s for slot in gone)
    return Room(number, gone, len(gone) - scrolled, scrolled)


def least_recent(slots: Iterable[Slot], shape: Geometry, length: int, now_s: float) -> list[Slot]:
    """Choose which of `slots` go for one more entry of `length` bytes: the expired, then those stapled longest ago.

    One that was never stapled counts from when it was first stored. No more go than the order makes necessary.
    """
    waiting = in_order_of_use(slots, now_s)
    spare_bytes = shape.data_bytes_per_subcache - length - sum(slot.length for slot in waiting)
    spare_slots = shape.indexes_per_subcache - 1 - len(waiting)
    victims = []
    for slot in waiting:
        if spare_bytes >= 0 and spare_slots >= 0:
            break
        victims.append(slot)
        spare_bytes += slot.length
        spare_slots += 1
    return victims


def in_order_of_use(slots: Iterable[Slot], now_s: float) -> list[Slot]:
    """Sort by who goes first."""
    return sorted(slots, key=lambda slot: (True, abs(slot.stamp)) if slot.expiry > now_s else (False, slot.expiry))


# --- fifo: Apache's ring (socache_shmcb) ---
#
# A slot's number is its place in the ring of slots. Apache has a second ring, of data; only its fill matters here,
# which is the sum of the records from the oldest to the newest, removed ones included: our own bytes lie wherever they
# fit, and they always do, being fewer.


class Ring(NamedTuple):
    """The taken slots of a subcache from the oldest to the newest."""

    head: int
    """Number of the oldest, or where the next one goes if there is none."""
    taken: Sequence[Slot]
    """One for each number from the head on. What a killed writer left free among them counts as removed, as a hole."""
    over: Sequence[Slot]
    """Those that a reader found expired since the writer last looked: Apache's retrieval makes them holes, and so they
    are holes above, each to be counted as an expiry."""


def ring(slots: Sequence[Slot], head: int) -> Ring:
    """Read the ring out of all slots of a subcache, given in the order of their numbers."""
    head %= len(slots)
    taken = [*slots[head:], *slots[:head]]
    while taken and not taken[-1].flags & (USED | HOLE):
        taken.pop()
    over = [slot for slot in taken if slot.is_live and slot.seen_over == slot.serve_until]
    return without(Ring(head, taken, over), over)


def without(found: Ring, removed: Sequence[Slot]) -> Ring:
    """Give the ring with these entries as holes."""
    numbers = {slot.number for slot in removed}
    taken = [slot._replace(flags=HOLE) if slot.number in numbers else slot for slot in found.taken]
    return found._replace(taken=taken)


def expired_head(found: Ring, now_s: float) -> int:
    """Tell how many slots Apache's ``expire`` frees: from the oldest on, up to the first that is live.

    An entry that expires behind it stays until it is the oldest.
    """
    alive = (number for number, slot in enumerate(found.taken) if slot.is_live and slot.expiry > now_s)
    return next(alive, len(found.taken))


def room_by_fifo(found: Ring, shape: Geometry, length: int, now_s: float) -> Room:
    """Make room as Apache's ``store`` does, after it has removed the old entry: `found` has that as a hole.

    First what is expired at the head, then the oldest whatever they are, one by one until the record fits.
    """
    count_gone = expired_head(found, now_s)
    expiries = sum(slot.is_live for slot in found.taken[:count_gone])
    spare_bytes = shape.data_bytes_per_subcache - ring_bytes(found.taken[count_gone:])
    scrolled = 0
    for oldest in found.taken[count_gone:]:
        is_full = len(found.taken) - count_gone == shape.indexes_per_subcache
        if not is_full and spare_bytes >= length + RING_RECORD_BYTES:
            break
        count_gone += 1
        spare_bytes += ring_bytes([oldest])
        scrolled += count_gone < len(found.taken)  # Apache does not count the one that empties the subcache
    number = (found.head + len(found.taken)) % shape.indexes_per_subcache
    return Room(number, found.taken[:count_gone], expiries, scrolled)


def ring_bytes(slots: Iterable[Slot]) -> int:
    """Count what the records of these slots take in Apache's ring of data."""
    return sum(slot.length + RING_RECORD_BYTES for slot in slots if slot.flags & (USED | HOLE))


# --- where the bytes lie ---


def first_free(slots: Iterable[Slot]) -> int:
    """Return the least number that no slot of `slots` has: one beyond the last, when all are used."""
    taken = {slot.number for slot in slots}
    return next(number for number in count() if number not in taken)


def first_gap(columns: Columns, shape: Geometry, length: int) -> int | None:
    """Return the least offset at which `length` bytes lie clear of all entries; None when there is no such gap."""
    end = 0
    for offset, taken in sorted(compress(zip(columns.offsets, columns.lengths, strict=True), columns.used)):
        if offset - end >= length:
            return end
        end = offset + taken
    return end if shape.data_bytes_per_subcache - end >= length else None


def in_order_of_data(slots: Iterable[Slot]) -> list[Slot]:
    """Sort by offset; an empty one, which lies on the next, before it."""
    return sorted(slots, key=attrgetter("offset", "length"))


# --- how many there is room for ---


def count_fitting(lengths: Mapping[bytes, int], shape: Geometry, eviction: Eviction) -> int:
    """Tell how many responses, of these lengths under these keys, can be held at a time.

    A key has one subcache only, so some may go while there is room elsewhere.
    """
    overhead = RING_RECORD_BYTES if eviction == "fifo" else 0
    subcaches: dict[int, list[int]] = {}
    for key, length in lengths.items():
        subcaches.setdefault(key[0] & (shape.subcaches - 1), []).append(length + overhead)
    return sum(
        sum(end <= shape.data_bytes_per_subcache for end in accumulate(sorted(records)[: shape.indexes_per_subcache]))
        for records in subcaches.values()
    )


def size_for_all(lengths: Mapping[bytes, int], eviction: Eviction, least_bytes: int) -> int | None:
    """Return the smallest power of two of at least so many bytes that has room for all; None: there is none."""
    sizes = (size for size in ADVISED_SIZES if size >= least_bytes)
    return next((size for size in sizes if count_fitting(lengths, geometry(size), eviction) == len(lengths)), None)

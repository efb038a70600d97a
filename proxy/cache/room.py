"""Who has to go, and where a response fits. Pure: a keeper's decisions, without the memory they are about."""

from __future__ import annotations

from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.cache.layout import Geometry


class Slot(NamedTuple):
    """A used slot of one subcache; the fields after the key as in `layout.SLOT`, whose order they have."""

    number: int
    key: bytes
    expiry: float
    serve_until: float
    stored: float
    flags: int
    length: int
    offset: int
    checksum: int
    stamp: float


def least_recent(slots: Iterable[Slot], shape: Geometry, length: int, now_s: float) -> list[Slot]:
    """Choose which of `slots` go for one more entry of `length` bytes: the expired, then those stapled longest ago.

    One that was never stapled counts from when it was first stored. No more go than the order makes necessary.
    """
    waiting = sorted(slots, key=lambda slot: (True, abs(slot.stamp)) if slot.expiry > now_s else (False, slot.expiry))
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


def first_free(slots: Iterable[Slot]) -> int:
    """Return the least number that no slot of `slots` has: one beyond the last, when all are used."""
    taken = {slot.number for slot in slots}
    return next(number for number in count() if number not in taken)


def first_gap(slots: Iterable[Slot], shape: Geometry, length: int) -> int | None:
    """Return the least offset at which `length` bytes lie clear of all `slots`; None when there is no such gap."""
    end = 0
    for slot in in_order_of_data(slots):
        if slot.offset - end >= length:
            return end
        end = slot.offset + slot.length
    return end if shape.data_bytes_per_subcache - end >= length else None


def in_order_of_data(slots: Iterable[Slot]) -> list[Slot]:
    """Sort by offset; an empty one, which lies on the next, before it."""
    return sorted(slots, key=attrgetter("offset", "length"))

"""The shape of the stapling cache: Apache's argument, Apache's geometry, our records. Pure: numbers in, numbers out.

`size` counts what Apache counts, so the same argument holds the same number of entries and bytes of responses here
and there. Our records are larger than Apache's (sequence number, checksum, recency stamp), so the segment that is
mapped is larger than `size`: by 9 % at the default. And our data area holds responses only, where Apache's holds
21 bytes of key and flag with each; with `fifo` they are counted, so that the ring is full when Apache's is.

A segment, all of it in native byte order and on 64-byte lines:

    header      magic, layout version, size, subcaches, indexes, data bytes, eviction
                Apache's eight counters
                the generation
    readers     one line each for what one reader counts: of its own, so that no counter has two writers
    subcache *  sequence word and the ring's head (it is read in every handshake, and the stamps are written elsewhere)
                keys: 20 bytes each, side by side, so that one `bytes.find` looks through all of them
                slots: two lines for each key, one that the writer writes and one that the readers write
                data: the responses
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, get_args

DEFAULT_SIZE_BYTES = 524_288
MIN_SIZE_BYTES = 8192
MAX_SIZE_BYTES = 4_294_967_295
ADVISED_SIZES = tuple(1 << exponent for exponent in range(13, 32))
"""The powers of two that an argument can say."""
PROVIDERS = ("shmcb", "default")
"""Apache registers shmcb under both names."""

Eviction = Literal["lru", "fifo"]
"""What goes when room is needed: the entry stapled longest ago, or as in Apache the one stored longest ago."""
EVICTIONS: tuple[Eviction, ...] = get_args(Eviction)
"""The header has the number."""

MAGIC = b"staples\0"
LAYOUT_VERSION = 2
LINE_BYTES = 64
KEY_BYTES = 20
WORD_BYTES = 8
RING_RECORD_BYTES = KEY_BYTES + 1
"""What Apache's ring holds with each response: the key, and mod_ssl's byte that says whether it was a good one."""
HEADER = struct.Struct("@8s7Q")
SIZE_WORD, EVICTION_WORD = 2, 6
COUNTERS_AT = 8
"""The first counter, in words from the start."""
GENERATION_AT = 16
"""How often the segment was attached to, in words from the start: see `Segment.distrust`."""
READERS_AT = 24
"""The line of the first reader, in words from the start: its retrieve hits and misses."""
MAX_READERS = 64
"""Lines for readers; where there are more, some share one, and lose a count when both write at once."""
DATA_START = (3 + MAX_READERS) * LINE_BYTES
"""The first subcache, in bytes from the start."""
HEAD_WORD = 1
"""In the line of the sequence word: the slot that the ring begins at, `fifo` only."""


class Counter(IntEnum):
    """Apache's counters, in its order. The writer owns all but the two of retrieval, which the readers' lines have."""

    STORES = 0
    REPLACED = 1
    EXPIRIES = 2
    SCROLLED = 3
    RETRIEVE_HITS = 4
    RETRIEVE_MISSES = 5
    REMOVE_HITS = 6
    REMOVE_MISSES = 7


SUMMED = struct.Struct("@dddQQ")
"""expiry, serve_until, stored, flags, length: what a slot begins with, and what its checksum covers.

`expiry` is when the entry goes first to make room; `serve_until` is compared at each handshake.
"""
FOUND = struct.Struct("@dddQQQQQ")
"""The same, then offset, checksum, generation: the writer's line of a slot.

`offset` is within the data area. `checksum` is the CRC-32 of the key, the words before the offset, and the response.
`generation` is the segment's when the writer last answered for the entry.
"""
SLOT = struct.Struct("@dddQQQQQ ddQd 32x")
"""The same; then on the readers' line stamp, seen_over, hits, refresh_at.

Any of the values that processes write there at once is right, or right enough; none is relied on.
`stamp` is when the entry was last stapled; negated, when it was first stored and never stapled since.
`seen_over` is the entry's own expiry once a reader has found it over: where Apache would have marked it removed.
`hits` counts how often it was stapled; two workers at the same moment may count once.
`refresh_at` is when the keeper means to ask again; 0: it has not said.
"""
FLAGS_WORD, LENGTH_WORD, OFFSET_WORD, CHECKSUM_WORD, GENERATION_WORD = 3, 4, 5, 6, 7
STAMP_WORD, SEEN_OVER_WORD, HITS_WORD, REFRESH_WORD = 8, 9, 10, 11
USED = 1
"""The flag of a slot that holds an entry."""
HOLE = 2
"""The flag of a slot whose entry was removed, and whose room is free when it is the oldest: `fifo` only."""


@dataclass(frozen=True, slots=True)
class CacheArgument:
    """What ``SSLStaplingCache shmcb:path(size)`` says; an empty path means anonymous shared memory."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where one subcache is: `sequence_at` in words, the others in bytes from the start of the segment."""

    sequence_at: int
    keys_at: int
    slots_at: int
    data_at: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a segment is cut into equal subcaches."""

    subcaches: int
    indexes_per_subcache: int
    data_bytes_per_subcache: int

    @property
    def entries(self) -> int:
        """The most entries that the segment can hold."""
        return self.subcaches * self.indexes_per_subcache

    @property
    def _subcache_bytes(self) -> int:
        keys = _whole_lines(self.indexes_per_subcache * KEY_BYTES)
        slots = self.indexes_per_subcache * SLOT.size
        return LINE_BYTES + keys + slots + _whole_lines(self.data_bytes_per_subcache)

    @property
    def segment_bytes(self) -> int:
        """What is mapped: more than Apache's `size`, see the top of this file."""
        return DATA_START + self.subcaches * self._subcache_bytes

    def places(self) -> tuple[Place, ...]:
        """Say where each subcache is; the one of a key is at ``key[0] & (subcaches - 1)``."""
        places = []
        for number in range(self.subcaches):
            start = DATA_START + number * self._subcache_bytes
            keys_at = start + LINE_BYTES
            slots_at = keys_at + _whole_lines(self.indexes_per_subcache * KEY_BYTES)
            data_at = slots_at + self.indexes_per_subcache * SLOT.size
            places.append(Place(start // WORD_BYTES, keys_at, slots_at, data_at))
        return tuple(places)


def _whole_lines(length: int) -> int:
    return -(-length // LINE_BYTES) * LINE_BYTES


def geometry(size_bytes: int) -> Geometry:
    """Cut `size_bytes` as socache_shmcb_init does with mod_ssl's hints for stapling.

    Raises ValueError where Apache does not start (AH00823).
    """
    header_bytes, prefix_bytes, index_bytes = 88, 16, 24  # Apache's structures on LP64
    average_entry_bytes = 1500 + 20
    available = size_bytes - header_bytes
    expected_entries = available // average_entry_bytes
    subcaches = 256
    while subcaches > 1 and expected_entries // subcaches < 2 * subcaches:
        subcaches //= 2
    indexes = expected_entries // subcaches
    if indexes < 5:
        # Besides the too small ones these are just the sizes that make two subcaches of four entries each.
        raise ValueError(
            "SSLStaplingCache: shared memory segment too small: sizes below 8192 and from 12248 to 15287 bytes leave"
            " less than 5 entries to a subcache, and Apache refuses them too; write 16384"
        )
    subcache_bytes = available // subcaches // 8 * 8
    return Geometry(subcaches, indexes, subcache_bytes - prefix_bytes - indexes * index_bytes)


def size_for(response_bytes: int) -> int | None:
    """Return the smallest power of two that holds such a response as an argument's size; None: there is none."""
    return next((size for size in ADVISED_SIZES if geometry(size).data_bytes_per_subcache >= response_bytes), None)


def header(size_bytes: int, eviction: Eviction = "lru") -> bytes:
    """Return the bytes that a segment of this size and eviction begins with.

    The words are native, so a file from a machine of the other byte order differs in all of them but the magic.
    """
    shape = geometry(size_bytes)
    return HEADER.pack(
        MAGIC,
        LAYOUT_VERSION,
        size_bytes,
        shape.subcaches,
        shape.indexes_per_subcache,
        shape.data_bytes_per_subcache,
        EVICTIONS.index(eviction),
        0,
    )


def parse_argument(text: str) -> CacheArgument:
    """Read ``shmcb``, ``shmcb:``, ``shmcb:path`` or ``shmcb:path(size)`` as Apache 2.4 does.

    Raises ValueError with Apache's sentence, or a better one where that would mislead. The provider is case-sensitive,
    and the last ``(`` begins the size, so a path may contain parentheses.
    """
    provider, _, argument = text.partition(":")
    if provider not in PROVIDERS:
        sentence = f"SSLStaplingCache: '{provider}' stapling cache not supported (known names: {','.join(PROVIDERS)})"
        if "/" in provider:  # a path, and no module has such a name
            raise ValueError(f"{sentence}: write shmcb:{text}")
        raise ValueError(f"{sentence} Maybe you need to load the appropriate socache module (mod_socache_{provider}?)")
    path, parenthesis, size_text = argument.rpartition("(")
    if not parenthesis:
        path, size_bytes = argument, DEFAULT_SIZE_BYTES
        if argument.endswith(")"):
            raise _invalid("no opening parenthesis")
    elif not size_text.endswith(")"):
        raise _invalid("no closing parenthesis or cache size missing after pathname with parenthesis")
    else:
        size_bytes = _strtol(size_text.removesuffix(")"))
    if 0 <= size_bytes < MIN_SIZE_BYTES:
        raise _invalid(f"size has to be >= {MIN_SIZE_BYTES} bytes")
    if not 0 <= size_bytes < MAX_SIZE_BYTES:  # Apache keeps it unsigned: a negative one is huge
        raise _invalid(f"size has to be < {MAX_SIZE_BYTES} bytes on this platform")
    if "\0" in path:  # which Apache cannot be given
        raise _invalid("the path holds a NUL character")
    geometry(size_bytes)  # Apache finds this out when it starts; here it is one of the mistakes of the configuration
    return CacheArgument(path, size_bytes)


def _invalid(what: str) -> ValueError:
    return ValueError(f"SSLStaplingCache: Invalid argument: {what}")


def _strtol(text: str) -> int:
    # C's strtol: white space and a sign may lead, nothing may follow, and nothing at all is 0.
    if not text:
        return 0
    match = re.fullmatch(r"\s*([+-]?)([0-9]+)", text, re.ASCII)
    if match is None:
        raise _invalid("cache size not numerical")
    sign, digits = match.groups()
    # Longer numbers saturate in C too; int() itself refuses thousands of digits.
    return int(sign + (digits.lstrip("0")[:20] or "0"))

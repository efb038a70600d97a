"""The shape of the stapling cache: Apache's argument, Apache's geometry, our records. Pure: numbers in, numbers out.

`size` counts what Apache counts, so the same argument holds the same number of entries and bytes of responses here
and there. Our records are larger than Apache's (sequence number, checksum, recency stamp), so the segment that is
mapped is larger than `size`: by 4 % at the default. And our data area holds responses only, where Apache's holds
21 bytes of key and flag with each.

A segment, all of it in native byte order and on 64-byte lines:

    header      magic, layout version, size, subcaches, indexes, data bytes; then Apache's eight counters
    subcache *  sequence word on a line of its own (it is read in every handshake, and the stamps are written)
                keys: 20 bytes each, side by side, so that one `bytes.find` looks through all of them
                slots: one line of eight words for each key
                data: the responses
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import IntEnum

DEFAULT_SIZE_BYTES = 524_288
MIN_SIZE_BYTES = 8192
MAX_SIZE_BYTES = 4_294_967_295
PROVIDERS = ("shmcb", "default")
"""Apache registers shmcb under both names."""

MAGIC = b"staples\0"
LAYOUT_VERSION = 1
LINE_BYTES = 64
KEY_BYTES = 20
WORD_BYTES = 8
HEADER = struct.Struct("@8s7Q")
COUNTERS_AT = 8
"""The first counter, in words from the start."""
DATA_START = 2 * LINE_BYTES
"""The first subcache, in bytes from the start."""


class Counter(IntEnum):
    """Apache's counters, in its order. The writer owns all but the two of retrieval, which many would write."""

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
SLOT = struct.Struct("@dddQQQQd")
"""The same; then offset, checksum, stamp.

`offset` is within the data area. `checksum` is the CRC-32 of the key, the words before the offset, and the response.
`stamp` is when the entry was last stapled; negated, when it was first stored and never stapled since.
"""
FLAGS_WORD, OFFSET_WORD, CHECKSUM_WORD, STAMP_WORD = 3, 5, 6, 7
USED = 1
"""The flag of a slot that holds an entry."""


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
    sizes = (1 << exponent for exponent in range(13, 32))
    return next((size for size in sizes if geometry(size).data_bytes_per_subcache >= response_bytes), None)


def header(size_bytes: int) -> bytes:
    """Return the bytes that a segment of this size begins with.

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
        0,
        0,
    )


def parse_argument(text: str) -> CacheArgument:
    """Read ``shmcb``, ``shmcb:``, ``shmcb:path`` or ``shmcb:path(size)`` as Apache 2.4 does.

    Raises ValueError with Apache's sentence. The provider is case-sensitive, and the last ``(`` begins the size, so
    a path may contain parentheses.
    """
    provider, _, argument = text.partition(":")
    if provider not in PROVIDERS:
        raise ValueError(
            f"SSLStaplingCache: '{provider}' stapling cache not supported (known names: {','.join(PROVIDERS)})"
            f" Maybe you need to load the appropriate socache module (mod_socache_{provider}?)"
        )
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

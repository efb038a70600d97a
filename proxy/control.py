"""Between the master and the keeper: what the keeper may ask for, and what the master makes known.

Both are made before the fork. The keeper may run as another user, who could send the master no signal; and whoever it
serves wants to hear how a reload has ended, which only the master knows.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from typing import TYPE_CHECKING, Literal, TypedDict, get_args
from zlib import crc32

from proxy.log_lines import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

Order = Literal["reload", "stop"]

MAX_TEXT_BYTES = 65_536
"""Of the bulletin. Mistakes beyond it are counted, not told: the log has them all."""
_MAX_MISTAKE_CHARS = 1_000
_MAX_ORDERS_AT_ONCE = 64
_MAX_ATTEMPTS = 64
_HEAD = struct.Struct("@QQQ")
"""Sequence number, odd while written; length; checksum."""

_BYTES: dict[Order, bytes] = {order: order[:1].encode() for order in get_args(Order)}


class Control:
    """A pipe to the master, which keeps both ends, so that no keeper's death breaks it."""

    def __init__(self) -> None:
        self.reading_fd, self._writing_fd = os.pipe()
        os.set_blocking(self.reading_fd, False)
        os.set_blocking(self._writing_fd, False)

    def ask(self, order: Order) -> bool:
        """Ask the master for it; False: it has so many orders before it that this one is dropped."""
        try:
            return os.write(self._writing_fd, _BYTES[order]) == 1
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Give up both ends in this process, which is to give no orders: for the workers."""
        os.close(self.reading_fd)
        os.close(self._writing_fd)

    def receive(self) -> set[Order]:
        """Take what was asked for since: the master's side."""
        try:
            data = os.read(self.reading_fd, _MAX_ORDERS_AT_ONCE)
        except BlockingIOError:
            return set()
        return {order for order, byte in _BYTES.items() if byte in data}


class LastReload(TypedDict):
    """How the last reload ended."""

    at: str
    """RFC 3339."""
    ok: bool
    mistakes: list[str]
    """Why nothing was changed; one sentence each."""


class News(TypedDict):
    """What the master makes known."""

    generation: int
    """1 at the start, one more with each reload that was taken in."""
    started: str
    """When the master began; RFC 3339."""
    reloads: int
    """How many were tried and have ended."""
    last_reload: LastReload | None
    master_pid: int
    config: str
    """The file's name; empty: there is none."""


class Bulletin:
    """The news in a page of shared memory. The master writes, anybody forked from it reads."""

    def __init__(self, news: News) -> None:
        self._memory = mmap.mmap(-1, _HEAD.size + MAX_TEXT_BYTES)
        self._sequence = 0
        self.write(news)

    def write(self, news: News) -> None:
        """Replace what is there."""
        text = _encoded(news)
        self._memory[:8] = struct.pack("@Q", self._sequence + 1)
        self._memory[_HEAD.size : _HEAD.size + len(text)] = text
        self._sequence += 2
        # The number last: who reads half of it finds that the sum is wrong.
        self._memory[8 : _HEAD.size] = struct.pack("@QQ", len(text), crc32(text))
        self._memory[:8] = struct.pack("@Q", self._sequence)

    def read(self) -> News:
        """Give what is there; raises BlockingIOError if the master was stopped in the middle of writing."""
        for _ in range(_MAX_ATTEMPTS):
            sequence, length, checksum = _HEAD.unpack_from(self._memory)
            text = self._memory[_HEAD.size : _HEAD.size + min(length, MAX_TEXT_BYTES)]
            if not sequence & 1 and crc32(text) == checksum:
                news: News = json.loads(text)
                return news
        raise BlockingIOError("the master is writing")


def _encoded(news: News) -> bytes:
    """Write it within the bound: mistakes that would pass it are only counted.

    A path may have bytes that are no UTF-8 in it, which Python keeps as surrogates: the readers' JSON takes none.
    """
    news = {**news, "config": printable(news["config"])}
    last = news["last_reload"]
    if last is None:
        return json.dumps(news).encode()
    mistakes = [printable(each[:_MAX_MISTAKE_CHARS]) for each in last["mistakes"]]
    kept = len(mistakes)
    while True:
        text = _with_mistakes(news, last, _told(mistakes, kept))
        if len(text) <= MAX_TEXT_BYTES or not kept:
            return text
        kept //= 2


def _told(mistakes: Sequence[str], kept: int) -> list[str]:
    left = len(mistakes) - kept
    return [*mistakes[:kept], *([f"and {left} more: see the log"] if left else [])]


def _with_mistakes(news: News, last: LastReload, mistakes: list[str]) -> bytes:
    told: News = {**news, "last_reload": {**last, "mistakes": mistakes}}
    return json.dumps(told).encode()

"""Misses, from the workers to the keeper: 20 bytes each, in a pipe, so that the kernel bounds the queue.

A worker that finds no response in a handshake says so and goes on without; the keeper publishes again what the cache
has pushed out. A write of so few bytes is whole or fails (pipe(7), PIPE_BUF), so many workers may share the pipe.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from proxy.cache.layout import KEY_BYTES

if TYPE_CHECKING:
    from proxy.identity import CacheKey

REPEAT_S = 1.0
_MAX_REMEMBERED = 1024
_MAX_AT_ONCE = 256


class Demands:
    """Made in the master before the fork, which keeps both ends open: neither side's death breaks the pipe."""

    def __init__(self) -> None:
        self.reading_fd, self._writing_fd = os.pipe()
        os.set_blocking(self.reading_fd, False)
        os.set_blocking(self._writing_fd, False)
        self._asked: dict[CacheKey, float] = {}  # each worker's own, after the fork

    def ask(self, key: CacheKey, now_s: float) -> None:
        """Report a miss; each key once in `REPEAT_S` from each worker. Dropped when the queue is full."""
        if 0 <= now_s - self._asked.get(key, -REPEAT_S) < REPEAT_S:  # a clock set back does not silence it
            return
        if len(self._asked) >= _MAX_REMEMBERED:
            self._asked.clear()
        self._asked[key] = now_s
        with contextlib.suppress(BlockingIOError):  # full: the next handshake asks again
            os.write(self._writing_fd, key)

    def receive(self) -> list[bytes]:
        """Take the keys that wait, each once, at most so many that other work is not held up."""
        try:
            data = os.read(self.reading_fd, _MAX_AT_ONCE * KEY_BYTES)
        except BlockingIOError:
            return []
        return list(dict.fromkeys(data[at : at + KEY_BYTES] for at in range(0, len(data), KEY_BYTES)))

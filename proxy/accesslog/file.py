"""Lines to a file, from an event loop that never waits for the disk.

What the loop adds is gathered, and handed to a thread in batches: each second, or when one is full. The thread writes
whole lines behind what others have written (O_APPEND), so the workers share one file. What may wait for a full disk or
a pipe that nobody reads is bounded; lines above that are dropped, and the log says how many, once in a while.

A write that stops in the middle, as on a full disk, would leave half a line that the next writer goes on. So in a file
the workers write under a lock, and whoever leaves half a line cuts it off again before the lock is given up. A pipe
takes up to PIPE_BUF bytes as one (pipe(7)): there lines go in pieces of that size, and a longer line alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import queue
import select
import stat
import threading
import time
from typing import TYPE_CHECKING

from proxy.accesslog.formats import STDOUT
from proxy.errors import StartError
from proxy.log import Seldom

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_log = logging.getLogger("stapleproxy.accesslog")

_BATCH_BYTES = 65_536
_MAX_WAITING_BYTES = 4 * 1_048_576
"""In each worker; with lines of 250 bytes some 16,000 of them."""
_RETRY_S = 1.0
_TOLD_EVERY_S = 60.0
_CLOSE_WITHIN_S = 1.0
"""At the end of a worker: less than what the master allows beyond the drain."""
_MODE = 0o640
_STDOUT_FD = 1

_REOPEN = b""
_CLOSE = None


def open_log(path: Path) -> int:
    """Open for appending; raises StartError."""
    try:
        if str(path) == STDOUT:
            return os.dup(_STDOUT_FD)
        # Without O_NONBLOCK the opening of a pipe would wait until somebody reads it, and the loop with it.
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, _MODE)
    except OSError as error:
        why = "nobody reads from this pipe" if error.errno == errno.ENXIO else error.strerror
        raise StartError(f"access_log.path {path}: cannot be opened: {why}") from error


class LogFile:
    """What one worker writes; made after the fork, since it starts the thread.

    A file that cannot be opened is as good as a full disk: serving goes on, and it is tried again.
    """

    def __init__(self, path: Path, *, max_waiting_bytes: int = _MAX_WAITING_BYTES) -> None:
        self._path = path
        self._max_waiting_bytes = max_waiting_bytes
        self._fd = -1
        self._open()
        self._lines: list[bytes] = []
        self._bytes = 0
        self._batches: queue.SimpleQueue[tuple[bytes, int] | bytes | None] = queue.SimpleQueue()
        # Each has one writer, the loop or the thread: their difference is what waits.
        self._handed_bytes = 0
        self._done_bytes = 0
        self.dropped = 0
        """Lines, since the start."""
        self._told_dropped = 0
        self._drops = Seldom(_TOLD_EVERY_S)
        self._troubles = Seldom(_TOLD_EVERY_S)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="accesslog", daemon=True)
        self._thread.start()

    # The event loop calls these.

    def add(self, line: bytes) -> None:
        """Take one line, with its line break."""
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand on what has gathered; to be called each second."""
        count = len(self._lines)
        if count:
            if self._handed_bytes - self._done_bytes + self._bytes <= self._max_waiting_bytes:
                self._handed_bytes += self._bytes
                self._batches.put((b"".join(self._lines), self._bytes))
            else:
                self.dropped += count
            self._lines.clear()
            self._bytes = 0
        if self.dropped > self._told_dropped and self._drops.is_due(time.monotonic()):
            lost, self._told_dropped = self.dropped - self._told_dropped, self.dropped
            _log.error("access log %s: %d lines were dropped: it takes no more for now", self._path, lost)

    def reopen(self) -> None:
        """Go on in a new file of this name, after what was added so far."""
        self.flush()
        self._batches.put(_REOPEN)

    def close(self) -> None:
        """Write what is left, if that is possible in a moment."""
        self.flush()
        self._closing.set()
        self._batches.put(_CLOSE)
        self._thread.join(_CLOSE_WITHIN_S)
        waiting_bytes = self._handed_bytes - self._done_bytes
        if waiting_bytes:
            _log.error("access log %s: %d bytes could not be written", self._path, waiting_bytes)

    # The thread runs these.

    def _run(self) -> None:
        while (batch := self._batches.get()) is not _CLOSE:
            if isinstance(batch, bytes):
                self._open()
            else:
                data, size = batch
                if not self._write(data):
                    break
                self._done_bytes += size
        if self._fd >= 0:
            os.close(self._fd)

    def _open(self) -> None:
        """Open it, anew if it is open: where that fails, the old file goes on."""
        try:
            fd = open_log(self._path)
        except StartError as error:
            _log.error("%s%s", error, "; going on in the old file" if self._fd >= 0 else "")
            return
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd

    def _write(self, data: bytes) -> bool:
        """Write all of it, however long that takes; False: it could not be done before the end."""
        while True:
            try:
                if self._fd < 0:
                    self._fd = open_log(self._path)
                data = data[_append(self._fd, data, is_file=str(self._path) != STDOUT) :]
                if not data:
                    return True
                why = "no space is left"
            except StartError as error:
                why = str(error)
            except OSError as error:
                why = error.strerror or str(error)
            if self._troubles.is_due(time.monotonic()):
                _log.error("access log %s cannot be written: %s; trying again", self._path, why)
            if self._closing.wait(_RETRY_S):
                return False


def _append(fd: int, data: bytes, *, is_file: bool) -> int:
    """Write lines; how many bytes could be written. Raises OSError when none could be."""
    if is_file and stat.S_ISREG(os.fstat(fd).st_mode):
        with _lock(fd):
            return _append_to_file(fd, data)
    done = 0
    for piece in _pieces(data, select.PIPE_BUF):
        try:
            written = _write_out(fd, piece)
        except OSError:
            if not done:
                raise
            break
        done += written
        if written < len(piece):
            break
    return done


def _append_to_file(fd: int, data: bytes) -> int:
    """Leave only whole lines."""
    written = os.write(fd, data)
    if written == len(data):
        return written
    whole = data.rfind(b"\n", 0, written) + 1
    os.ftruncate(fd, os.fstat(fd).st_size - (written - whole))
    if not whole:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return whole


def _write_out(fd: int, piece: bytes) -> int:
    """Write a piece, waiting as long as it takes: what has been written cannot be taken back from a pipe."""
    while True:
        try:
            return os.write(fd, piece)
        except BlockingIOError:
            waiting = select.poll()
            waiting.register(fd, select.POLLOUT)
            waiting.poll()


def _pieces(data: bytes, most: int) -> Iterator[bytes]:
    """Cut between lines, into pieces of at most `most` bytes; a longer line is one piece."""
    at = 0
    while at < len(data):
        end = len(data) if len(data) - at <= most else data.rfind(b"\n", at, at + most) + 1
        if end <= at:
            end = data.index(b"\n", at) + 1
        yield data[at:end]
        at = end


@contextlib.contextmanager
def _lock(fd: int) -> Iterator[None]:
    """Keep the other workers out; where a file system knows no locks, do without."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)

"""The shared memory of the stapling cache: made anonymous, or mapped from a file that outlives the program."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import mmap
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.cache import layout
from proxy.errors import StartError

if TYPE_CHECKING:
    from proxy.cache.layout import CacheArgument

logger = logging.getLogger(__name__)

MAX_SET_ASIDE_FILES = 99

_SENTENCES = {
    errno.ENOENT: "its folder does not exist: make the folder first",
    errno.ENOTDIR: "its folder is not a folder: correct the path",
    errno.EACCES: "permission denied: let this user write there, or give another path",
    errno.EPERM: "permission denied: let this user write there, or give another path",
    errno.EROFS: "the file system is read-only: give another path",
    errno.ELOOP: "it is a symbolic link, which is never followed: give the path of the file itself",
    errno.EISDIR: "it is a folder: give the path of a file in it",
    errno.ENOSPC: "no space is left there: make some, or give a smaller size",
}


class Segment:
    """One mapped segment, before the fork shared by all processes after it.

    `words` and `times` see the same memory as `raw`. One item of theirs is one aligned 8-byte load or store, which no
    other process can see half done; `struct` with '<' or '>' would go byte by byte.
    """

    __slots__ = ("_descriptor", "argument", "geometry", "mapping", "raw", "times", "words")

    def __init__(self, argument: CacheArgument, mapping: mmap.mmap, descriptor: int | None) -> None:
        self.argument = argument
        self.geometry = layout.geometry(argument.size_bytes)
        self.mapping = mapping
        self.raw = memoryview(mapping)
        self.words = self.raw.cast("Q")
        self.times = self.raw.cast("d")
        self._descriptor = descriptor

    def __repr__(self) -> str:
        shape = self.geometry
        return (
            f"<Segment {self.argument.path or 'anonymous'} of {self.argument.size_bytes} bytes:"
            f" {shape.subcaches} subcaches of {shape.indexes_per_subcache} entries"
            f" in {shape.data_bytes_per_subcache} bytes>"
        )

    @classmethod
    def create(cls, argument: CacheArgument) -> Segment:
        """Make the segment, or attach to what an earlier run left in the file.

        A file that is not ours is never touched; one of ours that does not fit is set aside. Raises StartError.
        """
        length = layout.geometry(argument.size_bytes).segment_bytes
        header = layout.header(argument.size_bytes)
        descriptor = None
        try:
            if argument.path:
                descriptor = _attach(argument.path, header, length)
                mapping = _map(argument.path, descriptor, length)
            else:
                mapping = mmap.mmap(-1, length)
                mapping[: len(header)] = header
        except OSError as error:
            if descriptor is not None:
                os.close(descriptor)
            raise _start_error(argument.path or "in memory", error) from error
        return cls(argument, mapping, descriptor)

    def close(self) -> None:
        """Unmap it, and give up the file; no writer or reader may be used afterwards."""
        self.words.release()
        self.times.release()
        self.raw.release()
        self.mapping.close()
        self.leave_lock()

    def leave_lock(self) -> None:
        """Hold the file's lock no longer in this process, which goes on reading the memory.

        For the workers: one that still finishes a long request must not keep the next instance from starting.
        """
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _start_error(path: str, error: OSError) -> StartError:
    return StartError(f"stapling cache {path}: {_SENTENCES.get(error.errno or 0, error.strerror)}")


def _attach(path: str, header: bytes, length: int) -> int:
    """Return the locked descriptor of a file that has the header and the length."""
    descriptor = _open_locked(path, 0)
    try:
        found = os.pread(descriptor, len(header), 0)
        if found == header and os.fstat(descriptor).st_size == length:
            return descriptor
        if not found:
            _fill(descriptor, header, length)
            return descriptor
        if not found.startswith(layout.MAGIC):
            raise StartError(
                f"stapling cache {path}: the file is not a stapling cache, so it is left alone: give another path"
            )
        aside = _set_aside(path)
        logger.warning(
            "stapling cache %s: the file has another size or version, or is damaged; it is now %s, a new one begins",
            path,
            aside,
        )
        # The old lock is held until the new one is: nobody gets in between.
        fresh = _open_locked(path, os.O_EXCL)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    try:
        _fill(fresh, header, length)
    except BaseException:
        os.close(fresh)
        raise
    return fresh


def _map(path: str, locked: int, length: int) -> mmap.mmap:
    """Map the file through an opening of its own: mmap keeps a copy of the descriptor, and would keep the lock too."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not os.path.samestat(os.fstat(descriptor), os.fstat(locked)):
            raise StartError(f"stapling cache {path}: the file was replaced just now: start again")
        return mmap.mmap(descriptor, length)
    finally:
        os.close(descriptor)


def _open_locked(path: str, more_flags: int) -> int:
    # O_NONBLOCK: a pipe or a device answers at once, and is refused below.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | more_flags
    descriptor = os.open(path, flags, 0o600)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise StartError(f"stapling cache {path}: it is not a regular file: give another path")
        if status.st_uid != os.geteuid():
            # Its owner could cut it short at any time, and a mapping without a file behind it kills the process.
            raise StartError(
                f"stapling cache {path}: the file belongs to another user: remove it, or give another path"
            )
        try:
            # The lock belongs to this opening: it lasts until the last process forked from here closes it or ends.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unmoved = os.path.samestat(status, Path(path).lstat())
        except (BlockingIOError, FileNotFoundError):
            unmoved = False  # another instance has it, or has just set it aside
        if not unmoved:
            raise StartError(f"stapling cache {path}: another stapleproxy uses this file: give each its own path")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _fill(descriptor: int, header: bytes, length: int) -> None:
    try:
        os.fchmod(descriptor, 0o600)  # an empty file may have been there, open to others
        os.pwrite(descriptor, header, 0)
        os.fsync(descriptor)  # after a power cut this must still be known as ours, to be set aside
        # Not ftruncate: writing to a hole of a mapped file kills the process when the disk is full.
        os.posix_fallocate(descriptor, 0, length)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
        raise


def _set_aside(path: str) -> str:
    for number in range(1, MAX_SET_ASIDE_FILES + 1):
        aside = f"{path}.bad-{number}"
        if not os.path.lexists(aside):
            Path(path).rename(aside)
            return aside
    raise StartError(f"stapling cache {path}: {MAX_SET_ASIDE_FILES} damaged files stand beside it: remove {path}.bad-*")

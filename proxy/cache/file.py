"""The file of a stapling cache: found, judged, locked, made."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import mmap
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from proxy.cache import layout
from proxy.errors import StartError

if TYPE_CHECKING:
    from proxy.cache.layout import Eviction

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
_READING_SENTENCES = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "there is no such file",
    errno.EACCES: "permission denied: only the user that stapleproxy runs as may read it",
    errno.ELOOP: _SENTENCES[errno.ELOOP],
}


def start_error(path: str, error: OSError) -> StartError:
    """Say what the system refused."""
    return StartError(f"stapling cache {path}: {_SENTENCES.get(error.errno or 0, error.strerror)}")


class Attached(NamedTuple):
    """A file that has the header and the length that were asked for."""

    descriptor: int
    """Locked."""
    is_continued: bool = False
    """It is the one that we held before."""
    aside: str = ""
    """What the file that was there is called now; empty: it is the same, or there was none."""


def attach(path: str, header: bytes, length: int, held: int | None = None) -> Attached:
    """Lock the file and have it as it should be. `held`: what has a lock of ours already, which may be on this file."""
    is_held = held is not None and _is_at(path, held)
    descriptor = os.dup(held) if is_held and held is not None else _open_locked(path, 0)
    try:
        found = os.pread(descriptor, len(header), 0)
        if found == header and os.fstat(descriptor).st_size == length:
            os.fchmod(descriptor, 0o600)  # a backup that was put back may be open to others
            return Attached(descriptor, is_continued=is_held)
        if not found:
            fill(descriptor, header, length)
            return Attached(descriptor)
        # Cut short within the first word, it may be ours: it is set aside, which harms no other either.
        if not found.startswith(layout.MAGIC) and not layout.MAGIC.startswith(found):
            raise StartError(
                f"stapling cache {path}: the file is not a stapling cache, so it is left alone: give another path"
            )
        aside = _set_aside(path)
        logger.warning(
            "stapling cache %s: the file has another size, eviction or version, or is damaged;"
            " it is now %s, a new one begins",
            path,
            aside,
        )
        # The old lock is held until the new one is: nobody gets in between.
        fresh = _open_locked(path, os.O_EXCL)
    except BaseException:  # whatever it is, Ctrl-C too, it goes on; only the descriptor must not stay
        os.close(descriptor)
        raise
    os.close(descriptor)
    try:
        fill(fresh, header, length)
    except BaseException:  # whatever it is, Ctrl-C too, it goes on; only the descriptor must not stay
        os.close(fresh)
        raise
    return Attached(fresh, aside=aside)


def put_back(path: str, aside: str) -> None:
    """Have the file that was set aside in the place of the one that was made instead."""
    try:
        Path(aside).replace(path)
    except OSError as error:
        logger.warning("stapling cache %s: %s cannot be put back: %s", path, aside, error.strerror)


def map_locked(path: str, locked: int, length: int) -> mmap.mmap:
    """Map the file through an opening of its own: mmap keeps a copy of the descriptor, and would keep the lock too."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not os.path.samestat(os.fstat(descriptor), os.fstat(locked)):
            raise StartError(f"stapling cache {path}: the file was replaced just now: start again")
        return mmap.mmap(descriptor, length)
    finally:
        os.close(descriptor)


def look_into(path: str) -> tuple[int, Eviction, mmap.mmap]:
    """Map a cache's file for reading; it says itself what size and eviction it has. Raises StartError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise StartError(f"stapling cache {path}: it is not a regular file")
            size_bytes, eviction = _shape(path, os.pread(descriptor, layout.HEADER.size, 0), status.st_size)
            return size_bytes, eviction, mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
    except OSError as error:
        sentence = _READING_SENTENCES.get(error.errno or 0, error.strerror)
        raise StartError(f"stapling cache {path}: {sentence}") from error


def _shape(path: str, header: bytes, length: int) -> tuple[int, Eviction]:
    """Read the size and the eviction out of a header; StartError when it is not one that `layout.header` makes."""
    if not header.startswith(layout.MAGIC):
        raise StartError(f"stapling cache {path}: the file is not a stapling cache")
    if len(header) == layout.HEADER.size:
        words = layout.HEADER.unpack(header)
        size_bytes, number = words[layout.SIZE_WORD], words[layout.EVICTION_WORD]
        try:
            eviction = layout.EVICTIONS[number]
            is_whole = header == layout.header(size_bytes, eviction)
        except (ValueError, IndexError):
            is_whole = False
        if is_whole and length == layout.geometry(size_bytes).segment_bytes:
            return size_bytes, eviction
    raise StartError(f"stapling cache {path}: the file was made by another version of stapleproxy, or is damaged")


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(Path(path).lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


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
        if status.st_nlink > 1:
            # Whoever has the other name may be kept away from this one, and yet read the file or cut it short.
            raise StartError(
                f"stapling cache {path}: the file has another name as well, a hard link: remove either,"
                " or give another path"
            )
        try:
            # The lock belongs to this opening: it lasts until the last process forked from here closes it or ends.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unmoved = os.path.samestat(status, Path(path).lstat())
        except (BlockingIOError, FileNotFoundError):
            unmoved = False  # another instance has it, or has just set it aside
        if not unmoved:
            raise StartError(f"stapling cache {path}: another stapleproxy uses this file: give each its own path")
    except BaseException:  # whatever it is, Ctrl-C too, it goes on; only the descriptor must not stay
        os.close(descriptor)
        raise
    return descriptor


def fill(descriptor: int, header: bytes, length: int) -> None:
    """Give a file its header and its length, with all the room on the disk that it will take; raises OSError."""
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

"""The shared memory of the stapling cache: made anonymous, or mapped from a file that outlives the program."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

from proxy.cache import file, layout
from proxy.cache.layout import CacheArgument

if TYPE_CHECKING:
    from proxy.cache.layout import Eviction


class Segment:
    """One mapped segment, before the fork shared by all processes after it.

    `words` and `times` see the same memory as `raw`. One item of theirs is one aligned 8-byte load or store, which no
    other process can see half done; `struct` with '<' or '>' would go byte by byte.
    """

    __slots__ = (
        "_aside",
        "_descriptor",
        "argument",
        "eviction",
        "geometry",
        "is_continued",
        "mapping",
        "raw",
        "times",
        "words",
    )

    def __init__(self, argument: CacheArgument, eviction: Eviction, mapping: mmap.mmap, descriptor: int | None) -> None:
        self.argument = argument
        self.eviction: Eviction = eviction
        self.geometry = layout.geometry(argument.size_bytes)
        self.mapping = mapping
        self.raw = memoryview(mapping)
        self.words = self.raw.cast("Q")
        self.times = self.raw.cast("d")
        self._descriptor = descriptor
        self._aside = ""
        self.is_continued = False
        """Somebody serves from it already, by responses that were verified."""

    def __repr__(self) -> str:
        shape = self.geometry
        return (
            f"<Segment {self.argument.path or 'anonymous'} of {self.argument.size_bytes} bytes:"
            f" {shape.subcaches} subcaches of {shape.indexes_per_subcache} entries"
            f" in {shape.data_bytes_per_subcache} bytes>"
        )

    @classmethod
    def create(cls, argument: CacheArgument, eviction: Eviction = "lru", held: int | None = None) -> Segment:
        """Make the segment, or attach to what an earlier run left in the file.

        A file that is not ours is never touched; one of ours that does not fit is set aside. Raises StartError.
        `held`: the `lock` of who serves from this file now, whose place is to be taken.
        """
        length = layout.geometry(argument.size_bytes).segment_bytes
        header = layout.header(argument.size_bytes, eviction)
        descriptor, attached = None, None
        try:
            if argument.path:
                attached = file.attach(argument.path, header, length, held)
                descriptor = attached.descriptor
                mapping = file.map_locked(argument.path, descriptor, length)
            else:
                mapping = mmap.mmap(-1, length)
                mapping[: len(header)] = header
        except OSError as error:
            if descriptor is not None:
                os.close(descriptor)
            raise file.start_error(argument.path or "in memory", error) from error
        segment = cls(argument, eviction, mapping, descriptor)
        if attached:
            segment.is_continued, segment._aside = attached.is_continued, attached.aside
        return segment

    @classmethod
    def attach_read_only(cls, path: str) -> Segment:
        """Look into a cache's file, which says itself what size it is. The lock is left to who serves from it.

        Neither a writer nor a reader can be made of it. Raises StartError.
        """
        size_bytes, eviction, mapping = file.look_into(path)
        return cls(CacheArgument(path, size_bytes), eviction, mapping, None)

    def distrust(self) -> None:
        """Have readers serve nothing of what an earlier run left, until the writer vouches for it entry by entry.

        To be called before any reader is made.
        """
        self.words[layout.GENERATION_AT] = (self.words[layout.GENERATION_AT] + 1) % 2**64

    def mend(self) -> bool:
        """Make the file as long as it was when somebody has cut it short, and tell whether that was so.

        Touching what is mapped behind a file's end kills the process (SIGBUS), and its successor, and so on; what was
        cut off is lost. For the master, which keeps the file open, before it starts a process. Raises StartError.
        """
        if self._descriptor is None or os.fstat(self._descriptor).st_size >= self.geometry.segment_bytes:
            return False
        try:
            file.fill(
                self._descriptor, layout.header(self.argument.size_bytes, self.eviction), self.geometry.segment_bytes
            )
        except OSError as error:
            raise file.start_error(self.argument.path or "", error) from error
        return True

    def close(self) -> None:
        """Unmap it, and give up the file; no writer or reader may be used afterwards."""
        self.words.release()
        self.times.release()
        self.raw.release()
        self.mapping.close()
        self.leave_lock()

    @property
    def lock(self) -> int | None:
        """The descriptor that has the file's lock; None: there is no file."""
        return self._descriptor

    def put_back(self) -> None:
        """Undo that another file was set aside for this one."""
        if self._aside and self.argument.path:
            file.put_back(self.argument.path, self._aside)

    def leave_lock(self) -> None:
        """Hold the file's lock no longer in this process, which goes on reading the memory.

        For the workers: one that still finishes a long request must not keep the next instance from starting.
        """
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

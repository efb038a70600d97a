"""A timer that rings to the microsecond; those of the event loop count whole milliseconds.

A client that begins a millisecond late would be counted a millisecond slower than the server is.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_SECOND_NS = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


# Python has os.timerfd_create from 3.13 on.
_libc = ctypes.CDLL(None, use_errno=True)


class Alarm:
    """Calls `ring` at the time set last; timerfd_create(2)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._fd = _libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "no timer")
        loop.add_reader(self._fd, self._on_rung)

    def set(self, at_ns: int) -> None:
        """Ring at this time of the monotonic clock; at once, if it has passed."""
        seconds, rest = divmod(max(at_ns, 1), _SECOND_NS)
        wanted = _Itimerspec(_Timespec(0, 0), _Timespec(seconds, rest))
        if _libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(wanted), None) != 0:
            raise OSError(ctypes.get_errno(), "the timer cannot be set")

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _on_rung(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # set anew since the loop was told
            return
        self._ring()

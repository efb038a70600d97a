"""An event loop whose time is the work done plus the time slept: a day in it takes as long as its work. And a log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import selectors
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def unread_log() -> Iterator[logging.Logger]:
    """Give a log whose lines are written, as in earnest, but kept nowhere."""
    log = logging.getLogger("stapleproxy.benchmark")
    log.propagate = False
    log.setLevel(logging.INFO)
    with Path(os.devnull).open("w") as nowhere:
        log.handlers = [logging.StreamHandler(nowhere)]
        yield log


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time goes on with the CPU time of this process, and jumps to the next timer when there is nothing to do.

    What takes more CPU time than there is comes late here too, as it would on a processor that does nothing else.
    Nothing outside of the process is waited for.
    """

    def __init__(self) -> None:
        self._selector_of_time = _Jumping()
        super().__init__(self._selector_of_time)

    def time(self) -> float:
        return self._selector_of_time.now_s()

    @contextlib.contextmanager
    def not_ours(self) -> Iterator[None]:
        """Leave out of the time what is done meanwhile: it is the work of others."""
        begun_s = time.process_time()
        try:
            yield
        finally:
            self._selector_of_time.others_cpu_s += time.process_time() - begun_s

    def charge(self, seconds: float) -> None:
        """Let so much time go on as if it had been worked."""
        self._selector_of_time.charged_s += seconds

    @property
    def cpu_s(self) -> float:
        """Worked so far, without what was `not_ours`, with what was charged."""
        return self._selector_of_time.cpu_s()

    @property
    def charged_s(self) -> float:
        return self._selector_of_time.charged_s

    def longest_turn_s(self) -> float:
        """The longest work without a look at anything else since this was last asked."""
        longest = self._selector_of_time.longest_turn_s
        self._selector_of_time.longest_turn_s = 0.0
        return longest


class _Jumping(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.others_cpu_s = time.process_time()
        self.charged_s = 0.0
        self.longest_turn_s = 0.0
        self._slept_s = 0.0
        self._turn_began_s = 0.0

    def cpu_s(self) -> float:
        return time.process_time() - self.others_cpu_s + self.charged_s

    def now_s(self) -> float:
        return self._slept_s + self.cpu_s()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Never wait: what is ready, or else the next timer's time."""
        self.longest_turn_s = max(self.longest_turn_s, self.cpu_s() - self._turn_began_s)
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("nothing is due any more: this loop would wait for ever")
            self._slept_s += max(timeout, 0.0)
        self._turn_began_s = self.cpu_s()
        return ready

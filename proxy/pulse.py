"""Signs of life: each worker writes the time once a second, and the master can tell one that hangs from one that runs.

For the watchdog of the service manager: a process that exists may still serve nobody.
"""

from __future__ import annotations

import math
import mmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.systemd import Manager

_WORD_BYTES = 8


class Pulse:
    """Shared memory, made before the fork: a line has one writer. Times are time.monotonic's, one for all processes."""

    def __init__(self, lines: int) -> None:
        self._times = memoryview(mmap.mmap(-1, lines * _WORD_BYTES)).cast("d")

    def beat(self, line: int, now_at: float) -> None:
        """Say that the worker of this line runs."""
        self._times[line] = now_at

    def is_felt(self, lines: Iterable[int], since_at: float) -> bool:
        """Whether any of these has beaten since then."""
        return any(self._times[line] >= since_at for line in lines)


class Watchdog:
    """Feeds the service manager's watchdog as long as clients are served: some worker's event loop turns.

    Not the keeper: without it workers go on stapling what there is, and a restart of all would cut their clients off.
    """

    def __init__(self, manager: Manager, pulse: Pulse) -> None:
        self._manager = manager
        self._pulse = pulse
        self._every_s = math.inf if manager.watchdog_s is None else manager.watchdog_s / 2
        """sd_watchdog_enabled(3): twice as often as it wants to hear of us."""
        self.due_at = math.inf if manager.watchdog_s is None else 0.0

    def look(self, now_at: float, workers: Iterable[int]) -> None:
        """Feed it, if that is due and there is reason to; `workers` are the lines of those that are ready."""
        if now_at < self.due_at:
            return
        self.due_at = now_at + self._every_s
        if self._pulse.is_felt(workers, now_at - self._every_s):
            self._manager.alive()

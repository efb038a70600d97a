"""Generations that have been replaced, and whose workers finish what is open."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

from proxy.supervisor import GRACE_S

if TYPE_CHECKING:
    from proxy.generation import Commons, Generation
    from proxy.supervisor import Supervisor

_log = logging.getLogger("stapleproxy.master")

MAX_DRAINING = 8
"""Old generations that still have something open. When there is one more, the oldest is cut."""


class Draining:
    """Those that still have a process; the oldest first."""

    def __init__(self, supervisor: Supervisor, commons: Commons) -> None:
        self._supervisor = supervisor
        self._commons = commons
        self._generations: list[Generation] = []

    def retire(self, generation: Generation) -> None:
        """Let its workers finish what is open."""
        self._supervisor.dismiss(generation.workers, generation.settings.drain_timeout_s + GRACE_S, signal.SIGUSR2)
        self._generations.append(generation)
        self.forget()
        for oldest in self._generations[:-MAX_DRAINING]:
            _log.warning("more than %d earlier generations have something open: the oldest is cut", MAX_DRAINING)
            self._supervisor.dismiss(oldest.workers, GRACE_S)

    def forget(self) -> None:
        """Give up what those stood on that have ended."""
        for generation in [each for each in self._generations if not any(worker.pid for worker in each.workers)]:
            self._generations.remove(generation)
            generation.counted.give_back()
            if generation.inline:
                self._commons.leave(generation.inline)

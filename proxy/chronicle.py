"""What the master remembers of its reloads, and makes known by the bulletin."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from proxy.control import Bulletin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.control import LastReload, News


class Chronicle:
    """Of one run of the program: the next program, after an upgrade, begins its own with generation 1."""

    def __init__(self, config: str) -> None:
        """`config` is the configuration's name."""
        self._started = _now()
        self._config = config
        self.generation = 1
        self._reloads = 0
        self._last_reload: LastReload | None = None
        self.bulletin = Bulletin(self._news())

    def reloaded(self, mistakes: Sequence[str]) -> None:
        """Write down how a reload has ended: with `mistakes` nothing was changed."""
        self._reloads += 1
        self.generation += not mistakes
        self._last_reload = {"at": _now(), "ok": not mistakes, "mistakes": list(mistakes)}
        self.bulletin.write(self._news())

    def _news(self) -> News:
        return {
            "generation": self.generation,
            "started": self._started,
            "reloads": self._reloads,
            "last_reload": self._last_reload,
            "master_pid": os.getpid(),
            "config": self._config,
        }


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"

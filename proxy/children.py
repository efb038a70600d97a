"""What the supervisor keeps alive: one object for each process that is to be, with how it has been going."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from proxy.listening import Slot
    from proxy.settings.model import Settings

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 30.0
_STEADY_AFTER_S = 60.0
_CAME_UP_AFTER_S = 0.25
"""Who dies sooner has not come up, whatever it said."""
QUEUE_FOR_S = 0.5
"""A worker that is back so soon finds the clients that came meanwhile in its queue; longer they should not wait."""

KEEPER = "keeper"

Entry = Callable[[int, int], int]
"""(life_fd, ready_fd) -> exit status: what a child does."""

Parts = list[list["socket.socket"]]
"""What a worker listens on: the sockets of each entrance, and behind these the redirecting ones."""

Work = Callable[[Parts, int, int], int]
"""The entry of a worker, with what it listens on."""


def restart_pause_s(last_pause_s: float, lived_s: float) -> float:
    """How long to wait before a child that died is replaced: at once if it was steady, ever longer if it dies young.

    Between the two something ends it again and again that leaves it alive for a while (somebody's kill, a client's
    bytes): then it is back before its clients have waited in the queue for long.
    """
    if lived_s >= _STEADY_AFTER_S:
        return 0.0
    if lived_s >= _CAME_UP_AFTER_S:
        return _FIRST_PAUSE_S
    return min(max(last_pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)


class Child:
    """One process: what it does, and how it has been going."""

    def __init__(self, role: str, entry: Entry, settings: Settings, prepare: Callable[[], None] = lambda: None) -> None:
        """`settings` say how it logs. `prepare` is called before each start, or raises StartError."""
        self.role = role
        self.entry = entry
        self.settings = settings
        self.prepare = prepare
        self.pid = 0
        """0: not running."""
        self.ready_fd = -1
        """What it says that it is ready on; -1: it has, or is not running."""
        self.said = b""
        """All that it has said on it."""
        self.is_ready = False
        self.is_kept = False
        """When it dies it is replaced."""
        self.leave_by = math.inf
        """It was told to go, and is killed then."""
        self.started_at = 0.0
        self.pause_s = 0.0
        self.start_at = 0.0
        """0: not due."""

    def sockets(self) -> Sequence[socket.socket]:
        """Give what it listens on; it has no copy of what others do."""
        return ()


class Listener(Child):
    """A worker: it listens, on sockets of which the master has the other copy. `line` is where it counts."""

    def __init__(
        self,
        number: int,
        line: int,
        work: Work,
        parts: Sequence[Sequence[Slot]],
        settings: Settings,
        prepare: Callable[[], None],
    ) -> None:
        super().__init__(f"worker-{number}", self._enter, settings, self._open)
        self.line = line
        self._work = work
        self._parts = parts
        self._prepare = prepare

    def slots(self) -> list[Slot]:
        return [slot for part in self._parts for slot in part]

    def sockets(self) -> list[socket.socket]:
        return [slot.sock for slot in self.slots() if slot.sock is not None]

    def _open(self) -> None:
        self._prepare()
        for slot in self.slots():
            slot.open()

    def _enter(self, life_fd: int, ready_fd: int) -> int:
        return self._work([[slot.sock for slot in part if slot.sock] for part in self._parts], life_fd, ready_fd)

"""A file with a line for each connection, in which it can be found again in a packet capture or in a server's log."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.bench.attempt import Attempt
    from proxy.bench.outcomes import StapleOutcome

COLUMNS = (
    "port",  # of the client
    "begun",  # unix seconds: when it began to connect
    "counted",  # no: ramp and warm-up
    "late_us",
    "connect_us",
    "handshake_us",
    "first_byte_us",  # of the first request
    "resumed",
    "staple",
    "failure",
)
_MAX_HELD = 1000


def begin_samples(path: Path) -> None:
    """Make the file, or make it anew, with its titles; OSError if that cannot be."""
    path.write_text(",".join(COLUMNS) + "\n", encoding="ascii")


class SampleFile:
    """Appends lines, a thousand at a time: each process has the file open, and none writes within another's line."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._lines: list[str] = []
        self._unix_ns = time.time_ns() - time.monotonic_ns()

    def add(self, attempt: Attempt, outcome: tuple[StapleOutcome, str] | None) -> None:
        """Write down a client that is over, while its socket is open; `outcome` is of its staple, if it was judged."""
        begun, connected, done = attempt.begun_ns, attempt.connected_ns, attempt.done_ns
        seconds, rest = divmod(self._unix_ns + begun, 1_000_000_000)
        self._lines.append(
            ",".join(
                (
                    str(attempt.socket.getsockname()[1]),
                    f"{seconds}.{rest // 1000:06d}",
                    "yes" if attempt.is_counted else "no",
                    _micro(begun - attempt.due_ns),
                    _micro(connected - begun) if connected else "",
                    _micro(done - connected) if done else "",
                    _micro(attempt.first_byte_ns) if attempt.first_byte_ns else "",
                    ("yes" if attempt.channel.is_resumed else "no") if done else "",
                    ": ".join(filter(None, outcome)) if outcome else "",
                    # The words are the system's, OpenSSL's or the server's: none may begin another column.
                    ": ".join(filter(None, attempt.failure)).replace(",", ";") if attempt.failure else "",
                )
            )
            + "\n"
        )
        if len(self._lines) >= _MAX_HELD:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        # One write for all: what is appended in one call stays in one piece.
        data = "".join(self._lines).encode()
        self._lines.clear()
        while data:
            data = data[os.write(self._fd, data) :]


def _micro(nanoseconds: int) -> str:
    return f"{nanoseconds / 1000:.1f}"

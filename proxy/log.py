"""One line an event, on stderr."""

from __future__ import annotations

import logging
import math
import os
import sys


class _OneLine(logging.Formatter):
    """What strangers say (a responder, a certificate) ends up here: it may not steer a terminal, or forge a line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        record.message = "".join(char if char.isprintable() else "?" for char in record.message)
        return super().formatMessage(record)


class Seldom:
    """Lets what may happen very often be told once in a while; `every_s` is the least time between two."""

    __slots__ = ("_every_s", "_told_at")

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._told_at = -math.inf

    def is_due(self, now: float) -> bool:
        """Whether to tell it now; then not again for a while. `now` is of a clock that is not set back."""
        if now - self._told_at < self._every_s:
            return False
        self._told_at = now
        return True


def set_up(level: str, role: str) -> None:
    """Log from `level` up; `role` is which process this is: master, keeper, worker-0 …; call again after a fork."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(f"%(asctime)s %(levelname)s {role}[{os.getpid()}] %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # the libraries'
    logging.getLogger("stapleproxy").setLevel(level.upper())

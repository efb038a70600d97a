"""One line an event, on stderr."""

from __future__ import annotations

import logging
import os
import sys


class _OneLine(logging.Formatter):
    """What strangers say (a responder, a certificate) ends up here: it may not steer a terminal, or forge a line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        record.message = "".join(char if char.isprintable() else "?" for char in record.message)
        return super().formatMessage(record)


def set_up(level: str, role: str) -> None:
    """Log from `level` up; `role` is which process this is: master, keeper, worker-0 …; call again after a fork."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(f"%(asctime)s %(levelname)s {role}[{os.getpid()}] %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # the libraries'
    logging.getLogger("stapleproxy").setLevel(level.upper())

"""One line an event, on stderr."""

from __future__ import annotations

import logging
import os
import sys


def set_up(level: str, role: str) -> None:
    """Log from `level` up; `role` is which process this is: master, keeper, worker-0 …; call again after a fork."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {role}[{os.getpid()}] %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # the libraries'
    logging.getLogger("stapleproxy").setLevel(level.upper())

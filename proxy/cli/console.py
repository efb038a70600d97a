"""Where tables and coloured words go."""

from __future__ import annotations

import sys

from rich.console import Console

PIPE_COLUMNS = 200
"""Where no terminal gives a width: what reads a pipe should not get its lines folded."""


def make_console() -> Console:
    """Write to standard output; rich itself leaves colours out where that is no terminal."""
    return Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False)

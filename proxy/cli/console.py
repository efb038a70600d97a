"""Where tables and coloured words go."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BUSY_AFTER_S = 0.5
"""What is done sooner needs no sign that it is under way."""
PIPE_COLUMNS = 200
"""Where no terminal gives a width: what reads a pipe should not get its lines folded."""


def make_console(*, to_stderr: bool = False) -> Console:
    """Write to standard output, or beside it; rich itself leaves colours out where that is no terminal."""
    output = sys.stderr if to_stderr else sys.stdout
    return Console(width=None if output.isatty() else PIPE_COLUMNS, highlight=False, stderr=to_stderr)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Lay cells out in columns; no cell is folded, and no line ends with blanks."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show beside the output that something is under way, on a terminal only; not for what forks: it has threads."""
    console = make_console(to_stderr=True)
    if not console.is_terminal:
        yield
        return
    shown = console.status(what)
    timer = threading.Timer(BUSY_AFTER_S, shown.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        shown.stop()

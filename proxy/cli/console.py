"""Where tables and coloured words go."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Sequence

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

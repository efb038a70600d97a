"""Looks at files that a configuration names."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILE_BYTES = 4_194_304


class UnreadableError(ValueError):
    """The file cannot be read; the text says why."""


def read_text(path: Path) -> str:
    """Read a whole file; raises UnreadableError. What is no UTF-8 is kept as surrogates: a file's name may have it."""
    try:
        # Opening a pipe would wait for somebody to write into it.
        if not stat.S_ISREG(path.stat().st_mode) and str(path) != "/dev/null":
            raise UnreadableError("not a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from None
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableError(f"longer than {MAX_FILE_BYTES} bytes")
    return content.decode(errors="surrogateescape")


def is_folder(path: Path) -> bool:
    """Say no also where the system refuses to look: a name too long, a folder above that is closed to us."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_there(path: Path) -> bool:
    """Likewise of whatever has that name."""
    try:
        return path.exists()
    except OSError:
        return False

"""Which files ``Include`` names."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

from proxy.settings.httpd.textfile import is_folder, is_there

MAX_FOLDER_DEPTH = 20
"""Of folders in a folder that is included: Apache's own bound."""

_WILDCARD = re.compile(r"[*?]|\[[^\]]*\]")


class IncludeError(ValueError):
    """Nothing is there that could be included; the text is Apache's."""


def included_files(name: str, server_root: Path, *, optional: bool) -> list[Path]:
    """List the files that a name with wildcards stands for, in Apache's order. Raises IncludeError.

    A file that is missing though named without a wildcard is listed too, unless it is optional: opening it will tell.
    """
    path = server_root / name
    if not _WILDCARD.search(str(path)):
        return _below(path, optional=optional)
    first, *rest = path.parts
    return _matching(Path(first), rest, optional=optional)


def _matching(folder: Path, parts: list[str], *, optional: bool) -> list[Path]:
    """Follow the parts of a path; the first with a wildcard stands for all entries that match it."""
    at = next((number for number, part in enumerate(parts) if _WILDCARD.search(part)), None)
    if at is None:
        return _below(folder.joinpath(*parts), optional=optional)
    folder, pattern, rest = folder.joinpath(*parts[:at]), parts[at], parts[at + 1 :]
    try:
        entries = sorted(each for each in folder.iterdir() if _matches(each.name, pattern))
    except OSError as error:
        if optional:
            return []
        raise IncludeError(f"Include/IncludeOptional: Could not open directory {folder}: {error.strerror}") from None
    found = [each for each in entries if not rest or is_folder(each)]
    if not found and not optional:
        raise IncludeError(f"Include/IncludeOptional: No matches for the wildcard '{pattern}' in '{folder}', failing")
    return [file for each in found for file in _matching(each, rest, optional=optional)]


def _matches(name: str, pattern: str) -> bool:
    if name.startswith(".") and not pattern.startswith("."):
        return False
    return fnmatchcase(name, pattern.replace("[^", "[!"))


def _below(path: Path, *, optional: bool, depth: int = 0) -> list[Path]:
    """Give the file, or all files in the folder and in folders below it, hidden ones too."""
    if not is_folder(path):
        return [] if optional and not is_there(path) else [path]
    if depth == MAX_FOLDER_DEPTH:
        raise IncludeError(
            f"Directory {path} exceeds the maximum include directory nesting level of {MAX_FOLDER_DEPTH}. "
            "You have probably a recursion somewhere."
        )
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        raise IncludeError(f"Could not open config directory {path}: {error.strerror}") from None
    return [file for each in entries for file in _below(each, optional=False, depth=depth + 1)]

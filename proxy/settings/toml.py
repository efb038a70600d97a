"""Reads a configuration file."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

from proxy.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pathlib import Path

_MAX_FILE_BYTES = 4_194_304
"""A hundred times a large configuration: whoever names a log or a disk gets an answer at once."""


def parse_file(path: Path) -> dict[str, object]:
    """Read `path` as TOML, and no more; ConfigError says what keeps it from being read."""
    return _parse(_read(path), path)


def in_file(path: Path, error: ConfigError) -> ConfigError:
    """Say of each mistake in which file its key is."""
    return ConfigError(
        *(Problem(f"{path}: {each.where}" if each.where else str(path), each.what) for each in error.problems)
    )


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(Problem(str(path), f"cannot read the configuration: {error.strerror or error}")) from None
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError(Problem(str(path), f"is no configuration: longer than {_MAX_FILE_BYTES} bytes"))
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(Problem(f"{path}:{line}", "is not UTF-8 text, as TOML must be")) from None


def _parse(text: str, path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and int()'s own for a number of thousands of digits
        reason, position = _position(str(error), text)
        raise ConfigError(Problem(f"{path}:{position}" if position else str(path), f"not TOML: {reason}")) from None
    except RecursionError:
        raise ConfigError(Problem(str(path), "not TOML that can be read: brackets are nested too deeply")) from None


def _position(message: str, text: str) -> tuple[str, str]:
    """Split tomllib's "Invalid value (at line 3, column 5)" into the reason and ``3:5``."""
    if found := re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL):
        return found[1], f"{found[2]}:{found[3]}"
    if message.endswith(" (at end of document)"):
        line = text.count("\n") + 1
        return message.removesuffix(
            " (at end of document)"
        ) + ", but the file ends", f"{line}:{len(text) - text.rfind(chr(10))}"
    return message, ""

"""A configuration file as settings alone, without the certificates that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.errors import ConfigError
from proxy.settings.build import build
from proxy.settings.toml import in_file, parse_file

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.settings.model import Settings


def load(path: Path) -> Settings:
    """Read `path`; relative names in it are relative to its folder. ConfigError names the file."""
    data = parse_file(path)
    try:
        return build(data, folder=path.parent.absolute())
    except ConfigError as error:
        raise in_file(path, error) from None

"""From Apache's configuration to the plain data that a TOML file would give."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.errors import ConfigError, Problem
from proxy.settings.build import build
from proxy.settings.httpd import sites
from proxy.settings.httpd.block import sort_out
from proxy.settings.httpd.directives import BY_NAME
from proxy.settings.httpd.stapling import Base
from proxy.settings.httpd.syntax import read_files
from proxy.settings.httpd.told import Told, in_order
from proxy.settings.httpd.tree import place_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from proxy.settings.httpd.tree import Node, Where
    from proxy.settings.stapling_httpd import Profile


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a configuration says."""

    data: dict[str, object]
    """As a TOML file would give it; file names are absolute."""
    warnings: tuple[Problem, ...]
    places: Mapping[str, Where]
    """Key path -> the directive it is from; what is below a key path is from there too."""


def read_conf(
    path: Path,
    *,
    lenient: bool = False,
    profile: Profile | None = None,
    defines: Mapping[str, str] = {},  # never changed
) -> Loaded:
    """Read `path` and what it includes. ConfigError has all mistakes, each at FILE:LINE.

    `lenient` makes warnings of what clients would see otherwise than with Apache. `profile` None: as the file means it.
    """
    reading = read_files(path, defines=defines, environment=os.environ, directives=BY_NAME.keys())
    base = Base(reading.server_root)
    loaded = load(reading.nodes, base, where=str(path), lenient=lenient, profile=profile)
    return Loaded(loaded.data, (*reading.warnings, *loaded.warnings), loaded.places)


def load(
    nodes: Sequence[Node], base: Base, *, where: str, lenient: bool = False, profile: Profile | None = None
) -> Loaded:
    """Make settings of a tree; `where` is told with what is missing in all of it. ConfigError as with `read_conf`."""
    told = Told(lenient)
    main, hosts = sort_out(nodes, told)
    draft = sites.settings(main, hosts, base, profile, where, told)
    if not told.mistakes:
        _check(draft, where, told)
    if told.mistakes:
        raise ConfigError(*in_order(told.mistakes))
    return Loaded(draft.data, in_order(told.warnings), draft.places)


def _check(draft: sites.Draft, where: str, told: Told) -> None:
    """Look whether the settings are right, and say of each that is not which directive it is from."""
    try:
        build(draft.data, folder=Path("/"))
    except ConfigError as error:
        for problem in error.problems:
            told.mistake(place_of(problem.where, draft.places) or where, f"{problem.where}: {problem.what}")

"""A configuration file of either kind: plain data, and where in the file each of them stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.errors import ConfigError, Problem
from proxy.settings.build import build
from proxy.settings.httpd.tree import place_of
from proxy.settings.toml import parse_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from proxy.settings.httpd.tree import Where
    from proxy.settings.model import Settings
    from proxy.settings.stapling_httpd import Profile

CONF_SUFFIX = ".conf"
"""A file so named is read as Apache's, any other as TOML."""


@dataclass(frozen=True, slots=True)
class HttpdOptions:
    """How a file of Apache's is read."""

    lenient: bool = False
    """What cannot be honoured is a warning and no mistake."""
    profile: Profile | None = None
    """None: httpd-2.4, unless mod_md is to staple."""
    defines: Mapping[str, str] = field(default_factory=dict)
    """As of Apache's -D, with an empty value where only the name is given."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a file says."""

    path: Path
    data: Mapping[str, object]
    warnings: tuple[Problem, ...] = ()
    """Each at FILE:LINE."""
    places: Mapping[str, Where] = field(default_factory=dict)
    """Where a key path comes from; of TOML nothing, for there the key path says it."""

    @property
    def folder(self) -> Path:
        """What relative paths are relative to."""
        return self.path.parent.absolute()

    def settings(self) -> Settings:
        """Check the data; ConfigError has all mistakes, each where it stands."""
        try:
            return build(self.data, folder=self.folder)
        except ConfigError as error:
            raise self.located(error) from None

    def located(self, error: ConfigError) -> ConfigError:
        """Say of each mistake, which has a key path, where it stands."""
        return ConfigError(*map(self._located, error.problems))

    def warning(self, problem: Problem) -> str:
        """Write a warning, of which the same is true; one of ours says where it stands."""
        if problem in self.warnings:
            return f"{problem.where}: warning: {problem.what}"
        place = place_of(problem.where, self.places)
        return f"{place}: warning: {problem.what}" if place else f"{self.path}: warning: {problem}"

    def _located(self, problem: Problem) -> Problem:
        if place := place_of(problem.where, self.places):
            return Problem(str(place), problem.what)
        return Problem(f"{self.path}: {problem.where}" if problem.where else str(self.path), problem.what)


def read_source(path: Path, options: HttpdOptions | None = None) -> Source:
    """Read `path`, and what it includes; ConfigError has all mistakes of the syntax."""
    if path.suffix != CONF_SUFFIX:
        return Source(path, parse_file(path))
    from proxy.settings.httpd.load import read_conf  # noqa: PLC0415  TOML needs none of it

    options = options or HttpdOptions()
    loaded = read_conf(path, lenient=options.lenient, profile=options.profile, defines=options.defines)
    return Source(path, loaded.data, loaded.warnings, loaded.places)

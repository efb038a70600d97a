"""Where `stapleproxy staples` looks: into a cache's file, which needs nobody's answer, or at a running stapleproxy."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003  pydantic looks for it at run time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from proxy.cli.adminclient import NotAnsweredError, ask, fetch
from proxy.cli.running import CONFIG_VARIABLE, SOCKET_VARIABLE, USUAL_CONFIG, find_socket
from proxy.errors import ConfigError, Problem, StartError
from proxy.keeper.watched import Trouble  # noqa: TC001  pydantic looks for it at run time
from proxy.settings.source import CONF_SUFFIX, read_source
from proxy.sites import load_sites, stapled_certificates
from proxy.staples import NOT_HELD, Known, Row, find

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from proxy.cache.segment import Segment
    from proxy.settings.model import Settings
    from proxy.settings.source import HttpdOptions
    from proxy.sites import LoadedSite


@dataclass(frozen=True, slots=True)
class CacheFile:
    """A cache's file, and what a configuration tells of it; only the path without one."""

    path: str
    known: dict[bytes, Known] = field(default_factory=dict)
    sites: tuple[LoadedSite, ...] = ()
    settings: Settings | None = None

    @contextmanager
    def opened(self) -> Iterator[Segment]:
        """Look into it; raises StartError."""
        from proxy.cache.segment import Segment

        segment = Segment.attach_read_only(self.path)
        try:
            yield segment
        finally:
            segment.close()

    def rows(self) -> list[Row]:
        from proxy.cache.entries import whole_entries
        from proxy.staples import rows

        with self.opened() as segment:
            return rows(whole_entries(segment), self.known)

    def response(self, row: Row) -> bytes:
        return row.response

    def __str__(self) -> str:
        return self.path


class Staple(BaseModel):
    """One object of ``/api/staples``, as far as it is of use here."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    key: str
    certificate: str
    names: tuple[str, ...]
    serial: str
    responders: tuple[str, ...]
    status: str | None
    this_update: datetime | None
    next_update: datetime | None
    stapled_until: datetime | None
    next_attempt: datetime | None
    successes: int
    failures: int
    troubles: tuple[Trouble, ...]

    def row(self) -> Row:
        return Row(
            self.names,
            self.certificate,
            self.serial,
            self.key,
            self.status or NOT_HELD,
            self.this_update,
            self.next_update,
            self.stapled_until,
            self.next_attempt,
        )


class _All(BaseModel):
    staples: tuple[Staple, ...]


@dataclass(frozen=True, slots=True)
class Running:
    """A running stapleproxy, by its admin socket."""

    path: Path

    def staples(self) -> tuple[Staple, ...]:
        document = ask(self.path, "/api/staples")
        try:
            return _All.model_validate(document).staples
        except ValidationError as error:
            raise NotAnsweredError(f"admin.socket {self.path}: it is another version of stapleproxy") from error

    def rows(self) -> list[Row]:
        return [each.row() for each in self.staples()]

    def response(self, row: Row) -> bytes:
        return fetch(self.path, f"/api/staples/{row.key}/response")

    def __str__(self) -> str:
        return str(self.path)


def find_place(file: Path | None, socket_path: Path | None, httpd: HttpdOptions | None) -> CacheFile | Running:
    """Choose: the socket that was given, or the file; then what the environment says, or the usual file."""
    if socket_path is not None:
        return Running(socket_path)
    if file is None and not os.environ.get(SOCKET_VARIABLE):
        named = os.environ.get(CONFIG_VARIABLE)
        file = Path(named) if named else USUAL_CONFIG if USUAL_CONFIG.exists() else None
    if file is None:
        return Running(find_socket(None, None))
    if file.suffix not in {".toml", CONF_SUFFIX}:
        return CacheFile(str(file))
    return _of_configuration(file, httpd)


def _of_configuration(file: Path, httpd: HttpdOptions | None) -> CacheFile | Running:
    from proxy.cache.layout import parse_argument

    source = read_source(file, httpd)
    settings = source.settings()
    path = parse_argument(settings.stapling.local_cache).path
    if not path:
        if settings.admin.socket:
            return Running(settings.admin.socket)
        what = (
            "this cache is in memory only, nobody else can look into it: give it a path, as in shmcb:/run/staples, "
            "or set admin.socket"
        )
        raise source.located(ConfigError(Problem(settings.stapling.local_cache_key, what)))
    try:
        sites = load_sites(settings)
    except ConfigError as error:
        raise source.located(error) from None
    known: dict[bytes, Known] = {
        each.identity.cache_key: Known(each.names, each.identity.label, f"{each.identity.leaf.serial_number:x}")
        for each in stapled_certificates(sites, settings)
    }
    return CacheFile(path, known, sites, settings)


def the_one(place: CacheFile | Running, rows: Iterable[Row], name: str, *, held: bool = True) -> Row:
    """Find the one that is meant; raises StartError if there is none, or more of them."""
    found = find(rows, name, held=held)
    if not found:
        what = "response" if held else "certificate"
        raise StartError(f"{place}: no {what} for {name!r}: stapleproxy staples lists what there is")
    if len(found) > 1:
        keys = ", ".join(f"{row.key[:12]} ({row.certificate or row.serial})" for row in found)
        raise StartError(f"{place}: {name!r} has {len(found)} responses: give one of the keys {keys}")
    return found[0]

"""A configuration and all files that it names, read in one go, so that every mistake is told in one round."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy import entrances
from proxy.admindoors import read_token
from proxy.backends import plan_groups
from proxy.errors import ConfigError, Problem
from proxy.identity import load_identity
from proxy.privileges import find_account
from proxy.redisdoor import read_door
from proxy.settings import admin, modes
from proxy.settings.build import Right, build, what_is_right
from proxy.settings.caching import redis_contradictions
from proxy.settings.model import TlsSettings
from proxy.settings.source import read_source
from proxy.sites import contradictions, exposed_keys, read_issuers, read_sites
from proxy.tls.context import SiteTls, build_contexts, check_algorithms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from proxy.settings.model import Settings
    from proxy.settings.source import HttpdOptions, Source
    from proxy.sites import LoadedSite


def _nothing() -> None: ...


@dataclass(frozen=True, slots=True)
class Configuration:
    """A file that was read, with all that it names."""

    source: Source
    settings: Settings
    sites: tuple[LoadedSite, ...]


def read_file(path: Path, httpd: HttpdOptions | None = None, between: Callable[[], None] = _nothing) -> Configuration:
    """Read `path`; relative paths in it are relative to its folder. ConfigError names file and place with each.

    `between`: see `read`.
    """
    source = read_source(path, httpd)
    try:
        settings, sites = read(source.data, folder=source.folder, between=between)
    except ConfigError as error:
        raise source.located(error) from None
    return Configuration(source, settings, sites)


def read(
    data: Mapping[str, object], *, folder: Path, between: Callable[[], None] = _nothing
) -> tuple[Settings, tuple[LoadedSite, ...]]:
    """Read plain data, the certificates and keys; ConfigError has all mistakes, each at its key path.

    `between` is called after each site: many take long, and a master has others to look after.
    """
    try:
        settings = build(data, folder=folder)
    except ConfigError as error:
        _, further = _examine(what_is_right(data, folder=folder), between)
        raise ConfigError(*error.problems, *further) from None
    right = Right(
        dict(enumerate(settings.site)),
        {},
        settings.tls,
        dict(enumerate(settings.stapling.issuer)),
        is_as_in_apache=settings.stapling.profile != "prefetch",
    )
    sites, problems = _examine(right, between)
    problems += [*modes.contradictions(settings), *entrances.contradictions(settings)]
    problems += _account_mistakes(settings)
    problems += [
        *admin.contradictions(settings.admin, (*settings.listen, *settings.redirect.listen)),
        *_token(settings),
        *_redis(settings),
    ]
    if problems := problems or [*contradictions(tuple(sites.values()), settings)]:
        raise ConfigError(*problems)
    return settings, tuple(sites.values())


def _token(settings: Settings) -> tuple[Problem, ...]:
    """Read it once already: the master reads it again for the keeper."""
    try:
        if settings.admin.token_file:
            read_token(settings.admin.token_file)
    except ConfigError as error:
        return error.problems
    return ()


def _redis(settings: Settings) -> tuple[Problem, ...]:
    """Likewise."""
    stapling = settings.stapling
    found = redis_contradictions(stapling.cache, stapling.redis, profile=stapling.profile, nonce=stapling.nonce)
    problems = tuple(Problem(where, what) for where, what in found)
    try:
        read_door(stapling, os.environ)
    except ConfigError as error:
        return (*problems, *error.problems)
    return problems


def _account_mistakes(settings: Settings) -> tuple[Problem, ...]:
    try:
        find_account(settings.user, settings.group)
    except ConfigError as error:
        return error.problems
    return ()


def refused_by_openssl(sites: Mapping[int, LoadedSite], tls: TlsSettings) -> tuple[Problem, ...]:
    """List what shows only when contexts are built, such as a key too short for the security level of the ciphers.

    Whoever serves builds them anyway, and hears of it then.
    """
    parts = [
        SiteTls(f"site[{n}]", site.identities, site.settings.tls.over(tls), stapling=False, app=None)
        for n, site in sites.items()
    ]
    try:
        build_contexts(parts, lambda _key, _now: None)
    except ConfigError as error:
        return error.problems
    return ()


def _examine(right: Right, between: Callable[[], None]) -> tuple[dict[int, LoadedSite], list[Problem]]:
    known, problems = read_issuers(right.issuers)
    sites, further = read_sites(right.sites, known, between)
    problems += further + plan_groups(sites)[1]
    if not right.is_as_in_apache:  # which does not look at the rights of a key
        problems += exposed_keys(right.sites)
    for where, files in right.files.items():
        try:
            load_identity(files, where=where, known=known)
        except ConfigError as error:
            problems.extend(error.problems)
    if right.tls is not None:
        refused = [*check_algorithms(right.tls)]
        for index, site in right.sites.items():
            own = site.tls.model_dump(exclude_none=True)
            if own.keys() & {"ciphers", "ciphersuites", "groups"}:
                refused += check_algorithms(TlsSettings(**own), f"site[{index}].tls")
        problems.extend(refused)
        if problems and not refused:
            problems.extend(refused_by_openssl(sites, right.tls))
    return sites, problems

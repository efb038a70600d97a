"""``stapleproxy check``: read a configuration with all its files, and say what would be served."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.httpd_options import httpd_options
from proxy.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.identity import Identity
    from proxy.settings.model import Settings
    from proxy.settings.source import HttpdOptions
    from proxy.settings.upstreams import UpstreamServer
    from proxy.sites import LoadedSite
    from proxy.staples import Room


@click.command(short_help="Find mistakes in a configuration file.")
@click.argument("file", type=click.Path(path_type=Path))
@httpd_options("file")
def check(file: Path, httpd: HttpdOptions | None) -> None:
    """Read the configuration FILE with its certificates and keys, say what would be served, and name all mistakes.

    Nothing is opened to the network and no responder is asked; `stapleproxy explain --live FILE` does that.

    A FILE whose name ends with .conf is read as Apache's, as `stapleproxy run` does.

    \b
    Examples:
      stapleproxy check /etc/stapleproxy/stapleproxy.toml
      stapleproxy check --lenient /etc/apache2/apache2.conf
    """  # noqa: D301  \b is click's mark for lines to leave as they are
    from proxy.cache.layout import parse_argument
    from proxy.cli.console import busy
    from proxy.configuration import read_file, refused_by_openssl
    from proxy.settings.caching import is_redis, parse_redis
    from proxy.sites import site_warnings
    from proxy.staplefile import judge
    from proxy.staples import cache_line

    now = datetime.now(UTC)
    with busy("Reading certificates and keys …"):
        read = read_file(file, httpd)
        source, settings, sites = read.source, read.settings, read.sites
        files = judge(sites, settings, now)
        by_openssl = refused_by_openssl(dict(enumerate(sites)), settings.tls)
    refused = (*by_openssl, *files.mistakes, *folder_problems(settings))
    if refused:
        raise source.located(ConfigError(*refused))
    room = _room(sites, settings)
    for line in describe(sites, settings, now):
        click.echo(line)
    click.echo(cache_line(parse_argument(settings.stapling.local_cache), str(room)))
    if is_redis(settings.stapling.cache):
        server = parse_redis(settings.stapling.cache)
        click.echo(f"responses are to be shared with other machines over {server}, which is not asked now")
    small = cache_warnings(room, settings.stapling.local_cache_key)
    warnings = (*source.warnings, *site_warnings(sites, settings, now), *files.warnings, *small)
    for warning in (*warnings, *command_warnings(settings.stapling.on_event), *acme_warnings(settings)):
        click.echo(source.warning(warning))
    click.echo(f"{file}: ok")


def describe(sites: tuple[LoadedSite, ...], settings: Settings, now: datetime) -> Iterator[str]:
    """Say what is served, for people: a paragraph a site, below it one for each certificate."""
    from proxy.sites import default_sites

    yield from _front(settings)
    for index, site in enumerate(sites):
        default = " (default)" if index in default_sites(settings) else ""
        yield f"{', '.join(site.names) or 'any name'}{default} -> {_servers(site.settings.upstream)}"
        if site.settings.listen:
            yield f"  on {', '.join(map(str, site.settings.listen))} only"
        yield from _ways(site)
        for identity in site.identities:
            yield from _certificate(identity, site, settings, now)


def folder_problems(settings: Settings) -> tuple[Problem, ...]:
    """Say what would keep the cache's file or the access log from being made; the server makes files, but no folder."""
    from proxy.cache.layout import parse_argument

    cache = parse_argument(settings.stapling.local_cache).path
    paths = {settings.stapling.local_cache_key: cache, "access_log.path": _log_file(settings)}
    return tuple(
        Problem(key, f"the folder {Path(path).parent} does not exist: {_way_out(path)}")
        for key, path in paths.items()
        if path and not Path(path).parent.is_dir()
    )


def _way_out(path: str) -> str:
    if found := re.search(r"\$\{(\w+)\}", path):  # Apache leaves in its place what is not defined
        return f"{found[1]} is not defined: give it with -D {found[1]}=FOLDER, or in the environment"
    return "make it, or give another path"


def acme_warnings(settings: Settings) -> tuple[Problem, ...]:
    """Warn when there is no folder of challenges; it may be that it is made when the first is due."""
    folder = settings.redirect.acme_folder
    if folder is None or folder.is_dir():
        return ()
    return (Problem("redirect.acme_folder", f"there is no folder {folder} yet: no challenge will be found"),)


def cache_warnings(room: Room, key: str) -> tuple[Problem, ...]:
    """Warn when not all responses can be in the cache at a time; `key` is the setting that has its size."""
    if room.fitting == room.count:
        return ()
    advice = f"shmcb:PATH({room.size_for_all}) would do for all" if room.size_for_all else "no size would do for all"
    return (Problem(key, f"{room}, so they take turns: {advice}"),)


def command_warnings(command: tuple[str, ...]) -> tuple[Problem, ...]:
    """Warn when the command could not be run by who checks; the server may have another user."""
    if not command:
        return ()
    path = Path(command[0])
    if os.access(path, os.X_OK) and not path.is_dir():
        return ()
    what = "may not be executed" if os.access(path, os.F_OK) else "does not exist"
    return (Problem("stapling.on_event", f"{path} {what}: no event will be told"),)


def _front(settings: Settings) -> Iterator[str]:
    """Say what is the same for all sites."""
    yield f"listen on {', '.join(map(str, settings.listen))}"
    if trusted := settings.proxy_protocol.trusted:
        yield f"  a PROXY header is required from {', '.join(map(str, trusted))}, and refused from all others"
    if settings.redirect.listen:
        redirect = settings.redirect
        yield f"{redirect.status} to https, port {redirect.https_port}, on {', '.join(map(str, redirect.listen))}"
        if redirect.acme_folder:
            yield f"  /.well-known/acme-challenge/ from {redirect.acme_folder}"
    if settings.access_log.path:
        yield f"access log {_log_file(settings) or 'to standard output'}, {settings.access_log.format}"


def _log_file(settings: Settings) -> str:
    """The path, or nothing where the access log is none or no file."""
    from proxy.accesslog.formats import STDOUT

    path = str(settings.access_log.path or "")
    return "" if path == STDOUT else path


def _ways(site: LoadedSite) -> Iterator[str]:
    """Say how a site's clients get to its backends, as far as it is not the plain way."""
    settings, ca = site.settings, site.client_ca
    for route in settings.route:
        yield f"  {route.prefix} -> {_servers(route.upstream)}{_path_there(route.upstream_path)}"
    if settings.upstream_path is not None:
        yield f"  / ->{_path_there(settings.upstream_path)}"
    if not settings.preserve_host:
        yield "  the backend gets its own name as Host"
    for what, edits in (("request", settings.request_header), ("response", settings.response_header)):
        yield from (f"  {what}: {edit.action} {edit.name}" for edit in edits)
    for each in settings.location_rewrite:
        yield f"  Location {each.url} becomes {each.path}"
    if settings.mode == "tcp":
        header = "no PROXY header" if settings.proxy_protocol == "none" else f"PROXY header {settings.proxy_protocol}"
        alpn = f", ALPN {', '.join(settings.alpn)}" if settings.alpn else ""
        yield f"  mode tcp: bytes are relayed as they are, {header}{alpn}"
    if ca is not None:
        kind = "required" if ca.is_required else "optional"
        crl = f"CRLs of {settings.client_certificate.crl}" if ca.crls else "no CRL"
        yield f"  client certificates are {kind}: CAs of {settings.client_certificate.ca}, {crl}; no session resumes"


def _servers(servers: tuple[UpstreamServer, ...]) -> str:
    return ", ".join(map(str, servers)) or "no backend: 404"


def _path_there(path: str | None) -> str:
    return "" if path is None else f" {path} of the backend"


def _room(sites: tuple[LoadedSite, ...], settings: Settings) -> Room:
    from proxy.cache.layout import parse_argument
    from proxy.sites import stapled_certificates
    from proxy.staples import room_for

    keys = [each.identity.cache_key for each in stapled_certificates(sites, settings)]
    size_bytes = parse_argument(settings.stapling.local_cache).size_bytes
    return room_for(keys, (), size_bytes, settings.stapling.cache_eviction)


def _certificate(identity: Identity, site: LoadedSite, settings: Settings, now: datetime) -> Iterator[str]:
    from proxy.identity import one_line
    from proxy.sites import NOT_STAPLED_BECAUSE, responder_address, responder_urls, why_not_stapled

    ends = identity.leaf.not_valid_after_utc
    reason = why_not_stapled(identity, site.settings, settings)
    addresses = dict.fromkeys(map(responder_address, responder_urls(identity, site.settings, settings)))
    yield f"  {identity.label}"
    yield f"    subject   {one_line(identity.leaf.subject)}"
    yield f"    expires   {ends:%Y-%m-%d %H:%M} UTC, {_days((ends - now).days)}"
    if reason:
        yield f"    stapling  no: {reason}: {NOT_STAPLED_BECAUSE[reason]}"
    else:
        ways = [f"with the file {identity.staple_file}"] if identity.staple_file else []
        ways += [f"asking {', '.join(addresses)}"] if addresses else []
        yield f"    stapling  yes, {', '.join(ways)}"
    if identity.must_staple:
        yield "    must-staple: clients that obey refuse it without a response"


def _days(days: int) -> str:
    return f"in {days} days" if days >= 0 else "expired"

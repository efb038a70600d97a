"""The master: builds all that keeper and workers need, before they are forked, and hands it to the supervisor."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import resource
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from proxy import log, worker
from proxy.accesslog.file import open_log
from proxy.backends import default_host, plan_groups
from proxy.cache.layout import parse_argument
from proxy.cache.reader import CacheReader
from proxy.cache.segment import Segment
from proxy.demand import Demands
from proxy.entrances import entrances
from proxy.errors import ConfigError
from proxy.httpd import build_table, in_handshake, is_httpd, tell
from proxy.inline import Inline, Wire
from proxy.listening import describe, open_sockets, open_unix
from proxy.names import NameTable
from proxy.sites import (
    NOT_STAPLED_BECAUSE,
    is_stapling,
    on_missing,
    site_warnings,
    why_not_stapled,
)
from proxy.staplefile import judge
from proxy.supervisor import Child, Listener, Supervisor
from proxy.tls.context import HTTP_ALPN, SiteTls, build_contexts
from proxy.tls.probe import not_stapled

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from proxy.backends import SiteGroups
    from proxy.httpd import Table
    from proxy.identity import CacheKey
    from proxy.settings.http import HttpSettings
    from proxy.settings.model import Settings
    from proxy.sites import LoadedSite
    from proxy.tls.context import StapleLookup

_log = logging.getLogger("stapleproxy.master")


def run(settings: Settings, sites: tuple[LoadedSite, ...]) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. Raises ConfigError or StartError before anything has begun."""
    log.set_up(settings.log_level, "master")
    now = datetime.now(UTC)
    files = judge(sites, settings, now)
    if files.mistakes:
        raise ConfigError(*files.mistakes)
    for problem in (*site_warnings(sites, settings, now), *files.warnings):
        _log.warning("%s", problem)
    for site in () if is_httpd(settings) else sites:
        for identity in site.identities:
            if why := why_not_stapled(identity, site.settings, settings):
                _log.info("%s: nothing is stapled (%s: %s)", identity.label, why, NOT_STAPLED_BECAUSE[why])
    segment = Segment.create(parse_argument(settings.stapling.cache), settings.stapling.cache_eviction)
    segment.distrust()  # until the keeper has verified again what an earlier run left
    reader = CacheReader(segment)
    demands = Demands()
    inline = None
    if is_httpd(settings):
        table, notes = build_table(sites, settings)
        tell(notes)
        for what in not_stapled(now):
            _log.warning("not as in Apache: clients do not get a response that is %s; OpenSSL leaves it out", what)
        inline = Inline(table, [Wire() for _ in range(settings.worker_count)])
    plan = build_plan(settings, sites, _lookup(reader, demands), (reader, inline.table) if inline else None)
    sockets: list[list[socket.socket]] = [[] for _ in range(settings.worker_count)]
    ends: list[int] = []
    """Of each entrance among a worker's sockets; behind the last of them are the redirecting ones."""
    for addresses in (*(entrance.addresses for entrance in plan.entrances), settings.redirect.listen):
        for own, more in zip(sockets, open_sockets(addresses, settings.worker_count), strict=True):
            own.extend(more)
        ends.append(len(sockets[0]))
    admin = open_unix(settings.admin.socket) if settings.admin.socket else None
    _raise_descriptor_limit()
    if settings.access_log.path:
        os.close(open_log(settings.access_log.path))  # now, where it is told to who started us

    def keep(life_fd: int, ready_fd: int) -> int:
        # Imported here, in the child: aiohttp is of no use to the workers, and would be in the memory of each.
        from proxy.keeper import process  # noqa: PLC0415

        return process.run(sites, settings, segment, demands, admin, life_fd, ready_fd, inline)

    def work(number: int, own: Sequence[socket.socket], life_fd: int, ready_fd: int) -> int:
        segment.leave_lock()
        if admin:
            admin.close()
        reader.count_as(number)
        parts = [own[begin:end] for begin, end in itertools.pairwise([0, *ends])]
        wire = inline.wires[number] if inline else None
        return worker.run(plan, parts[:-1], parts[-1], life_fd, ready_fd, reader.tell, wire)

    def mend() -> None:
        if segment.mend():
            _log.error("the stapling cache's file was cut short by somebody: it is empty now, and filled anew")

    workers = [Listener(number, work, own) for number, own in enumerate(sockets)]
    where = describe(sockets[0][: ends[-2]])
    if redirecting := sockets[0][ends[-2] :]:
        where += f", and redirect from {describe(redirecting)}"
    try:
        return Supervisor(settings, Child("keeper", keep), workers, mend).serve(where)
    finally:
        if settings.admin.socket:
            settings.admin.socket.unlink(missing_ok=True)


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as we may: each client can need two, and the usual soft limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # a kernel's own limit may be lower; then it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _lookup(reader: CacheReader, demands: Demands) -> StapleLookup:
    """What the handshake calls; the keeper is told of what is not there."""

    def look_up(key: CacheKey, now_s: float) -> bytes | None:
        response = reader.get(key, now_s)
        if response is None:
            demands.ask(key, now_s)
        return response

    return look_up


def build_plan(
    settings: Settings,
    sites: tuple[LoadedSite, ...],
    staple: StapleLookup,
    inline: tuple[CacheReader, Table] | None = None,
) -> worker.Plan:
    """What the workers do, contexts included; raises ConfigError with what OpenSSL refuses.

    `inline`: what is stapled in place of what `staple` gives, where it is fetched in handshakes.
    """
    contexts = build_contexts(
        [
            SiteTls(
                f"site[{index}]",
                site.identities,
                site.settings.tls.over(settings.tls),
                is_stapling(site.settings, settings),
                index,
                staple_required=on_missing(site.settings, settings) == "refuse",
                alpn=HTTP_ALPN if site.settings.mode == "http" else tuple(map(str.encode, site.settings.alpn)),
                client_ca=site.client_ca,
                inline=in_handshake(inline[1], index, inline[0]) if inline else None,
            )
            for index, site in enumerate(sites)
        ],
        staple,
    )
    groups, problems = plan_groups(dict(enumerate(sites)))
    if problems:
        raise ConfigError(*problems)
    return worker.Plan(
        tuple(
            worker.Entrance(
                each.addresses,
                NameTable(
                    ((sites[index].names, contexts[index]) for index in each.sites),
                    None if settings.tls.unknown_names == "refuse" else contexts[each.default],
                ),
                has_http=any(settings.site[index].mode == "http" for index in each.sites),
            )
            for each in entrances(settings.listen, dict(enumerate(settings.site)))
        ),
        tuple(_route(site, groups[index], settings.http, sites) for index, site in enumerate(sites)),
        settings.http,
        settings.tls.handshake_timeout_s,
        settings.drain_timeout_s,
        settings.tcp,
        settings.redirect,
        settings.proxy_protocol.trusted,
        settings.limits,
        settings.access_log,
    )


def _route(site: LoadedSite, groups: SiteGroups, http: HttpSettings, sites: Sequence[LoadedSite]) -> worker.Route:
    hosts: NameTable[bool] | None = None
    if http.other_hosts == "refuse":
        hosts = NameTable([(site.names, True)], default=False)
    elif guarded := {name for each in sites if each.client_ca for name in each.names}.difference(site.names):
        # Where sites share a backend, a Host that SNI does not say would lead round the certificate. A name may be one
        # of several sites, each at an address of its own: then it is this site's as well.
        hosts = NameTable([(site.names, True), (guarded, False)], default=True)
    return worker.Route(groups, default_host(site.names), hosts, site.settings)

"""What the workers do, put together before they are forked: TLS contexts, routes, backends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy import worker
from proxy.backends import default_host, plan_groups
from proxy.entrances import entrances
from proxy.errors import ConfigError
from proxy.httpd import in_handshake
from proxy.names import NameTable
from proxy.sites import is_stapling, on_missing
from proxy.tls.context import HTTP_ALPN, SiteTls, build_contexts

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.backends import SiteGroups
    from proxy.cache.reader import CacheReader
    from proxy.demand import Demands
    from proxy.httpd import Table
    from proxy.identity import CacheKey
    from proxy.settings.http import HttpSettings
    from proxy.settings.model import Settings
    from proxy.sites import LoadedSite
    from proxy.tls.context import StapleLookup


def staple_lookup(reader: CacheReader, demands: Demands) -> StapleLookup:
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
    between: Callable[[], None] = lambda: None,
) -> worker.Plan:
    """What the workers do, contexts included; raises ConfigError with what OpenSSL refuses.

    `inline`: what is stapled in place of what `staple` gives, where it is fetched in handshakes. `between` is called
    after each site.
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
        between,
    )
    guarded = frozenset(name for each in sites if each.client_ca for name in each.names)
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
        tuple(_route(site, groups[index], settings.http, guarded) for index, site in enumerate(sites)),
        settings.http,
        settings.tls.handshake_timeout_s,
        settings.drain_timeout_s,
        settings.tcp,
        settings.redirect,
        settings.proxy_protocol.trusted,
        settings.limits,
        settings.access_log,
    )


def _route(site: LoadedSite, groups: SiteGroups, http: HttpSettings, guarded: frozenset[str]) -> worker.Route:
    """`guarded`: the names of the sites that ask for client certificates."""
    hosts: NameTable[bool] | None = None
    if http.other_hosts == "refuse":
        hosts = NameTable([(site.names, True)], default=False)
    elif others := guarded.difference(site.names):
        # Where sites share a backend, a Host that SNI does not say would lead round the certificate. A name may be one
        # of several sites, each at an address of its own: then it is this site's as well.
        hosts = NameTable([(site.names, True), (others, False)], default=True)
    return worker.Route(groups, default_host(site.names), hosts, site.settings)

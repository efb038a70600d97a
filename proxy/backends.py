"""From the settings of sites to the groups of servers that their requests go to, and what is changed on the way."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from proxy import hsts
from proxy.errors import ConfigError
from proxy.http.dial import BackendTls
from proxy.http.fields import as_gateways_read
from proxy.http.group import GroupPlan
from proxy.http.health import HealthCheck
from proxy.http.rewriting import Edit, Location, PathMap, Rewriting
from proxy.http.routes import Routes
from proxy.pem import read_certificates

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from proxy.errors import Problem
    from proxy.settings.model import Site
    from proxy.settings.upstreams import Balance, UpstreamServer
    from proxy.sites import LoadedSite


@dataclass(frozen=True, slots=True)
class SiteGroups:
    """What serves a site: `routes` by prefix, and `default` the rest."""

    default: GroupPlan
    routes: tuple[tuple[str, GroupPlan], ...] = ()
    rewriting: Rewriting | None = None
    """What is changed in heads; None: nothing."""


def plan_groups(sites: Mapping[int, LoadedSite]) -> tuple[dict[int, SiteGroups], list[Problem]]:
    """Plan for each site, by its index in the configuration, and list all mistakes."""
    contexts: dict[Path | None, ssl.SSLContext] = {}
    planned: dict[int, SiteGroups] = {}
    problems: list[Problem] = []
    for index, site in sites.items():
        settings = site.settings
        tls: BackendTls | None = None
        try:
            if _needs_tls(settings):
                if settings.upstream_ca not in contexts:
                    contexts[settings.upstream_ca] = _context(settings.upstream_ca, f"site[{index}].upstream_ca")
                tls = BackendTls(contexts[settings.upstream_ca], settings.upstream_name)
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        check = _health_check(site)
        planned[index] = SiteGroups(
            _group(settings.upstream, settings.balance, tls, check),
            tuple(
                (route.prefix, _group(route.upstream, route.balance or settings.balance, tls, check))
                for route in settings.route
            ),
            rewriting_of(settings),
        )
    return planned, problems


def rewriting_of(site: Site) -> Rewriting | None:
    """Say what a site changes in heads; None: nothing."""
    response = [
        Edit(edit.action, edit.name.lower().encode(), edit.name.encode(), edit.value.encode())
        for edit in site.response_header
    ]
    if strict_transport := hsts.value(site):
        response.append(Edit("set", hsts.NAME.lower().encode(), hsts.NAME.encode(), strict_transport.encode()))
    rewriting = Rewriting(
        site.preserve_host,
        tuple(
            Edit(edit.action, as_gateways_read(edit.name.encode()), edit.name.encode(), edit.value.encode())
            for edit in site.request_header
        ),
        tuple(response),
        tuple(
            Location(each.url.rstrip("/").lower().encode(), each.path.rstrip("/").encode())
            for each in site.location_rewrite
        ),
        _paths(site),
    )
    return None if rewriting == Rewriting() else rewriting


def _paths(site: Site) -> Routes[PathMap | None] | None:
    """With all prefixes, as the longest counts; and the site's own as one, so that its paths are judged as theirs."""
    paths = {"/": site.upstream_path, **{route.prefix: route.upstream_path for route in site.route}}
    if not any(paths.values()):
        return None
    maps = {
        prefix: None if path is None else PathMap(prefix.rstrip("/").encode(), path.rstrip("/").encode())
        for prefix, path in paths.items()
    }
    return Routes(maps.items(), None)


def default_host(names: tuple[str, ...]) -> str:
    """Take a site's first name that is one: a wildcard is no host."""
    return next((name for name in names if not name.startswith("*.")), "localhost")


def _group(
    servers: tuple[UpstreamServer, ...], balance: Balance, tls: BackendTls | None, check: HealthCheck | None
) -> GroupPlan:
    """Leave out what makes no difference: equal plans share their connections."""
    if not any(server.address.is_tls for server in servers):
        tls = None
    if not servers:
        return GroupPlan(())
    if len(servers) == 1:
        return GroupPlan((servers[0]._replace(weight=1),), tls=tls)
    return GroupPlan(servers, balance, tls, check)


def _needs_tls(site: Site) -> bool:
    groups = (site.upstream, *(route.upstream for route in site.route))
    return any(server.address.is_tls for servers in groups for server in servers)


def _context(ca: Path | None, where: str) -> ssl.SSLContext:
    """Make a context that verifies chain and name. Not the library's default, which differs between versions."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    if ca is None:
        context.load_default_certs()
    else:
        # Whatever the file holds is trusted, an intermediate or a self-signed certificate too.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        certificates = read_certificates(ca, where=where)
        context.load_verify_locations(cadata=b"".join(each.public_bytes(Encoding.DER) for each in certificates))
    return context


def _health_check(site: LoadedSite) -> HealthCheck | None:
    health = site.settings.health
    if health.path is None:
        return None
    return HealthCheck(
        health.path,
        default_host(site.names) if site.settings.preserve_host else "",
        health.interval_s,
        health.timeout_s,
        health.healthy_after,
        health.unhealthy_after,
    )

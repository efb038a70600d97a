"""The whole: which virtual hosts are sites, what each has, and what is for all. PURE."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.settings.httpd import headers, http, locks, managed, naming, proxying, stapling, tls
from proxy.settings.httpd.addresses import entrances, listeners
from proxy.settings.httpd.backends import Wishes
from proxy.settings.httpd.block import Server
from proxy.settings.httpd.redirecting import check_rewriting, redirection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.settings.httpd.addresses import Entrance
    from proxy.settings.httpd.block import Block
    from proxy.settings.httpd.redirecting import Redirection
    from proxy.settings.httpd.stapling import Base
    from proxy.settings.httpd.told import Told
    from proxy.settings.httpd.tree import Where
    from proxy.settings.stapling_httpd import Profile
    from proxy.settings.values import ListenAddress


_REFUSED_LATER = {
    "user": "user",
    "group": "group",
    "client_certificate": "sslcacertificatefile",
    "client_certificate.crl": "sslcarevocationfile",
    "stapling.cache": "sslstaplingcache",
    "tls.ciphers": "sslciphersuite",
    "tls.ciphersuites": "sslciphersuite",
    "tls.groups": "sslopensslconfcmd",
    "upstream_ca": "sslproxycacertificatefile",
}


@dataclass(slots=True)
class Draft:
    """The data, and which directive each part is from."""

    data: dict[str, object] = field(default_factory=dict)
    places: dict[str, Where] = field(default_factory=dict)


def settings(
    main_block: Block, blocks: Sequence[Block], base: Base, asked: Profile | None, where: str, told: Told
) -> Draft:
    """Make all settings; what is wrong is told, and left out."""
    main, hosts = Server(main_block, main_block), [Server(block, main_block) for block in blocks]
    _check(main_block, blocks, told)
    doors = entrances(listeners(main_block, blocks, told), main, hosts, told)
    tls_doors = [door for door in doors if _has_tls(door, told)]
    # In the order of the file: at each address the first is the default.
    served = [each for each in (main, *hosts) if any(each is other for door in tls_doors for other in door.servers)]
    for host in hosts:
        if host.own.where and not any(host is each for door in doors for each in door.servers):
            told.warn(host.own.where, "<VirtualHost>: no Listen leads here: it is left out")
    if not served and not told.mistakes:  # else it may be only a consequence
        told.mistake(where, "there is no virtual host with SSLEngine on that a Listen leads to: write both")
    profile = managed.profile_of(served, asked, told)
    wishes = Wishes()
    draft = Draft()
    draft.data["listen"] = [str(door.address) for door in tls_doors]
    if level := http.log_level(main_block, told):
        draft.data["log_level"] = level
    draft.data |= http.account(main_block, told)
    draft.data["tls"] = {"prefer_server_ciphers": False, **tls.table(main_block, told)}
    draft.data["stapling"] = stapling.table(main_block, served, profile, base, told)
    names = _names(served, tls_doors, told)
    sites = [
        _site(number, server, tls_doors, names[number], profile, wishes, base, draft.places, told)
        for number, server in enumerate(served)
    ]
    draft.data["http"] = http.table(served, wishes, told)
    for key, values in (
        ("access_log", http.access_log(served, base, told)),
        ("proxy_protocol", http.proxy_protocol(served, told)),
        (
            "redirect",
            _redirect(doors, tls_doors, frozenset(name for each in names for name in each), base, draft, told),
        ),
        ("site", sites),
    ):
        if values:
            draft.data[key] = values
    _tell_places(main_block, draft.places, "")
    if log := next((found for block in (main_block, *blocks) if (found := block.last("customlog"))), None):
        draft.places["access_log"] = log.where
    if tls_doors:
        draft.places["listen"] = tls_doors[0].directive.where
    return draft


def _check(main: Block, blocks: Sequence[Block], told: Told) -> None:
    """Tell what is wrong also where it has no effect."""
    locks.check(main, told)
    for block in (main, *blocks):
        naming.check_names(block, told)
        managed.check(block, told)
        stapling.own_values(block, told)
        tls.table(block, told)
        for directive in block.all("sslengine"):
            word = directive.arguments[0].lower()
            if word == "optional":
                told.unlike(directive.where, "SSLEngine optional: a connection cannot change to TLS (RFC 2817) here")
            elif word not in {"on", "off"}:
                told.mistake(directive.where, "Argument must be On or Off")


def _has_tls(door: Entrance, told: Told) -> bool:
    """Whether TLS is spoken at an address: what its default server does."""
    engines = [server.last("sslengine") for server in door.servers]
    has_tls = [each is not None and each.arguments[0].lower() == "on" for each in engines]
    if any(each != has_tls[0] for each in has_tls):
        place = next(server.own.where for server, each in zip(door.servers, has_tls, strict=True) if each != has_tls[0])
        what = f"at {door.address} some virtual hosts have SSLEngine on, and others not: all must, or none"
        told.mistake(place or door.directive.where, what)
    return has_tls[0]


def _names(served: Sequence[Server], doors: Sequence[Entrance], told: Told) -> list[list[str]]:
    """List the names of each site; of two with one name at one address Apache takes the first."""
    taken: dict[tuple[ListenAddress, str], Server] = {}
    names: list[list[str]] = []
    for server in served:
        here = [door for door in doors if any(server is each for each in door.servers)]
        kept = []
        for name in naming.names_of(server, told, is_alone=all(len(door.servers) == 1 for door in here)):
            if any(taken.setdefault((door.address, name), server) is not server for door in here):
                told.warn(server.own.where or "", f"{name} is a name of a virtual host before this one, which gets it")
            else:
                kept.append(name)
        if not kept and any(len(door.servers) > 1 for door in here):
            # Without names it would get those in its certificates, which Apache does not look at.
            kept.append(f"_default_{len(names)}")
            if any(door.servers[0] is not server for door in here):
                told.warn(
                    server.own.where or "", "<VirtualHost> without a name of its own: nobody can reach it by name"
                )
        names.append(kept)
    return names


def _site(
    number: int,
    server: Server,
    doors: Sequence[Entrance],
    names: list[str],
    profile: Profile,
    wishes: Wishes,
    base: Base,
    places: dict[str, Where],
    told: Told,
) -> dict[str, object]:
    """Make one [[site]]."""
    at = f"site[{number}]"
    here = [str(door.address) for door in doors if any(server is each for each in door.servers)]
    start = server.own.where or next(
        door.directive.where for door in doors if any(server is each for each in door.servers)
    )
    places[at] = start
    values: dict[str, object] = {}
    if names:
        values["names"] = names
    if len(here) < len(doors):
        values["listen"] = here
    pairs = tls.certificates(server, base, told)
    if not pairs:
        told.mistake(
            start, "AH02240: Server should be SSL-aware but has no certificate configured [Hint: SSLCertificateFile]"
        )
    values["certificate"] = [files for files, _, _ in pairs]
    for index, (_, chain, key_of_it) in enumerate(pairs):
        places[f"{at}.certificate[{index}]"] = chain.where
        places[f"{at}.certificate[{index}].key"] = key_of_it.where
    _tell_places(server.own, places, f"{at}.")
    proxied, from_directives = proxying.table(server, base, wishes, told)
    check_rewriting(server, proxied["upstream"], told)
    values.update(proxied)
    places.update({f"{at}.{key}": directive.where for key, directive in from_directives.items()})
    values.update(headers.table(server, told))
    tables = (
        ("stapling", stapling.site_table(server, profile, base, told)),
        ("tls", {} if server.is_main else tls.table(server.own, told)),
        ("client_certificate", tls.client_certificates(server, base, told)),
    )
    return values | {key: further for key, further in tables if further}


def _tell_places(block: Block, places: dict[str, Where], prefix: str) -> None:
    """Say where a setting is from that may still be refused, by the system or by OpenSSL."""
    for key, name in _REFUSED_LATER.items():
        if found := block.last(name):
            places[prefix + key] = found.where


def _redirect(
    doors: Sequence[Entrance],
    tls_doors: Sequence[Entrance],
    names: frozenset[str],
    base: Base,
    draft: Draft,
    told: Told,
) -> dict[str, object]:
    """Make the table [redirect] of the addresses without TLS."""
    found: dict[int, Redirection] = {}
    listen: list[str] = []
    for door in doors:
        if door in tls_doors:
            continue
        here = [(server, redirection(server, names, base, told)) for server in door.servers]
        for server, each in here:
            if each is not None:
                found.setdefault(id(server), each)
            elif len(here) > 1 or not server.is_main:
                place = server.own.where or door.directive.where
                told.unlike(place, f"at {door.address} there is no TLS: there can only be a redirection of / to https")
            else:
                told.warn(door.directive.where, f"nothing is served at {door.address}: no virtual host is for it")
        if any(each is not None for _, each in here):
            listen.append(str(door.address))
    if not listen:
        return {}
    first, *others = found.values()
    for other in others:
        if (other.status, other.https_port) != (first.status, first.https_port):
            told.unlike(other.directive.where, "redirections differ in status or port: there is one for all addresses")
    folders = dict.fromkeys(each.acme_folder for each in found.values() if each.acme_folder)
    if len(folders) > 1:
        told.unlike(first.directive.where, f"there is one folder for ACME challenges, and not {len(folders)}")
    draft.places["redirect"] = first.directive.where
    values: dict[str, object] = {"listen": listen, "status": first.status, "https_port": first.https_port}
    if folders:
        values["acme_folder"] = next(iter(folders))
    return values

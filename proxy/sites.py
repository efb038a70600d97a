"""The sites of a configuration with their certificates read, and what is to be stapled for them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from proxy import clientca, entrances
from proxy.errors import ConfigError, Problem
from proxy.identity import Identity, KnownIssuer, key_kind, load_identity
from proxy.identity import warnings as identity_warnings
from proxy.keyfile import exposure
from proxy.pem import read_certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from proxy.identity import CacheKey
    from proxy.settings.model import IssuerStapling, Settings, Site
    from proxy.settings.values import OnMissing, OnRevoked


@dataclass(frozen=True, slots=True)
class LoadedSite:
    """A site as it is served."""

    settings: Site
    identities: tuple[Identity, ...]
    """In the order of the file, each with another kind of key."""
    names: tuple[str, ...]
    """As configured, or those of all its certificates."""
    client_ca: clientca.ClientCa | None = None
    """Whose client certificates it takes; None: it asks for none."""


@dataclass(frozen=True, slots=True)
class StapledCertificate:
    """One certificate for which responses are fetched, however many sites use it."""

    identity: Identity
    responder_urls: tuple[str, ...]
    """To be tried in this order; none: all that there is, is the staple file."""
    names: tuple[str, ...]
    """Of the sites that staple it."""
    on_revoked: OnRevoked = "withhold"
    fetch_issuer: bool = False
    """Its issuer is not known, and is to be fetched from where the certificate says."""


class NotStapled(StrEnum):
    """Why no response is fetched for a certificate: one word for the log and for `check`."""

    DISABLED = "disabled"
    NO_OCSP_URI = "no-ocsp-uri"
    NO_ISSUER = "no-issuer"


NOT_STAPLED_BECAUSE: Mapping[NotStapled, str] = {
    NotStapled.DISABLED: "the configuration turns stapling off",
    NotStapled.NO_OCSP_URI: "the certificate names no OCSP responder, which is normal today: TLS works all the same",
    NotStapled.NO_ISSUER: "the issuer's certificate was not found",
}
"""The sentence to each word."""


def load_sites(settings: Settings) -> tuple[LoadedSite, ...]:
    """Read all certificates and keys; ConfigError has the mistakes of all sites."""
    known, problems = read_issuers(dict(enumerate(settings.stapling.issuer)))
    sites, further = read_sites(dict(enumerate(settings.site)), known)
    if problems + further:
        raise ConfigError(*problems, *further)
    return tuple(sites.values())


def read_issuers(issuers: Mapping[int, IssuerStapling]) -> tuple[list[KnownIssuer], list[Problem]]:
    """Read the issuers that the configuration names for all sites, and list all mistakes."""
    known: list[KnownIssuer] = []
    problems: list[Problem] = []
    for index, each in issuers.items():
        where = f"stapling.issuer[{index}].certificate"
        try:
            known.append(KnownIssuer(read_certificates(each.certificate, where=where), each.responder_url))
        except ConfigError as error:
            problems.extend(error.problems)
    return known, problems


def read_sites(
    sites: Mapping[int, Site], known: Sequence[KnownIssuer] = (), between: Callable[[], None] = lambda: None
) -> tuple[dict[int, LoadedSite], list[Problem]]:
    """Read what can be read, and list all mistakes; a site's key is its index in the configuration."""
    problems: list[Problem] = []
    loaded: dict[int, LoadedSite] = {}
    for index, site in sites.items():
        loaded[index] = _load_site(site, f"site[{index}]", known, problems)
        between()
    problems.extend(entrances.mistakes(sites, {index: site.names for index, site in loaded.items()}))
    return loaded, problems


def exposed_keys(sites: Mapping[int, Site]) -> Iterator[Problem]:
    """List the private keys that nobody should serve with, since everybody on this machine can get at them."""
    for index, site in sites.items():
        for number, files in enumerate(site.certificate):
            found = exposure(files.key, "the private key")
            if found and found.is_refused:
                yield Problem(f"site[{index}].certificate[{number}].key", found.what)


def default_sites(settings: Settings) -> frozenset[int]:
    """Tell which sites answer clients that send no name, or one that no site has: one at each address."""
    return frozenset(each.default for each in entrances.entrances(settings.listen, dict(enumerate(settings.site))))


def site_warnings(sites: tuple[LoadedSite, ...], settings: Settings, now: datetime) -> tuple[Problem, ...]:
    """List what the operator should know although the server starts."""
    found = []
    defaults = default_sites(settings)
    for index, site in enumerate(sites):
        for number, identity in enumerate(site.identities):
            where = f"site[{index}].certificate[{number}]"
            found += [Problem(f"{where}: {each.where}", each.what) for each in identity_warnings(identity, now)]
            found += [Problem(f"{where}: {identity.label}", what) for what in _impossible(identity, site, settings)]
        found += [
            Problem(f"site[{index}].names", f"no certificate of this site is for {name}: clients will refuse it")
            for name in _not_covered(site)
        ]
        if site.client_ca:
            where = f"site[{index}].client_certificate.crl"
            found += [Problem(where, what) for what in clientca.stale_crls(site.client_ca, now)]
        if not site.names and index not in defaults:
            what = "no client can reach this site: its certificates have no DNS name; set `names`"
            found.append(Problem(f"site[{index}].names", what))
    return tuple(found)


def _impossible(identity: Identity, site: LoadedSite, settings: Settings) -> Iterator[str]:
    """Say what cannot come true of what the certificate or the configuration promises."""
    if settings.stapling.profile != "prefetch":
        return  # Apache has its own words, and promises nothing
    why = why_not_stapled(identity, site.settings, settings)
    if why is NotStapled.NO_ISSUER:
        hint = ", or set stapling.fetch_issuer" if identity.ca_issuers else ""
        yield (
            "no stapling, because the issuer's certificate was not found: "
            f"add the intermediate to the chain file, or name its file as the issuer{hint}"
        )
    if why and identity.must_staple:
        yield f"the certificate says must-staple, but nothing can be stapled ({why}): clients that obey will refuse it"
    if why and why is not NotStapled.DISABLED and on_missing(site.settings, settings) == "refuse":
        yield f"nothing can be stapled ({why}), and on_missing refuses every client that asks for a response"
    lifetime_s = (identity.leaf.not_valid_after_utc - identity.leaf.not_valid_before_utc).total_seconds()
    if not why and settings.stapling.refresh_min_interval_s >= lifetime_s:
        yield f"the certificate is valid for {lifetime_s:g} s only: refresh_min_interval_s must be less"


def contradictions(sites: tuple[LoadedSite, ...], settings: Settings) -> Iterator[Problem]:
    """List what sites say differently of one certificate, which has one entry in the cache for all of them."""
    if settings.stapling.profile != "prefetch":
        return  # each site judges that entry by itself
    said: dict[tuple[CacheKey, str], tuple[object, str]] = {}
    for index, site in enumerate(sites):
        for identity in site.identities:
            if why_not_stapled(identity, site.settings, settings):
                continue
            for name, value in (
                ("on_revoked", on_revoked(site.settings, settings)),
                ("staple", identity.staple_file and str(identity.staple_file)),
            ):
                first, where = said.setdefault((identity.cache_key, name), (value, f"site[{index}]"))
                if first != value:
                    what = f"{where} has {first or 'none'} for the same certificate, here it is {value or 'none'}"
                    yield Problem(f"site[{index}]", f"{name}: {what}: say the same in both")


def _not_covered(site: LoadedSite) -> list[str]:
    covered = {name for identity in site.identities for name in identity.names}
    return [name for name in site.names if not covered & {name, f"*.{name.partition('.')[2]}"}]


def stapled_certificates(sites: Sequence[LoadedSite], settings: Settings) -> tuple[StapledCertificate, ...]:
    """List what the keeper fetches for: each certificate once, whichever sites staple it."""
    found: dict[CacheKey, StapledCertificate] = {}
    for site in sites:
        for identity in site.identities:
            if why_not_stapled(identity, site.settings, settings):
                continue
            urls, names = responder_urls(identity, site.settings, settings), site.names
            if (known := found.get(identity.cache_key)) is not None:
                # Two sites may name a responder each for the same certificate: either can answer.
                urls, names = (*known.responder_urls, *urls), (*known.names, *names)
                identity = known.identity  # noqa: PLW2901  as the first site loaded it
            found[identity.cache_key] = StapledCertificate(
                identity,
                tuple(dict.fromkeys(urls)),
                tuple(dict.fromkeys(names)),
                on_revoked(site.settings, settings),
                fetch_issuer=identity.issuer is None,
            )
    return tuple(found.values())


def is_stapling(site: Site, settings: Settings) -> bool:
    """Tell whether stapling is on for a site: its own word goes before the global one."""
    return settings.stapling.enabled if site.stapling.enabled is None else site.stapling.enabled


def on_revoked(site: Site, settings: Settings) -> OnRevoked:
    return site.stapling.on_revoked or settings.stapling.on_revoked


def on_missing(site: Site, settings: Settings) -> OnMissing:
    return site.stapling.on_missing or settings.stapling.on_missing


def responder_urls(identity: Identity, site: Site, settings: Settings) -> tuple[str, ...]:
    """Give the responders to ask: the site's, the issuer's, the global one, else those that the certificate names."""
    chosen = site.stapling.responder_url or identity.issuer_responder or settings.stapling.responder_url
    return (chosen,) if chosen else identity.ocsp_uris


def responder_address(url: str) -> str:
    """Give HOST:PORT of a responder: what a firewall must let out."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def why_not_stapled(identity: Identity, site: Site, settings: Settings) -> NotStapled | None:
    """Say why nothing is fetched for a certificate of a site; None: it is stapled."""
    if not is_stapling(site, settings):
        return NotStapled.DISABLED
    urls = responder_urls(identity, site, settings)
    if not urls and not identity.staple_file:
        return NotStapled.NO_OCSP_URI
    may_fetch_issuer = settings.stapling.fetch_issuer and identity.ca_issuers and urls  # it is fetched on the way there
    return None if identity.issuer or may_fetch_issuer else NotStapled.NO_ISSUER


def _load_site(site: Site, where: str, known: Sequence[KnownIssuer], problems: list[Problem]) -> LoadedSite:
    """Read what can be read and add what cannot to `problems`."""
    identities: dict[str, Identity] = {}
    if site.stapling.issuers:
        try:
            own = read_certificates(site.stapling.issuers, where=f"{where}.stapling.issuers")
            known = [*known, KnownIssuer(own, None)]
        except ConfigError as error:
            problems.extend(error.problems)
    for number, files in enumerate(site.certificate):
        place = f"{where}.certificate[{number}]"
        try:
            identity = load_identity(files, where=place, known=known)
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        kind = key_kind(identity.key)
        if kind in identities:
            # OpenSSL has one slot for each kind of key: the second would push out the first in silence.
            what = f"the site has a certificate with an {kind} key already: {identities[kind].label}"
            problems.append(Problem(place, what))
        identities.setdefault(kind, identity)
    found = tuple(identities.values())
    client_ca = None
    try:
        client_ca = clientca.load(site.client_certificate, where=f"{where}.client_certificate")
    except ConfigError as error:
        problems.extend(error.problems)
    names = site.names or tuple(dict.fromkeys(name for each in found for name in each.names))
    return LoadedSite(site, found, names, client_ca)

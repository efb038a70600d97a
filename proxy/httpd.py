"""The sites of a configuration as Apache's mod_ssl staples them: what is stapled, by whose settings, asked where.

One table of certificates is for all sites, each site judges by its own settings (`ssl_stapling_init_cert`). The master
makes it; workers decide with it in handshakes, the keeper in fetches.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID as Access

from proxy.identity import find_issuer
from proxy.ocsp.httpd import Outcome, Rules
from proxy.ocsp.httpd_check import CertId
from proxy.ocsp.httpd_notes import NOTES, words
from proxy.sites import is_stapling
from proxy.tls.inline import StapleWantedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from proxy.cache.reader import CacheReader
    from proxy.identity import CacheKey, Identity
    from proxy.ocsp.httpd_notes import Level, Note
    from proxy.settings.model import Settings
    from proxy.sites import LoadedSite
    from proxy.tls.inline import InlineLookup

_log = logging.getLogger("stapleproxy.httpd")

_LEVELS: Mapping[Level, int] = {"debug": logging.DEBUG, "info": logging.INFO, "error": logging.ERROR}


def tell(notes: Iterable[Note], name: str = "") -> None:
    """Write lines of the log, by Apache's numbers; `name`: what the site is called that they are about."""
    for note in notes:
        level = _LEVELS[NOTES[note[0]][0]]
        if _log.isEnabledFor(level):
            _log.log(level, "%s", words(note, name))


@dataclass(frozen=True, slots=True)
class Certificate:
    """One that is stapled."""

    cert_id: CertId
    uri: str | None
    """The first OCSP URI in it, whatever its scheme."""


@dataclass(frozen=True, slots=True)
class Table:
    """What is stapled, and how."""

    certificates: Mapping[CacheKey, Certificate]
    rules: tuple[Rules, ...]
    """Of each site, by its index."""
    names: tuple[str, ...] = ()
    """The first of each site's: without it nobody could tell apart the lines of handshakes that go on side by side."""

    def name(self, site: int) -> str:
        """Give what a site is called in the log."""
        return self.names[site] if self.names else ""

    def uri(self, key: CacheKey, site: int) -> str | None:
        """Where a certificate is asked about when a client of a site wants it; None: nowhere."""
        return self.rules[site].settings.force_url or self.certificates[key].uri


def is_httpd(settings: Settings) -> bool:
    """Tell whether stapling is as in Apache."""
    return settings.stapling.profile != "prefetch"


def build_table(sites: Sequence[LoadedSite], settings: Settings) -> tuple[Table, list[Note]]:
    """Make the table; and the lines that Apache writes of what cannot be stapled, which stops nobody."""
    certificates: dict[CacheKey, Certificate] = {}
    notes: list[Note] = []
    owns = [site.settings.stapling.httpd.over(settings.stapling.httpd) for site in sites]
    names = [next(iter(site.names), "") for site in sites]
    # Apache goes through its virtual hosts from the last to the first.
    for index, site in reversed(list(enumerate(sites))):
        own, name = owns[index], names[index]
        if not is_stapling(site.settings, settings):
            continue
        for identity in site.identities:
            where = f"[{name}] site[{index}], {identity.label}"
            uri = _first_uri(identity.leaf)
            issuer = _issuer(identity, site)
            if issuer is None:
                notes += [(2217, where), (2604, where)]
            elif not uri and own.force_url is None:
                # One that another site has put into the table stays there: clients of this site, too, get what is
                # in the cache, and the alert when nothing is.
                notes += [(2814 if identity.cache_key in certificates else 2218, where), (2604, where)]
            else:
                certificates.setdefault(identity.cache_key, Certificate(CertId.of(identity.leaf, issuer), uri))
    rules = tuple(Rules(own, settings.stapling.profile == "httpd-trunk") for own in owns)
    return Table(certificates, rules, tuple(names)), notes


def in_handshake(table: Table, site: int, reader: CacheReader) -> InlineLookup:
    """Make what a site's handshakes decide by (`stapling_cb`), as far as it goes without a fetch."""
    rules, name = table.rules[site], table.name(site)

    def decide(key: CacheKey, now_s: float) -> bytes:
        tell([(1951,)], name)
        certificate = table.certificates.get(key)
        if certificate is None:
            tell([(1926, f"certificate {key.hex()}")], name)
            return b""
        decision = rules.judge(reader.get(key, now_s), certificate.cert_id, now_s)
        tell([(1952,), *decision.notes], name)
        if decision.outcome is Outcome.FETCH:
            tell([(1954,)], name)
            raise StapleWantedError(site, key)
        if decision.outcome is Outcome.STAPLE:
            tell([(1956,)], name)
        return decision.staple

    return decide


def _issuer(identity: Identity, site: LoadedSite) -> x509.Certificate | None:
    """Find it in the chain, else among those whose client certificates the site takes, as Apache does."""
    if identity.issuer is None and site.client_ca is not None:
        return find_issuer(identity.leaf, tuple(site.client_ca.authorities))
    return identity.issuer


def _first_uri(leaf: x509.Certificate) -> str | None:
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return None
    for each in access:
        if each.access_method == Access.OCSP and isinstance(each.access_location, x509.UniformResourceIdentifier):
            return each.access_location.value
    return None

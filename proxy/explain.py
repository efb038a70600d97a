"""What there is to know about a certificate and its stapling, as plain values: for text, for JSON, for a decision.

No I/O here: what responders and servers answered comes in as values.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID as Access

from proxy.errors import FetchFailed, StapleRejected
from proxy.identity import access_uris, dns_names, find_issuer, is_self_signed, one_line, says_must_staple
from proxy.ocsp.response import CertStatus, Rules, require_good, require_nonce, verify
from proxy.sites import NotStapled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography import x509

    from proxy.forecast import Forecast
    from proxy.identity import Identity
    from proxy.settings.values import OnRevoked


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an OCSP response says, and whether it would be stapled."""

    would_staple: bool
    reason: str | None
    """Why not, in one word; None: it would."""
    detail: str | None
    """Why not, in one sentence."""
    status: str | None = None
    """``good``, ``revoked`` or ``unknown``; None: nothing that is proved."""
    this_update: datetime | None = None
    next_update: datetime | None = None
    signer: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """How a responder answered just now."""

    verdict: Verdict
    method: str | None = None
    """``GET`` or ``POST``; ``connect``: only that it can be reached was tried; None: it failed."""
    elapsed_s: float | None = None
    """Until the answer, or until it failed."""


@dataclass(frozen=True, slots=True)
class Responder:
    """Where to ask, and what a firewall must let out for it."""

    uri: str
    origin: str
    """``certificate``, or ``configuration`` where that names another responder."""
    host: str
    port: int
    answer: Answer | None = None
    """None: it was not asked."""


@dataclass(frozen=True, slots=True)
class Explained:
    """One leaf certificate."""

    source: str
    """File, place in the configuration, or server."""
    subject: str
    issuer_name: str
    serial: str
    names: tuple[str, ...]
    key: str
    not_before: datetime
    not_after: datetime
    issuer_found: bool
    issuer_source: str | None
    """Where the issuer's certificate is; None: it was not found."""
    self_signed: bool
    """There is no other certificate that could be its issuer's."""
    must_staple: bool
    responders: tuple[Responder, ...]
    ca_issuers: tuple[str, ...]
    not_stapled: str | None
    """Why no response is even asked for: ``no-ocsp-uri``, ``no-issuer`` or ``disabled``."""
    staple_file: str | None = None
    """What is in it is stapled, by the configuration."""
    server_staple: Verdict | None = None
    """Of the staple that a server sent; None: it sent none, or no server was asked."""

    @property
    def is_failing(self) -> bool:
        """Something that is meant to be stapled would not be; known only once the responders were asked.

        Without an OCSP URI nothing is meant to be, unless the certificate itself says that clients will insist.
        """
        if self.server_staple is not None and not self.server_staple.would_staple:
            return True
        if self.not_stapled == NotStapled.NO_OCSP_URI:
            return self.must_staple
        if self.not_stapled is not None:
            return self.not_stapled == NotStapled.NO_ISSUER
        answers = [each.answer for each in self.responders if each.answer is not None]
        return bool(answers) and not any(answer.verdict.would_staple for answer in answers)


@dataclass(frozen=True, slots=True)
class Leaf:
    """What is explained: a certificate with its issuer, and what a configuration says about it."""

    certificate: x509.Certificate
    issuer: x509.Certificate | None
    issuer_source: str | None
    source: str
    configured_urls: tuple[str, ...] = ()
    is_disabled: bool = False
    identity: Identity | None = None
    """As a configuration has it; None: it is in none."""
    fetches_issuer: bool = False
    """Its issuer's certificate is fetched from where it says."""
    on_revoked: OnRevoked = "withhold"


def leaves_of(chain: Sequence[x509.Certificate], source: str, issuer_source: str) -> list[Leaf]:
    """Pick the certificates that are nobody's issuer in `chain`: a file may hold an RSA and an EC one."""
    issuing = {each.issuer for each in chain if each.issuer != each.subject}
    picked = [each for each in chain if each.subject not in issuing] or list(chain[:1])
    found = []
    for certificate in picked:
        issuer = find_issuer(certificate, tuple(chain))
        found.append(Leaf(certificate, issuer, issuer_source if issuer else None, source))
    return found


def explain_leaf(leaf: Leaf) -> Explained:
    """Read the certificate. Raises what `cryptography` does when it holds something that cannot be read."""
    certificate = leaf.certificate
    uris = leaf.configured_urls or access_uris(certificate, Access.OCSP)
    staple_file = leaf.identity.staple_file if leaf.identity else None
    not_stapled = None
    if leaf.is_disabled:
        not_stapled = NotStapled.DISABLED
    elif not uris and not staple_file:
        not_stapled = NotStapled.NO_OCSP_URI
    elif leaf.issuer is None and not (leaf.fetches_issuer and uris):
        not_stapled = NotStapled.NO_ISSUER
    return Explained(
        source=leaf.source,
        subject=one_line(certificate.subject),
        issuer_name=one_line(certificate.issuer),
        serial=f"{certificate.serial_number:x}",
        names=dns_names(certificate),
        key=_key_text(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        issuer_found=leaf.issuer is not None,
        issuer_source=leaf.issuer_source,
        self_signed=is_self_signed(certificate),
        must_staple=says_must_staple(certificate),
        responders=tuple(_responder(uri, "configuration" if leaf.configured_urls else "certificate") for uri in uris),
        ca_issuers=access_uris(certificate, Access.CA_ISSUERS),
        not_stapled=not_stapled,
        staple_file=str(staple_file) if staple_file else None,
    )


def judge(der: bytes, leaf: Leaf, now: datetime, rules: Rules, nonce: bytes | None = None) -> Verdict:
    """Say of a response what the proxy would do with it. `nonce`: what it was asked with, and must repeat."""
    if leaf.issuer is None:
        return Verdict(False, NotStapled.NO_ISSUER, "without the issuer's certificate no response can be checked")
    try:
        staple = verify(der, leaf=leaf.certificate, issuer=leaf.issuer, now=now, rules=rules)
        if nonce is not None:
            require_nonce(der, nonce)
    except StapleRejected as error:
        return refused(error)
    verdict = Verdict(True, None, None, staple.status, staple.this_update, staple.next_update, staple.signer)
    if staple.status is CertStatus.REVOKED and leaf.on_revoked == "staple":
        return verdict
    try:
        require_good(staple)
    except StapleRejected as error:
        return replace(verdict, would_staple=False, reason=error.reason, detail=error.detail)
    return verdict


def refused(error: StapleRejected | FetchFailed) -> Verdict:
    return Verdict(False, str(error.reason), error.detail)


def remarks(explained: Explained, now: datetime) -> list[str]:
    """Say in sentences what an operator should know or do."""
    said = []
    if explained.not_after < now:
        said.append(f"The certificate expired on {explained.not_after:%Y-%m-%d %H:%M} UTC: renew it.")
    if explained.not_before > now:
        said.append(f"The certificate is not valid before {explained.not_before:%Y-%m-%d %H:%M} UTC.")
    match explained.not_stapled:
        case NotStapled.NO_OCSP_URI:
            said.append(
                "The certificate names no OCSP responder, so nothing will be stapled. That is normal today: "
                "Let's Encrypt and other public CAs have ended OCSP. TLS works all the same."
            )
        case NotStapled.NO_ISSUER if explained.self_signed:
            said.append("Nothing will be stapled: the certificate is self-signed, and no issuer vouches for it.")
        case NotStapled.NO_ISSUER:
            said.append(
                "Nothing will be stapled, because the issuer's certificate was not found: "
                "add the intermediate to the chain file, or name its file as the issuer."
                + "".join(f" It can be had at {uri}." for uri in explained.ca_issuers[:1])
            )
        case NotStapled.DISABLED:
            said.append("Stapling is off for this site by the configuration.")
    if explained.must_staple and explained.not_stapled is not None:
        said.append("But the certificate says must-staple: clients that obey refuse a handshake without a staple.")
    return said


def firewall_rule(responder: Responder) -> str:
    return f"tcp {responder.port} to {responder.host}"


def to_json(
    target: str, kind: str, explained: Iterable[Explained], forecast: Iterable[Forecast] | None
) -> dict[str, object]:
    """Give plain values whose keys are the fields above; times in RFC 3339."""
    return {
        "target": target,
        "kind": kind,
        "certificates": [_plain(asdict(each)) for each in explained],
        "forecast": None if forecast is None else [each.to_json() for each in forecast],
    }


def _plain(value: object) -> object:
    match value:
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case datetime():
            return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return value


def _key_text(certificate: x509.Certificate) -> str:
    match certificate.public_key():
        case rsa.RSAPublicKey() as key:
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey() as key:
            return f"EC {key.curve.name}"
        case key:
            return type(key).__name__.removesuffix("PublicKey")


def _responder(uri: str, origin: str) -> Responder:
    parts = urlsplit(uri)
    return Responder(uri, origin, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))

"""What a front does besides HTTP over TLS: raw relay, the PROXY protocol, the redirecting port, client certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from proxy.errors import Problem
from proxy.settings.base import Model
from proxy.settings.rewriting import SiteRewriting
from proxy.settings.values import NOT_REPEATED, FileName, Flag, ListenAddresses, Seconds, TrustedNetwork, Whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.settings.model import Settings, Site

Mode = Literal["http", "tcp"]
ProxyProtocol = Literal["none", "v1", "v2"]

_ONLY_HTTP = ("route", "hsts_max_age_s", "hsts_include_subdomains", "hsts_preload", "upstream_ca", "upstream_name")
_MIN_PRELOAD_S = 31_536_000
"""hstspreload.org takes no less than a year."""


def _check_protocol(name: str) -> str:
    # RFC 7301 3.1: from 1 to 255 octets.
    if not 0 < len(name) <= 255 or not name.isascii() or not name.isprintable():
        raise ValueError('must be the name of a protocol, such as "imap" or "http/1.1"')
    return name


Protocol = Annotated[str, Field(strict=True), AfterValidator(_check_protocol)]


class ProxyProtocolSettings(Model):
    """Who the client is, as load balancers in front tell it."""

    trusted: tuple[TrustedNetwork, ...] = Field(
        (),
        description="load balancers: from these a PROXY header (v1 or v2) is required, from all others it is refused",
    )


class TcpSettings(Model):
    """Limits of sites in mode tcp."""

    connect_timeout_s: Seconds = Field(10, description="connecting to the backend; the client is cut off after that")
    idle_timeout_s: Seconds = Field(600, description="a connection on which nothing moves for so long is cut off")


class RedirectSettings(Model):
    """A port without TLS that sends everybody to https."""

    listen: ListenAddresses = Field((), description="where to accept connections; none: nowhere")
    status: Literal[301, 308] = Field(301, description="308 keeps the method of a POST, 301 is what everybody knows")
    https_port: Whole = Field(443, ge=1, le=65_535, description="the port to send to, as clients see it")
    acme_folder: FileName | None = Field(
        None, description="the files in it are served below /.well-known/acme-challenge/, to prove the host to a CA"
    )


class ClientCertificates(Model):
    """Certificates that clients have to show, or may."""

    mode: Literal["none", "optional", "require"] = Field(
        "none", description="none are asked for; a client may have none; or needs one. One that is wrong is refused"
    )
    ca: FileName | None = Field(
        None, validate_default=True, description="PEM: the roots of client certificates, and intermediates"
    )
    crl: FileName | None = Field(
        None, description="PEM: a CRL of each CA in that file; one that is out of date lets nobody in"
    )
    depth: Whole = Field(3, ge=0, le=100, description="most intermediates between a client's certificate and a root")

    @field_validator("ca")
    @classmethod
    def _ca_is_named(cls, path: object, info: ValidationInfo) -> object:
        if path is None and info.data.get("mode", "none") != "none":
            raise PydanticCustomError(NOT_REPEATED, "is missing: the file with the CAs of client certificates")
        return path


class SiteModes(Model):
    """The part of a site that is about more than HTTP."""

    mode: Mode = Field("http", description="after TLS requests are proxied, or with tcp bytes relayed as they are")
    alpn: tuple[Protocol, ...] = Field(
        (), max_length=16, description="mode tcp: protocols to agree on, most wanted first; none: ALPN is not looked at"
    )
    proxy_protocol: ProxyProtocol = Field(
        "none", description="mode tcp: the header that tells the backend who the client is"
    )
    hsts_max_age_s: Whole | None = Field(
        None, ge=0, le=315_360_000, description="Strict-Transport-Security in each answer, instead of the backend's own"
    )
    hsts_include_subdomains: Flag = Field(False, description="with includeSubDomains")
    hsts_preload: Flag = Field(False, description="with preload: browsers may have it built in, which is hard to undo")
    client_certificate: ClientCertificates = Field(ClientCertificates(), description="see the table")


def contradictions(settings: Settings) -> Iterator[Problem]:
    """List settings that are right each by itself, and do not go together."""
    for address in settings.redirect.listen:
        if address.port and address in settings.listen:
            yield Problem("redirect.listen", f"{address} is in listen as well: one port cannot be both")
    for index, site in enumerate(settings.site):
        found = _of_tcp(site) if site.mode == "tcp" else _of_http(site)
        yield from (Problem(f"site[{index}].{key}", what) for key, what in found)


def _of_tcp(site: Site) -> Iterator[tuple[str, str]]:
    no_http = 'is about HTTP, and this site has mode = "tcp": leave it out'
    for key in (*_ONLY_HTTP, *SiteRewriting.model_fields):
        if getattr(site, key) != type(site).model_fields[key].default:
            yield key, no_http
    if site.health.path is not None:
        yield "health.path", no_http
    if site.balance != "round-robin" or any(server.weight != 1 for server in site.upstream):
        yield "upstream", 'with mode = "tcp" the backends get connections in turn: leave out weights and balance'
    if not site.upstream:
        yield "upstream", 'with mode = "tcp" there must be a backend: write tcp://HOST:PORT or unix:/PATH'
    if any(not (server.address.is_raw or server.address.path) for server in site.upstream):
        yield "upstream", 'with mode = "tcp" write tcp://HOST:PORT or unix:/PATH'


def _of_http(site: Site) -> Iterator[tuple[str, str]]:
    upstreams = [("upstream", site.upstream)]
    upstreams += [(f"route[{number}].upstream", route.upstream) for number, route in enumerate(site.route)]
    for where, servers in upstreams:
        if any(server.address.is_raw for server in servers):
            yield where, 'tcp:// is for mode = "tcp"; write http://HOST:PORT'
    if site.alpn:
        yield "alpn", 'is for mode = "tcp": with HTTP it is always http/1.1'
    if site.proxy_protocol != "none":
        yield (
            "proxy_protocol",
            'is for mode = "tcp": with HTTP clients share the connections to a backend, and X-Forwarded-For tells who',
        )
    if site.hsts_max_age_s is None:
        for key in ("hsts_include_subdomains", "hsts_preload"):
            if getattr(site, key):
                yield key, "is a part of Strict-Transport-Security: set hsts_max_age_s as well"
    elif site.hsts_preload and (site.hsts_max_age_s < _MIN_PRELOAD_S or not site.hsts_include_subdomains):
        yield "hsts_preload", "is for a year or more and all subdomains: set hsts_max_age_s and hsts_include_subdomains"

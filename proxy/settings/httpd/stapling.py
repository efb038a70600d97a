"""What mod_ssl's directives say about stapling. PURE.

A value of a virtual host goes before the main server's, field by field: so the main server's are those of `[stapling]`,
and a site has what its virtual host says itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from proxy.cache.layout import parse_argument
from proxy.settings.caching import parse_redis
from proxy.settings.httpd import managed
from proxy.settings.httpd.numbers import atoi
from proxy.settings.values import check_http_url

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.settings.httpd.block import Block, Server
    from proxy.settings.httpd.told import Told
    from proxy.settings.httpd.tree import Directive
    from proxy.settings.stapling_httpd import Profile

NOT_SERVED = ("dbm", "dc", "memcache")
"""Providers that an Apache may have, by the modules of its distribution."""

_WHOLE = {
    "SSLStaplingResponderTimeout": "responder_timeout_s",
    "SSLStaplingResponseTimeSkew": "response_time_skew_s",
    "SSLStaplingResponseMaxAge": "response_max_age_s",
    "SSLStaplingStandardCacheTimeout": "standard_cache_timeout_s",
    "SSLStaplingErrorCacheTimeout": "error_cache_timeout_s",
}
_FLAGS = {
    "SSLStaplingReturnResponderErrors": "return_responder_errors",
    "SSLStaplingFakeTryLater": "fake_try_later",
}


@dataclass(frozen=True, slots=True)
class Base:
    """What relative names are relative to."""

    server_root: Path

    def file(self, name: str) -> str:
        """Make a name absolute."""
        return str(self.server_root / name)


def own_values(block: Block, told: Told) -> dict[str, object]:
    """Read what one server itself says of the fields in [stapling.httpd]."""
    values: dict[str, object] = {}
    for directive in block.directives:
        if (name := _canonical(directive, _WHOLE)) is not None:
            value = atoi(directive.arguments[0])
            if value < 0:  # -1 too, which is the built-in default of SSLStaplingResponseMaxAge
                told.mistake(directive.where, f"{name}: invalid argument")
            else:
                values[_WHOLE[name]] = value
        elif (name := _canonical(directive, _FLAGS)) is not None:
            values[_FLAGS[name]] = _is_on(directive)
    if found := block.last("sslstaplingforceurl"):
        values["force_url"] = found.arguments[0]
    if (found := block.last("sslocspproxyurl")) and (url := _proxy(found, told)):
        values["http_proxy"] = url
    return values


def table(main: Block, sites: list[Server], profile: Profile, base: Base, told: Told) -> dict[str, object]:
    """Make the table [stapling]; `sites` are the servers with TLS."""
    with_md = profile == "prefetch" and any(managed.is_on(each) for each in sites)
    values: dict[str, object] = {"enabled": with_md or is_enabled(main), "profile": profile}
    if profile != "prefetch":
        values["cache_eviction"] = "fifo"
    cache = _cache(main, profile, base, told)
    if cache is None and not with_md:
        for site in sites:
            if site.is_on("sslusestapling", default=False):
                where = (site.last("sslusestapling") or site.last("sslengine") or _any(site)).where
                told.mistake(
                    where,
                    "AH01958: SSLStapling: no stapling cache available: write SSLStaplingCache outside of virtual "
                    "hosts (AH02312: Fatal error initialising mod_ssl, exiting.)",
                )
    values["cache"] = cache or "shmcb:"
    httpd = own_values(main, told)
    if httpd:
        values["httpd"] = httpd
    if profile == "prefetch":
        values.update(_ahead(httpd))
        if timeout := httpd.get("responder_timeout_s"):
            values["fetch_timeout_s"] = timeout
        if proxy := httpd.get("http_proxy"):
            values["http_proxy"] = proxy
        if with_md:
            values.update(managed.values(main, told))
    return values


def site_table(server: Server, profile: Profile, base: Base, told: Told) -> dict[str, object]:
    """Make the table [site.stapling]: what the virtual host says itself, and where its issuers are looked for."""
    values: dict[str, object] = {}
    # mod_ssl looks in the file of the clients' CAs, too, whether or not clients are asked for certificates.
    if (found := server.last("sslcacertificatefile")) and server.is_on("sslusestapling", default=False):
        values["issuers"] = base.file(found.arguments[0])
    if server.is_main:
        return values
    if found := server.own.last("sslusestapling"):
        values["enabled"] = _is_on(found)
    if profile == "prefetch" and (found := server.own.last("mdstapling")):
        values["enabled"] = _is_on(found) or bool(values.get("enabled"))
    httpd = own_values(server.own, told)
    if httpd:
        values["httpd"] = httpd
    if profile == "prefetch":
        values.update(_ahead(httpd))
    return values


def is_enabled(block: Block) -> bool:
    """Whether a server itself has stapling on."""
    found = block.last("sslusestapling")
    return found is not None and _is_on(found)


def _ahead(httpd: dict[str, object]) -> dict[str, object]:
    """Give what means the same to the profile prefetch."""
    url = httpd.get("force_url")
    try:
        return {"responder_url": check_http_url(url)} if isinstance(url, str) else {}
    except ValueError:  # Apache looks at it in the handshake only
        return {}


def _cache(main: Block, profile: Profile, base: Base, told: Told) -> str | None:
    """Read SSLStaplingCache; each mistake is told, and the last directive counts."""
    text = None
    for directive in main.all("sslstaplingcache"):
        found = _cache_argument(directive, profile, base, told)
        text = found or text
    return text


def _cache_argument(directive: Directive, profile: Profile, base: Base, told: Told) -> str | None:
    written = directive.arguments[0]
    provider = written.partition(":")[0]
    if provider in NOT_SERVED or (provider == "redis" and profile != "prefetch"):
        where, way = (" in this profile", ", or take --profile prefetch") if provider == "redis" else ("", "")
        what = f"'{provider}' is a provider of Apache that is not served here{where}: write shmcb:{way}"
        told.unlike(directive.where, f"SSLStaplingCache: {what}")
        return "shmcb:"
    if provider == "redis":
        try:
            parse_redis(written)
        except ValueError as error:
            told.mistake(directive.where, f"SSLStaplingCache: {error}")
            return "shmcb:"
        return written
    try:
        argument = parse_argument(written)
    except ValueError as error:
        told.mistake(directive.where, str(error))
        return "shmcb:"  # one mistake is told once: not that there is no cache, too
    if profile != "prefetch" or not argument.path:
        # On Linux Apache takes memory without a name: no file appears, and what is in it does not outlive the server.
        return f"shmcb:({argument.size_bytes})"
    return f"shmcb:{base.file(argument.path)}({argument.size_bytes})"


def _proxy(directive: Directive, told: Told) -> str | None:
    written = directive.arguments[0]
    try:
        url = urlsplit(written)
        port, host = url.port, url.hostname
    except ValueError:
        told.mistake(directive.where, f"SSLOCSPProxyURL: Cannot parse URL {written}")
        return None
    try:
        check_http_url(written)
    except ValueError:
        told.unlike(directive.where, "SSLOCSPProxyURL: must be http://HOST:PORT")
        return None
    if host and port is None:
        told.warn(directive.where, "SSLOCSPProxyURL: without a port Apache connects to port 0, which always fails")
    return written


def _canonical(directive: Directive, names: dict[str, str]) -> str | None:
    return _LOWER.get(directive.name.lower()) if _LOWER.get(directive.name.lower()) in names else None


_LOWER = {name.lower(): name for name in (*_WHOLE, *_FLAGS)}


def _is_on(directive: Directive) -> bool:
    return directive.arguments[0].lower() == "on"


def _any(server: Server) -> Directive:
    return server.own.directives[0]

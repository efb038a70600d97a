"""Every setting: its meaning, unit, default and range, in one place.

The models are frozen: a configuration is replaced whole, never changed. `config/reference.toml` lists the same
keys, and a test compares the two.
"""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from proxy.cache.layout import Eviction
from proxy.settings.admin import AdminSettings
from proxy.settings.base import Model, ordered
from proxy.settings.caching import CacheText, RedisStapling, is_redis
from proxy.settings.http import HttpSettings
from proxy.settings.limits import AccessLogSettings, LimitSettings
from proxy.settings.modes import ProxyProtocolSettings, RedirectSettings, SiteModes, TcpSettings
from proxy.settings.rewriting import SiteRewriting
from proxy.settings.stapling_httpd import HttpdStapling, Profile, SiteHttpdStapling
from proxy.settings.upstreams import Balance, Routes, SiteHealth, Upstreams
from proxy.settings.values import (
    AccountName,
    Algorithms,
    Command,
    FileName,
    Flag,
    HostName,
    HttpProxy,
    HttpUrl,
    ListenAddress,
    ListenAddresses,
    Number,
    OnMissing,
    OnRevoked,
    Seconds,
    Whole,
)


class CertificateFiles(Model):
    """One certificate of a site. Give two tables for RSA and ECDSA."""

    chain: FileName = Field(description="PEM: the certificate, then the intermediates that clients need")
    key: FileName = Field(description="PEM: the private key, without a passphrase")
    intermediates: FileName | None = Field(
        None, description="PEM: what clients need besides the certificate, when it is not in the chain"
    )
    issuer: FileName | None = Field(None, description="PEM: the issuer's certificate, when it is not in the chain")
    staple: FileName | None = Field(None, description="DER: an OCSP response to staple, read again when it changes")


class TlsSettings(Model):
    """What the TLS front offers."""

    protocols: tuple[Literal["TLSv1.2", "TLSv1.3"], ...] = Field(
        ("TLSv1.2", "TLSv1.3"), min_length=1, description="protocol versions offered"
    )
    ciphers: Algorithms | None = Field(
        None, description="TLS 1.2 cipher list in OpenSSL's syntax; unset: OpenSSL's own choice, AES-128-GCM first"
    )
    ciphersuites: Algorithms = Field(
        "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256",
        description="TLS 1.3 cipher suites, most wanted first",
    )
    groups: Algorithms | None = Field(
        None, description="key exchange groups in OpenSSL's syntax, such as X25519:P-256; unset: OpenSSL's own choice"
    )
    prefer_server_ciphers: Flag = Field(True, description="the first of ours that the client has, not of its own")
    unknown_names: Literal["default", "refuse"] = Field(
        "default", description="clients that send no or an unknown name get the default site, or unrecognized_name"
    )
    session_tickets: Flag = Field(True, description="let clients resume a session, on any worker")
    handshake_timeout_s: Seconds = Field(10, description="a handshake that takes longer is ended")


class SiteTlsSettings(Model):
    """What a site may offer otherwise than the whole; unset: as in [tls]."""

    protocols: tuple[Literal["TLSv1.2", "TLSv1.3"], ...] | None = Field(None, min_length=1, description="see [tls]")
    ciphers: Algorithms | None = Field(None, description="see [tls]")
    ciphersuites: Algorithms | None = Field(None, description="see [tls]")
    groups: Algorithms | None = Field(None, description="see [tls]")
    prefer_server_ciphers: Flag | None = Field(None, description="see [tls]")
    session_tickets: Flag | None = Field(None, description="see [tls]")

    def over(self, all_sites: TlsSettings) -> TlsSettings:
        """Give a site's own values, and those of all sites where it has none."""
        own = self.model_dump(exclude_none=True)
        return all_sites.model_copy(update=own) if own else all_sites


class IssuerStapling(Model):
    """An issuer whose certificate is not in the chains, or whose responder is another than they say."""

    certificate: FileName = Field(description="PEM: the certificate of an issuer; looked up when a chain lacks it")
    responder_url: HttpUrl | None = Field(None, description="ask this responder for what this issuer has signed")


class StaplingSettings(Model):
    """How OCSP responses are fetched and for how long they are stapled."""

    enabled: Flag = Field(True, description="fetch and staple")
    profile: Profile = Field(
        "prefetch", description="how: ahead and only what is good, or in the handshake as Apache does, good and bad"
    )
    cache: CacheText = Field(
        "shmcb:",
        description="where responses are kept, as in Apache's SSLStaplingCache: shmcb:, shmcb:PATH or "
        "shmcb:PATH(SIZE); or shared by a fleet: redis:HOST:PORT, redis://HOST:PORT, rediss://HOST:PORT",
    )
    cache_eviction: Eviction = Field(
        "lru", description="what goes when the cache is full: what was stapled longest ago, or as in Apache stored"
    )
    responder_url: HttpUrl | None = Field(None, description="ask this responder instead of the certificate's own")
    issuer: tuple[IssuerStapling, ...] = Field((), description="one table each")
    fetch_issuer: Flag = Field(
        False,
        description="fetch an issuer's certificate that is found nowhere from the CA Issuers URI of the certificate",
    )
    on_revoked: OnRevoked = Field(
        "withhold", description="a response that says 'revoked' is not stapled, or is stapled like a good one"
    )
    on_missing: OnMissing = Field(
        "omit", description="without a response to staple, clients that ask for one go without, or are refused"
    )
    http_proxy: HttpProxy = Field(
        "environment", description="proxy to responders: http://HOST:PORT, none, or environment (http_proxy, no_proxy)"
    )
    nonce: Flag = Field(False, description="send a nonce (RFC 9654); many responders sign in advance and refuse it")
    accept_sha1_signatures: Flag = Field(False, description="take responses signed with SHA-1, for old private CAs")
    on_event: Command = Field(
        (), description="command with its arguments, run at each event: fetched, refused, expiring, expired, revoked"
    )
    on_event_timeout_s: Seconds = Field(10, description="the command is ended after this")
    warmup_timeout_s: Seconds = Field(10, description="how long the first fetches may delay the start")
    fetch_timeout_s: Seconds = Field(10, description="deadline over one whole exchange with a responder")
    max_response_bytes: Whole = Field(65_536, ge=1024, le=2_097_152, description="a longer response is refused")
    clock_skew_s: Number = Field(300, ge=0, le=86_400, description="how far in the future thisUpdate may lie")
    max_age_without_next_update_s: Number = Field(
        43_200, ge=0, le=31_536_000, description="how long a response without nextUpdate is stapled; 0: refuse it"
    )
    refresh_min_interval_s: Seconds = Field(30, description="a valid response is not refreshed sooner than this")
    refresh_max_interval_s: Seconds = Field(
        86_400, validate_default=True, description="a valid response is refreshed at the latest after this"
    )
    retry_min_interval_s: Seconds = Field(5, description="first pause after a failure; doubled at each further one")
    retry_max_interval_s: Seconds = Field(3_600, validate_default=True, description="longest pause after failures")
    max_fetches_per_responder: Whole = Field(4, ge=1, le=256, description="requests under way at one responder")
    max_fetches_per_responder_per_second: Number = Field(
        20, gt=0, le=10_000, description="requests begun at one responder in a second"
    )
    redis: RedisStapling = Field(RedisStapling(), description="see the table")
    httpd: HttpdStapling = Field(HttpdStapling(), description="see the table")

    @property
    def local_cache(self) -> str:
        """The argument of the cache that this machine staples from."""
        return self.redis.local_cache if is_redis(self.cache) else self.cache

    @property
    def local_cache_key(self) -> str:
        """The setting that has it: what is wrong with it is mended there."""
        return "stapling.redis.local_cache" if is_redis(self.cache) else "stapling.cache"

    # Of a field and not of the whole: pydantic looks at a whole only when all its fields are right, and a mistake here
    # would be told a round later than the others. The default is looked at as well: the other bound may be above it.
    @field_validator("refresh_max_interval_s", "retry_max_interval_s")
    @classmethod
    def _intervals_are_ordered(cls, longest: float, info: ValidationInfo) -> float:
        return ordered(longest, info)


class SiteStapling(Model):
    """What a site may set otherwise than the whole; unset: as in [stapling]."""

    enabled: Flag | None = Field(None, description="fetch and staple for this site")
    responder_url: HttpUrl | None = Field(None, description="ask this responder for this site's certificates")
    on_revoked: OnRevoked | None = Field(None, description="see [stapling]")
    on_missing: OnMissing | None = Field(None, description="see [stapling]")
    issuers: FileName | None = Field(
        None, description="PEM: issuers of this site's certificates are looked for in it, when the chains lack them"
    )
    httpd: SiteHttpdStapling = Field(SiteHttpdStapling(), description="see the table")


class ReloadSettings(Model):
    """What is read again without being told to."""

    watch_certificates_s: Number = Field(
        0,
        ge=0,
        le=86_400,
        description="how often to look whether certificates or keys were replaced, to reload then; 0: never",
    )


class Site(SiteModes, SiteRewriting):
    """One host, or some hosts with one certificate and one backend."""

    names: tuple[HostName, ...] = Field(
        (), description="host names, *.example.com too; unset: the DNS names in the certificates"
    )
    default: Flag = Field(
        False, description="answers clients that send no or another name; unset everywhere: the first"
    )
    listen: ListenAddresses = Field((), description="those of the top's `listen` where this site is served; none: all")
    certificate: tuple[CertificateFiles, ...] = Field(min_length=1, max_length=4, description="chain and key")
    upstream: Upstreams = Field(
        description="the backend: http://HOST:PORT, https://HOST:PORT, tcp://HOST:PORT or unix:/PATH; "
        "or a list of these, or of { url, weight }; with [] requests are answered 404"
    )
    balance: Balance = Field("round-robin", description="which of several backends is next")
    upstream_ca: FileName | None = Field(
        None, description="PEM: CAs that vouch for https:// backends; unset: those that this machine trusts"
    )
    upstream_name: HostName | None = Field(
        None, description="the name in the certificates of https:// backends; unset: the host in each URL"
    )
    route: Routes = Field((), description="one table each")
    health: SiteHealth = Field(SiteHealth(), description="see the table")
    stapling: SiteStapling = Field(SiteStapling(), description="what this site has otherwise")
    tls: SiteTlsSettings = Field(SiteTlsSettings(), description="what this site has otherwise")


class Settings(Model):
    """The whole configuration."""

    listen: ListenAddresses = Field(
        (ListenAddress("127.0.0.1", 8443),),
        min_length=1,
        description="where to accept connections: HOST:PORT, or :PORT for every address of this machine",
    )
    workers: Whole = Field(0, ge=0, le=256, description="worker processes; 0: one for each CPU")
    user: AccountName | None = Field(
        None, description="user that keeper and workers become when this is started as root; unset: they stay root"
    )
    group: AccountName | None = Field(None, description="group that they become; unset: the user's own")
    drain_timeout_s: Seconds = Field(30, description="how long open requests may take after SIGTERM")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    log_format: Literal["auto", "human", "json"] = Field(
        "auto", description="lines for people, or JSON for programs; auto: as the place of the log has it"
    )
    tls: TlsSettings = Field(TlsSettings(), description="see the table")
    stapling: StaplingSettings = Field(StaplingSettings(), description="see the table")
    http: HttpSettings = Field(HttpSettings(), description="see the table")
    limits: LimitSettings = Field(LimitSettings(), description="see the table")
    access_log: AccessLogSettings = Field(AccessLogSettings(), description="see the table")
    tcp: TcpSettings = Field(TcpSettings(), description="see the table")
    proxy_protocol: ProxyProtocolSettings = Field(ProxyProtocolSettings(), description="see the table")
    redirect: RedirectSettings = Field(RedirectSettings(), description="see the table")
    reload: ReloadSettings = Field(ReloadSettings(), description="see the table")
    admin: AdminSettings = Field(AdminSettings(), description="see the table")
    site: tuple[Site, ...] = Field(min_length=1, description="one table each")

    @property
    def worker_count(self) -> int:
        """How many workers to start."""
        return self.workers or len(os.sched_getaffinity(0))

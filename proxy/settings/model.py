"""Every setting: its meaning, unit, default and range, in one place.

The models are frozen: a configuration is replaced whole, never changed. `config/reference.toml` lists the same
keys, and a test compares the two.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from ipaddress import AddressValueError, IPv6Address
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from proxy.cache.layout import Eviction, parse_argument
from proxy.names import host_name

MAX_UNIX_PATH_BYTES = 107
"""unix(7): sun_path holds 108 bytes with the final zero."""

NOT_REPEATED = "not_repeated"
"""The type of a mistake whose value is not told with it."""

_PROVIDER = re.compile(r"[A-Za-z0-9_-]{1,20}(:|\Z)")
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./()-]{1,60}")
"""A path where shmcb:PATH belongs; a pasted secret has other characters, or more of them."""


class ListenAddress(NamedTuple):
    """Where to accept connections; an IPv6 `host` is without brackets, and empty means every address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UpstreamAddress(NamedTuple):
    """Where the backend listens: either `path` of a Unix socket, or `host` and `port`."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def host_port(text: str, *, default_port: int | None = None) -> tuple[str, int]:
    """Read HOST:PORT, an IPv6 host in brackets; ValueError says what it lacks."""
    host, colon, port_text = text.rpartition(":")
    if text.endswith("]") or not colon:  # "[::1]" or "name": no port
        if default_port is None:
            raise ValueError("a port is missing: write HOST:PORT")
        host, port_text = text, str(default_port)
    if ":" in host or "[" in host or "]" in host:
        try:
            IPv6Address(host.removeprefix("[").removesuffix("]"))
        except AddressValueError:
            raise ValueError("must be only an address and a port: 127.0.0.1:8443 or [::1]:8443") from None
        if not (host.startswith("[") and host.endswith("]")):
            raise ValueError("an IPv6 address goes in brackets: [::1]:8443")
    elif not host.isascii() or not host.isprintable() or any(character in host for character in "/?#@* "):
        raise ValueError("must be only an address or a host name, and a port: 127.0.0.1:8443")
    # Five digits at most: what int() says about thousands of them helps nobody.
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and int(port_text) <= 65_535):
        raise ValueError("the port must be a number from 0 to 65535")
    return host.strip("[]"), int(port_text)


def _parse_listen(value: object) -> ListenAddress:
    if isinstance(value, ListenAddress):
        return value
    if isinstance(value, str):
        return ListenAddress(*host_port(value))
    raise ValueError('must be text such as "127.0.0.1:8443", or ":8443" for every address')


def _parse_upstream(value: object) -> UpstreamAddress:
    if isinstance(value, UpstreamAddress):
        return value
    if isinstance(value, str) and value.startswith("unix:"):
        path = value.removeprefix("unix:")
        if not path.startswith("/") or not path.isprintable():
            raise ValueError("the path of a Unix socket must be absolute: unix:/run/app.sock")
        if len(os.fsencode(path)) > MAX_UNIX_PATH_BYTES:
            raise ValueError(f"the path of a Unix socket is at most {MAX_UNIX_PATH_BYTES} bytes long")
        return UpstreamAddress("", 0, path)
    if isinstance(value, str) and value.startswith("http://"):
        authority = value.removeprefix("http://").removesuffix("/")
        if "/" in authority or "?" in authority:
            raise ValueError("an upstream takes no path, requests keep their own: http://127.0.0.1:8000")
        host, port = host_port(authority, default_port=80)
        if not host or not port:
            raise ValueError("a host and a port above 0 are needed: http://127.0.0.1:8000")
        return UpstreamAddress(host, port)
    raise ValueError("must be http://HOST:PORT or unix:/PATH")


def check_http_url(text: str) -> str:
    """Return a responder's URL unchanged; ValueError when nothing could be asked there."""
    try:
        url = urlsplit(text)
        usable = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:  # the port is no number, or the brackets hold no IPv6 address
        usable = False
    # urlsplit drops line breaks and tabs in silence: what it read would not be what is asked.
    plain = text.isascii() and text.isprintable() and not any(character in text for character in " @#")
    if not usable or not plain:
        raise ValueError("must be a URL such as http://ocsp.example.com/")
    return text


def _check_cache(text: str) -> str:
    # Apache's sentence quotes what stands before the colon. What cannot be a provider's name may be a pasted secret.
    if not (_PROVIDER.match(text) or _PLAIN_PATH.fullmatch(text)) or not _is_one_line(text):
        raise PydanticCustomError(NOT_REPEATED, "must be shmcb:, shmcb:PATH or shmcb:PATH(SIZE)")
    parse_argument(text)
    return text


def _check_algorithms(text: str) -> str:
    # OpenSSL judges the names, and what it refuses is told with them.
    if not _is_one_line(text):
        raise PydanticCustomError(NOT_REPEATED, "must be names in OpenSSL's syntax, on one line")
    return text


def _is_one_line(text: str) -> bool:
    """Tell it from a key or a certificate that was pasted where a name belongs."""
    return text.isprintable() and "-----BEGIN" not in text


def _check_file_name(value: object) -> object:
    if isinstance(value, str) and not _is_one_line(value):
        raise ValueError("must be the name of a file, not its contents")
    if value == "":
        raise ValueError("must be the name of a file")
    return value


def _check_addresses(addresses: tuple[ListenAddress, ...]) -> tuple[ListenAddress, ...]:
    # Found here and not when it is bound, so that `check` tells it too. Port 0 is another port each time.
    counts = Counter(each for each in addresses if each.port)
    if twice := next((each for each, count in counts.items() if count > 1), None):
        raise PydanticCustomError(NOT_REPEATED, "{address} is there more than once", {"address": str(twice)})
    return addresses


Listen = Annotated[ListenAddress, PlainValidator(_parse_listen)]
Upstream = Annotated[UpstreamAddress, PlainValidator(_parse_upstream)]
HttpUrl = Annotated[str, AfterValidator(check_http_url)]
Algorithms = Annotated[str, AfterValidator(_check_algorithms)]
FileName = Annotated[Path, BeforeValidator(_check_file_name)]
HostName = Annotated[str, AfterValidator(host_name)]
# Strict: "4" is no number and 1 is not true, as everywhere in TOML.
Flag = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Seconds = Annotated[Number, Field(gt=0, le=31_536_000)]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class CertificateFiles(Model):
    """One certificate of a site. Give two tables for RSA and ECDSA."""

    chain: FileName = Field(description="PEM: the certificate, then the intermediates that clients need")
    key: FileName = Field(description="PEM: the private key, without a passphrase")
    issuer: FileName | None = Field(None, description="PEM: the issuer's certificate, when it is not in the chain")


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
    unknown_names: Literal["default", "refuse"] = Field(
        "default", description="clients that send no or an unknown name get the default site, or unrecognized_name"
    )
    session_tickets: Flag = Field(True, description="let clients resume a session, on any worker")
    handshake_timeout_s: Seconds = Field(10, description="a handshake that takes longer is ended")


class StaplingSettings(Model):
    """How OCSP responses are fetched and for how long they are stapled."""

    enabled: Flag = Field(True, description="fetch and staple")
    cache: Annotated[str, AfterValidator(_check_cache)] = Field(
        "shmcb:",
        description="where responses are kept, as in Apache's SSLStaplingCache: shmcb:, shmcb:PATH or shmcb:PATH(SIZE)",
    )
    cache_eviction: Eviction = Field(
        "lru", description="what goes when the cache is full: what was stapled longest ago, or as in Apache stored"
    )
    responder_url: HttpUrl | None = Field(None, description="ask this responder instead of the certificate's own")
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

    # Of a field and not of the whole: pydantic looks at a whole only when all its fields are right, and a mistake here
    # would be told a round later than the others. The default is looked at as well: the other bound may be above it.
    @field_validator("refresh_max_interval_s", "retry_max_interval_s")
    @classmethod
    def _intervals_are_ordered(cls, longest: float, info: ValidationInfo) -> float:
        name = str(info.field_name).replace("max", "min")
        least = info.data.get(name, 0)  # missing when it is wrong itself
        if least > longest:
            said = {"name": name, "least": f"{least:.10g}", "longest": f"{longest:.10g}"}
            raise PydanticCustomError(NOT_REPEATED, "must not be below {name}: {longest} is below {least}", said)
        return longest


class SiteStapling(Model):
    """What a site may set otherwise than the whole; unset: as in [stapling]."""

    enabled: Flag | None = Field(None, description="fetch and staple for this site")
    responder_url: HttpUrl | None = Field(None, description="ask this responder for this site's certificates")


class HttpSettings(Model):
    """Limits of the HTTP side; none is unbounded."""

    max_head_bytes: Whole = Field(32_768, ge=1024, le=1_048_576, description="request line and headers together")
    other_hosts: Literal["serve", "refuse"] = Field(
        "serve", description="a Host that is no name of the site that SNI chose is passed on, or answered with 421"
    )
    client_timeout_s: Seconds = Field(
        60, description="a client that sends or takes nothing for so long is cut off; a head may take no longer"
    )
    client_idle_timeout_s: Seconds = Field(75, description="a kept-alive connection without a request is closed")
    upstream_connect_timeout_s: Seconds = Field(10, description="connecting to the backend: 504 after that")
    upstream_timeout_s: Seconds = Field(60, description="the backend sends nothing for so long: 504, or cut off")
    upstream_idle_timeout_s: Seconds = Field(60, description="an idle connection to the backend is closed")
    upstream_max_idle: Whole = Field(64, ge=0, le=65_536, description="idle connections kept per worker and backend")


class Site(Model):
    """One host, or some hosts with one certificate and one backend."""

    names: tuple[HostName, ...] = Field(
        (), description="host names, *.example.com too; unset: the DNS names in the certificates"
    )
    default: Flag = Field(
        False, description="answers clients that send no or another name; unset everywhere: the first"
    )
    certificate: tuple[CertificateFiles, ...] = Field(min_length=1, max_length=4, description="chain and key")
    upstream: Upstream = Field(description="the backend: http://HOST:PORT or unix:/PATH")
    stapling: SiteStapling = Field(SiteStapling(), description="what this site has otherwise")


class Settings(Model):
    """The whole configuration."""

    listen: Annotated[tuple[Listen, ...], AfterValidator(_check_addresses)] = Field(
        (ListenAddress("127.0.0.1", 8443),),
        min_length=1,
        description="where to accept connections: HOST:PORT, or :PORT for every address of this machine",
    )
    workers: Whole = Field(0, ge=0, le=256, description="worker processes; 0: one for each CPU")
    drain_timeout_s: Seconds = Field(30, description="how long open requests may take after SIGTERM")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    tls: TlsSettings = Field(TlsSettings(), description="see the table")
    stapling: StaplingSettings = Field(StaplingSettings(), description="see the table")
    http: HttpSettings = Field(HttpSettings(), description="see the table")
    site: tuple[Site, ...] = Field(min_length=1, description="one table each")

    @property
    def worker_count(self) -> int:
        """How many workers to start."""
        return self.workers or len(os.sched_getaffinity(0))

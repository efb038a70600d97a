"""Where responses are kept: the local cache, and the server that a fleet shares."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from proxy.cache.layout import parse_argument
from proxy.settings.base import Model
from proxy.settings.values import NOT_REPEATED, FileName, Flag, Number, host_port, is_one_line

REDIS_PORT = 6379
SENTINEL_PORT = 26_379
MAX_SERVERS = 64
REDIS_FILES = ("password_file", "ca_file", "client_certificate", "client_key", "sentinel_password_file")
"""Those of `RedisStapling` that are named from the configuration's folder."""
_FORM = "redis:HOST[:PORT],HOST[:PORT] or redis://HOST[:PORT][/DATABASE], rediss:// for TLS"
_PROVIDER = re.compile(r"[A-Za-z0-9_-]{1,20}(:|\Z)")
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./()-]{1,60}")
"""A path where shmcb:PATH belongs; a pasted secret has other characters, or more of them."""


class RedisServers(NamedTuple):
    """What a `stapling.cache` of Redis says."""

    addresses: tuple[tuple[str, int | None], ...]
    """Host and port; None: the usual one of what is there."""
    is_tls: bool
    database: int

    def __str__(self) -> str:
        hosts = ",".join(
            (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "") for host, port in self.addresses
        )
        return f"redis{'s' * self.is_tls}://{hosts}" + (f"/{self.database}" if self.database else "")


def is_redis(cache: str) -> bool:
    """Whether responses are shared over a server."""
    return cache.partition(":")[0] in {"redis", "rediss"}


def parse_redis(cache: str) -> RedisServers:
    """Read ``redis:host[:port],…`` as Apache has it, or a URL; ValueError says what is wrong, without the value."""
    scheme, _, rest = cache.partition(":")
    is_url = rest.startswith("//")
    if scheme == "rediss" and not is_url:
        raise ValueError("write rediss://HOST[:PORT]")
    authority, slash, database = rest.removeprefix("//").partition("/") if is_url else (rest, "", "")
    if "@" in rest:
        raise ValueError(
            "user and password do not belong here: set stapling.redis.username and stapling.redis.password_file"
        )
    if not authority:  # Apache's sentence
        raise ValueError(f"List of server names required to create redis socache: write {_FORM}")
    if slash and database and not (database.isascii() and database.isdigit() and len(database) <= 5):
        raise ValueError(f"behind the host only the number of a database may follow: {_FORM}")
    names = authority.split(",")
    if len(names) > MAX_SERVERS:
        raise ValueError(f"at most {MAX_SERVERS} servers")
    addresses = tuple(_address(name) for name in names)
    if len(set(addresses)) < len(addresses):
        raise ValueError("a server is there more than once")
    return RedisServers(addresses, scheme == "rediss", int(database or 0))


def _address(name: str) -> tuple[str, int | None]:
    is_bare = name.endswith("]") or ":" not in name
    try:
        host, port = host_port(name, default_port=1 if is_bare else None)
    except ValueError:
        raise ValueError(f"a server is a host with or without a port, an IPv6 address in brackets: {_FORM}") from None
    if not host or not port:
        raise ValueError(f"a host, and if any a port above 0, are needed: {_FORM}")
    return host, None if is_bare else port


def _check_cache(text: str) -> str:
    # Apache's sentence quotes what stands before the colon. What cannot be a provider's name may be a pasted secret.
    if not (_PROVIDER.match(text) or _PLAIN_PATH.fullmatch(text)) or not is_one_line(text):
        raise PydanticCustomError(NOT_REPEATED, "must be shmcb:, shmcb:PATH, shmcb:PATH(SIZE) or redis:HOST")
    if is_redis(text):
        try:
            parse_redis(text)
        except ValueError as error:  # there may be a password in it
            raise PydanticCustomError(NOT_REPEATED, "SSLStaplingCache: {what}", {"what": str(error)}) from None
    elif "://" in text and not text.startswith("shmcb:"):  # Apache's sentence would have a module loaded
        what = "must be shmcb:, shmcb:PATH, shmcb:PATH(SIZE), redis:HOST or rediss://HOST, for Valkey too"
        raise PydanticCustomError(NOT_REPEATED, what)
    else:
        parse_argument(text)
    return text


def _check_local_cache(text: str) -> str:
    if is_redis(text):
        raise PydanticCustomError(NOT_REPEATED, "must be this machine's own: shmcb:, shmcb:PATH or shmcb:PATH(SIZE)")
    return _check_cache(text)


def _check_prefix(text: str) -> str:
    # Braces would choose a cluster's node, spaces a command's arguments for who types them.
    if not re.fullmatch(r"[A-Za-z0-9_.:/-]{1,100}", text):
        raise PydanticCustomError(NOT_REPEATED, "must be 1 to 100 letters, digits or _ . : / -")
    return text


CacheText = Annotated[str, AfterValidator(_check_cache)]
LocalCacheText = Annotated[str, AfterValidator(_check_local_cache)]
KeyPrefix = Annotated[str, Field(strict=True), AfterValidator(_check_prefix)]


class RedisStapling(Model):
    """How the server is reached that a fleet shares: for a `cache` of redis: or rediss:, else not looked at."""

    local_cache: LocalCacheText = Field(
        "shmcb:",
        description="the cache that this machine staples from, as `stapling.cache` has it without Redis: shmcb:, "
        "shmcb:PATH or shmcb:PATH(SIZE)",
    )
    key_prefix: KeyPrefix = Field(
        "stapleproxy:", description="what the names of all keys and of the channel begin with"
    )
    username: str | None = Field(None, min_length=1, description="user on the server (ACL); unset: its default user")
    password_file: FileName | None = Field(
        None,
        description="file with the password, which only its owner and group may read; unset: the environment's "
        "STAPLEPROXY_REDIS_PASSWORD, if it is there",
    )
    ca_file: FileName | None = Field(
        None, description="PEM: CAs that vouch for a rediss:// server; unset: those that this machine trusts"
    )
    client_certificate: FileName | None = Field(
        None, description="PEM: the certificate that this machine shows to a rediss:// server, with its intermediates"
    )
    client_key: FileName | None = Field(None, description="PEM: its private key, without a passphrase")
    sentinel_master: str | None = Field(
        None, min_length=1, description="the servers named are Sentinels, and this is the name of what they watch"
    )
    sentinel_username: str | None = Field(
        None, min_length=1, description="user on the Sentinels (ACL); unset: their default user"
    )
    sentinel_password_file: FileName | None = Field(
        None,
        description="file with the Sentinels' password; unset: the environment's STAPLEPROXY_SENTINEL_PASSWORD, if it "
        "is there",
    )
    cluster: Flag = Field(False, description="the servers named are some nodes of a Redis Cluster")
    timeout_s: Number = Field(
        1, gt=0, le=60, description="deadline of one operation: a server that takes longer counts as away"
    )

    @field_validator("cluster")
    @classmethod
    def _is_one_kind(cls, cluster: bool, info: ValidationInfo) -> bool:
        if cluster and info.data.get("sentinel_master"):
            raise PydanticCustomError(NOT_REPEATED, "either `cluster` or `sentinel_master`: a cluster has no Sentinels")
        return cluster


def redis_contradictions(cache: str, redis: RedisStapling, *, profile: str, nonce: bool) -> list[tuple[str, str]]:
    """List the keys that contradict others, each with one sentence."""
    if not is_redis(cache):
        return []
    servers, found = parse_redis(cache), []
    if profile != "prefetch":
        what = "redis is for the profile prefetch only: what Apache keeps there is not shared here: write shmcb:"
        found.append(("stapling.cache", what))
    if nonce:
        what = "a nonce proves a response to the machine that asked, and to no other of a fleet: one of them has to go"
        found.append(("stapling.nonce", what))
    if redis.ca_file and not servers.is_tls:
        found.append(("stapling.redis.ca_file", "without TLS nobody is vouched for: write rediss:// in stapling.cache"))
    if redis.client_certificate and not servers.is_tls:
        what = "without TLS no certificate is shown: write rediss:// in stapling.cache"
        found.append(("stapling.redis.client_certificate", what))
    if not redis.sentinel_master:
        what = "there are no Sentinels without stapling.redis.sentinel_master"
        names = ("sentinel_username", "sentinel_password_file")
        found += [(f"stapling.redis.{name}", what) for name in names if getattr(redis, name)]
    if redis.cluster and servers.database:
        found.append(("stapling.cache", "a Redis Cluster has no databases: leave out what follows the host"))
    return found

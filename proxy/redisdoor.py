"""The server that a fleet shares, with what it takes to get in: read by the master, used by the keeper."""

from __future__ import annotations

import importlib.util
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.errors import ConfigError, Problem
from proxy.keyfile import exposure
from proxy.settings.caching import is_redis, parse_redis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from proxy.settings.caching import RedisServers, RedisStapling
    from proxy.settings.model import StaplingSettings

PASSWORD_VARIABLE = "STAPLEPROXY_REDIS_PASSWORD"  # noqa: S105  the name, not the word
SENTINEL_PASSWORD_VARIABLE = "STAPLEPROXY_SENTINEL_PASSWORD"  # noqa: S105  likewise
_MAX_PASSWORD_BYTES = 4_096
_MAX_PEM_BYTES = 1_048_576
_WHERE = "stapling.redis"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who comes in, and by which word."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class RedisDoor:
    """How to reach it."""

    servers: RedisServers
    key_prefix: str
    credentials: Credentials
    sentinel_credentials: Credentials
    tls: ssl.SSLContext | None
    """What verifies the server, and has the key for it; None: without TLS."""
    sentinel_master: str | None
    is_cluster: bool
    timeout_s: float

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no text may repeat."""
        return tuple(each.password for each in (self.credentials, self.sentinel_credentials) if each.password)


def read_door(settings: StaplingSettings, environment: Mapping[str, str]) -> RedisDoor | None:
    """Read the files that are named; None: nothing is shared. ConfigError has all mistakes."""
    if not is_redis(settings.cache):
        return None
    redis, servers = settings.redis, parse_redis(settings.cache)
    problems = [*_problems(redis)]
    if problems:
        raise ConfigError(*problems)
    return RedisDoor(
        servers,
        redis.key_prefix,
        Credentials(redis.username, _password(redis.password_file, environment.get(PASSWORD_VARIABLE))),
        Credentials(
            redis.sentinel_username,
            _password(redis.sentinel_password_file, environment.get(SENTINEL_PASSWORD_VARIABLE)),
        ),
        _context(redis) if servers.is_tls else None,
        redis.sentinel_master,
        redis.cluster,
        redis.timeout_s,
    )


def _password(file: Path | None, otherwise: str | None) -> str | None:
    return file.read_text().strip("\r\n") if file else otherwise or None


def _context(redis: RedisStapling) -> ssl.SSLContext:
    # It verifies, certificate and name: that is what such a context is for.
    context = ssl.create_default_context(cadata=redis.ca_file.read_text() if redis.ca_file else None)
    if redis.client_certificate and redis.client_key:
        # Without the empty word OpenSSL would ask for one at the terminal.
        context.load_cert_chain(redis.client_certificate, redis.client_key, password="")
    return context


def _problems(redis: RedisStapling) -> Iterator[Problem]:
    if trouble := _package_trouble():
        yield Problem("stapling.cache", f"{trouble}: pip install 'redis>=5.0.1,<9', or install stapleproxy[redis]")
    for name in ("password_file", "sentinel_password_file"):
        yield from _unfit(name, getattr(redis, name), _MAX_PASSWORD_BYTES, holds="the password")
    told = [
        *_unfit("ca_file", redis.ca_file, _MAX_PEM_BYTES),
        *_unfit("client_certificate", redis.client_certificate, _MAX_PEM_BYTES),
        *_unfit("client_key", redis.client_key, _MAX_PEM_BYTES, holds="the private key"),
    ]
    yield from told
    if bool(redis.client_certificate) != bool(redis.client_key):
        has, lacks = ("client_certificate", "client_key")[:: 1 if redis.client_certificate else -1]
        yield Problem(f"{_WHERE}.{has}", f"{lacks} is needed with it")
    elif not told:
        yield from _tls_problems(redis)


def _package_trouble() -> str:
    """Why redis-py cannot be used; empty: it can. The keeper would learn it too late."""
    try:
        found = importlib.util.find_spec("redis.asyncio")  # which imports redis itself
    except ModuleNotFoundError as error:
        if error.name == "redis":
            return "redis needs the Python package of that name"
        return f"the Python package redis that is here cannot be used: {error}"
    except Exception as error:  # noqa: BLE001  whatever a package may raise that is broken, or another one of that name
        return f"the Python package redis that is here cannot be used: {error}"
    return "" if found else "the Python package redis that is here is too old, or another one"


def _tls_problems(redis: RedisStapling) -> Iterator[Problem]:
    try:
        _context(redis.model_copy(update={"client_certificate": None}))
    except (ssl.SSLError, ValueError):
        yield Problem(f"{_WHERE}.ca_file", f"{redis.ca_file}: it holds no certificates in PEM")
        return
    try:
        _context(redis)
    except (ssl.SSLError, ValueError) as error:
        why = (getattr(error, "reason", None) or "they are no PEM").replace("_", " ").lower()
        what = f"{redis.client_certificate} and {redis.client_key} are no certificate with its key: {why}"
        yield Problem(f"{_WHERE}.client_certificate", what)


def _unfit(name: str, path: Path | None, max_bytes: int, *, holds: str = "") -> Iterator[Problem]:
    """Say what is wrong with a file; `holds`: the secret in it, for words."""
    where = f"{_WHERE}.{name}"
    if path is None:
        return
    try:
        if not path.is_file():
            yield Problem(where, f"{path}: there is no such file")
        elif path.stat().st_size > max_bytes:
            yield Problem(where, f"{path}: it is longer than {max_bytes} bytes: is it another file?")
        elif not path.read_text().strip():
            yield Problem(where, f"{path}: it is empty")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        yield Problem(where, f"cannot read {path}: {why}")
    exposed = exposure(path, holds) if holds else None
    if exposed and exposed.is_refused:
        yield Problem(where, exposed.what)

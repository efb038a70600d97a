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

    from proxy.settings.caching import RedisServers
    from proxy.settings.model import StaplingSettings

PASSWORD_VARIABLE = "STAPLEPROXY_REDIS_PASSWORD"  # noqa: S105  the name, not the word
_MAX_PASSWORD_BYTES = 4_096
_MAX_CA_BYTES = 1_048_576
_WHERE = "stapling.redis"


@dataclass(frozen=True, slots=True)
class RedisDoor:
    """How to reach it."""

    servers: RedisServers
    key_prefix: str
    username: str | None
    password: str | None = field(repr=False)
    ca_pem: str | None = field(repr=False)
    """None: those that this machine trusts."""
    sentinel_master: str | None
    is_cluster: bool
    timeout_s: float


def read_door(settings: StaplingSettings, environment: Mapping[str, str]) -> RedisDoor | None:
    """Read the files that are named; None: nothing is shared. ConfigError has all mistakes."""
    if not is_redis(settings.cache):
        return None
    redis = settings.redis
    problems = [*_problems(redis.password_file, redis.ca_file)]
    if problems:
        raise ConfigError(*problems)
    return RedisDoor(
        parse_redis(settings.cache),
        redis.key_prefix,
        redis.username,
        redis.password_file.read_text().strip("\r\n")
        if redis.password_file
        else environment.get(PASSWORD_VARIABLE) or None,
        redis.ca_file.read_text() if redis.ca_file else None,
        redis.sentinel_master,
        redis.cluster,
        redis.timeout_s,
    )


def _problems(password: Path | None, ca: Path | None) -> Iterator[Problem]:
    if importlib.util.find_spec("redis") is None:
        what = "redis needs the Python package of that name: pip install redis, or install stapleproxy[redis]"
        yield Problem("stapling.cache", what)
    if password:
        yield from _unreadable(f"{_WHERE}.password_file", password, _MAX_PASSWORD_BYTES)
        exposed = exposure(password, "the password")
        if exposed and exposed.is_refused:
            yield Problem(f"{_WHERE}.password_file", exposed.what)
    if ca and not (told := [*_unreadable(f"{_WHERE}.ca_file", ca, _MAX_CA_BYTES)]):
        try:
            ssl.create_default_context(cadata=ca.read_text())
        except (ssl.SSLError, ValueError):
            yield Problem(f"{_WHERE}.ca_file", f"{ca}: it holds no certificates in PEM")
    elif ca:
        yield from told


def _unreadable(where: str, path: Path, max_bytes: int) -> Iterator[Problem]:
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

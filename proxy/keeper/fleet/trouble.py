"""What redis-py, TLS and the system say of a failed operation, as FleetTrouble: one word, one line for an operator."""

from __future__ import annotations

import ssl
from enum import StrEnum
from typing import TYPE_CHECKING

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from proxy.errors import StapleproxyError
from proxy.keeper.trouble import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence


class FleetReason(StrEnum):
    """Why the server is of no help: one word, the same in the log, in the metrics and in the status."""

    UNREACHABLE = "unreachable"
    TLS = "tls"
    TIMEOUT = "timeout"
    NOT_ALLOWED = "not-allowed"
    READ_ONLY = "read-only"
    OUT_OF_MEMORY = "out-of-memory"
    LOADING = "loading"
    NO_MASTER = "no-master"
    CLUSTER_DOWN = "cluster-down"
    PROTOCOL = "protocol"
    REFUSED = "refused"


class FleetTrouble(StapleproxyError):
    """The server did not do what it was asked."""

    def __init__(self, reason: FleetReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


# In this order: the first class that fits gives the word.
_REASONS: tuple[tuple[type[Exception], FleetReason], ...] = (
    (MasterNotFoundError, FleetReason.NO_MASTER),
    (AuthenticationError, FleetReason.NOT_ALLOWED),
    (AuthorizationError, FleetReason.NOT_ALLOWED),
    (NoPermissionError, FleetReason.NOT_ALLOWED),
    (BusyLoadingError, FleetReason.LOADING),
    (ReadOnlyError, FleetReason.READ_ONLY),
    (OutOfMemoryError, FleetReason.OUT_OF_MEMORY),
    (ClusterDownError, FleetReason.CLUSTER_DOWN),
    (RedisClusterException, FleetReason.CLUSTER_DOWN),
    (InvalidResponse, FleetReason.PROTOCOL),
    (RedisTimeoutError, FleetReason.TIMEOUT),
    (TimeoutError, FleetReason.TIMEOUT),
    (RedisConnectionError, FleetReason.UNREACHABLE),
    (OSError, FleetReason.UNREACHABLE),
    (RedisError, FleetReason.REFUSED),
)
# What redis-py has no class for, or an older server says of what went wrong within a script.
_WORDS = {
    "NOAUTH": FleetReason.NOT_ALLOWED,
    "NOPERM": FleetReason.NOT_ALLOWED,
    "READONLY": FleetReason.READ_ONLY,
    "OOM": FleetReason.OUT_OF_MEMORY,
    "LOADING": FleetReason.LOADING,
    "CLUSTERDOWN": FleetReason.CLUSTER_DOWN,
}


def trouble_of(error: Exception, secrets: Sequence[str] = ()) -> FleetTrouble:
    """Translate what came out of an operation; what is not known came of an answer that redis-py could not read.

    `secrets` are left out, should the server repeat them.
    """
    if tls := _of_tls(error):  # which redis-py tells as one of many failures to connect
        return FleetTrouble(FleetReason.TLS, one_line(getattr(tls, "verify_message", "") or tls.reason or str(tls)))
    reason = next((reason for known, reason in _REASONS if isinstance(error, known)), FleetReason.PROTOCOL)
    text = one_line(_without(secrets, _of_system(error) or str(error))).rstrip(".") or type(error).__name__
    if isinstance(error, ResponseError) and reason is FleetReason.REFUSED:
        reason = next((each for word, each in _WORDS.items() if word in text.replace("-", " ").split()), reason)
    return FleetTrouble(reason, "no answer in time" if reason is FleetReason.TIMEOUT else text)


def _without(secrets: Sequence[str], text: str) -> str:
    # A server that has no AUTH, or has renamed it, repeats its arguments, each up to some length.
    text = text.partition(", with args beginning with")[0]
    for secret in secrets:
        text = text.replace(secret, "...")
    return text


def _of_system(error: BaseException) -> str:
    """What the system said, of a connection that could not be made; redis-py has the address and numbers round it."""
    cause = error.__cause__ or error.__context__
    return cause.strerror or "" if isinstance(error, RedisConnectionError) and isinstance(cause, OSError) else ""


def _of_tls(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error

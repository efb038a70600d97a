"""Active checks: each worker asks each server of a group now and then, on a connection of its own."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.errors import UpstreamError
from proxy.http.dial import dial
from proxy.http.rewriting import host_of_backend
from proxy.log import about

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.http.pool import UpstreamPool

_log = logging.getLogger("stapleproxy.upstream")

_MAX_LINE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """What is asked, how often, and what the answers mean; as in the settings."""

    path: str
    host: str
    """Empty: the server's own."""
    interval_s: float
    timeout_s: float
    healthy_after: int
    unhealthy_after: int


async def watch(pool: UpstreamPool, check: HealthCheck, jitter: Callable[[], float]) -> None:
    """Check one server until cancelled; `jitter` gives a factor near 1 for each pause."""
    while True:
        why_not = await ask(pool, check)
        is_good = why_not is None
        if pool.standing.check(
            is_good=is_good, healthy_after=check.healthy_after, unhealthy_after=check.unhealthy_after
        ):
            if is_good:
                extra = about(upstream=str(pool.address), is_over=True)
                _log.warning("upstream %s passes its health checks again", pool.address, extra=extra)
            else:
                what = "upstream %s is left out, it fails its health checks: %s"
                _log.warning(what, pool.address, why_not, extra=about(upstream=str(pool.address)))
        await asyncio.sleep(check.interval_s * jitter())


async def ask(pool: UpstreamPool, check: HealthCheck) -> str | None:
    """Ask once; None when the answer is 2xx or 3xx, else what is wrong."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(_MAX_LINE_BYTES, loop)
    # Without keep-alive: a check is to find out whether a new connection is served.
    host = check.host or host_of_backend(str(pool.address)).decode("ascii")
    request = (
        f"GET {check.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: stapleproxy\r\nX-Forwarded-Proto: https\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    )
    transport: asyncio.Transport | None = None
    try:
        async with asyncio.timeout(check.timeout_s):
            transport = await dial(
                lambda: asyncio.StreamReaderProtocol(reader, loop=loop), pool.address, pool.tls, check.timeout_s
            )
            transport.write(request.encode("ascii"))
            line = await reader.readuntil(b"\n")
    except TimeoutError:
        return f"no answer within {check.timeout_s:g} s"
    except UpstreamError as error:
        return error.detail
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return "the connection ended without an answer"
    finally:
        if transport is not None:
            transport.abort()
    status = line.split(b" ", 2)[1:2]
    is_good = line.startswith(b"HTTP/1.") and status and status[0][:1] in {b"2", b"3"}
    return None if is_good else f"the answer begins with {line[:40].decode('latin-1').rstrip()!r}"

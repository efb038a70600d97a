"""Where the load goes, and that it may go there."""

from __future__ import annotations

import ipaddress
import socket

from proxy.bench.context import BenchError


def find_target(host: str, port: int, allowed: str | None) -> tuple[str, int]:
    """Give the numeric address; BenchError for anything but loopback, unless `allowed` is that very host."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise BenchError(f"the name {host} has no address ({error})") from error
    addresses = [str(address[0]) for *_, address in found]
    outside = [each for each in addresses if not ipaddress.ip_address(each.partition("%")[0]).is_loopback]
    if outside and allowed != host:
        meant = host if host == outside[0] else f"{host} ({outside[0]})"
        raise BenchError(
            f"{meant} is not this machine, and a load like this may bring a server down: "
            f"if its owner agrees, say so with --i-may-load {host}"
        )
    return addresses[0], port

"""Where the load goes, and that it may go there."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

from proxy.bench.context import BenchError

_ANSWER_WITHIN_S = 2.0


def find_target(host: str, port: int, allowed: str | None) -> tuple[str, int]:
    """Give the numeric address; BenchError for anything but loopback, unless `allowed` is that very host.

    Of several addresses, the first one that takes a connection: ``localhost`` is often two, and a server is at one.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise BenchError(f"the name {host} has no address ({error})") from error
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    _may_load(host, addresses, allowed)
    if len(addresses) > 1:
        for each in addresses:
            try:
                socket.create_connection((each, port), _ANSWER_WITHIN_S).close()
            except OSError:
                continue
            return each, port
    return addresses[0], port


def _may_load(host: str, addresses: list[str], allowed: str | None) -> None:
    if allowed is not None and allowed.strip("[]").lower() == host.lower():
        return
    numbers = {each: _number(each) for each in addresses}
    outside = [each for each, number in numbers.items() if not number.is_loopback]
    if not outside:
        return
    if numbers[outside[0]].is_unspecified:
        raise BenchError(f"{host} is where a server listens, and no address to connect to: write 127.0.0.1 or [::1]")
    meant = host if host == outside[0] else f"{host} ({outside[0]})"
    raise BenchError(
        f"{meant} is no loopback address, and a load like this may bring a server down: "
        f"if its owner agrees, say so with --i-may-load {host}"
    )


def _number(address: str) -> IPv4Address | IPv6Address:
    """Read an address; one of IPv4 within IPv6 is the one that it stands for."""
    number = ip_address(address.partition("%")[0])
    return number.ipv4_mapped or number if isinstance(number, IPv6Address) else number

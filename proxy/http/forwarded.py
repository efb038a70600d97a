"""Who the client is, and what the backend is told of it. Pure.

The rule: nobody but a trusted proxy may speak for somebody else.
- The connection comes from an address in `trusted`: X-Forwarded-For goes on with the address appended, and the other
  X-Forwarded-*, X-Real-IP and Forwarded go on as they are.
- It comes from anywhere else: all of these are dropped, and X-Forwarded-For, -Proto and -Host set anew.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.http.fields import Field
    from proxy.http.rewriting import Rewriting
    from proxy.names import NameTable

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]

_FOR, _PROTO, _HOST = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"


def is_trusted(peer_host: str, trusted: Networks) -> bool:
    """Whether the address is in one of the networks; one that is none (a Unix socket's) is not."""
    try:
        address = ipaddress.ip_address(peer_host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # what a socket for both families calls an IPv4 client
    return any(address in network for network in trusted)


@dataclass(slots=True)
class Client:
    """What the front knows of a client, made once a connection, and never changed.

    Not frozen: that makes each of its fields cost a call, which is seen in a handshake.
    """

    address: bytes
    lines: bytes
    """For the backend, where the client is not believed; without X-Forwarded-Host, which each request has its own."""
    is_trusted: bool
    default_host: bytes
    """Stands in when HTTP/1.0 says no host."""
    hosts: NameTable[bool] | None
    """Those that are served; None: any."""
    certificate_lines: bytes
    """What `proxy.clientcerts` says of its certificate; empty: the site asks for none."""
    rewriting: Rewriting | None
    """What the site changes in requests; None: nothing."""
    is_usual: bool
    """Not trusted, and nothing is changed: the head is written the short way."""

    @classmethod
    def of(
        cls,
        peer_host: str,
        default_host: str,
        hosts: NameTable[bool] | None = None,
        trusted: Networks = (),
        certificate_lines: bytes = b"",
        rewriting: Rewriting | None = None,
    ) -> Client:
        """`peer_host` is the client's address."""
        address = peer_host.encode("ascii", "replace")
        lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: https\r\n%b" % (address, certificate_lines)
        believed = bool(trusted) and is_trusted(peer_host, trusted)
        host = default_host.encode("ascii", "replace")
        is_usual = not believed and (rewriting is None or not rewriting.is_of_requests)
        return cls(address, lines, believed, host, hosts, certificate_lines, rewriting, is_usual)


def told_by_proxy(client: Client, host: bytes, fields: Sequence[Field]) -> bytes:
    """The lines for the backend, where `fields` are what a trusted proxy, or the operator, says of the client."""
    lines, chain = [], []
    names = set()
    for field in fields:
        names.add(field.name)
        if field.name == _FOR:
            chain.append(field.value)
        else:
            lines.append(field.line)
    lines.append(b"X-Forwarded-For: %b\r\n" % b", ".join([*chain, client.address]))
    if _PROTO not in names:
        lines.append(b"X-Forwarded-Proto: https\r\n")
    if _HOST not in names:
        lines.append(b"X-Forwarded-Host: %b\r\n" % host)
    lines.append(client.certificate_lines)
    return b"".join(lines)

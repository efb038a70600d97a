"""How many clients one worker serves at once: pure arithmetic, the counts and the descriptors are told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address

_IPV6_NETWORK_BYTES = 8
"""A /64 is what one customer gets at least (RFC 6177 2): counted by address, one machine would be many clients."""


class Refusal(StrEnum):
    """Why a client is turned away as soon as it comes."""

    WORKER = "max_connections"
    CLIENT = "max_connections_per_client"


class Admission:
    """Counts the connections of one worker. `max_per_client` 0: any number."""

    __slots__ = ("_by_client", "_max_connections", "_max_per_client", "count", "refused")

    def __init__(self, max_connections: int, max_per_client: int) -> None:
        self._max_connections = max_connections
        self._max_per_client = max_per_client
        self._by_client: dict[bytes, int] = {}
        self.count = 0
        """Those that were admitted, and have not left."""
        self.refused = dict.fromkeys(Refusal, 0)

    def admit(self, host: str) -> Refusal | None:
        """Count a connection from `host`; or why it is refused, which is counted too."""
        if self.count >= self._max_connections:
            return self._refuse(Refusal.WORKER)
        if self._max_per_client:
            client = client_key(host)
            mine = self._by_client.get(client, 0)
            if mine >= self._max_per_client:
                return self._refuse(Refusal.CLIENT)
            self._by_client[client] = mine + 1
        self.count += 1
        return None

    def leave(self, host: str) -> None:
        """Forget a connection that was admitted from this host."""
        self.count -= 1
        if self._max_per_client:
            client = client_key(host)
            left = self._by_client[client] - 1
            if left:
                self._by_client[client] = left
            else:
                del self._by_client[client]

    def _refuse(self, why: Refusal) -> Refusal:
        self.refused[why] += 1
        return why


def client_key(host: str) -> bytes:
    """Who counts as one client: an IPv4 address, or a /64 of IPv6; an IPv4 address in IPv6 is an IPv4 address."""
    if ":" not in host:
        return host.encode()
    address = IPv6Address(host)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped).encode()
    return address.packed[:_IPV6_NETWORK_BYTES]


@dataclass(frozen=True, slots=True)
class DescriptorBudget:
    """When to stop accepting, and when to begin again, by the number of connections that are open on either side.

    `limit` is how many descriptors the process may have, `others` how many of them are no connections. A part is kept
    free: for connections to backends that clients who are here already will want, and for files. Beginning again later
    than stopping keeps a worker at the limit from doing either all the time.
    """

    limit: int
    others: int

    @property
    def stop_at(self) -> int:
        """No further client is accepted with so many connections."""
        room = max(0, self.limit - self.others)
        return room - max(8, room // 8)

    @property
    def go_on_at(self) -> int:
        """Clients are accepted again with so many or fewer; below 0: never, there is no room for any."""
        return self.stop_at - max(2, self.stop_at // 16)

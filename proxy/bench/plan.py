"""What a run does, as values that any process can be told. PURE."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.bench.arrivals import Arrivals, Names, share_of

if TYPE_CHECKING:
    from proxy.tls.offer import KeyKind, TlsVersion

MAX_OPEN = 10_000
"""Connections of one process: a server that stalls would otherwise take every descriptor there is."""
MAX_RATE = 1_000_000
"""A second: beyond what any machine begins, and below what makes two clients due at one and the same float."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds, each from the beginning of its step."""

    connect_s: float = 5.0
    handshake_s: float = 10.0
    answer_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Tls:
    """What the client offers; "" leaves it to OpenSSL."""

    version: TlsVersion | None = None
    key: KeyKind | None = None
    """Limits the signature algorithms, so that a server with two certificates sends that one."""
    groups: str = ""
    ciphers: str = ""
    """OpenSSL's names of either kind: those that begin with TLS_ are of TLS 1.3."""
    certificate: str = ""
    """Paths of the client's certificate with its chain, and of its key."""
    certificate_key: str = ""
    roots: tuple[bytes, ...] = ()
    """In DER. The server's chain must lead to one of them; without any it is not verified."""


@dataclass(frozen=True, slots=True)
class Work:
    """What each client does, whenever it comes."""

    address: tuple[str, int]
    """Numeric: nobody looks up a name while it is measured."""
    names: Names
    """What to ask for; the name "" asks for none."""
    authority: str
    """The Host of requests where no name is asked for."""
    tls: Tls = field(default_factory=Tls)
    resume: float = 0.0
    """The share of clients, 0 to 1, that offer a session."""
    path: str = ""
    """Of the requests; none are made without."""
    requests: int = 0
    """On each connection."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    more_certificates: tuple[bytes, ...] = ()
    """In DER: to look for the issuers of staples in, beside what the server sends."""
    samples: str = ""
    """The file that has a line for each connection; "" is none."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A round: how many clients come how fast, and whether they ask for the staple.

    Either `rate` (open loop) or `concurrency` (closed loop) is above 0, and either `seconds` or `handshakes`.
    """

    seconds: float = 0.0
    """Without ramp and warm-up."""
    handshakes: int = 0
    rate: float = 0.0
    concurrency: int = 0
    ramp_s: float = 0.0
    warmup_s: float = 0.0
    """After the ramp; what is due in either is not counted."""
    asks_staple: bool = True

    @property
    def uncounted_s(self) -> float:
        return self.ramp_s + self.warmup_s

    @property
    def length_s(self) -> float | None:
        """How long clients come; None: until there were enough."""
        return self.uncounted_s + self.seconds if self.seconds else None

    def numbers(self) -> tuple[int, int]:
        """The first counted arrival of an open loop, and the first that does not come any more."""
        arrivals = Arrivals(self.rate, self.ramp_s)
        first = arrivals.first_from(self.uncounted_s)
        return first, first + self.handshakes if self.handshakes else arrivals.first_from(
            self.uncounted_s + self.seconds
        )

    def part(self, index: int, parts: int) -> Part:
        """What one of several processes does of it."""
        if self.rate:
            first, end = self.numbers()
            return Part(index=index, parts=parts, first_counted=first, end=end)
        return Part(
            index=index,
            parts=parts,
            concurrency=share_of(self.concurrency, index, parts),
            handshakes=share_of(self.handshakes, index, parts) if self.handshakes else None,
        )


@dataclass(frozen=True, slots=True)
class Part:
    """One process's part of a phase: of the arrivals, those whose number leaves `index` divided by `parts`."""

    index: int
    parts: int
    first_counted: int = 0
    end: int = 0
    concurrency: int = 0
    handshakes: int | None = None


def sensible_processes(cores: int, phase: Phase) -> int:
    """One for each core, but none that would have nothing to do."""
    most = phase.concurrency or math.ceil(phase.rate)
    return max(1, min(cores, most, phase.handshakes or most))

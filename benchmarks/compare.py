"""What the runs beside other servers have in common: how much is done, ratios, and what is told."""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from OpenSSL import SSL
from peers import stapleproxy
from peers_native import nginx

import proxy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peers import Cores, Start

OURS, PEER = "stapleproxy", "nginx"
STARTS: dict[str, Start] = {OURS: stapleproxy, PEER: nginx}


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done; operations are those of one round."""

    rounds: int
    operations: int
    counted: int
    """Operations in the rounds that count instructions and system calls; 0: no such rounds."""

    @classmethod
    def quick(cls) -> Effort:
        return cls(rounds=2, operations=5, counted=0)


def ratios_by_round(ours: Sequence[float], peer: Sequence[float]) -> list[float]:
    """Ours over the peer's, the least first; without rounds too short for the clock, which a few operations can be."""
    return sorted(a / b for a, b in zip(ours, peer, strict=True) if b)


def say(what: str) -> None:
    """Tell the person who waits; the result alone goes to standard output."""
    print(what, file=sys.stderr, flush=True)


def describe(cores: Cores) -> dict[str, str]:
    """What a reader needs to know to compare with another run."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    pinned = f"server on core {cores.server}, client, backend and responder on core {cores.others}"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{cpu[1] if cpu else platform.machine()}, kernel {platform.release()}; "
        + ("not pinned: one core" if cores.server is None else pinned),
        OURS: f"{proxy.__version__}, {platform.python_implementation()} {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("pyOpenSSL", "cryptography", "uvloop", "httptools"))
        + f"; server and client with {SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()}",
    }

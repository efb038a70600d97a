"""How much is done in each part of the run: the whole of it, and a few of each to see whether it works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from load import Kind


@dataclass(frozen=True, slots=True)
class Effort:
    """Operations are those of one round."""

    kinds: tuple[Kind, ...] = ("ec", "rsa")
    rounds: int = 12
    operations: int = 150
    counted: int = 64
    """Operations in the rounds that count instructions and system calls. RSA renews its blinding each 32 signatures:
    so a multiple of that."""
    first: int = 200
    """Handshakes of a server just started that are not counted: an interpreter specialises its code, pools fill."""
    load_cases: int = 5
    load_rounds: int = 2
    load_s: float = 3.0
    load_warm_up_s: float = 1.0
    sites: tuple[int, ...] = (1, 100, 10_000)
    idle: tuple[int, ...] = (0, 1_000, 5_000)
    growth_rounds: int = 6
    growth_operations: int = 200
    workers: tuple[int, ...] = (1, 2)


QUICK = Effort(
    kinds=("ec",),
    rounds=2,
    operations=8,
    counted=3,
    first=5,
    load_cases=1,
    load_rounds=1,
    load_s=1.0,
    load_warm_up_s=0.2,
    sites=(1, 10, 50),
    idle=(0, 20, 50),
    growth_rounds=2,
    growth_operations=8,
)

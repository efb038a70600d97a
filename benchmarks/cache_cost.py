"""What one read costs the processor, as a share of a full handshake of the real server.

Run as a program it is the process that is counted: it reads as often as each line of its input says, and answers.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cache_stores import segment_with, through_first_level, through_shared_memory
from counting import CPU, USER, Counter, cpu_time, instruction_counter
from load import Client
from peers import running_lab, stapleproxy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from peers import Cores

RESPONSE_BYTES = 2048
ENTRIES = 100
FIRST_LEVEL, SHARED_MEMORY, EMPTY_LOOP = "first", "shared", "nothing"
_WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Costs:
    """For one operation, the loop around it taken off."""

    method: str
    unit: str
    first_level: float
    shared_memory: float
    handshake: float


def cost(folder: Path, cores: Cores, *, reads: int, handshakes: int) -> Costs:
    """Count user instructions if that can be done, else CPU time. The handshake is TLS 1.3 with ECDSA P-256."""
    counter = instruction_counter(folder) or Counter("scheduler's clock", cpu_time)
    unit = CPU if counter.count is cpu_time else USER
    command = [*cores.prefix(), *counter.prefix, sys.executable, __file__]
    found: dict[str, float] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:

        def ask(what: str, count: int) -> str:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(f"{what} {count}\n")
            child.stdin.flush()
            return child.stdout.readline()

        try:
            pid = int(ask(EMPTY_LOOP, 1))
            for what in (EMPTY_LOOP, FIRST_LEVEL, SHARED_MEMORY):
                ask(what, reads)
                found[what] = counter.count(pid, partial(ask, what, reads))[unit] / reads
        finally:
            child.kill()
    with running_lab(folder) as lab, stapleproxy(lab, [*cores.prefix(), *counter.prefix]) as server:
        client = Client(server, "ec", "1.3")
        client.full(_WARM_UP)
        handshake = counter.count(server.worker_pid, partial(client.full, handshakes))[unit] / handshakes
    first, shared = (found[what] - found[EMPTY_LOOP] for what in (FIRST_LEVEL, SHARED_MEMORY))
    return Costs(counter.method, unit, first, shared, handshake)


def serve() -> None:
    """Do what each line says: how, and how often."""
    chance = random.Random(0)
    entries = {chance.randbytes(20): chance.randbytes(RESPONSE_BYTES) for _ in range(ENTRIES)}
    with segment_with(entries) as segment:
        keys = list(entries)
        do: dict[str, Callable[[bytes], object]] = {
            EMPTY_LOOP: lambda _key: None,
            FIRST_LEVEL: through_first_level(segment),
            SHARED_MEMORY: through_shared_memory(segment),
        }
        for line in sys.stdin:
            what, count = line.split()
            get = do[what]
            for number in range(int(count)):
                get(keys[number % ENTRIES])
            print(os.getpid(), flush=True)


if __name__ == "__main__":
    serve()

"""One run: the same operations on every server in turn, round after round, by every counter; then the report.

Rounds alternate between the servers, so that what the machine does meanwhile meets both. A ratio of CPU times is the
median of the rounds' ratios.
"""

from __future__ import annotations

import contextlib
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click
from counting import CPU, SUM, USER, Counter, CountingError, call_counter, cpu_time, instruction_counter
from load import LoadError
from OpenSSL import SSL
from peers import Cores, Server, running_lab, stapleproxy
from peers_native import find, nginx

import proxy
from proxy.lab.stack import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from peers import Lab, Start

Load = Callable[[int], object]
"""Does so many operations."""

OURS, PEER = "stapleproxy", "nginx"
STARTS: dict[str, Start] = {OURS: stapleproxy, PEER: nginx}
_WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Operation:
    """What is measured; `target` is the most that our cost may be of the peer's."""

    name: str
    prepare: Callable[[Server], Load]
    target: float | None = None


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


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: cost per operation, by round."""

    operation: str
    quantity: str
    method: str
    ours: list[float]
    peer: list[float]
    target: float | None

    @property
    def ratios(self) -> list[float]:
        return ratios_by_round(self.ours, self.peer)

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.ratios else None


def ratios_by_round(ours: Sequence[float], peer: Sequence[float]) -> list[float]:
    """Ours over the peer's, the least first; without rounds too short for the clock, which a few operations can be."""
    return sorted(a / b for a, b in zip(ours, peer, strict=True) if b)


def compare(operations: Sequence[Operation], effort: Effort, folder: Path, cores: Cores) -> Iterator[Row]:
    """Measure each operation by each counter there is."""
    counter = instruction_counter(folder) if effort.counted else None
    calls = call_counter() if effort.counted else None
    if effort.counted and counter is None:
        say("No instructions are counted: perf has no hardware counters here, and valgrind is not installed.")
    with running_lab(folder) as lab:
        native = [Counter("scheduler's clock", cpu_time)]
        if counter is not None and not counter.prefix:
            native.append(counter)
        if calls is not None:
            native.append(calls)
        with _servers(lab, cores.prefix()) as servers:
            for operation in operations:
                yield from _measure(operation, native, servers, effort)
        if counter is not None and counter.prefix:
            with _servers(lab, [*cores.prefix(), *counter.prefix]) as servers:
                for operation in operations:
                    yield from _measure(operation, [counter], servers, effort)


@contextlib.contextmanager
def _servers(lab: Lab, prefix: Sequence[str]) -> Iterator[dict[str, Server]]:
    with contextlib.ExitStack() as running:
        yield {name: running.enter_context(start(lab, prefix)) for name, start in STARTS.items()}


def _measure(
    operation: Operation, counters: Sequence[Counter], servers: dict[str, Server], effort: Effort
) -> Iterator[Row]:
    loads = {name: operation.prepare(server) for name, server in servers.items()}
    for load in loads.values():
        load(_WARM_UP)
    for counter in counters:
        is_timed = counter.count is cpu_time
        rounds, count = (effort.rounds, effort.operations) if is_timed else (1, effort.counted)
        say(f"{operation.name}: {counter.method}, {rounds} x {count} operations")
        costs: dict[str, dict[str, list[float]]] = {}
        for _ in range(rounds):
            for name, server in servers.items():
                load = loads[name]
                for quantity, total in counter.count(server.worker_pid, partial(load, count)).items():
                    costs.setdefault(quantity, {}).setdefault(name, []).append(total / count)
        for quantity, by_server in costs.items():
            target = operation.target if quantity in {CPU, USER, SUM} else None
            yield Row(operation.name, quantity, counter.method, by_server[OURS], by_server[PEER], target)


def say(what: str) -> None:
    """Tell the person who waits; the result alone goes to standard output."""
    print(what, file=sys.stderr, flush=True)


def run(measure: Callable[[Path, Cores], Iterator[Row]], *, as_json: bool) -> None:
    """Measure in a folder of its own, print the report; one sentence and status 1 where it cannot be done."""
    cores = Cores.choose()
    with tempfile.TemporaryDirectory(prefix="stapleproxy-benchmark-") as folder:
        try:
            find("nginx")
            rows = list(measure(Path(folder), cores))
        except (CountingError, LabError, LoadError) as error:
            raise click.ClickException(str(error)) from error
    machine = describe(cores) | {PEER: _nginx_version()}
    if as_json:
        print(json.dumps({"machine": machine, "rows": [asdict(row) | {"ratio": row.ratio} for row in rows]}, indent=2))
    else:
        print("\n".join(f"- {name}: {value}" for name, value in machine.items()), _table(rows), sep="\n\n")


def _table(rows: Sequence[Row]) -> str:
    lines = [
        f"| operation | quantity | by | {OURS} | {PEER} | ratio | range | target |",
        "|---|---|---|---:|---:|---:|---|---|",
    ]
    for row in rows:
        ours, peer = (f"{statistics.median(values):,.{_decimals(values)}f}" for values in (row.ours, row.peer))
        ratio, ratios = row.ratio, row.ratios
        said = "" if ratio is None else f"{ratio:.2f}"
        spread = f"{ratios[0]:.2f}-{ratios[-1]:.2f}" if len(ratios) > 1 else ""
        target = ""
        if row.target is not None and ratio is not None:
            target = f"{row.target:.1f}: {'met' if ratio <= row.target else 'missed'}"
        lines.append(
            f"| {row.operation} | {row.quantity} | {row.method} | {ours} | {peer} | {said} | {spread} | {target} |"
        )
    return "\n".join(lines)


def _decimals(values: Sequence[float]) -> int:
    return 0 if statistics.median(values) >= 100 else 1


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


def _nginx_version() -> str:
    said = subprocess.run([find("nginx"), "-V"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"nginx/(\S+)", said), re.search(r"running with (OpenSSL \S+)", said)
    built = re.search(r"built with (OpenSSL \S+)", said)
    return ", ".join(match[1] for match in (found[0], found[1] or built) if match)

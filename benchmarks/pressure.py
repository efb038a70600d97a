"""Rate and latency, by ``stapleproxy bench``: each of its full handshakes must bring a good staple."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from certificates import make_sites
from compare import say
from counting import CPU, cpu_s
from fronts import PEER, Plan
from handshakes import Case, all_serving
from load import HOST, LoadError
from samples import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from certificates import Site
    from effort import Effort
    from fronts import Front, Program
    from peers import Cores, Lab

RATE = "rate, 1/s"
USED = "cores used by the server"
MEMORY = "memory, MiB"
OFFERED = "offered, 1/s"
LATENCIES = {"p50": "p50, ms", "p99": "p99, ms"}
OPEN_SHARE = 0.5
"""Of the rate that nginx reached: what is offered to every server, on schedule, when latency is measured."""
CASES = (
    Case("ec", "1.3"),
    Case("rsa", "1.3"),
    Case("ec", "1.3", is_resumed=True),
    Case("ec", "1.2"),
    Case("ec", "1.2", is_resumed=True),
)
_WITHIN_S = 120


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one load."""

    rate: float
    cost_s: float
    """CPU time of the server for each handshake, by all its processes that do them."""
    latency_s: dict[str, float]
    """By quantile."""

    @property
    def cores_used(self) -> float:
        return self.rate * self.cost_s


def bench(
    front: Front, site: Site, case: Case, effort: Effort, *options: str, prefix: Sequence[str] = (), processes: int = 1
) -> Outcome:
    """Load it once; LoadError where a handshake failed, or brought no good staple."""
    command = [
        *prefix,
        *(sys.executable, "-P", "-m", "proxy", "bench", f"{HOST}:{front.port}", "--json", "--name", site.name),
        *("--key-type", case.kind, "--tls", case.version, "--groups", "X25519:P-256"),
        *("--processes", str(processes), "--duration", f"{effort.load_s}s", "--warmup", f"{effort.load_warm_up_s}s"),
        *(("--resume", "1") if case.is_resumed else ()),
        *options,
    ]
    before_s = sum(map(cpu_s, front.pids))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_WITHIN_S)
    spent_s = sum(map(cpu_s, front.pids)) - before_s
    try:
        told = json.loads(done.stdout)
    except ValueError as error:
        raise LoadError(f"{front.name}: bench told nothing: {done.stderr[-1000:]}") from error
    bad = {what: count for what, count in told["staples"].items() if count and what not in {"good", "resumed"}}
    if told["failed"] or bad or not told["handshakes"]:
        raise LoadError(f"{front.name}: {told['failed']} handshakes failed, staples: {bad}, {told['failures']}")
    # With the warm-up, which the server has worked for too.
    cost_s = spent_s / (told["handshakes"] + told["not_counted"]["handshakes"])
    return Outcome(told["handshakes_per_second"], cost_s, told["latency_s"]["total"])


def measure_load(programs: Sequence[Program], effort: Effort, lab: Lab, cores: Cores) -> Iterator[Sample]:
    """Closed loop for the rate, then open loop for the latency; the server and the generator have a core each."""
    method = "stapleproxy bench"
    for kind in effort.kinds:
        sites = make_sites(lab.folder, lab.new_folder(), 1, kind, lab.responder_url)
        with all_serving(programs, Plan(sites, kind, prefix=cores.prefix()), lab) as fronts:
            for case in (each for each in CASES[: effort.load_cases] if each.kind == kind):
                say(f"{case.name}: rate and latency, {effort.load_rounds} x 2 x {effort.load_s:g} s on each server")
                rates: dict[str, list[float]] = {}
                for number in range(effort.load_rounds):
                    for front in fronts:
                        found = bench(front, sites[0], case, effort)
                        rates.setdefault(front.name, []).append(found.rate)
                        for quantity, value in ((RATE, found.rate), (USED, found.cores_used)):
                            yield Sample(case.name, front.name, quantity, method, number, value)
                offered = OPEN_SHARE * statistics.median(rates.get(PEER, rates[fronts[0].name]))
                for number in range(effort.load_rounds):
                    for front in fronts:
                        found = bench(front, sites[0], case, effort, "--rate", f"{offered:.0f}")
                        yield Sample(case.name, front.name, OFFERED, method, number, offered)
                        for quantile, quantity in LATENCIES.items():
                            value = found.latency_s[quantile] * 1000
                            yield Sample(case.name, front.name, quantity, method, number, value)


def measure_workers(programs: Sequence[Program], effort: Effort, lab: Lab, _cores: Cores) -> Iterator[Sample]:
    """One worker and two, on all cores, which they share with the generator: a machine with four would show more."""
    case = CASES[0]
    sites = make_sites(lab.folder, lab.new_folder(), 1, case.kind, lab.responder_url)
    everywhere = everywhere_prefix()
    count = len(os.sched_getaffinity(0)) if not everywhere else os.cpu_count() or 1
    for workers in effort.workers:
        name = f"{workers} worker" + ("" if workers == 1 else "s")
        with all_serving(programs, Plan(sites, case.kind, workers=workers, prefix=everywhere), lab) as fronts:
            say(f"{name}: rate and CPU time, {effort.load_rounds} x {effort.load_s:g} s on each server")
            for number in range(effort.load_rounds):
                for front in fronts:
                    found = bench(front, sites[0], case, effort, prefix=everywhere, processes=count)
                    figures = {
                        RATE: found.rate,
                        CPU: found.cost_s * 1e6,
                        USED: found.cores_used,
                        MEMORY: front.memory_kib() / 1024,
                    }
                    for quantity, value in figures.items():
                        yield Sample(name, front.name, quantity, "stapleproxy bench", number, value)


def everywhere_prefix() -> list[str]:
    """For a command that may run on any core, although this process may not."""
    return ["taskset", "--cpu-list", f"0-{(os.cpu_count() or 1) - 1}"] if shutil.which("taskset") else []

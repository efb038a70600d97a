"""One run of proxied loads on every server there is: round after round, each server in turn, by every counter.

A ratio of CPU times is the median of the rounds' ratios: what the machine does meanwhile meets all servers.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from compare import OURS, describe, say
from counting import Counter, CountingError, call_counter, cpu_time, instruction_counter
from load import LoadError
from OpenSSL import SSL
from peers import Cores, running_lab, stapleproxy
from peers_all import Peer, installed, left_out
from proxying_report import Costs, Report

from proxy.lab.stack import LabError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from compare import Effort
    from peers import Lab, Server
    from proxying_report import Target

Load = Callable[[int], object]
"""Does so many units."""
Open = Callable[["Server"], AbstractContextManager[Load]]
"""Opens what the load needs, for one round: so that no server's idle timeout ends it meanwhile."""

SUITE = "TLS_AES_128_GCM_SHA256"
"""The only one that clients offer here: of several, the servers would choose different ones."""

FAILURES = (LoadError, LabError, OSError, SSL.Error)
"""A peer that does not do the work does not end the run."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is measured, in units such as requests; `targets` are for our cost over that of the server of that name."""

    name: str
    unit: str
    open: Open
    warm_up: int
    """Units before each count, on the same connection."""
    targets: Mapping[str, Target]
    variants: Mapping[str, tuple[str, Open]] = field(default_factory=dict)
    """More lines in the table: the server's name, and the load of its own."""


@dataclass(slots=True)
class Run:
    """The servers of one run that still do what they should."""

    lab: Lab
    prefix: Sequence[str]
    missing: list[str]
    servers: dict[str, Server] = field(default_factory=dict)

    @contextlib.contextmanager
    def servers_of(self, peers: Iterable[Peer], wrapper: Sequence[str] = ()) -> Iterator[None]:
        """Start ours and these, with `wrapper` before their commands."""
        command = [*self.prefix, *wrapper]
        with contextlib.ExitStack() as running:
            self.servers = {OURS: running.enter_context(stapleproxy(self.lab, command))}
            for peer in peers:
                say(f"starting {peer.name}")
                try:
                    self.servers[peer.name] = running.enter_context(peer.start(self.lab, command))
                except FAILURES as error:
                    self.drop(peer.name, "cannot be started", error)
            yield

    def drop(self, name: str, what: str, error: Exception) -> None:
        """Go on without it, unless all are required."""
        self.servers.pop(name, None)
        self.missing.append(left_out(name, f"{what}: {error!r}"))

    def measure(self, work: Work, counter: Counter, rounds: int, count: int) -> Iterator[Costs]:
        """Let each server do the work in turn."""
        say(f"{work.name}: {counter.method}, {rounds} x {count} of {work.unit}")
        costs: dict[tuple[str, str], Costs] = {}
        for _ in range(rounds):
            loads = {name: (name, work.open) for name in self.servers} | dict(work.variants)
            for line, (name, opener) in loads.items():
                if name not in self.servers:
                    continue
                server = self.servers[name]
                try:
                    with opener(server) as load:
                        load(work.warm_up)
                        totals = counter.count(server.worker_pid, partial(load, count))
                except FAILURES as error:
                    if name == OURS:
                        raise
                    self.drop(name, f"it failed at {work.name}", error)
                    continue
                for quantity, total in totals.items():
                    key = line, quantity
                    costs.setdefault(key, Costs(work.name, line, quantity, counter.method)).rounds.append(total / count)
        yield from (each for each in costs.values() if len(each.rounds) == rounds)


def compare_all(works: Sequence[Work], effort: Effort, folder: Path, cores: Cores) -> Report:
    """Measure each work by each counter there is, on each server that is there."""
    peers, versions, missing = installed()
    counter = instruction_counter(folder) if effort.counted else None
    calls = call_counter() if effort.counted else None
    measured: list[Costs] = []
    with running_lab(folder) as lab:
        run = Run(lab, cores.prefix(), missing)
        with run.servers_of(peers):
            for work in works:
                measured += run.measure(work, Counter("scheduler's clock", cpu_time), effort.rounds, effort.operations)
                for each in (counter, calls):
                    if each is not None and not each.prefix:
                        measured += run.measure(work, each, 1, effort.counted)
        if counter is not None and counter.prefix:
            with run.servers_of([peer for peer in peers if peer.is_worth_valgrind], counter.prefix):
                for work in works:
                    measured += run.measure(work, counter, 1, effort.counted)
    return Report(
        describe(cores) | versions,
        missing,
        {work.name: work.unit for work in works},
        {work.name: work.targets for work in works},
        measured,
    )


def run_all(measure: Callable[[Path, Cores], Report], *, as_json: bool) -> None:
    """Measure in a folder of its own, print the report; one sentence and status 1 where it cannot be done."""
    cores = Cores.choose()
    with tempfile.TemporaryDirectory(prefix="stapleproxy-benchmark-") as folder:
        try:
            report = measure(Path(folder), cores)
        except (CountingError, *FAILURES) as error:
            raise click.ClickException(str(error) or repr(error)) from error
    print(report.json() if as_json else report.markdown())

"""The cost of one handshake on each front: every kind, by every counter.

Each front serves one site with one certificate, by one worker. Rounds alternate between the fronts, so that what the
machine does meanwhile meets all of them.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from certificates import make_sites
from compare import say
from counting import Counter, call_counter, cpu_time, instruction_counter, last_dump, on_all
from fronts import OURS, Plan, serving
from load import Client, LoadError
from OpenSSL import SSL
from samples import Sample, left_out
from shares import by_owner

from proxy.lab.stack import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from effort import Effort
    from fronts import Front, Program
    from load import Kind, Version
    from peers import Cores, Lab

NAMES = {"ec": "ECDSA P-256", "rsa": "RSA-2048"}
VERSIONS: tuple[Version, ...] = ("1.3", "1.2")
SAME_SUITE = "TLS_AES_256_GCM_SHA384"
"""What all but ours prefer with this client."""
SHARE = "instructions of "
"""A quantity, with the owner behind it: see `shares`."""
_WARM_UP = 20
FIRST = 200
"""Handshakes of a server just started that are not counted: an interpreter specialises its code, pools fill."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of handshake."""

    kind: Kind
    version: Version
    is_resumed: bool = False
    asks: bool = True
    suite: str | None = None

    @property
    def name(self) -> str:
        words = ["resumed" if self.is_resumed else "full", NAMES[self.kind], f"TLS {self.version}"]
        words += [] if self.asks else ["not stapled"]
        words += ["same suite"] if self.suite else []
        return ", ".join(words)

    def load(self, front: Front, site: bytes) -> Callable[[int], None]:
        client = Client(
            front, self.kind, self.version, self.suite, sites={site: front.staples[self.kind]}, asks=self.asks
        )
        return partial(client.resumed, session=client.session()) if self.is_resumed else client.full


def cases(kind: Kind) -> Iterator[Case]:
    """All that are measured with such a certificate."""
    for version in VERSIONS:
        full = Case(kind, version)
        yield from (full, replace(full, asks=False), replace(full, is_resumed=True))
    same = Case(kind, "1.3", suite=SAME_SUITE)
    yield from (same, replace(same, is_resumed=True))


FAILURES = (LoadError, LabError, OSError, SSL.Error)
"""Another server than ours that does not do the work does not end the run."""


@contextlib.contextmanager
def all_serving(programs: Sequence[Program], plan: Plan, lab: Lab) -> Iterator[list[Front]]:
    """Start all; those that cannot be started are missing, and that is told."""
    with contextlib.ExitStack() as running:
        fronts = []
        for program in programs:
            try:
                fronts.append(running.enter_context(serving(program, plan, lab)))
            except FAILURES as error:
                if program.name == OURS:
                    raise
                say(f"{program.name} is left out: {error}")
        yield fronts


def measure_time(programs: Sequence[Program], effort: Effort, lab: Lab, cores: Cores) -> Iterator[Sample]:
    """CPU time, system calls, and instructions where the processor counts them."""
    counters = [Counter("scheduler's clock", cpu_time)]
    counters += [each for each in (instruction_counter(lab.folder), call_counter()) if each and not each.prefix]
    yield from _measure(programs, effort, lab, Plan([], "ec", prefix=cores.prefix()), counters)


def measure_instructions(programs: Sequence[Program], effort: Effort, lab: Lab, cores: Cores) -> Iterator[Sample]:
    """User instructions under callgrind, and whose they are; nothing where valgrind is not installed."""
    profiles = lab.folder / "profiles"
    profiles.mkdir()
    profiles.chmod(0o777)  # Apache's worker has another user than root
    counter = instruction_counter(profiles, by_perf=False)
    if counter is None:
        say("No instructions are counted by callgrind: valgrind is not installed.")
        return
    plan = Plan([], "ec", prefix=[*cores.prefix(), *counter.prefix])
    yield from _measure(programs, effort, lab, plan, [counter], profiles)


def _measure(
    programs: Sequence[Program],
    effort: Effort,
    lab: Lab,
    plan: Plan,
    counters: Sequence[Counter],
    profiles: Path | None = None,
) -> Iterator[Sample]:
    for kind in effort.kinds:
        sites = make_sites(lab.folder, lab.new_folder(), 1, kind, lab.responder_url)
        site = sites[0].name.encode()
        with all_serving(programs, replace(plan, sites=sites, kind=kind), lab) as fronts:
            for front in fronts:
                Case(kind, "1.3").load(front, site)(effort.first)
            for case in cases(kind):
                loads = []
                for front in fronts:
                    try:
                        loads.append((front, case.load(front, site)))
                    except FAILURES as error:  # such as one that resumes nothing
                        if front.name == OURS:
                            raise
                        yield left_out(case.name, front.name, error)
                for counter in counters:
                    is_timed = counter.count is cpu_time
                    rounds, count = (effort.rounds, effort.operations) if is_timed else (1, effort.counted)
                    say(f"{case.name}: {counter.method}, {rounds} x {count} handshakes on each server")
                    for _, load in loads:
                        load(min(_WARM_UP, effort.first))
                    for number in range(rounds):
                        for front, load in loads:
                            totals = on_all(counter.count, front.pids, partial(load, count))
                            if profiles is not None:
                                totals |= _shares(profiles, front.pids)
                            for quantity, total in totals.items():
                                yield Sample(case.name, front.name, quantity, counter.method, number, total / count)


def _shares(profiles: Path, pids: Sequence[int]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for pid in pids:
        dump = last_dump(profiles, pid)
        if dump is None:
            continue
        with dump.open() as lines:
            for owner, cost in by_owner(lines).items():
                totals[SHARE + owner] = totals.get(SHARE + owner, 0) + cost
    return totals

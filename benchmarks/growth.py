"""How the cost grows: with the number of sites, each with a certificate of its own, and with idle connections."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from certificates import make_sites
from compare import say
from counting import CPU, Counter, cpu_time, instruction_counter, on_all
from fronts import OURS, Plan, serving
from handshakes import FAILURES
from load import Client, get
from pressure import MEMORY
from samples import Sample, left_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from certificates import Site
    from effort import Effort
    from fronts import Front, Program
    from OpenSSL import SSL
    from peers import Cores, Lab

START = "start, s"
CACHED, UNSTAPLED = f"{OURS}, responses in its cache", f"{OURS}, not stapling"
"""Other ways to start ours."""
AT_FIRST = "CPU time at first, µs"
"""Of the handshakes that visit each site for the first time."""
SIZES_METHOD, START_METHOD = "Pss of all processes", "from exec to the first good handshake"
_BYTES_PER_ENTRY = 4096
"""Of our cache, which is to hold all responses."""
_SEED = 1
_FIRST = 64


def measure_sites(programs: Sequence[Program], effort: Effort, lab: Lab, cores: Cores) -> Iterator[Sample]:
    """Start time and memory of each number of sites; then the cost of handshakes with any of them, side by side."""
    numbers = {
        count: make_sites(lab.folder, lab.new_folder(), count, "ec", lab.responder_url) for count in effort.sites
    }
    for program in programs:
        with contextlib.ExitStack() as running:
            loads: list[tuple[str, Front, Client]] = []
            for count, sites in numbers.items():
                say(f"{program.name}: starting with {_sites(count)}")
                plan = _plan(program, sites, lab, cores)
                is_stapling = plan.stapling == "file"
                try:
                    front = running.enter_context(serving(program, plan, lab))
                    client = Client(
                        front, "ec", "1.3", sites=_in_any_order(sites, is_stapling=is_stapling), asks=is_stapling
                    )
                    # Each site once, at least: a worker copies then what it has in common with its master.
                    visits = max(effort.first, count)
                    first = on_all(cpu_time, front.pids, partial(client.full, visits))
                except FAILURES as error:
                    if program.name == OURS:
                        raise
                    yield left_out(_sites(count), program.name, error)
                    break
                yield Sample(_sites(count), front.name, START, START_METHOD, 0, front.start_s)
                yield Sample(_sites(count), front.name, AT_FIRST, "scheduler's clock", 0, first[CPU] / visits)
                yield Sample(_sites(count), front.name, MEMORY, SIZES_METHOD, 0, front.memory_kib() / 1024)
                loads.append((_sites(count), front, client))
            yield from _rounds(loads, effort, lab)
        if program.name == OURS:
            for count, sites in numbers.items():
                yield from _other_starts(program, count, sites, lab, cores)


def _plan(program: Program, sites: Sequence[Site], lab: Lab, cores: Cores) -> Plan:
    """From files, so that nobody fetches thousands of responses first; Apache cannot, and is not asked for any."""
    plan = Plan(sites, "ec", stapling="file" if program.reads_staples else "fetched", prefix=cores.prefix())
    if program.name == OURS:
        path = lab.folder / f"cache-{len(sites)}"
        return replace(plan, cache=f"shmcb:{path}({max(512_000, _BYTES_PER_ENTRY * len(sites))})")
    return plan


def _other_starts(program: Program, count: int, sites: Sequence[Site], lab: Lab, cores: Cores) -> Iterator[Sample]:
    plan = _plan(program, sites, lab, cores)
    for name, other in (
        (CACHED, replace(plan, stapling="fetched")),
        (UNSTAPLED, replace(plan, stapling="off", cache="shmcb:")),
    ):
        say(f"{name}: starting with {_sites(count)}")
        with serving(program, other, lab) as front:
            yield Sample(_sites(count), name, START, START_METHOD, 0, front.start_s)
            yield Sample(_sites(count), name, MEMORY, SIZES_METHOD, 0, front.memory_kib() / 1024)


def _in_any_order(sites: Sequence[Site], *, is_stapling: bool) -> Mapping[bytes, bytes | None]:
    """The same for every server."""
    shuffled = random.Random(_SEED).sample(sites, len(sites))
    return {site.name.encode(): site.staple_der if is_stapling else None for site in shuffled}


def _rounds(loads: Sequence[tuple[str, Front, Client]], effort: Effort, lab: Lab) -> Iterator[Sample]:
    counters = [Counter("scheduler's clock", cpu_time)]
    if (counter := instruction_counter(lab.folder)) and not counter.prefix:
        counters.append(counter)
    for counter in counters:
        for number in range(effort.growth_rounds):
            for case, front, client in loads:
                work = partial(client.full, effort.growth_operations)
                for quantity, total in on_all(counter.count, front.pids, work).items():
                    value = total / effort.growth_operations
                    yield Sample(case, front.name, quantity, counter.method, number, value)


def measure_idle(programs: Sequence[Program], effort: Effort, lab: Lab, cores: Cores) -> Iterator[Sample]:
    """Memory of idle connections, each after one request, and the cost of a handshake beside them."""
    sites = make_sites(lab.folder, lab.new_folder(), 1, "ec", lab.responder_url)
    for program in programs:
        say(f"{program.name}: {', '.join(f'{count:,}' for count in effort.idle)} idle connections")
        try:
            yield from _beside_idle(program, sites, effort, lab, cores)
        except FAILURES as error:
            if program.name == OURS:
                raise
            yield left_out(f"{max(effort.idle):,} idle connections", program.name, error)


def _beside_idle(program: Program, sites: Sequence[Site], effort: Effort, lab: Lab, cores: Cores) -> Iterator[Sample]:
    plan = Plan(sites, "ec", connections=max(effort.idle) + _FIRST, prefix=cores.prefix())
    connections: list[SSL.Connection] = []
    with serving(program, plan, lab) as front:
        client = Client(front, "ec", "1.3", sites={sites[0].name.encode(): front.staples["ec"]})
        client.full(effort.first)
        # What the first connections cost once (pages copied after the fork, pools) is not theirs.
        _open(client, connections, _FIRST)
        for count in effort.idle:
            _open(client, connections, count + _FIRST - len(connections))
            case = f"{count:,} idle connections"
            yield Sample(case, front.name, MEMORY, SIZES_METHOD, 0, front.memory_kib() / 1024)
            yield from _rounds([(case, front, client)], effort, lab)
        for connection in connections:
            get(connection)  # it is there still
            connection.close()


def _open(client: Client, connections: list[SSL.Connection], more: int) -> None:
    for _ in range(more):
        connection = client.connect()
        get(connection)
        connections.append(connection)


def _sites(count: int) -> str:
    return f"{count:,} site" + ("" if count == 1 else "s")

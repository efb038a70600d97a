"""Reads per second of the stapling cache beside other stores, and what a read costs: ``python benchmarks/cache.py``."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import re
import shutil
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from cache_cost import RESPONSE_BYTES, Costs, cost
from cache_plot import plot
from cache_readers import Rates, ReadingError, measure
from cache_stores import (
    STARTS,
    MissingError,
    Store,
    segment_with,
    through_first_level,
    through_shared_memory,
)
from compare import say
from counting import CountingError
from load import LoadError
from peers import Cores

from proxy.lab.stack import LabError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cache_stores import Get, Put

OURS, CLOSEST = "stapleproxy", "lmdb"
READERS = (1, 2, 4)
WRITES_PER_S = (0, 1000)
TIMES_EVERY_OTHER, TIMES_CLOSEST = 20.0, 1.0
FIRST_LEVEL_SHARE, SHARED_MEMORY_SHARE = 0.01, 0.02


@dataclass(frozen=True, slots=True)
class Effort:
    """`sizes` are the numbers of entries of the plot."""

    rounds: int
    seconds: float
    entries: int
    reads: int
    handshakes: int
    sizes: Sequence[int]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what each round gave."""

    store: str
    readers: int
    writes_per_s: int
    rounds: list[Rates]

    @property
    def reads(self) -> float:
        return statistics.median(each.reads for each in self.rounds)

    @property
    def writes(self) -> float:
        return statistics.median(each.writes for each in self.rounds)

    def times_slower_than(self, other: Row) -> float:
        """Give the median of the rounds' ratios."""
        return statistics.median(a.reads / b.reads for a, b in zip(other.rounds, self.rounds, strict=True))


def responses(count: int) -> dict[bytes, bytes]:
    chance = random.Random(count)
    return {chance.randbytes(20): chance.randbytes(RESPONSE_BYTES) for _ in range(count)}


def compare_stores(effort: Effort, folder: Path) -> tuple[list[Row], dict[str, str], list[str]]:
    """Measure all stores; give the rows, the versions, and a sentence for each store that is not there.

    Each round goes through all stores, so that what the machine does meanwhile meets all of them.
    """
    entries = responses(effort.entries)
    stores: dict[str, Store] = {}
    rows: list[Row] = []
    missing: list[str] = []
    with contextlib.ExitStack() as running:
        for number, (name, start) in enumerate(STARTS.items()):
            own = folder / str(number)
            own.mkdir()
            try:
                stores[name] = running.enter_context(start(own, entries))
            except MissingError as error:
                missing.append(f"{name} is left out: {error}")
        for writes_per_s in WRITES_PER_S:
            for readers in READERS:
                say(f"{readers} readers, {writes_per_s} writes/s: {effort.rounds} rounds")
                case = partial(
                    measure, entries=entries, readers=readers, writes_per_s=writes_per_s, seconds=effort.seconds
                )
                rounds = [{name: case(store) for name, store in stores.items()} for _ in range(effort.rounds)]
                rows += [Row(name, readers, writes_per_s, [each[name] for each in rounds]) for name in stores]
    return rows, {name: store.version for name, store in stores.items()}, missing


def by_entries(effort: Effort, folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Reads per second of one reader against the number of entries: of ours, a plain dict, and lmdb if it is there.

    Each round goes through all of them.
    """
    lines: dict[str, list[tuple[int, float]]] = {}
    for count in effort.sizes:
        say(f"{count} entries")
        entries = responses(count)
        own = folder / f"lmdb-{count}"
        own.mkdir()
        with contextlib.ExitStack() as running:
            segment = running.enter_context(segment_with(entries))
            stores = {
                "from the first level": Store("", partial(through_first_level, segment), never_written),
                "from a plain dict": Store("", partial(plain_dict, entries), never_written),
                "from shared memory": Store("", partial(through_shared_memory, segment), never_written),
            }
            with contextlib.suppress(MissingError):
                stores["from lmdb"] = running.enter_context(STARTS[CLOSEST](own, entries))
            case = partial(measure, entries=entries, readers=1, writes_per_s=0, seconds=effort.seconds)
            rounds = [{name: case(store).reads for name, store in stores.items()} for _ in range(effort.rounds)]
        shutil.rmtree(own)
        for name in stores:
            lines.setdefault(name, []).append((count, statistics.median(each[name] for each in rounds)))
    return lines


def plain_dict(entries: Mapping[bytes, bytes], number: int) -> Get:
    """Read what is neither shared nor ever changes: what the processor's caches leave to anyone.

    It looks at the clock as ours must, and its copies too were made in the order in which they are read.
    """
    get, clock = {key: bytes(bytearray(entries[key])) for key in _reading_order(entries, number)}.get, time.time

    def read(key: bytes) -> bytes | None:
        clock()
        return get(key)

    return read


def _reading_order(entries: Mapping[bytes, bytes], number: int) -> list[bytes]:
    """Shuffle as the process that reads does."""
    keys = list(entries)
    random.Random(number).shuffle(keys)
    return keys


def never_written() -> Put:
    raise AssertionError("this line of the plot has no writer")


def tables(rows: Sequence[Row], costs: Costs | None, lines: Mapping[str, Sequence[tuple[int, float]]]) -> list[str]:
    found = [_table(rows)]
    if costs is not None:
        found.append(_cost_table(costs))
    if lines:
        found.append(_size_table(lines))
    return found


def _table(rows: Sequence[Row]) -> str:
    said = ["| store | readers | writes/s | reads/s | ours are | target |", "|---|---:|---:|---:|---:|---|"]
    ours = {(row.readers, row.writes_per_s): row for row in rows if row.store == OURS}
    for row in rows:
        times, judged = "", ""
        if row.store != OURS:
            ratio = row.times_slower_than(ours[row.readers, row.writes_per_s])
            target = TIMES_CLOSEST if row.store == CLOSEST else TIMES_EVERY_OTHER
            times = f"{ratio:.2f} x" if ratio < 10 else f"{ratio:.0f} x"
            judged = f"{target:.0f} x: {'met' if ratio >= target else 'missed'}"
        said.append(f"| {row.store} | {row.readers} | {row.writes:.0f} | {row.reads:,.0f} | {times} | {judged} |")
    return "\n".join(said)


def _cost_table(costs: Costs) -> str:
    said = [f"| one | {costs.unit} ({costs.method}) | of a handshake | target |", "|---|---:|---:|---|"]
    for name, value, target in (
        ("hit in the first level", costs.first_level, FIRST_LEVEL_SHARE),
        (f"hit of {RESPONSE_BYTES} bytes in shared memory", costs.shared_memory, SHARED_MEMORY_SHARE),
    ):
        share = value / costs.handshake
        said.append(f"| {name} | {value:,.1f} | {share:.2%} | {target:.0%}: {'met' if share <= target else 'missed'} |")
    said.append(f"| full handshake, ECDSA P-256, TLS 1.3 | {costs.handshake:,.0f} | | |")
    return "\n".join(said)


def _size_table(lines: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    said = [f"| entries | {' | '.join(f'reads/s {name}' for name in lines)} |", "|---:|" + "---:|" * len(lines)]
    said += [
        f"| {values[0][0]:,} | {' | '.join(f'{rate:,.0f}' for _, rate in values)} |"
        for values in zip(*lines.values(), strict=True)
    ]
    return "\n".join(said)


def machine(versions: Mapping[str, str], cores: int) -> dict[str, str]:
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{cpu[1] if cpu else platform.machine()}, {cores} cores, kernel {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        **versions,
    }


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Of which the median counts.")
@click.option("--seconds", default=2.0, show_default=True, help="For each round.")
@click.option("--entries", default=200, show_default=True, help=f"Responses of {RESPONSE_BYTES} bytes in each store.")
@click.option("--plot", "plot_to", type=click.Path(path_type=Path), help="Measure 100 to 100,000 entries; draw an SVG.")
@click.option("--quick", is_flag=True, help="A moment for each, no instructions: to see whether it works.")
@click.option("--json", "as_json", is_flag=True, help="All rounds, as JSON.")
def main(*, rounds: int, seconds: float, entries: int, plot_to: Path | None, quick: bool, as_json: bool) -> None:
    """Measure reads per second beside other stores, in one run, and the cost of a read beside a handshake's.

    A store that is not installed is left out and named; with REQUIRE_PEERS=1 in the environment it is an error.
    """
    effort = Effort(rounds, seconds, entries, 20_000, 100, (100, 300, 1000, 3000, 10_000, 30_000, 100_000))
    if quick:
        effort = Effort(1, 0.05, 20, 0, 0, (100, 200))
    cores = len(os.sched_getaffinity(0))  # before this process is moved to one of them
    with tempfile.TemporaryDirectory(prefix="stapleproxy-benchmark-") as name:
        folder = Path(name)
        try:
            rows, versions, missing = compare_stores(effort, folder)
            if missing and os.environ.get("REQUIRE_PEERS") == "1":
                raise click.ClickException("; ".join(missing))
            lines = by_entries(effort, folder) if plot_to else {}
            costs = None
            if effort.reads:
                say("instructions")
                costs = cost(folder, Cores.choose(), reads=effort.reads, handshakes=effort.handshakes)
        except (CountingError, LabError, LoadError, ReadingError) as error:
            raise click.ClickException(str(error)) from error
    if plot_to:
        plot_to.write_text(plot(f"Reads per second of one reader, responses of {RESPONSE_BYTES} bytes", lines))
    about = machine(versions, cores)
    if as_json:
        report = {"machine": about, "missing": missing, "rows": [asdict(row) for row in rows]}
        print(json.dumps(report | {"costs": asdict(costs) if costs else None, "by_entries": lines}, indent=2))
    else:
        heads = [*(f"- {name}: {value}" for name, value in about.items()), *(f"- {each}" for each in missing)]
        print("\n".join(heads), *tables(rows, costs, lines), sep="\n\n")


if __name__ == "__main__":
    main()

"""From the parts of a run to RESULTS.md, the CSV files and the plots beside it."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import samples
from counting import CALLS, CPU, SUM, USER
from drawings import drawings
from fronts import OURS, PEER
from growth import AT_FIRST, START
from handshakes import SHARE, Case
from pressure import LATENCIES, MEMORY, OFFERED, RATE, USED
from samples import Figures
from shares import OWNERS
from targets import TARGETS, instructions, memory_per_site_kib, stapling_adds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

PARTS = ("instructions", "time", "load", "sites", "idle", "workers")
"""Each has a CSV file of its own."""
Lines = list[str]
Said = Callable[[float], str]
"""A figure as a reader is to see it."""


def write(run: Path, output: Path) -> None:
    """Write the report on the parts in `run`; what `output` has of an earlier one is replaced."""
    files = {name: run / f"{name}.csv" for name in ("about", *PARTS)}
    parts = {name: Figures(samples.read(files[name]) if files[name].exists() else ()) for name in PARTS}
    with files["about"].open(newline="") as file:
        about = dict(csv.reader(file))
    results = output / "results"
    results.mkdir(parents=True, exist_ok=True)
    for path in files.values():
        (results / path.name).unlink(missing_ok=True)  # of an earlier run that had more parts
        if path.exists():
            shutil.copy(path, results)
    for name, drawing in drawings(parts).items():
        (results / f"{name}.svg").write_text(drawing)
    (output / "RESULTS.md").write_text(markdown(about, parts))


def markdown(about: Mapping[str, str], parts: Mapping[str, Figures]) -> str:
    lines = [
        "# TLS handshakes with a staple, beside nginx, Apache, HAProxy and hitch",
        "",
        "Written by `make benchmark`, with every round in [results/](results); the method: [README.md](README.md).",
        "",
        *(f"- {name}: {value}" for name, value in about.items() if not name.startswith("missing")),
        *(f"- **{value}**" for name, value in about.items() if name.startswith("missing")),
    ]
    for title, section in (
        ("Targets", _targets),
        ("Instructions of a handshake", _instructions),
        ("Whose instructions they are", _owners),
        ("What stapling adds", _stapling),
        ("CPU time of a handshake", _time),
        ("System calls of a handshake", _calls),
        ("Rate and latency", _load),
        ("With many sites", _sites),
        ("With idle connections", _idle),
        ("With two workers", _workers),
    ):
        lines += ["", f"## {title}", "", *section(parts)]
    if notes := [sentence for each in parts.values() for sentence in each.left_out]:
        lines += ["", "## Left out", "", *(f"- {sentence}" for sentence in notes)]
    return "\n".join(lines) + "\n"


def _targets(parts: Mapping[str, Figures]) -> Lines:
    rows = [target.row(parts) for target in TARGETS]
    verdicts = [row[-1] for row in rows]
    said = f"{verdicts.count('met')} met, {verdicts.count('**missed**')} missed"
    if unmeasured := verdicts.count("not measured"):
        said += f", {unmeasured} not measured"
    return [f"{said}. Instructions are {_kind_of_instructions(parts)}.", "", *_table(_TARGET_HEADS, rows)]


_TARGET_HEADS = ("target", "at most", "measured", "")


def _kind_of_instructions(parts: Mapping[str, Figures]) -> str:
    return "those of user and kernel, by perf stat" if instructions(parts)[1] == SUM else "the user's, by callgrind"


def _instructions(parts: Mapping[str, Figures]) -> Lines:
    lines = ["User instructions by callgrind, in thousands, and ours over it.", ""]
    lines += _by_server(parts["instructions"], USER, lambda value: f"{value / 1000:,.0f}")
    if SUM in parts["time"].methods:
        lines += ["", "User and kernel by perf stat, in thousands, and ours over it.", ""]
        lines += _by_server(parts["time"], SUM, lambda value: f"{value / 1000:,.0f}")
    return [*lines, "", "![instructions](results/instructions.svg)"]


def _owners(parts: Mapping[str, Figures]) -> Lines:
    figures = parts["instructions"]
    rows = []
    for case in figures.cases():
        for server in figures.servers() if case == Case("ec", "1.3").name else (OURS,):
            total = figures.median(case, server, USER)
            if total:
                shares = [100 * (figures.median(case, server, SHARE + owner) or 0) / total for owner in OWNERS]
                rows.append((case, server, *(f"{share:.1f}" for share in shares)))
    return [
        "In percent, by the library that they were executed in.",
        "",
        *_table(("handshake", "server", *OWNERS), rows),
    ]


def _stapling(parts: Mapping[str, Figures]) -> Lines:
    figures, quantity = instructions(parts)
    rows = []
    for case in (Case("ec", "1.3"), Case("ec", "1.2"), Case("rsa", "1.3"), Case("rsa", "1.2")):
        found = [stapling_adds(case, server, parts) for server in figures.servers()]
        rows.append((case.name, *("" if each is None else f"{each:+.1f} %" for each in found)))
    said = f"A handshake with a staple beside one whose client does not ask for it: {quantity}."
    return [said, "", *_table(("handshake", *figures.servers()), rows)]


def _time(parts: Mapping[str, Figures]) -> Lines:
    figures = parts["time"]
    rows = []
    for case in figures.cases():
        ratios = figures.ratios(case, OURS, PEER, CPU)
        spread = f"{ratios[0]:.2f}-{ratios[-1]:.2f}" if ratios else ""
        rows.append((*_row(figures, case, CPU, lambda value: f"{value:,.0f}"), spread))
    heads = ("handshake", *figures.servers(), f"range beside {PEER}")
    said = "User and system, in microseconds, and ours over it: the median of the rounds' ratios."
    return [said, "", *_table(heads, rows), "", "![CPU time](results/time.svg)"]


def _calls(parts: Mapping[str, Figures]) -> Lines:
    if CALLS not in parts["time"].methods:
        return ["Not counted: strace is not installed."]
    return _by_server(parts["time"], CALLS, lambda value: f"{value:.1f}")


def _load(parts: Mapping[str, Figures]) -> Lines:
    figures = parts["load"]
    rows = []
    for case in figures.cases():
        for server in figures.servers():
            rate, used, offered = (figures.median(case, server, quantity) for quantity in (RATE, USED, OFFERED))
            late = [figures.median(case, server, quantity) for quantity in LATENCIES.values()]
            if rate and used and offered:
                rows.append(
                    (
                        *(
                            case,
                            server,
                            f"{rate:,.0f}",
                            f"{100 * used:.0f} %",
                            f"{rate / used:,.0f}",
                            f"{offered:,.0f}",
                        ),
                        *("" if each is None else f"{each:.2f}" for each in late),
                    )
                )
    heads = (
        "handshake",
        "server",
        "rate, 1/s",
        "of its core",
        "rate of a full core",
        "offered, 1/s",
        *LATENCIES.values(),
    )
    return [_LOAD, "", *_table(heads, rows)]


_LOAD = (
    "The rate is that of 16 clients in a closed loop. Where the server's core is not busy, the generator's is: the "
    "server could do more, and the column behind says how much. Latency is that of whole connections in an open loop, "
    "each server being offered half of nginx's rate."
)


def _sites(parts: Mapping[str, Figures]) -> Lines:
    figures = parts["sites"]
    quantity = SUM if SUM in figures.methods else CPU
    lines = ["Seconds from exec to the first good handshake.", "", *_plain(figures, START, 2)]
    lines += ["", "Memory of all processes (Pss) when each site was visited, MiB.", "", *_plain(figures, MEMORY, 1), ""]
    per_site = {server: memory_per_site_kib(server, figures) for server in figures.servers()}
    said = [f"{server} {kib:.1f}" for server, kib in per_site.items() if kib is not None]
    lines += [f"Growth for each site, KiB: {', '.join(said)}.", ""]
    lines += [f"{quantity}, of a full TLS 1.3 ECDSA handshake with any of the sites.", ""]
    lines += [*_plain(figures, quantity, 0), ""]
    lines += [f"{AT_FIRST}: the visits before, each site's first.", "", *_plain(figures, AT_FIRST, 0), ""]
    return [*lines, "![start](results/sites-start.svg)", "![memory](results/sites-memory.svg)"]


def _idle(parts: Mapping[str, Figures]) -> Lines:
    figures = parts["idle"]
    lines = ["Memory of all processes (Pss), MiB.", "", *_plain(figures, MEMORY, 1), ""]
    lines += [f"{CPU}, of a full TLS 1.3 ECDSA handshake beside them.", "", *_plain(figures, CPU, 0), ""]
    return [*lines, "![memory](results/idle-memory.svg)"]


def _workers(parts: Mapping[str, Figures]) -> Lines:
    figures = parts["workers"]
    lines: Lines = ["The servers and the generator share all cores of the machine.", ""]
    for quantity, decimals in ((RATE, 0), (CPU, 0), (USED, 2), (MEMORY, 1)):
        lines += [f"{quantity[0].upper()}{quantity[1:]}.", "", *_plain(figures, quantity, decimals), ""]
    return lines[:-1]


def _by_server(figures: Figures, quantity: str, said: Said) -> Lines:
    rows = [_row(figures, case, quantity, said) for case in figures.cases()]
    return _table(("handshake", *figures.servers()), rows)


def _row(figures: Figures, case: str, quantity: str, said: Said) -> tuple[str, ...]:
    cells = [case]
    for server in figures.servers():
        value, ratio = figures.median(case, server, quantity), figures.ratio(case, OURS, server, quantity)
        cell = "" if value is None else said(value)
        cells.append(cell if server == OURS or ratio is None else f"{cell} ({ratio:.2f})")
    return tuple(cells)


def _plain(figures: Figures, quantity: str, decimals: int) -> Lines:
    """Servers by cases."""
    rows = [
        (server, *("" if value is None else f"{value:,.{decimals}f}" for value in values))
        for server in figures.servers()
        if any(values := [figures.median(case, server, quantity) for case in figures.cases()])
    ]
    return _table(("server", *figures.cases()), rows)


_WORDS = {"target", "handshake", "server"}
"""Heads of columns that hold no figures."""


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Lines:
    ruled = [heads, ["---" if head in _WORDS else "---:" for head in heads], *rows]
    return [f"| {' | '.join(cells)} |" for cells in ruled]

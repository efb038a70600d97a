"""Everything beside every front on this machine: ``make benchmark``. See README.md for the method."""

from __future__ import annotations

import csv
import hashlib
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import report
import samples
from compare import describe, say
from counting import CountingError
from effort import QUICK, Effort
from fronts import OURS, PROGRAMS, Program
from growth import measure_idle, measure_sites
from handshakes import FAILURES, measure_instructions, measure_time
from peers import Cores, Lab, running_lab
from peers_all import left_out
from pressure import measure_load, measure_workers
from samples import Sample

import proxy

HERE = Path(__file__).parent
UNFINISHED = HERE.parent / "build" / "benchmark"
"""Where the parts of a run are until all are done; an interrupted run goes on with what is here."""
ABOUT = "about.csv"

Part = Callable[[Sequence[Program], Effort, Lab, Cores], Iterator[Sample]]
"""Yields what it measures."""
PARTS: dict[str, Part] = {
    "instructions": measure_instructions,
    "time": measure_time,
    "load": measure_load,
    "sites": measure_sites,
    "idle": measure_idle,
    "workers": measure_workers,
}


def installed() -> tuple[list[Program], dict[str, str], list[str]]:
    """The fronts that are there, their versions, and a sentence for each that is not (see `left_out`)."""
    found, versions, missing = [], {}, []
    for program in PROGRAMS:
        version = program.version()
        if version is None:
            missing.append(left_out(program.name, f"it is not installed (apt install {program.package})"))
            continue
        found.append(program)
        if program.name != OURS:
            versions[program.name] = version
    return found, versions, missing


def fingerprint() -> str:
    """What our program is, to the byte: figures of another one are not mixed with this one's."""
    digest = hashlib.sha256()
    for path in sorted(Path(proxy.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def measure(folder: Path, effort: Effort, programs: Sequence[Program], cores: Cores, only: Sequence[str]) -> None:
    """Make the parts that are not in `folder` yet."""
    for number, (name, part) in enumerate(PARTS.items(), 1):
        if name not in only:
            continue
        path = folder / f"{name}.csv"
        if path.exists():
            say(f"[{number}/{len(PARTS)}] {name}: kept from the run that was interrupted")
            continue
        say(f"[{number}/{len(PARTS)}] {name}")
        begun_at = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="stapleproxy-benchmark-") as temporary:
            Path(temporary).chmod(0o711)  # Apache's worker has another user than root, and writes profiles
            with running_lab(Path(temporary)) as lab:
                # All of it first, so that a part is there whole or not at all.
                samples.write(unfinished := path.with_suffix(".new"), list(part(programs, effort, lab, cores)))
        unfinished.rename(path)
        say(f"[{number}/{len(PARTS)}] {name}: {time.monotonic() - begun_at:.0f} s")


def begin(folder: Path, about: dict[str, str], *, afresh: bool) -> None:
    """Use what an interrupted run of the same programs on the same machine has left, or nothing."""
    path = folder / ABOUT
    if path.exists():
        with path.open(newline="") as file:
            before = dict(csv.reader(file))
        if afresh or {**before, "date": ""} != {**about, "date": ""}:
            say("Beginning anew: " + ("as asked" if afresh else "the programs or the machine are not those of before"))
            shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(about.items())


@click.command()
@click.option("--quick", is_flag=True, help="A few operations: to see whether it works. Nothing is written to OUTPUT.")
@click.option("--only", type=click.Choice(list(PARTS)), multiple=True, help="This part; nothing is written to OUTPUT.")
@click.option("--afresh", is_flag=True, help="Throw away what an interrupted run has left.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=HERE,
    show_default=True,
    help="The folder that RESULTS.md and results/ go to.",
)
def main(*, quick: bool, only: tuple[str, ...], afresh: bool, output: Path) -> None:
    """Measure handshakes of all fronts side by side, and write RESULTS.md, CSV files and plots."""
    is_trial = quick or bool(only)
    folder = UNFINISHED.with_name("-".join(["benchmark-trial", *only])) if is_trial else UNFINISHED
    cores = Cores.choose()
    # For thousands of idle connections: here, and inherited by the servers and the backend behind them.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        programs, versions, missing = installed()
        about = {**describe(cores), **versions, "program": fingerprint()}
        about |= {f"missing {number}": sentence for number, sentence in enumerate(missing)}
        for sentence in missing:
            say(sentence)
        begin(folder, about, afresh=afresh or is_trial)
        measure(folder, QUICK if quick else Effort(), programs, cores, only or tuple(PARTS))
    except (CountingError, *FAILURES) as error:
        raise click.ClickException(
            f"{str(error) or repr(error)}\nRun it again to go on; what is done is kept."
        ) from error
    where = folder / "report" if is_trial else output
    report.write(folder, where)
    say(f"See {where / 'RESULTS.md'}" + (": the figures of a quick run mean nothing" if quick else ""))
    if not is_trial:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

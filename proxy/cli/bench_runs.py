"""What ``stapleproxy bench`` does with its processes, shows meanwhile, and says at the end."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from proxy import __version__
from proxy.bench.difference import differences, order_of
from proxy.bench.report import Report, as_data, duration_words, notes, table, tally_data
from proxy.bench.report_page import page
from proxy.bench.steps import judge_step
from proxy.bench.tally import Tally, chained
from proxy.bench.team import running_team
from proxy.cli.console import aligned
from proxy.cli.exit_codes import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from rich.console import Console

    from proxy.bench.difference import Difference
    from proxy.bench.plan import Phase, Work
    from proxy.bench.steps import Goal, Step
    from proxy.bench.team import Team


_WARMUP_PART = 0.2
"""Of a round of --ab, more than which its warm-up does not take."""


@dataclass(frozen=True, slots=True)
class Run:
    """All that a run needs to know, and where its report goes."""

    work: Work
    phase: Phase
    target: str
    options: Mapping[str, object]
    begun: datetime
    processes: int
    html: Path | None
    as_json: bool

    def report(self, tally: Tally, phase: Phase | None = None) -> Report:
        return Report(self.target, self.options, self.begun, self.processes, phase or self.phase, tally)


def run_once(console: Console, run: Run) -> Exit:
    """Run one round, and tell everything about it."""
    with running_team(run.work, run.processes) as team, _progress(console, run.phase) as progress:
        tally = progress.run(team, run.phase)
    report = run.report(tally)
    _tell(console, run, report, as_data(report))
    return _exit(team, tally)


def run_steps(console: Console, run: Run, rates: Sequence[float], goal: Goal) -> Exit:
    """Raise the rate until the goal is missed, and tell the highest that met it."""
    steps: list[Step] = []
    with running_team(run.work, run.processes) as team:
        for rate in rates:
            phase = replace(run.phase, rate=rate)
            with _progress(console, phase) as progress:
                steps.append(judge_step(rate, progress.run(team, phase), goal))
            if steps[-1].broken or team.is_stopped:
                break
    met = [step for step in steps if not step.broken]
    best = met[-1] if met else None
    shown = best or steps[-1]
    report = run.report(shown.tally, replace(run.phase, rate=shown.rate))
    if best is None:
        sentence = f"Not even {steps[0].rate:g} a second meets the goal, {goal}: {steps[0].broken}."
    elif steps[-1].broken:
        met_goal = f"{best.rate:g} a second is the highest rate that met the goal, {goal}"
        sentence = f"{met_goal}; at {steps[-1].rate:g}: {steps[-1].broken}."
    else:
        sentence = f"{best.rate:g} a second, the last rate, meets the goal, {goal}."
    rows = [("rate", "handshakes/s", "p50", "p99", "failed", "")]
    for step in steps:
        middle, high = step.tally.latencies.total.quantiles((0.5, 0.99))
        words = (duration_words(middle), duration_words(high), str(step.tally.failed), step.broken)
        rows.append((f"{step.rate:g}", f"{step.tally.rate:.1f}", *words))
    data = as_data(report) | {
        "goal": str(goal),
        "highest_rate": best and best.rate,
        "steps": [{"rate": step.rate, "broken": step.broken or None, **tally_data(step.tally)} for step in steps],
    }
    _tell(console, run, report, data, (sentence,), rows)
    return _exit(team, report.tally)


def run_alternating(console: Console, run: Run, rounds: int) -> Exit:
    """Ask for the staple in one round and not in the next, and tell what that costs."""
    seconds = run.phase.seconds / (2 * rounds)
    # A round begins where one of the other kind has ended: what is in caches is of that one.
    phase = replace(run.phase, seconds=seconds, ramp_s=0.0, warmup_s=min(run.phase.warmup_s, seconds * _WARMUP_PART))
    pairs: list[tuple[Tally, Tally]] = []
    with running_team(run.work, run.processes) as team, _progress(console, run.phase) as progress:
        warmup = progress.run(team, replace(run.phase, seconds=seconds)) if run.phase.uncounted_s else None
        shown: list[Tally] = []
        beside: list[Tally] = []
        for pair in range(rounds):
            done: dict[bool, Tally] = {}
            for asks in order_of(pair):
                if not team.is_stopped:
                    done[asks] = progress.run(team, replace(phase, asks_staple=asks))
            if True in done:
                shown.append(done[True])
            if False in done:
                beside.append(done[False])
            if team.is_stopped:
                break  # a round that was cut short is not like the others
            pairs.append((done[True], done[False]))
    found = differences(pairs)
    sentences = [] if found else ["No pair of rounds has a handshake in both: what stapling costs cannot be told."]
    others = chained(beside or [Tally(0)])
    sentences.append(
        f"The report is of the rounds with the staple. Those without opened {others.connections} connections, for "
        f"{others.handshakes} handshakes and {others.warmup.handshakes} that were not counted."
    )
    data_of_rounds = [{"with": tally_data(a), "without": tally_data(b)} for a, b in pairs]
    tally = chained(shown or [Tally(0)])
    if warmup is not None:
        tally.add_to_warmup(warmup)
    report = run.report(tally)
    data = as_data(report) | {"differences": [_difference_data(each) for each in found], "rounds": data_of_rounds}
    rows = [
        ("with less without staple", "with", "without", "difference", "95 % interval", ""),
        *map(_difference_row, found),
    ]
    _tell(console, run, report, data, sentences, rows if found else ())
    return _exit(team, tally)


def _exit(team: Team, tally: Tally) -> Exit:
    if team.is_stopped:
        return Exit.INTERRUPTED
    # Where not one handshake was made, a script that goes by the status should not take that for a measurement.
    return Exit.OK if tally.handshakes else Exit.FAILED


def _difference_row(each: Difference) -> tuple[str, ...]:
    low, high = each.difference.ends or (None, None)
    return (
        each.measure,
        _amount(each.with_staple, each.unit),
        _amount(each.without, each.unit),
        f"{_amount(each.difference.mean, each.unit)} ({each.percent:+.1f} %)",
        "unknown" if low is None or high is None else f"{_amount(low, each.unit)} to {_amount(high, each.unit)}",
        "" if each.difference.is_sure else "may be none",
    )


def _amount(value: float, unit: str) -> str:
    if unit != "ns":
        return f"{value:.1f} {unit}"
    return f"{'-' if value < 0 else ''}{duration_words(abs(value))}"


def _difference_data(each: Difference) -> dict[str, object]:
    low, high = each.difference.ends or (None, None)
    return {
        "measure": each.measure,
        "unit": each.unit,
        "with": each.with_staple,
        "without": each.without,
        "difference": each.difference.mean,
        "low": low,
        "high": high,
        "percent": each.percent,
        "is_sure": each.difference.is_sure,
    }


def _tell(
    console: Console,
    run: Run,
    report: Report,
    data: dict[str, object],
    sentences: Sequence[str] = (),
    rows: Sequence[Sequence[str]] = (),
) -> None:
    """Print the report, after sentences and a table that are of this kind of run only, and write the page."""
    if run.as_json:
        click.echo(json.dumps(data, indent=2))
    else:
        own = [aligned(rows)] if rows else []
        parts = [*sentences, *own, *(aligned(block) for block in table(report)), *notes(report)]
        console.out("\n\n".join(parts), highlight=False)
    if run.html is not None:
        made_by = f"stapleproxy {__version__}"
        own_page = page(report, made_by=made_by, before=sentences, extra=[rows] if rows else [])
        run.html.write_text(own_page, encoding="utf-8")


class _Shown:
    """A bar that several rounds move, and what was counted so far beside it."""

    def __init__(self, bar: Progress, phase: Phase) -> None:
        self._bar = bar
        self._length_s = phase.length_s
        self._begun_at = time.monotonic()
        self._task = bar.add_task("", total=phase.length_s or phase.handshakes)

    def run(self, team: Team, phase: Phase) -> Tally:
        def tell(handshakes: int, failed: int) -> None:
            completed = handshakes + failed if self._length_s is None else time.monotonic() - self._begun_at
            words = f"{handshakes} handshakes, {failed} failed"
            self._bar.update(self._task, completed=completed, description=words)

        return team.run(phase, tell)


@contextmanager
def _progress(console: Console, phase: Phase) -> Iterator[_Shown]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield _Shown(bar, phase)

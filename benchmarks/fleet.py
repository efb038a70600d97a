"""A fleet of very many machines in virtual time, by what is measured of one: ``python benchmarks/fleet.py``."""

from __future__ import annotations

import json
import os
import random
import re
import statistics
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from cache import machine
from compare import say
from fleet_constants import measure
from fleet_load import Second, all_staple_s, resync_pace, seconds, steady
from fleet_model import Model
from fleet_redis import MissingError
from fleet_report import drawings, written
from fleet_world import ALONE, PUSH, QUESTION, World

from proxy.settings.model import StaplingSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleet_constants import Constants
    from fleet_world import Tally

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "scale.md"
HOUR_S = 3_600.0
FIRST_S = 120.0
"""After the server is back: the time of a burst, if there is one."""
RESPONDERS = 50
_FIRST_ROUNDS_S = 30 * HOUR_S
"""After a start each certificate has had a round within it."""
_ABOUT = 1.05
"""Of the usual operations: all machines have looked at all certificates then."""


@dataclass(frozen=True, slots=True)
class Effort:
    world: World
    operations: int
    subscribers: Sequence[int]
    announcements: int
    taken: int
    drawn: int
    """How often one response is followed to all machines."""
    machines: Sequence[int]
    certificates: Sequence[int]


FULL = Effort(
    World(1_000, 100_000, 6 * HOUR_S, HOUR_S, 5 * HOUR_S),
    *(5_000, (1, 10, 100, 1_000), 200, 1_000, 300),
    *((10, 100, 300, 1_000, 3_000), (1_000, 10_000, 100_000, 1_000_000)),
)
QUICK = Effort(World(20, 200, 2 * HOUR_S, HOUR_S, HOUR_S), 50, (1, 10), 20, 20, 10, (10, 20), (100, 200))


def simulate(world: World, constants: Constants, seed: int = 1) -> dict[str, Any]:
    """Run the model; what happened in each phase, minute by minute, and when all were in step again."""
    pass_s = world.certificates / resync_pace(world.machines, constants)
    model = Model(world, random.Random(seed), pass_s)
    tally = model.run()
    told = seconds(world, tally, constants, model.connected_at_s)
    questions = [one + other for one, other in zip(tally.series(QUESTION), tally.series(ALONE), strict=True)]
    phases = [_phase(*each, tally, questions, told) for each in _phases(world, told)]
    after_s = sorted(each.after_s for each in model.in_step) or [0.0]
    return {
        "phases": phases,
        "in_step": {
            "certificates": len(model.in_step),
            "fetchers": statistics.fmean(each.fetchers for each in model.in_step) if model.in_step else 0.0,
            "median_s": after_s[len(after_s) // 2],
            "most_s": after_s[-1],
            "pass_s": pass_s,
            "announced": tally.total(PUSH, world.back_s, world.back_s + FIRST_S) / world.machines,
            "connected_s": max(model.connected_at_s) - world.back_s,
        },
        "minutes": {
            "questions": _minutes(questions),
            "operations": _minutes([each.operations for each in told]),
            "in": _minutes([each.bytes_in for each in told]),
            "out": _minutes([each.bytes_out for each in told]),
            "busy": _minutes([each.busy for each in told]),
        },
    }


def after_a_start(world: World, constants: Constants, seed: int = 3) -> dict[str, float]:
    """What comes of it when one machine has fetched everything as fast as it may, all others taken it, and a day on."""
    per_s = RESPONDERS * StaplingSettings().max_fetches_per_responder_per_second
    start_s = world.certificates / per_s
    day = World(world.machines, world.certificates, _FIRST_ROUNDS_S, 0.0, 1.0, world.lives_s)
    model = Model(day, random.Random(seed), 1.0, start_s)
    tally = model.run()
    later = seconds(day, tally, constants, model.connected_at_s)[int(start_s) :]
    timeout_s = StaplingSettings().redis.timeout_s
    return {
        "responders": RESPONDERS,
        "start_s": start_s,
        "most_questions": max(tally.series(QUESTION)[int(start_s) :]),
        "most_behind_s": max(each.behind_s for each in later),
        "late_s": sum(each.behind_s > timeout_s for each in later),
    }


def _phases(world: World, told: Sequence[Second]) -> Iterator[tuple[str, float, float]]:
    first_s = min(FIRST_S, world.after_s / 2)
    usual = statistics.fmean(each.operations for each in told[: int(world.before_s)])
    late = range(int(world.back_s + first_s), int(world.end_s))
    ends_s = next((each for each in late if told[each].operations < _ABOUT * usual), late[-1])
    yield "there", 0.0, world.before_s
    yield "away", world.before_s, world.back_s
    yield f"back: first {first_s:.0f} s", world.back_s, world.back_s + first_s
    yield "back: until all was looked at", world.back_s + first_s, ends_s
    yield "there again", ends_s, world.end_s


def _phase(
    name: str, begin_s: float, end_s: float, tally: Tally, questions: Sequence[float], told: Sequence[Second]
) -> dict[str, Any]:
    begin, end = int(begin_s), max(int(end_s), int(begin_s) + 1)
    asked, done = questions[begin:end], told[begin:end]
    return {
        "name": name,
        "seconds": end - begin,
        "questions": statistics.fmean(asked),
        "most_questions": max(asked),
        "alone": tally.total(ALONE, begin, end),
        "operations": statistics.fmean(each.operations for each in done),
        "in": statistics.fmean(each.bytes_in for each in done),
        "out": statistics.fmean(each.bytes_out for each in done),
        "most_out": max(each.bytes_out for each in done),
        "busy": statistics.fmean(each.busy for each in done),
        "most_behind_s": max(each.behind_s for each in done),
    }


def _minutes(by_second: Sequence[float]) -> list[float]:
    """Means, with as many digits as a plot shows."""
    return [float(f"{statistics.fmean(by_second[at : at + 60]):.4g}") for at in range(0, len(by_second) - 1, 60)]


def report(effort: Effort) -> dict[str, Any]:
    """Measure, simulate, reckon."""
    say("constants, with a real redis-server")
    constants, server = measure(effort.operations, effort.subscribers, effort.announcements, effort.taken)
    world = effort.world
    say(f"{world.machines:,} machines with {world.certificates:,} certificates")
    found = simulate(world, constants)
    chance = random.Random(2)
    sizes = [(each, world.certificates) for each in effort.machines]
    sizes += [(world.machines, each) for each in effort.certificates]
    states = {size: steady(*size, world.lives_s, constants) for size in sizes}
    spreads = {}
    for each in effort.machines:
        drawn = sorted(
            all_staple_s(each, constants, states[each, world.certificates].keeper_busy, chance)
            for _ in range(effort.drawn)
        )
        spreads[str(each)] = {"median_s": drawn[len(drawn) // 2], "most_s": drawn[-1]}
    versions = {"Redis": f"{server}, redis-py {version('redis')}", "cryptography": version("cryptography")}
    return {
        "about": machine(versions, len(os.sched_getaffinity(0))),
        "world": asdict(world),
        "constants": constants.as_dict(),
        **found,
        "start": after_a_start(world, constants),
        "all_staple": spreads,
        "steady": [asdict(each) for each in states.values()],
    }


@click.command()
@click.option("--quick", is_flag=True, help="A moment for each: to see whether it works; prints, writes nothing.")
@click.option("--again", is_flag=True, help="Write page and plots anew from the results of the last run.")
def main(*, quick: bool, again: bool) -> None:
    """Measure what one operation costs, simulate half a day of a large fleet, write docs/scale.md and its plots."""
    results = RESULTS / "fleet.json"
    try:
        found = json.loads(results.read_text()) if again else report(QUICK if quick else FULL)
    except MissingError as error:
        raise click.ClickException(str(error)) from error
    if quick:
        print(json.dumps(found, indent=1))
        return
    RESULTS.mkdir(exist_ok=True)
    # Lists of numbers on a line each.
    text = re.sub(r"\[[^\[\]{}\"]*\]", lambda numbers: " ".join(numbers[0].split()), json.dumps(found, indent=1))
    results.write_text(text + "\n")
    for name, drawing in drawings(found).items():
        (RESULTS / f"{name}.svg").write_text(drawing)
    PAGE.write_text(written(PAGE.read_text(), found))


if __name__ == "__main__":
    main()

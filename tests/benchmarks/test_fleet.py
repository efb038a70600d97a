"""The model of a large fleet does as a small one; docs/scale.md and its plots are those of the committed results."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from lab.servers import require_peer

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
RUNS = 8


@pytest.fixture(autouse=True)
def find_modules(monkeypatch):
    """As the benchmarks find each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_the_model_does_as_an_exact_run():
    """Eight machines with two hundred certificates: what is asked, looked at, put and announced in each phase."""
    from fleet_constants import FOUND, LOCK, LOOK, PUT
    from fleet_exact import Exact
    from fleet_model import Model
    from fleet_world import ALONE, CONNECT, PUSH, QUESTION, World

    from proxy.keeper.fleet import decide

    hour_s = 3_600.0
    world = World(8, 200, 4 * hour_s, hour_s, 3 * hour_s, (4 * hour_s, 8 * hour_s))
    exact = [Exact(world, random.Random(seed)).run() for seed in range(RUNS)]
    pass_s = world.certificates / decide.RESYNC_PER_S
    model = [Model(world, random.Random(seed), pass_s).run() for seed in range(RUNS)]
    soon_s = world.back_s + 120
    phases = ((0.0, world.before_s), (world.before_s, world.back_s), (world.back_s, soon_s), (soon_s, world.end_s))
    for phase in phases:
        for what in (QUESTION, ALONE, CONNECT, LOOK, FOUND, LOCK, PUT, PUSH):
            one, other = (sum(tally.total(what, *phase) for tally in tallies) / RUNS for tallies in (exact, model))
            assert other == pytest.approx(one, rel=0.08, abs=5), (phase, what)


@pytest.mark.parametrize("machines", [1, 3, 50])
def test_the_first_of_many_is_drawn_as_the_least_of_all(machines):
    """The shortest pauses of a round, by order statistics, and by drawing all: the same means."""
    from fleet_model import Model
    from fleet_world import World, pause_s

    from proxy.keeper.fleet.decide import joint_jitter

    life_s = 28_800.0
    chance = random.Random(1)
    model = Model(World(machines, 1, 3_600.0, 60.0, 60.0, (life_s,)), chance, 1.0)
    times = 2_000
    drawn = sum(next(model._pauses(life_s, 0.5)) for _ in range(times)) / times
    greatest = [max(chance.random() for _ in range(machines)) for _ in range(times)]
    least = sum(pause_s(life_s, joint_jitter(0.5, own)) for own in greatest) / times
    window_s = pause_s(life_s, 0.0) - pause_s(life_s, 1.0)
    assert abs(drawn - least) < 0.02 * window_s


def test_a_server_that_is_away_for_too_long_is_refused():
    """Machines would ask twice then, which the model does not know."""
    from fleet_world import World

    with pytest.raises(ValueError, match="away for longer"):
        World(8, 200, 60.0, 7_200.0, 60.0, (7_200.0,))


def test_the_page_and_the_plots_are_of_the_results():
    """Whoever changes one runs the command again, or ``fleet.py --again``."""
    from fleet_report import drawings, written

    page, results = ROOT / "docs" / "scale.md", BENCHMARKS / "results"
    found = json.loads((results / "fleet.json").read_text())
    assert written(page.read_text(), found) == page.read_text()
    for name, drawing in drawings(found).items():
        assert (results / f"{name}.svg").read_text() == drawing, name
        assert f"benchmarks/results/{name}.svg" in page.read_text()


@pytest.mark.slow
def test_every_part_gives_figures():
    """A moment of each, with a real redis-server; nothing is written."""
    require_peer("redis-server")
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "fleet.py"), "--quick"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert all(cost["server_s"] > 0 and cost["bytes_in"] > 0 for cost in report["constants"]["operations"].values())
    away = next(each for each in report["phases"] if each["name"] == "away")
    assert away["operations"] == 0
    assert away["alone"] > 0
    assert report["in_step"]["certificates"] > 0
    assert report["start"]["most_questions"] > 0

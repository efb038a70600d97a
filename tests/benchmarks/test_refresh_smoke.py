"""The benchmark of refreshing runs from end to end; what it measures is not judged here, but its clock is."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


def run(*options):
    """Run it as a person would, in the tree that is tested."""
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "refresh.py"), "--quick", *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.slow
def test_every_part_gives_figures():
    """Signers, the cache's calls, three kinds of responders through a day, and the real run without a failure."""
    done = run("--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["verify_s"]) == 4
    assert all(spent_s > 0 for spent_s in [*report["verify_s"].values(), *report["cache_s"].values()])
    usual, slow, dead = report["day"]["kinds"]
    assert usual["questions"] > slow["questions"] > 0
    assert dead["questions"] > 0
    assert (usual["lapsed"], slow["lapsed"]) == (0, 0)
    assert all(each["most_under_way"] <= 4 for each in (usual, slow, dead))
    assert [each["failures"] for each in report["real"]] == [0]


@pytest.mark.slow
def test_the_tables_are_markdown():
    """Every line of a table has as many cells as its head."""
    done = run()
    assert done.returncode == 0, done.stderr
    tables = [part.splitlines() for part in done.stdout.split("\n\n") if part.startswith("| ")]
    assert len(tables) == 8
    for head, rule, *rows in tables:
        assert rows
        assert {line.count("|") for line in (head, rule, *rows)} == {head.count("|")}


@pytest.fixture(name="virtual")
def import_virtual(monkeypatch):
    """The module of the virtual loop, found as the benchmarks find it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import refresh_loop

    return refresh_loop


def test_a_day_takes_as_long_as_its_work(virtual):
    """A sleep costs nothing; work counts, that of others does not, and a charge counts as work."""

    async def day() -> list[float]:
        loop = asyncio.get_running_loop()
        looks = [loop.time()]
        await asyncio.sleep(86_400)
        looks.append(loop.time())
        with loop.not_ours():
            sum(range(3_000_000))
        looks.append(loop.time())
        loop.charge(7)
        looks.append(loop.time())
        return looks

    begun_s = time.monotonic()
    with asyncio.Runner(loop_factory=virtual.VirtualLoop) as runner:
        begin, slept, after_others, charged = runner.run(day())
    assert time.monotonic() - begun_s < 60
    assert slept - begin == pytest.approx(86_400, abs=1)
    assert after_others - slept < 0.02
    assert charged - after_others == pytest.approx(7, abs=0.1)


def test_nothing_to_wait_for_is_an_error(virtual):
    """Instead of waiting for ever."""

    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    loop = virtual.VirtualLoop()
    try:
        with pytest.raises(RuntimeError, match="nothing is due"):
            loop.run_until_complete(hang())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()

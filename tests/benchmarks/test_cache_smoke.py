"""The cache's benchmark runs from end to end; what it measures is not judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
STORES = ("stapleproxy", "Manager().dict()", "diskcache", "lmdb", "Redis")


def run(*options, **environment):
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "cache.py"), "--quick", *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.slow
def test_every_store_is_measured_or_named_as_missing(tmp_path):
    """Each is measured with 1, 2 and 4 readers, alone and beside a writer; the plot is an SVG."""
    done = run("--json", "--plot", str(tmp_path / "plot.svg"))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    for store in STORES:
        cases = [(row["readers"], row["writes_per_s"]) for row in report["rows"] if row["store"] == store]
        if any(sentence.startswith(f"{store} is left out: ") for sentence in report["missing"]):
            assert cases == []
        else:
            assert cases == [(readers, writes) for writes in (0, 1000) for readers in (1, 2, 4)]
    assert all(each["reads"] > 0 for row in report["rows"] for each in row["rounds"])
    drawn = ET.parse(tmp_path / "plot.svg").getroot()  # noqa: S314  written just now, by us
    assert len(drawn.findall("{http://www.w3.org/2000/svg}polyline")) == len(report["by_entries"])
    assert {"from the first level", "from shared memory", "from a plain dict"} <= report["by_entries"].keys()


@pytest.mark.slow
def test_the_table_judges_by_the_targets():
    done = run()
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| Manager().dict() ")]
    assert len(rows) == 6
    assert all(row[6].strip().startswith("20 x: ") for row in rows)


@pytest.mark.slow
def test_a_missing_peer_is_named_and_an_error_where_peers_are_required(tmp_path):
    """Redis is looked for on the path."""
    done = run(PATH=str(tmp_path), REQUIRE_PEERS="0")
    assert done.returncode == 0, done.stderr
    assert "- Redis is left out: redis" in done.stdout or "- Redis is left out: the package redis" in done.stdout
    done = run(PATH=str(tmp_path), REQUIRE_PEERS="1")
    assert done.returncode == 1
    assert "Redis is left out: " in done.stderr

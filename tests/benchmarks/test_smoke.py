"""The benchmarks run from end to end; what they measure is not judged here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"

PERF_COUNTED = "123456,,instructions:u,1000000,100.00,,\n7890,,instructions:k,1000000,100.00,,\n"


def run(name, *options):
    """Run one benchmark as a person would, in the tree that is tested."""
    if shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin") is None:
        (pytest.fail if os.environ.get("REQUIRE_PEERS") == "1" else pytest.skip)("peer not installed: nginx")
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("handshakes", "| full, ECDSA P-256, TLS 1.3 | CPU time, µs |"),
        ("requests", "| proxied GET of 1 KiB, keep-alive | CPU time, µs |"),
        ("idle", "| idle TLS 1.3 connection after one request | bytes |"),
    ],
)
def test_prints_its_table(name, row):
    """A quick run ends well and has its line, with both servers' numbers and the ratio."""
    done = run(name)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith(row))
    ours, peer, ratio = (float(cell.replace(",", "")) for cell in line.split("|")[4:7])
    assert ours > 0
    assert peer > 0
    assert ratio > 0


@pytest.mark.slow
def test_json_has_every_round():
    """--json prints nothing but one object, with the machine and the cost in each round."""
    done = run("requests", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert "OpenSSL" in report["machine"]["nginx"]
    assert [len(row["ours"]) for row in report["rows"]] == [2]


@pytest.fixture(name="counting")
def import_counting(monkeypatch):
    """The module of that name, found as the benchmarks find it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import counting

    return counting


def test_perf_is_read(counting):
    """User and kernel instructions come out of what perf stat prints."""
    assert counting.parse_perf(PERF_COUNTED) == {counting.USER: 123456, counting.KERNEL: 7890}


@pytest.mark.parametrize(
    "said", ["", "<not supported>,,instructions:u,0,100.00,,\n", PERF_COUNTED.splitlines()[0]], ids=str
)
def test_perf_without_counters_is_no_zero(counting, said):
    """What was not counted is an error, never a number."""
    with pytest.raises(counting.CountingError):
        counting.parse_perf(said)

"""The benchmark of slow clients runs from end to end; what it measures is not judged here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_prints_its_table():
    """Both servers, without slow clients, with each kind, and with all of them."""
    if shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin") is None:
        (pytest.fail if os.environ.get("REQUIRE_PEERS") == "1" else pytest.skip)("peer not installed: nginx")
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "slow_clients.py"), "--quick"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines()[2:]]
    assert len(rows) == 10
    assert all(float(cell) > 0 for row in rows for cell in row[4:])
    assert all(float(row[3].replace(",", "")) > 0 for row in rows[2:])

"""The load generator beside a client in C: what is measured is judged here, since it is a ratio of instructions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab.servers import require_peer

ROOT = Path(__file__).parents[2]
LIMIT = 1.3


@pytest.mark.slow
@pytest.mark.timeout(400)  # callgrind makes everything fifty times as slow
def test_a_verified_handshake_costs_little_more_than_in_c():
    """At most 1.3 times the user instructions of ``openssl s_time``, which asks for no staple; as a rule, half."""
    for peer in ("openssl", "valgrind"):
        require_peer(peer)
    options = ("--only", "1.3", "--handshakes", "30", "--seconds", "4")
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/generator.py"), *options],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=380,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ECDSA")]
    assert [row[1] for row in rows] == ["taken as it comes", "verified"]
    for row in rows:
        assert 0.1 < float(row[-1]) <= LIMIT, done.stdout

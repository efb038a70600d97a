"""Reloads in a row, and children killed at random, under a steady load: what is lost is counted.

Run them with their counts: python -m pytest -m slow -s tests/integration/test_reload_under_load.py
"""

from __future__ import annotations

import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
from integration.front import children_of, run, site, toml, wait_until
from integration.steady import Load, connections_of, leaf_and_issuer

RELOADS = 50
KILLING_S = 120.0
WITHIN_S = 60.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

tell = print  # the counts are what a run by hand is for


@pytest.fixture
def stapled(lab):
    with lab.responder():
        yield lab.issue("localhost")


def resident_kb(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def test_fifty_reloads_in_a_row_lose_nothing(lab, stapled, backend, tmp_path):
    """No failed request, no full handshake without a staple; the master does not grow, and no generation stays."""
    with run(tmp_path, toml(site(backend, stapled), workers=2)) as front:
        load = Load(front.port, leaf_and_issuer(stapled[0]))
        master = front.process.pid
        sizes_kb = []
        most_processes = 0
        with load.running():
            for number in range(1, RELOADS + 1):
                # Other workers, another certificate's file: each one is a change.
                workers = 1 + number % 3
                (tmp_path / "front.toml").write_text(toml(site(backend, stapled), workers=workers))
                front.process.send_signal(signal.SIGHUP)
                wait_until(lambda number=number: f"reloaded, generation {number + 1}:" in front.log, WITHIN_S)
                most_processes = max(most_processes, len(children_of(master)))
                sizes_kb.append(resident_kb(master))
        tell(f"\n{RELOADS} reloads\n{load.told()}")
        tell(f"master: {sizes_kb[4]} kB after 5 reloads, {sizes_kb[-1]} kB after {RELOADS}")
        tell(f"at most {most_processes} children at a time")
        assert load.failures == []
        assert load.without_staple == []
        assert load.counts["full handshakes"] > RELOADS
        assert load.counts["resumptions"] > 0
        assert load.counts["requests on kept connections"] > RELOADS
        assert sizes_kb[-1] < sizes_kb[4] * 1.1
        wait_until(lambda: len(children_of(master)) == workers + 1)


def test_children_killed_at_random_lose_what_was_in_flight_in_them(lab, stapled, backend, tmp_path):
    """Whatever fails was on a connection of a killed worker, or in the moment at which one was taken in."""
    chance = random.Random(20261123)
    with run(tmp_path, toml(site(backend, stapled), workers=2)) as front:
        load = Load(front.port, leaf_and_issuer(stapled[0]))
        in_killed: set[int] = set()
        kills = {"worker": 0, "keeper": 0}
        with load.running(full=2, kept=3, resumed=1):
            end = time.monotonic() + KILLING_S
            while time.monotonic() < end:
                time.sleep(chance.uniform(0.2, 2.0))
                role = chance.choice(["worker", "worker", "keeper"])
                alive = front.pids(role)
                if not alive:
                    continue
                victim = chance.choice(alive)
                os.kill(victim, signal.SIGSTOP)  # so that it takes nothing in between the look and the kill
                wait_until(lambda victim=victim: _state(victim) == "T")
                in_killed |= connections_of(victim, front.port)
                os.kill(victim, signal.SIGKILL)
                kills[role] += 1
            wait_until(lambda: len(front.pids("worker")) == 2 and len(front.pids("keeper")) == 1, WITHIN_S)
        others = [each for each in load.failures if each.client_port not in in_killed]
        tell(f"\n{kills['worker']} workers and {kills['keeper']} keepers killed in {KILLING_S:.0f} s\n{load.told()}")
        tell(f"{len(load.failures) - len(others):8} of the failed were on connections of a killed worker")
        for each in others:
            tell(each)
        assert others == []
        assert load.without_staple == []
        assert load.counts["full handshakes"] > 0
        assert kills["worker"] > 10
        assert kills["keeper"] > 5


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

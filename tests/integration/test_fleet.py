"""Whole proxies as a fleet over a real Redis: one fetch for all, and what each machine does with it."""

from __future__ import annotations

import os
import signal
import time
import urllib.request

import pytest
from integration.fleet import fleet, traffic
from integration.front import wait_until
from integration.redis_servers import redis_server

from proxy.keeper.fleet.decide import LOCK_LIFE_S, WAIT_SPREAD_S

MACHINES = 4
CERTIFICATES = 50
ROUND_S = 20


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_question_a_certificate_and_round_for_four_machines(lab, backend, tmp_path):
    """50 certificates and 4 machines that start together: 50 questions at the start, and 50 in each of three rounds."""
    with (
        lab.responder("--validity-s", "3600"),
        redis_server(tmp_path / "redis") as server,
        fleet(
            lab,
            backend,
            tmp_path,
            f"redis:{server.address}",
            certificates=CERTIFICATES,
            refresh_max_interval_s=ROUND_S,
            warmup_timeout_s=60,
        ) as made,
        traffic(made),
    ):
        for machine in made.machines:
            assert all(each["stapled_until"] for each in machine.staples().values())
        for round_ in range(1, 5):  # the start, and three more
            counts = wait_until(
                lambda round_=round_: (
                    list(counts.values())
                    if len(counts := made.asked()) == CERTIFICATES and min(counts.values()) >= round_
                    else None
                ),
                120,
                f"round {round_}",
            )
            assert sum(counts) == CERTIFICATES * round_
        locked = [machine.fleet()["counts"]["locked"] for machine in made.machines]
        assert sum(locked) == CERTIFICATES * 4


def refreshed(made, name, machine):
    """Order a refresh at one machine, and wait until all staple the new response; how long that took then."""
    before = machine.this_update(name)
    time.sleep(1.1)  # thisUpdate has whole seconds: else the new one could not be told from the old
    made.order(machine, name)
    newer = wait_until(lambda: (found := machine.this_update(name)) != before and found, 20, "the new response")
    begun = time.monotonic()
    wait_until(lambda: made.all_have(name, newer), 20, "the new response everywhere")
    return time.monotonic() - begun


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_new_response_is_stapled_everywhere_within_a_second(lab, backend, tmp_path):
    """By a clock that begins when the first machine has it, and ends when the slowest of all says so."""
    with (
        lab.responder(),
        redis_server(tmp_path / "redis") as server,
        fleet(lab, backend, tmp_path, f"redis:{server.address}") as made,
        traffic(made),
    ):
        took_s = [refreshed(made, "localhost", machine) for machine in made.machines]
        # On a machine where nothing else runs; the median stands for that here.
        assert sorted(took_s)[1] < 1
        assert sorted(made.asked().values()) == [1, 1, 1 + len(made.machines)]


def fault(lab, name):
    """Set what the responder does from now on; empty: it answers rightly."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{lab.port}/-/faults", data=name.encode() or None, method="PUT" if name else "DELETE"
    )
    with urllib.request.urlopen(request, timeout=10):  # noqa: S310  the lab's own
        pass


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_another_machine_takes_over_when_the_lock_holder_is_killed_in_mid_fetch(lab, backend, tmp_path):
    """kill -9 of master and keeper while the responder lets them wait: nobody waits longer than the lock lives."""
    with (
        lab.responder(),
        redis_server(tmp_path / "redis") as server,
        fleet(lab, backend, tmp_path, f"redis:{server.address}", fetch_timeout_s=60) as made,
        traffic(made, *made.machines[1:]),
    ):
        holder, *others = made.machines
        before = made.machines[1].this_update("localhost")
        time.sleep(1.1)
        fault(lab, "silent")
        made.order(holder, "localhost")
        wait_until(lambda: holder.fleet()["locks_held"] == 1, 20, "the lock")
        for machine in others:
            made.order(machine, "localhost")
            wait_until(lambda machine=machine: machine.fleet()["counts"]["waited"], 20, "waiting for the lock")
        fault(lab, "")
        time.sleep(LOCK_LIFE_S)  # the lock is extended, or it would be over now
        assert {machine.this_update("localhost") for machine in others} == {before}
        (keeper,) = holder.front.pids("keeper")
        holder.front.process.kill()
        os.kill(keeper, signal.SIGKILL)
        begun = time.monotonic()
        wait_until(
            lambda: before not in {machine.this_update("localhost") for machine in others}, 60, "another one's response"
        )
        assert time.monotonic() - begun < LOCK_LIFE_S + WAIT_SPREAD_S + 3  # and for what the machine is busy with
        assert len({machine.this_update("localhost") for machine in others}) == 1
        assert sum(machine.fleet()["counts"]["locked"] for machine in others) >= 1
        assert max(made.asked().values()) == 3  # the start, the one that was killed, and its successor

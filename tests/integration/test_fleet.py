"""Whole proxies as a fleet over a real Redis: one fetch for all, and what each machine does with it."""

from __future__ import annotations

import os
import signal
import time
import urllib.request

import pytest
from integration.conftest import free_port
from integration.fleet import a_second_passes, fleet, traffic
from integration.front import wait_until
from integration.redis_servers import REDIS_AND_VALKEY, redis_server

from proxy.keeper.fleet.decide import LOCK_LIFE_S, POLL_LEAST_S, WAIT_SPREAD_S

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


def refreshed(made, machine):
    """Order a refresh at one machine; how long after it each other one had what came, by the keepers' own logs."""
    chain = made.chains[0]
    before = [len(each.stapled_at_s(chain)) for each in made.machines]
    a_second_passes()
    made.order(machine, "localhost")
    wait_until(
        lambda: all(len(each.stapled_at_s(chain)) > had for each, had in zip(made.machines, before, strict=True)),
        30,
        "the new response everywhere",
    )
    first = machine.stapled_at_s(chain)[-1]
    return [each.stapled_at_s(chain)[-1] - first for each in made.machines if each is not machine]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("program", REDIS_AND_VALKEY)
def test_a_new_response_is_stapled_everywhere_within_a_second(lab, backend, tmp_path, program):
    """From when the machine that asked has it until each other one has, and not by the poll, which takes longer."""
    with (
        lab.responder(),
        redis_server(tmp_path / "redis", program=program) as server,
        fleet(lab, backend, tmp_path, f"redis:{server.address}") as made,
        traffic(made),
    ):
        took_s = sorted(each for machine in made.machines * 2 for each in refreshed(made, machine))
        assert len(took_s) == 2 * MACHINES * (MACHINES - 1)
        # Of those some may wait for this machine, which other tests keep busy; hardly that long.
        assert took_s[len(took_s) * 3 // 4] < 1, took_s
        assert took_s[-1] < POLL_LEAST_S / 3, took_s
        assert sorted(made.asked().values()) == [1, 1, 1 + 2 * MACHINES]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_machines_that_lose_their_server_do_not_all_ask_at_once(lab, backend, tmp_path):
    """All of their certificates become due within seconds; they ask for nearly none of them meanwhile."""
    with (
        lab.responder("--validity-s", "3600"),
        redis_server(tmp_path / "redis") as server,
        fleet(
            lab,
            backend,
            tmp_path,
            f"redis:{server.address}",
            certificates=CERTIFICATES,
            refresh_max_interval_s=8,
            warmup_timeout_s=60,
        ) as made,
        traffic(made),
    ):
        server.stop()
        asked = sum(made.asked().values())
        wait_until(
            lambda: all(machine.fleet()["counts"]["alone"] >= CERTIFICATES for machine in made.machines),
            60,
            "all was due everywhere",
        )
        # A quarter of the time that is left may be waited, and five minutes at most: this was a few seconds.
        assert sum(made.asked().values()) - asked < MACHINES * CERTIFICATES / 4
        wait_until(lambda: sum(made.asked().values()) > asked, 60, "one of them asks")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_machines_that_start_without_their_server_spread_their_questions(lab, backend, tmp_path):
    """Nobody has a staple, so none is put off for long; and yet not all of a machine's questions come together."""
    with (
        lab.responder("--validity-s", "3600"),
        fleet(
            lab, backend, tmp_path, f"redis:127.0.0.1:{free_port()}", certificates=CERTIFICATES, warmup_timeout_s=60
        ) as made,
    ):
        assert sum(made.asked().values()) == MACHINES * CERTIFICATES
        for machine in made.machines:
            at_s = sorted(each for chain in made.chains for each in machine.stapled_at_s(chain)[:1])
            assert len(at_s) == CERTIFICATES
            # Drawn evenly from three seconds: in the busiest half of a second a sixth of them is to be expected.
            busiest = max(sum(begin <= each < begin + 0.5 for each in at_s) for begin in at_s)
            assert busiest < CERTIFICATES / 2, at_s


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
        a_second_passes()
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

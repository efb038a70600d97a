"""A fleet of whole proxies, and all that can be wrong with its Redis: clients get good staples all the while.

In each test clients come to every machine from begin to end: not one of their handshakes fails, and none is stapled
with anything that is over or was never good.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from integration.conftest import free_port
from integration.fleet import a_second_passes, fleet, traffic
from integration.front import wait_until
from integration.redis_servers import redis_server
from integration.steady import Load, leaf_and_issuer
from integration.switch import Switch
from lab.servers import require_peer

if TYPE_CHECKING:
    from collections.abc import Callable

    from integration.redis_servers import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

VALIDITY_S = 40
NATURAL = {"refresh_max_interval_s": 6}
"""So that each machine is due by itself every few seconds."""
RECOVERED_WITHIN_S = 90


@dataclass(frozen=True)
class Trouble:
    """What is done to the server, what the machines call it, and how it ends."""

    begin: Callable[[RedisServer], object]
    reasons: set[str]
    end: Callable[[RedisServer], object]
    is_emptied: bool = False


def set_replica_of_nobody(server):
    """A replica whose master is nowhere: it answers, and takes no writes."""
    server.cli("REPLICAOF", "127.0.0.1", str(free_port()))


def set_another_password(server):
    """Who is in stays in, so all have to come in again."""
    server.cli("CONFIG", "SET", "requirepass", "x")
    server.cli("-a", "x", "CLIENT", "KILL", "TYPE", "normal")


TROUBLES = {
    "hanging": Trouble(
        lambda server: server.process.send_signal(signal.SIGSTOP),
        {"timeout"},
        lambda server: server.process.send_signal(signal.SIGCONT),
    ),
    "read-only": Trouble(set_replica_of_nobody, {"read-only"}, lambda server: server.cli("REPLICAOF", "NO", "ONE")),
    "out-of-memory": Trouble(
        lambda server: server.cli("CONFIG", "SET", "maxmemory", "1"),
        {"out-of-memory"},
        lambda server: server.cli("CONFIG", "SET", "maxmemory", "0"),
    ),
    "not-allowed": Trouble(
        set_another_password,
        {"not-allowed"},
        lambda server: server.cli("-a", "x", "CONFIG", "SET", "requirepass", ""),
    ),
}


def newest(made):
    return [machine.this_update("localhost") for machine in made.machines]


def all_newer(made, before, what, within_s=60):
    """Each machine has a newer response than it had."""
    wait_until(
        lambda: all(now and then and now > then for now, then in zip(newest(made), before, strict=True)), within_s, what
    )


def all_up(made, within_s=RECOVERED_WITHIN_S):
    wait_until(lambda: all(machine.is_up() for machine in made.machines), within_s, "all machines share again")


def told_everywhere(made, reasons):
    """State and reason, in the status, the metrics and the log of each machine."""
    for machine in made.machines:
        (server,) = machine.fleet()["servers"]
        assert not server["is_up"]
        assert server["reason"] in reasons
        metrics = machine.ask("/metrics")[1]
        assert f'stapleproxy_fleet_trouble{{server="{server["server"]}",reason="{server["reason"]}"}} 1' in metrics
        assert f'stapleproxy_fleet_up{{server="{server["server"]}"}} 0' in metrics
        assert f"{server['server']}: {server['reason']}: " in machine.front.log
        assert machine.ask("/readyz")[0] == 200  # clients are served as ever


def shared_again(made):
    """One question for all."""
    machine = made.machines[0]
    before = machine.fleet()["counts"]["stored"]
    a_second_passes()
    made.order(machine, "localhost")
    wait_until(lambda: machine.fleet()["counts"]["stored"] > before, 30, "a response stored")
    newer = machine.this_update("localhost")
    wait_until(lambda: all(each >= newer for each in newest(made)), 20, "it is everywhere")


@pytest.mark.parametrize("name", TROUBLES)
def test_the_server_is_in_trouble(lab, backend, tmp_path, name):
    """Service goes on, each machine asks by itself, all say why, and when it is over they share again by themselves."""
    trouble = TROUBLES[name]
    with (
        lab.responder("--validity-s", str(VALIDITY_S)),
        redis_server(tmp_path / "redis") as server,
        fleet(lab, backend, tmp_path, f"redis:{server.address}", certificates=2, **NATURAL) as made,
        traffic(made),
    ):
        all_up(made)
        trouble.begin(server)
        before = newest(made)
        wait_until(lambda: not any(machine.is_up() for machine in made.machines), 60, "it is noticed")
        all_newer(made, before, "each machine asks by itself")
        told_everywhere(made, trouble.reasons)
        # Not at once: one may have had the lock when it began, and its response is a newer one too.
        wait_until(lambda: all(machine.fleet()["counts"]["alone"] for machine in made.machines), 60, "all asked alone")
        trouble.end(server)
        all_up(made)
        shared_again(made)


def test_the_server_is_not_there_at_the_start_and_comes_and_goes_and_comes_back_empty(lab, backend, tmp_path):
    """Nobody waits for it to start; what machines hold they give to it, also when it has lost all."""
    port = free_port()
    with (
        lab.responder("--validity-s", str(VALIDITY_S)),
        fleet(lab, backend, tmp_path, f"redis://127.0.0.1:{port}", certificates=2, **NATURAL) as made,
        traffic(made),
    ):
        assert all(each["stapled_until"] for machine in made.machines for each in machine.staples().values())
        told_everywhere(made, {"unreachable"})
        for _ in range(2):
            with redis_server(tmp_path / "redis", port=port) as server:
                all_up(made)
                wait_until(lambda: len(server.keys("*:staple")) == 2, 30, "what is held was given")
                shared_again(made)
                before = newest(made)
            # killed
            all_newer(made, before, "each machine asks by itself")
            wait_until(lambda: not any(machine.is_up() for machine in made.machines), 30, "it is noticed")
            told_everywhere(made, {"unreachable"})


def test_the_server_throws_keys_out_to_make_room(lab, backend, tmp_path):
    """Evicted responses are given back by who holds them, and nobody's staple is the worse for it."""
    with (
        lab.responder("--validity-s", "3600"),
        redis_server(tmp_path / "redis", "--maxmemory-policy", "allkeys-random") as server,
        fleet(lab, backend, tmp_path, f"redis:{server.address}", certificates=2) as made,
        traffic(made),
    ):
        asked = sum(made.asked().values())
        used = int(server.cli("INFO", "memory").split("used_memory:")[1].split()[0])
        server.cli("CONFIG", "SET", "maxmemory", str(used + 200_000))
        number = 0
        while server.keys("*:staple"):  # others fill it
            number += 1
            server.cli("SET", f"filler:{number}", "x" * 20_000)
            assert number < 1000
        server.cli("CONFIG", "SET", "maxmemory", "0")
        wait_until(lambda: len(server.keys("*:staple")) == 2, 60, "they are given back")
        assert sum(made.asked().values()) == asked
        shared_again(made)


def test_the_server_is_split_in_two(lab, backend, tmp_path):
    """Each half shares for itself; when there is one server again, the newer responses win on all machines."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(lab.responder("--validity-s", str(VALIDITY_S)))
        one = stack.enter_context(redis_server(tmp_path / "one"))
        two = stack.enter_context(redis_server(tmp_path / "two"))
        switch = Switch(one.port)
        stack.callback(switch.close)
        caches = [f"redis:{one.address}"] * 2 + [f"redis:127.0.0.1:{switch.port}"] * 2
        made = stack.enter_context(fleet(lab, backend, tmp_path, caches.__getitem__, certificates=2))
        stack.enter_context(traffic(made))
        assert sorted(made.asked().values()) == [1, 1]
        switch.set(two.port)
        wait_until(lambda: len(two.keys("*:staple")) == 2, 60, "the other half has a server of its own")
        all_up(made)
        a_second_passes()
        made.order(made.machines[3], "localhost")
        half = made.machines[2:]
        before = made.machines[0].this_update("localhost")
        wait_until(lambda: all(each.this_update("localhost") > before for each in half), 30, "its half has it")
        assert [each.this_update("localhost") for each in made.machines[:2]] == [before] * 2
        switch.set(one.port)
        newer = half[0].this_update("localhost")
        wait_until(lambda: all(each >= newer for each in newest(made)), RECOVERED_WITHIN_S, "the newer one everywhere")
        all_up(made)
        shared_again(made)


def test_the_server_is_slow(lab, backend, tmp_path):
    """While it answers in time it is shared, however late; slower than that it counts as away, until it is faster."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(lab.responder("--validity-s", str(VALIDITY_S)))
        server = stack.enter_context(redis_server(tmp_path / "redis"))
        switch = Switch(server.port)
        stack.callback(switch.close)
        made = stack.enter_context(
            fleet(lab, backend, tmp_path, f"redis:127.0.0.1:{switch.port}", certificates=2, **NATURAL)
        )
        stack.enter_context(traffic(made))
        all_up(made)
        switch.delay_s = 0.4
        for _ in range(2):
            all_newer(made, newest(made), "it is refreshed, and shared")
        assert sum(machine.fleet()["counts"]["taken"] for machine in made.machines) >= 2 * (len(made.machines) - 1)
        switch.delay_s = 2.5
        before = newest(made)
        wait_until(lambda: not any(machine.is_up() for machine in made.machines), 60, "it is noticed")
        told_everywhere(made, {"timeout"})
        all_newer(made, before, "each machine asks by itself")
        switch.delay_s = 0.0
        all_up(made)
        shared_again(made)


def libfaketime() -> str:
    """What the command `faketime` preloads."""
    require_peer("faketime")
    command = ["faketime", "-m", "2030-01-01", "printenv", "LD_PRELOAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split(":")[-1]


@contextlib.contextmanager
def environment(**values):
    old = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@pytest.mark.parametrize("shift", ["-2d", "+2d"])
def test_one_machine_has_the_wrong_time(lab, backend, tmp_path, shift):
    """It has no staple, since nothing proves good there; it takes none from the others, and gives them nothing."""
    library = libfaketime()

    def wrong_clock(number):
        return environment(LD_PRELOAD=library, FAKETIME=shift) if number == 3 else contextlib.nullcontext()

    with (
        lab.responder("--validity-s", str(VALIDITY_S)),
        redis_server(tmp_path / "redis") as server,
        fleet(lab, backend, tmp_path, f"redis:{server.address}", certificates=2, around=wrong_clock, **NATURAL) as made,
    ):
        wrong = made.machines.pop()
        load = Load(wrong.front.port, leaf_and_issuer(made.chains[0]), 0.05)
        with traffic(made), load.running(full=1, kept=1, resumed=0):
            for _ in range(3):
                before = newest(made)
                all_newer(made, before, "the others refresh")
            assert wrong.this_update("localhost") is None
            refused = wrong.fleet()["refused"]
            assert set(refused) <= {"not-yet-valid", "expired", "signer-out-of-date", "certificate-expired"}
            assert wrong.fleet()["counts"]["stored"] == 0
            assert all(machine.fleet()["refused"] == {} for machine in made.machines)
            assert all(machine.is_up() for machine in made.machines)
        assert load.failures == []  # its clients come in all the same, without a staple
        assert load.counts["full handshakes"] > 0
        assert not load.has_seen_good_staples


@pytest.mark.parametrize("shift", ["-2d", "+2d"])
def test_the_clock_of_one_machine_jumps_and_is_set_right_again(lab, backend, tmp_path, shift):
    """While it is wrong the others neither lose nor take anything by it; then that machine shares again by itself."""
    library, clock = libfaketime(), tmp_path / "clock"
    clock.write_text("+0")

    def own_clock(number):
        unbuffered = {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
        own = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(clock), **unbuffered}
        return environment(**own) if number == 3 else contextlib.nullcontext()

    with (
        lab.responder("--validity-s", str(VALIDITY_S)),
        redis_server(tmp_path / "redis") as server,
        fleet(lab, backend, tmp_path, f"redis:{server.address}", certificates=2, around=own_clock, **NATURAL) as made,
    ):
        wrong = made.machines.pop()
        with traffic(made):
            before = wrong.this_update("localhost")
            wait_until(lambda: wrong.this_update("localhost") > before, 30, "it has part in what is shared")
            clock.write_text(shift)
            for _ in range(3):
                all_newer(made, newest(made), "the others refresh")
            assert all(machine.fleet()["refused"] == {} for machine in made.machines)
            assert all(machine.is_up() for machine in made.machines)
            clock.write_text("+0")
            made.machines.append(wrong)
            moment = newest(made)[0]
            wait_until(lambda: min(each or "" for each in newest(made)) > moment, RECOVERED_WITHIN_S, "all refresh")
            shared_again(made)

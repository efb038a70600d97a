"""A service manager hears what happens, in its order and at the right moment."""

from __future__ import annotations

import os
import signal
import socket

import pytest
from integration.front import children_of, is_alive, site, toml, wait_until
from integration.service import service, service_manager

from proxy.lab.client import probe


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """Both kinds of NOTIFY_SOCKET."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@stapleproxy-service-{os.getpid()}"
    with service_manager(address) as made:
        yield made


@pytest.mark.slow
def test_the_whole_life(lab, backend, tmp_path, manager):
    """Start, reload, a reload with a mistake, stop: what systemctl status shows; when READY=1 is said it is true."""
    configuration = toml(site(backend, lab.issue("localhost")), workers=2)
    with lab.responder(), service(configuration, tmp_path, NOTIFY_SOCKET=manager.address) as front:
        ready = manager.wait_for("READY")
        # At once, without a second try.
        assert probe("127.0.0.1", front.port, "localhost", roots=lab.root, request_path="/").staple
        assert ready["STATUS"].startswith("2 workers accept connections on 127.0.0.1:")
        starting = manager.messages[0]
        assert int(starting["EXTEND_TIMEOUT_USEC"]) >= 10_000_000, "what the first fetches may take"
        front.process.send_signal(signal.SIGHUP)
        ready = manager.wait_for("READY", 2)
        assert ready["STATUS"].startswith("2 workers accept connections on")
        (tmp_path / "service.toml").write_text("nonsense")
        front.process.send_signal(signal.SIGHUP)
        ready = manager.wait_for("READY", 3)
        assert "the last reload was refused" in ready["STATUS"]
        assert probe("127.0.0.1", front.port, "localhost", roots=lab.root, request_path="/").staple
        assert front.stop() == 0
    stopping = manager.wait_for("STOPPING")
    assert int(stopping["EXTEND_TIMEOUT_USEC"]) >= 30_000_000, "drain_timeout_s"
    told = [each for each in manager.story if each != "STATUS"]
    assert told == ["READY", "RELOADING", "READY", "RELOADING", "READY", "STOPPING"]
    first = manager.heard("RELOADING")[0]
    assert int(first["MONOTONIC_USEC"]) > 0
    assert manager.heard("WATCHDOG") == [], "nobody asked for it"


@pytest.mark.slow
def test_the_watchdog_is_fed_while_a_worker_serves(lab, backend, tmp_path):
    """One worker that hangs is no reason to restart all; when no event loop turns, the manager hears nothing more."""
    configuration = toml(site(backend, lab.issue("localhost")), workers=2)
    with (
        lab.responder(),
        service_manager(str(tmp_path / "notify")) as manager,
        service(configuration, tmp_path, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="4000000") as front,
    ):
        manager.wait_for("WATCHDOG", 2)
        first, second = front.pids("worker")
        os.kill(first, signal.SIGSTOP)
        so_far = len(manager.heard("WATCHDOG"))
        manager.wait_for("WATCHDOG", so_far + 3)
        os.kill(second, signal.SIGSTOP)
        wait_until(lambda: _is_silent(manager), 30, "no more WATCHDOG=1")
        os.kill(second, signal.SIGCONT)
        manager.wait_for("WATCHDOG", len(manager.heard("WATCHDOG")) + 1)
        os.kill(first, signal.SIGCONT)


def _is_silent(manager) -> bool:
    """For longer than it would ever be if it were fed."""
    before = len(manager.heard("WATCHDOG"))
    try:
        wait_until(lambda: len(manager.heard("WATCHDOG")) > before, 5)
    except AssertionError:
        return True
    return False


@pytest.mark.slow
def test_what_the_keeper_runs_does_not_speak_for_us(lab, backend, tmp_path):
    """A command could say READY=1, or keep the watchdog content."""
    command = tmp_path / "command"
    command.write_text(f"#!/bin/sh\nenv > {tmp_path}/new && mv {tmp_path}/new {tmp_path}/environment\n")
    command.chmod(0o700)
    configuration = toml(site(backend, lab.issue("localhost")))
    configuration = configuration.replace("[[site]]", f'[stapling]\non_event = ["{command}"]\n[[site]]', 1)
    with (
        lab.responder(),
        service_manager(str(tmp_path / "notify")) as manager,
        socket.create_server(("127.0.0.1", 0)) as sock,
        service(
            configuration.replace("127.0.0.1:0", f"127.0.0.1:{sock.getsockname()[1]}"),
            tmp_path,
            sockets=[sock],
            NOTIFY_SOCKET=manager.address,
            WATCHDOG_USEC="60000000",
            LISTEN_FDNAMES="https",
        ) as front,
    ):
        environment = wait_until(lambda: (tmp_path / "environment").exists() and (tmp_path / "environment").read_text())
        assert "PATH=" in environment
        assert [name for name in ("NOTIFY_SOCKET", "WATCHDOG", "LISTEN_") if name in environment] == []
        assert len(children_of(front.process.pid)) == 2


@pytest.mark.slow
def test_an_upgrade_is_told_by_who_is_believed(lab, backend, tmp_path):
    """The old master names the new one, which goes on with manager and sockets; then it is that one that stops."""
    with lab.responder(), socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        configuration = toml(site(backend, lab.issue("localhost"))).replace("127.0.0.1:0", f"127.0.0.1:{port}")
        address = str(tmp_path / "notify")
        with (
            service_manager(address) as manager,
            service(configuration, tmp_path, sockets=[sock], NOTIFY_SOCKET=address, WATCHDOG_USEC="2000000") as front,
        ):
            manager.wait_for("READY")
            front.process.send_signal(signal.SIGUSR2)
            new = int(manager.wait_for("MAINPID")["MAINPID"])
            try:
                assert new != front.process.pid
                assert front.process.wait(30) == 0
                assert manager.heard("STOPPING") == [], "the service goes on"
                assert probe("127.0.0.1", port, "localhost", roots=lab.root, request_path="/").staple
                manager.wait_for("WATCHDOG", len(manager.heard("WATCHDOG")) + 2)
            finally:
                os.kill(new, signal.SIGTERM)
            manager.wait_for("STOPPING")
            wait_until(lambda: not is_alive(new))

"""SIGUSR2: the program as it is installed now takes over, on the same sockets, and nobody notices."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from integration.front import Front, children_of, is_alive, run, site, toml, wait_until
from integration.steady import Load, leaf_and_issuer

from proxy.lab.client import probe

TIMEOUT_S = 30


@pytest.fixture
def stapled(lab):
    with lab.responder():
        yield lab.issue("localhost")


@contextlib.contextmanager
def successor_of(front):
    """The new master, once it serves; ended at the end."""
    pid = int(front.wait_for_log(r"upgrade: process (\d+) has taken over", TIMEOUT_S)[1])
    try:
        yield pid
    finally:
        children = children_of(pid)
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not any(is_alive(each) for each in (pid, *children)))


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["shmcb:", "shmcb:{}/cache(128000)"])
def test_the_new_program_takes_over_without_a_loss(lab, stapled, backend, tmp_path, cache):
    """Sockets, admin socket and cache file go over; the old program leaves with status 0."""
    admin = tmp_path / "admin.sock"
    configuration = toml(
        site(backend, stapled), workers=2, stapling={"cache": cache.format(tmp_path)}, admin={"socket": str(admin)}
    )
    with run(tmp_path, configuration) as front:
        load = Load(front.port, leaf_and_issuer(stapled[0]))
        inode = admin.stat().st_ino
        with load.running():
            front.process.send_signal(signal.SIGUSR2)
            with successor_of(front) as pid:
                assert front.process.wait(TIMEOUT_S) == 0
                assert admin.stat().st_ino == inode
                result = probe("127.0.0.1", front.port, "localhost", roots=lab.root, request_path="/")
                assert result.staple is not None
                assert len(wait_until(lambda: children_of(pid))) == 3
                load.stop()
        assert (load.failures, load.without_staple) == ([], [])
        assert not admin.exists()
        if "cache" in cache:
            assert len(re.findall("from the cache", front.log)) == 1


@pytest.mark.slow
def test_a_new_program_that_does_not_come_up_leaves_the_old_one(lab, stapled, backend, tmp_path):
    """Its configuration is wrong, it is killed on the way: the old one serves on, as it was."""
    cache = {"cache": f"shmcb:{tmp_path}/cache(128000)"}
    right = toml(site(backend, stapled), stapling=cache)
    with run(tmp_path, right) as front:
        workers = front.pids("worker")
        load = Load(front.port, leaf_and_issuer(stapled[0]))
        with load.running(full=1, kept=1, resumed=0):
            (tmp_path / "front.toml").write_text("wokers = 1\n" + right)
            front.process.send_signal(signal.SIGUSR2)
            front.wait_for_log("upgrade refused: it did not come up", TIMEOUT_S)
            assert "wokers" in front.log

            (tmp_path / "front.toml").write_text(right)
            front.process.send_signal(signal.SIGUSR2)
            (_, second) = wait_until(lambda: _two(re.findall(r"successor\[(\d+)\] started", front.log)), TIMEOUT_S)
            # As far as it goes until it says that it is the other's turn.
            wait_until(lambda: children_of(int(second)), TIMEOUT_S)
            os.kill(int(second), signal.SIGKILL)
            wait_until(lambda: front.log.count("upgrade refused") == 2, TIMEOUT_S)
            wait_until(lambda: front.pids("keeper"))
        assert front.pids("worker") == workers
        assert (load.failures, load.without_staple) == ([], [])
        assert probe("127.0.0.1", front.port, "localhost", roots=lab.root).staple is not None
        # And it can still be reloaded, and upgraded.
        front.process.send_signal(signal.SIGHUP)
        front.wait_for_log("reloaded, generation 2")
        front.process.send_signal(signal.SIGUSR2)
        with successor_of(front):
            assert front.process.wait(TIMEOUT_S) == 0


def _two(found):
    return found if len(found) == 2 else None


@pytest.mark.slow
def test_an_upgrade_may_change_the_configuration(lab, stapled, backend, tmp_path):
    """Another number of workers, another cache; nothing is left of the admin interface and the redirecting port."""
    admin = tmp_path / "admin.sock"
    before = toml(
        site(backend, stapled),
        workers=3,
        stapling={"cache": f"shmcb:{tmp_path}/cache(128000)"},
        admin={"socket": str(admin), "listen": "127.0.0.1:0"},
        redirect={"listen": ["127.0.0.2:0"]},
    )
    with run(tmp_path, before) as front:
        load = Load(front.port, leaf_and_issuer(stapled[0]))
        given_up = [
            front.wait_for_log(rf"{what} (?:http://)?(127\.0\.0\.\d):(\d+)").groups()
            for what in ("the admin interface is at", "and redirect from")
        ]
        with load.running():
            after = toml(site(backend, stapled), workers=1, stapling={"cache": f"shmcb:{tmp_path}/cache(512000)"})
            (tmp_path / "front.toml").write_text(after)
            front.process.send_signal(signal.SIGUSR2)
            with successor_of(front) as pid:
                assert front.process.wait(TIMEOUT_S) == 0
                assert not admin.exists()
                assert len(children_of(pid)) == 2
                for host, port in given_up:
                    with pytest.raises(ConnectionRefusedError):
                        socket.create_connection((host, int(port)), TIMEOUT_S)
                load.stop()
        assert (load.failures, load.without_staple) == ([], [])


def test_a_variable_that_somebody_else_has_passed_on_is_not_ours(lab, stapled, backend, tmp_path, monkeypatch):
    """It says for which process it is meant."""
    monkeypatch.setenv("STAPLEPROXY_INHERITANCE", '{"pid": 1, "ready_fd": 0, "turn_fd": 0, "sockets": []}')
    with run(tmp_path, toml(site(backend, stapled))) as front:
        assert probe("127.0.0.1", front.port, "localhost", roots=lab.root).staple is not None


def test_a_stop_during_an_upgrade_ends_both(lab, stapled, backend, tmp_path):
    with run(tmp_path, toml(site(backend, stapled))) as front:
        front.process.send_signal(signal.SIGUSR2)
        pid = int(front.wait_for_log(r"successor\[(\d+)\] started")[1])
        assert front.stop() == 0
        assert not is_alive(pid)
        assert "goes on" not in front.log


@pytest.mark.parametrize("text", ["no", "1", "{}", '{"pid": []}', "[" * 100_000], ids=["no", "1", "{}", "pid", "deep"])
def test_a_variable_that_says_nothing_is_a_mistake_told_in_a_sentence(stapled, backend, tmp_path, monkeypatch, text):
    """Nobody but an old program sets it, so to begin without what it names could be to begin beside that program."""
    monkeypatch.setenv("STAPLEPROXY_INHERITANCE", text)
    with run(tmp_path, toml(site(backend, stapled)), until_ready=False) as front:
        ends_well = text == '{"pid": []}'  # it is for somebody else, whoever that is
        if ends_well:
            front.wait_for_log("ready:")
        else:
            assert front.process.wait(TIMEOUT_S) != 0
            assert "what the old process hands on cannot be used" in front.log
        assert "Traceback" not in front.log


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["while it reads", "while it starts"])
def test_an_old_program_that_is_killed_meanwhile_leaves_the_service_to_the_new_one(
    lab, stapled, backend, tmp_path, moment
):
    """What the new one was handed is enough: it has the same sockets and the same cache."""
    configuration = toml(site(backend, stapled), stapling={"cache": f"shmcb:{tmp_path}/cache(128000)"})
    with run(tmp_path, configuration) as front:
        port, old = front.port, children_of(front.process.pid)
        front.process.send_signal(signal.SIGUSR2)
        pid = int(front.wait_for_log(r"successor\[(\d+)\] started")[1])
        if moment == "while it starts":
            wait_until(lambda: children_of(pid), TIMEOUT_S)
        front.process.kill()
        front.process.wait()
        try:
            wait_until(lambda: front.log.count("ready:") == 2, TIMEOUT_S, f"a second ready in {front.log}")
            assert probe("127.0.0.1", port, "localhost", roots=lab.root, request_path="/").staple is not None
            wait_until(lambda: not any(is_alive(each) for each in old))
            assert "Traceback" not in front.log
        finally:
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not is_alive(pid))


@pytest.mark.slow
def test_a_reload_asked_of_the_old_program_is_passed_on(lab, stapled, backend, tmp_path):
    """Who asked in the middle of the upgrade knew no other; the new one may have read its files before."""
    with run(tmp_path, toml(site(backend, stapled))) as front:
        front.process.send_signal(signal.SIGUSR2)
        front.wait_for_log(r"successor\[(\d+)\] started")
        front.process.send_signal(signal.SIGHUP)
        with successor_of(front) as pid:
            front.wait_for_log(rf"INFO master\[{pid}\] reloaded, generation 2", TIMEOUT_S)


@pytest.mark.slow
def test_a_program_that_is_not_there_any_more_is_told_in_a_sentence(lab, stapled, backend, tmp_path):
    """The interpreter that was started is gone: the old one serves on."""
    python = tmp_path / "python"
    python.symlink_to(Path(sys.executable).resolve())
    (tmp_path / "front.toml").write_text(toml(site(backend, stapled)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    with (tmp_path / "front.log").open("w") as log:
        process = subprocess.Popen([python, "-m", "proxy", "run", tmp_path / "front.toml"], stderr=log, env=environment)
    front = Front(process, tmp_path / "front.log")
    try:
        front.wait_for_log("ready:", TIMEOUT_S)
        python.unlink()
        process.send_signal(signal.SIGUSR2)
        front.wait_for_log("upgrade refused: it did not come up", TIMEOUT_S)
        assert f"upgrade: {python} cannot be run: No such file or directory" in front.log
        assert "Traceback" not in front.log
        assert probe("127.0.0.1", front.port, "localhost", roots=lab.root).staple is not None
        assert front.stop() == 0
    finally:
        process.kill()
        process.wait()


def test_process_1_is_not_replaced(lab, stapled, backend, tmp_path):
    """With it all of a container would end."""
    if subprocess.run(["unshare", "--pid", "--fork", "true"], check=False, capture_output=True).returncode:
        pytest.skip("a process 1 of our own takes root's rights")
    (tmp_path / "front.toml").write_text(toml(site(backend, stapled)))
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-m", "proxy", "run"]
    with (tmp_path / "front.log").open("w") as log:
        process = subprocess.Popen([*command, tmp_path / "front.toml"], stderr=log)
    front = Front(process, tmp_path / "front.log")
    try:
        front.wait_for_log("ready:", TIMEOUT_S)
        (first,) = children_of(process.pid)
        os.kill(first, signal.SIGUSR2)
        front.wait_for_log("upgrade: not as process 1")
        assert probe("127.0.0.1", front.port, "localhost", roots=lab.root).staple is not None
        os.kill(first, signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
    finally:
        process.kill()
        process.wait()

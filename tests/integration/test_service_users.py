"""Started as root: the master stays root, keeper and workers are somebody else, and everything still works."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from integration.front import children_of, site, toml, wait_until
from integration.service import USER, open_folder, python_for_all, service, status_of

from proxy.lab.client import probe

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NO_RIGHTS = "0000000000000000"
AS_NOBODY = ("setpriv", f"--reuid={USER}", "--regid=nogroup", "--clear-groups")
WITHOUT_SETUID = ("setpriv", "--bounding-set=-setuid,-setgid")


@pytest.fixture
def folder():
    with open_folder() as made:
        yield made


@pytest.fixture
def stapled(lab):
    with lab.responder():
        yield lab.issue("localhost")


def staple(front, lab):
    return probe("127.0.0.1", front.port, "localhost", roots=lab.root, request_path="/").staple


def test_only_the_master_stays_root(lab, stapled, backend, folder):
    """What the kernel says of each process, before and after a reload; the key stays root's, and is read again."""
    nobody = pwd.getpwnam(USER)
    key = stapled[1]
    assert key.stat().st_uid == 0
    assert key.stat().st_mode & 0o777 == 0o600
    stapling = {"cache": f"shmcb:{folder}/staples"}
    configuration = toml(site(backend, stapled), user=USER, workers=2, stapling=stapling)
    with service(configuration, folder, python=python_for_all()) as front:

        def children():
            pids = children_of(front.process.pid)
            assert len(pids) == 3, front.log
            for pid in pids:
                status = status_of(pid)
                assert status["Uid"] == " ".join([str(nobody.pw_uid)] * 4)
                assert status["Gid"] == " ".join([str(nobody.pw_gid)] * 4)
                assert {int(each) for each in status["Groups"].split()} <= set(os.getgrouplist(USER, nobody.pw_gid))
                assert {status[each] for each in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {NO_RIGHTS}
                assert Path(f"/proc/{pid}/mem").stat().st_uid == 0, "no other process of that user may look into it"
            return set(pids)

        before = children()
        assert staple(front, lab) is not None
        assert status_of(front.process.pid)["Uid"] == "0 0 0 0"
        front.process.send_signal(signal.SIGHUP)
        front.wait_for_log("generation 2", 20)
        wait_until(lambda: not before & set(children_of(front.process.pid)))
        children()
        assert staple(front, lab) is not None
        assert front.stop() == 0
    assert "keep all rights" not in front.log


def test_the_key_is_closed_to_who_has_a_workers_rights(stapled):
    """A hole in a worker does not open the file."""
    for path in stapled:
        done = subprocess.run(
            ["cat", path], user=USER, group="nogroup", extra_groups=[], capture_output=True, check=False
        )
        assert done.returncode
        assert b"Permission denied" in done.stderr


def test_a_port_that_only_root_may_open(lab, stapled, backend, folder):
    """Also when it is opened anew by a reload, which only a master with root's rights can do."""
    ports = [port for port in range(1023, 900, -1) if _is_free(port)]
    configuration = toml(site(backend, stapled), user=USER).replace("127.0.0.1:0", f"127.0.0.1:{ports[0]}")
    with service(configuration, folder, python=python_for_all()) as front:
        assert staple(front, lab) is not None
        moved = configuration.replace(f":{ports[0]}", f":{ports[1]}")
        (folder / "service.toml").write_text(moved)
        front.process.send_signal(signal.SIGHUP)
        front.wait_for_log("generation 2", 20)
        assert probe("127.0.0.1", ports[1], "localhost", roots=lab.root, request_path="/").staple is not None


def _is_free(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.slow
def test_the_access_log_is_rotated_in_a_folder_of_roots(lab, stapled, backend, folder):
    """Workers may not make a file there: the master makes it and gives it away, at the start and at SIGUSR1."""
    path = folder / "access.log"
    log = {"path": str(path)}
    with service(toml(site(backend, stapled), user=USER, access_log=log), folder, python=python_for_all()) as front:
        staple(front, lab)
        wait_until(lambda: "GET / HTTP/" in path.read_text())
        path.rename(folder / "access.log.1")
        front.process.send_signal(signal.SIGUSR1)
        wait_until(path.exists)

        def is_written():
            staple(front, lab)
            return path.read_text()

        wait_until(is_written)
        assert {each.owner() for each in (path, folder / "access.log.1")} == {USER}
    assert "cannot be" not in front.log


def test_a_group_of_its_own(lab, stapled, backend, folder):
    """`group` goes before the user's own."""
    with service(toml(site(backend, stapled), user=USER, group="daemon"), folder, python=python_for_all()) as front:
        for pid in children_of(front.process.pid):
            assert status_of(pid)["Gid"] == "1 1 1 1"
        assert staple(front, lab) is not None


def test_root_without_a_user_is_warned_of(lab, stapled, backend, folder):
    """As it has always been, it serves."""
    with service(toml(site(backend, stapled)), folder) as front:
        assert "keeper and workers keep all rights of root: set user to one that has few" in front.log
        assert staple(front, lab) is not None


def test_who_is_not_root_is_warned_of(lab, stapled, backend, folder):
    """As nginx does it; and who is that user already is right."""
    (chain, key) = (folder / each.name for each in stapled)
    for path, made in zip(stapled, (chain, key), strict=True):
        made.write_bytes(path.read_bytes())
        os.chown(made, pwd.getpwnam(USER).pw_uid, -1)
        made.chmod(0o600)
    told = rf"user daemon is not taken on: only root can, and this is user number {pwd.getpwnam(USER).pw_uid}"
    for user, is_told in (("daemon", True), (USER, False)):
        configuration = toml(site(backend, (chain, key)), user=user)
        with service(configuration, folder, python=python_for_all(), prefix=AS_NOBODY) as front:
            assert staple(front, lab) is not None
            assert (told in front.log) is is_told


def test_a_root_that_may_not_change_its_user_does_not_start(lab, stapled, backend, folder):
    """In a container without the capabilities: it says which, and does not go on as root."""
    configuration = toml(site(backend, stapled), user=USER)
    with service(configuration, folder, prefix=WITHOUT_SETUID) as front:
        assert front.process.wait(20) == 1
    assert f"user {USER}: this process may not become another user: CAP_SETUID and CAP_SETGID are needed" in front.log
    assert "Traceback" not in front.log

"""The lab as a whole, as a user runs it, and that it leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAB = [sys.executable, "-m", "proxy", "lab"]


def wait_until(condition, *, within_s=20):
    give_up_at = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_at, "not in time"
        time.sleep(0.02)


def descendants(pid):
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [each for child in children for each in (child, *descendants(child))]


def is_running(pid):
    """A zombie, which waits for its parent only, does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def running_lab(tmp_path):
    """The lab after its proof, with what it printed so far."""
    with (tmp_path / "said").open("w+") as said:
        lab = subprocess.Popen([*LAB, "--folder", tmp_path / "lab"], stdout=said, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: lab.poll() is not None or "until Ctrl-C" in (tmp_path / "said").read_text())
            assert lab.poll() is None, (tmp_path / "said").read_text()
            yield lab, tmp_path
        finally:
            lab.kill()
            lab.wait()


def test_once_proves_both_certificates_and_ends(tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([*LAB, "--once"], capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith((" EC ", " RSA "))]
    assert [row[:3] for row in rows] == [["EC", "200", "good"], ["RSA", "200", "good"]]
    assert "CN=Lab OCSP Signer" in done.stdout
    assert list(tmp_path.iterdir()) == [], "the temporary folder is gone"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_lab(running_lab, number):
    """However it ends: each child sees its standard input end."""
    lab, _ = running_lab
    children = descendants(lab.pid)
    assert len(children) >= 5  # responder, backend, leash, master, and its children
    lab.send_signal(number)
    wait_until(lambda: not any(map(is_running, children)))
    assert lab.wait(20) == {signal.SIGINT: 0, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]


def test_a_part_that_dies_ends_the_lab_with_its_last_words(running_lab):
    lab, folder = running_lab
    responder = next(
        pid for pid in descendants(lab.pid) if b"proxy.lab.responder" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    os.kill(responder, signal.SIGKILL)
    assert lab.wait(20) == 1
    assert "the responder ended with status -9" in (folder / "said").read_text()


def test_a_port_in_use_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [*LAB, "--once", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "Address already in use: choose another with --port" in done.stdout


def test_a_folder_is_used_again(tmp_path):
    """Whoever trusts its root goes on trusting."""
    roots = set()
    for _ in range(2):
        subprocess.run([*LAB, "--once", "--folder", tmp_path], capture_output=True, check=True, timeout=60)
        roots.add((tmp_path / "root.pem").read_bytes())
    assert len(roots) == 1


def test_a_folder_with_a_broken_ca_is_told(tmp_path):
    (tmp_path / "root.pem").write_text("no certificate")
    done = subprocess.run(
        [*LAB, "--once", "--folder", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "cannot use this folder for the lab's CA" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(("program", "status"), [("import sys; sys.exit(7)", 7), ("import os; os.abort()", 134)])
def test_the_leash_ends_with_its_command(program, status):
    held_open, writer = os.pipe()
    done = subprocess.run(
        [sys.executable, "-m", "proxy.lab.leash", sys.executable, "-c", program],
        stdin=held_open, check=False, timeout=20,
    )  # fmt: skip
    os.close(held_open)
    os.close(writer)
    assert done.returncode == status

"""The lab as a whole, as a user runs it, and that it leaves nothing behind."""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from lab.servers import require_peer

from proxy.cli import main
from proxy.cli.console import aligned
from proxy.cli.lab import own_command
from proxy.lab.client import probe
from proxy.lab.faults import FAULTS

ROOT = Path(__file__).parents[2]
LAB = [sys.executable, "-m", "proxy", "lab"]
IN_BACKGROUND = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
"""A shell without job control starts a background command so: SIGINT ignored."""

UNDER_NOHUP = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]


HEEDING_HANGUPS = [
    sys.executable,
    "-c",
    "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])",
]
"""Whoever runs these tests may be under nohup."""


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
def lab_with(tmp_path):
    """Runs the lab with options, and gives it after its proof, with what it has printed so far."""

    @contextlib.contextmanager
    def run(*options, before=()):
        path = tmp_path / "said"
        with path.open("w") as output:
            command = [*before, *LAB, "--folder", tmp_path / "lab", *options]
            lab = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            try:
                wait_until(lambda: lab.poll() is not None or "until Ctrl-C" in path.read_text())
                assert lab.poll() is None, path.read_text()
                yield lab, path.read_text
            finally:
                lab.kill()
                lab.wait()

    return run


@pytest.fixture
def running_lab(lab_with, tmp_path):
    """The lab after its proof, started in a script's background; what it prints goes to a file."""
    with lab_with(before=IN_BACKGROUND) as (lab, _):
        yield lab, tmp_path


def test_once_proves_both_certificates_and_ends(tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([*LAB, "--once"], capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    table = [line for line in lines if line.startswith(("key ", "EC ", "RSA "))]
    assert [row.split()[:3] for row in table[1:]] == [["EC", "200", "good"], ["RSA", "200", "good"]]
    assert "CN=Lab OCSP Signer" in done.stdout
    assert list(tmp_path.iterdir()) == [], "the temporary folder is gone"
    assert max(map(len, table)) <= 80
    assert [line for line in lines if line != line.rstrip()] == []
    assert "another terminal" not in done.stdout, "nothing is there to try any more"


@pytest.mark.slow
def test_modules_in_the_current_folder_are_not_run(tmp_path):
    """Neither by the lab nor by what it starts: the folder is the user's, the names may be anything's."""
    for name in ("proxy", "aiohttp", "uvloop"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w'); raise SystemExit(99)")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", *LAB[1:], "--once"]  # -P: as the installed command starts
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert not (tmp_path / "run").exists()
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_command_to_try_stands_on_a_line_of_its_own(running_lab):
    _, folder = running_lab
    said = (folder / "said").read_text()
    commands = re.findall(r"^  (openssl .*|curl .*|.* explain .*)$", said, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["openssl", "curl", sys.executable, "curl", "curl"]
    assert [command.split()[-1] for command in (commands[0], commands[2])] == ["</dev/null", "localhost"]
    assert commands[2].startswith(f"{sys.executable} -m proxy explain --live 127.0.0.1:")


def test_the_fault_to_try_by_hand_is_set_and_cleared(running_lab):
    """As curl does it, with the commands that are printed."""
    _, folder = running_lab
    said = (folder / "said").read_text()
    for command, expected in zip(
        re.findall(r"^  (curl -X .*)$", said, re.MULTILINE), ("expired for everything", "no fault"), strict=True
    ):
        require_peer("curl")
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True, timeout=20)
        assert done.stdout.startswith(expected)


@pytest.mark.slow
def test_a_fault_begins_and_ends_when_it_is_said(lab_with):
    """In the lab's words."""
    with lab_with("--fault", "expired", "--after", "0.5s", "--for", "0.5s") as (lab, said):
        wait_until(lambda: "That was the last step." in said())
        lines = said().split("Running until Ctrl-C.\n", 1)[1].splitlines()
        assert [re.sub(r"^\d\d:\d\d:\d\dZ  ", "", line) for line in lines] == [
            "expired begins for 0.5 s: nextUpdate was an hour ago. The proxy's word for it: expired.",
            "expired ends.",
            "That was the last step. Running until Ctrl-C.",
        ]
        assert lab.poll() is None


@pytest.mark.slow
def test_a_fault_reaches_the_proxy_and_goes_again(lab_with):
    """A responder that fails until the staple is over, and then not: none is sent past its end, then a new one."""
    with lab_with("--fault", "status-503", "--after", "0s", "--for", "6s", "--validity-s", "4") as (_, said):
        port = int(re.search(r"^proxy +https://localhost:(\d+)/", said(), re.MULTILINE)[1])
        root = re.search(r"^root certificate +(.*)$", said(), re.MULTILINE)[1]

        def is_stapled():
            return probe("127.0.0.1", port, "localhost", roots=Path(root)).staple is not None

        wait_until(lambda: not is_stapled())
        wait_until(is_stapled)


@pytest.mark.slow
def test_a_lab_under_nohup_outlives_its_terminal(lab_with):
    """An ignored SIGHUP stays ignored, by the lab and by all that it starts."""
    with lab_with("--fault", "expired", "--after", "1s", before=UNDER_NOHUP) as (lab, said):
        for pid in [lab.pid, *descendants(lab.pid)]:
            os.kill(pid, signal.SIGHUP)
        wait_until(lambda: "expired begins" in said())  # it went on after the signal
        assert lab.poll() is None


@pytest.mark.slow
def test_a_hangup_ends_a_lab_that_does_not_ignore_it(lab_with):
    with lab_with(before=HEEDING_HANGUPS) as (lab, _):
        lab.send_signal(signal.SIGHUP)
        assert lab.wait(20) == 129


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--fault", "expird"], "no fault is named 'expird': did you mean expired?"),
        (["--fault", "expired", "--after", "30"], 'must be a time with its unit, such as "30s", "5m" or "1h"'),
        (["--fault", "expired", "--for", "0s"], "--for must be longer than nothing"),
        (["--after", "3s"], "--after and --for say when --fault begins and how long it lasts: name one"),
        (["--fault", "dns", "--scenario", "x"], "--fault and --scenario: leave out one of them"),
        (["--fault", "dns", "--once"], "--once ends before a fault can begin: leave out one of them"),
        (["--json"], "--json is for --list and --compare"),
        (["--scenario", "/nowhere.toml"], "/nowhere.toml: cannot read the configuration: No such file or directory"),
    ],
)
def test_what_cannot_be_meant_is_told(options, told):
    """Before anything is started."""
    result = CliRunner().invoke(main, ["lab", *options])
    assert result.exit_code == 2
    assert result.output.endswith(f"{told}\n")


def test_mistakes_in_a_scenario_name_the_file(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('[[step]]\nat = "1s"\nfault = "expird"')
    result = CliRunner().invoke(main, ["lab", "--scenario", str(path)])
    assert result.exit_code == 2
    assert result.output == f"{path}: step[0].fault: no fault is named 'expird': did you mean expired?\n"


def test_the_list_has_every_fault_on_a_line_of_its_own():
    """In columns where it is piped, and as JSON with the same content."""
    lines = CliRunner().invoke(main, ["lab", "--list"]).output.splitlines()
    assert [line.split()[0] for line in lines] == ["name", *(fault.name for fault in FAULTS)]
    listed = json.loads(CliRunner().invoke(main, ["lab", "--list", "--json"]).output)
    what = "The host name does not exist."
    assert listed[0] == {"name": "dns", "group": "transport", "what": what, "reason": "dns", "only_when": None}
    assert [row["name"] for row in listed] == [fault.name for fault in FAULTS]


def test_the_own_command_works_in_any_folder(tmp_path, monkeypatch):
    script = tmp_path / "a b" / "stapleproxy"
    script.parent.mkdir()
    script.touch(0o755)
    monkeypatch.chdir(tmp_path)
    assert own_command("a b/stapleproxy") == f"'{script}'"
    monkeypatch.setenv("PATH", str(script.parent))
    assert own_command(str(script)) == "stapleproxy"


def test_cells_stand_in_columns_without_blanks_at_the_end():
    assert aligned([("a", "b", ""), ("ccc", "d", "e")]) == "a    b\nccc  d  e"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_lab(running_lab, number):
    """However it ends: each child sees its standard input end."""
    lab, _ = running_lab
    children = descendants(lab.pid)
    assert len(children) >= 5  # responder, backend, leash, master, and its children
    lab.send_signal(number)
    wait_until(lambda: not any(map(is_running, children)))
    assert lab.wait(20) == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]


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


def test_a_second_lab_in_one_folder_is_refused(running_lab):
    """And the first goes on as before."""
    lab, folder = running_lab
    config = (folder / "lab" / "lab.toml").read_text()
    done = subprocess.run(
        [*LAB, "--once", "--folder", folder / "lab"], capture_output=True, text=True, check=False, timeout=60
    )
    told = "another lab runs in this folder: choose another with --folder"
    assert (done.returncode, done.stdout) == (1, f"The lab failed: {folder / 'lab'}: {told}\n")
    assert ((folder / "lab" / "lab.toml").read_text(), lab.poll()) == (config, None)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "lab"
    done = subprocess.run([*LAB, "--once", "--folder", folder], capture_output=True, text=True, check=False, timeout=60)
    told = f"cannot use this folder for the lab's CA and logs (Not a directory: {folder}): choose another with --folder"
    assert (done.returncode, done.stdout, done.stderr) == (1, f"The lab failed: {folder}: {told}\n", "")


@pytest.mark.slow
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

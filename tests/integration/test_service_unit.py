"""The units in config/, judged by systemd itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from lab.servers import require_peer

CONFIG = Path(__file__).parents[2] / "config"
UNIT, SOCKET = CONFIG / "stapleproxy.service", CONFIG / "stapleproxy.socket"

MOST_EXPOSED = 1.5
"""systemd's own measure, from 0 (safe) to 10. The rest is the network, and /proc/self."""


def analyze(*arguments):
    """What systemd-analyze says, both channels, and its status."""
    require_peer("systemd-analyze")
    done = subprocess.run(
        ["systemd-analyze", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


@pytest.mark.slow
def test_systemd_finds_no_fault(tmp_path):
    """With a program in the place of ours, which is not installed here; a misspelt line would be told."""
    true = shutil.which("true")
    unit = UNIT.read_text().replace("/opt/stapleproxy/bin/stapleproxy", true)
    (tmp_path / UNIT.name).write_text(unit)
    (tmp_path / SOCKET.name).write_text(SOCKET.read_text())
    for path in (tmp_path / UNIT.name, tmp_path / SOCKET.name):
        assert analyze("verify", "--man=no", str(path)) == (0, "")
    (tmp_path / UNIT.name).write_text(unit.replace("NoNewPrivileges", "NoNewPrivilege"))
    _, said = analyze("verify", "--man=no", str(tmp_path / UNIT.name))
    assert "'NoNewPrivilege'" in said


@pytest.mark.slow
def test_the_unit_is_hardened():
    """A line that goes is seen in the number."""
    status, said = analyze("security", "--offline=true", "--no-pager", str(UNIT))
    assert status == 0, said
    assert float(re.search(r"Overall exposure level for stapleproxy.service: ([\d.]+)", said)[1]) <= MOST_EXPOSED


def test_what_reload_and_stop_do():
    """`systemctl reload` tells the mistakes itself, and only then asks the master; a core has no keys in it."""
    lines = UNIT.read_text().splitlines()
    reloads = [line for line in lines if line.startswith("ExecReload=")]
    assert [line.rpartition("bin/")[2].partition(" /")[0] for line in reloads] == [
        "stapleproxy check",
        "kill -HUP $MAINPID",
    ]
    for line in ("Type=notify", "LimitCORE=0", "KillMode=mixed", "RestartPreventExitStatus=2"):
        assert line in lines


def test_the_socket_unit_is_for_the_address_that_it_names():
    """`listen = [":443"]` is these two, each with its own family, as `activation.adopt` wants them."""
    lines = SOCKET.read_text().splitlines()
    assert [line for line in lines if line.startswith("ListenStream=")] == [
        "ListenStream=0.0.0.0:443",
        "ListenStream=[::]:443",
    ]
    assert "BindIPv6Only=ipv6-only" in lines

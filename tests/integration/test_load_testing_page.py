"""docs/load-testing.md: every command in it works as it stands there, against the lab that it begins with."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from integration.front import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "load-testing.md"
BLOCKS = re.findall(r"^```\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
LAB, *COMMANDS = "".join(BLOCKS).splitlines()
OURS = [sys.executable, "-m", "proxy"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(PAGE.parents[1])}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The page's lab, on a free port; its folder and its port."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "names.txt").write_text("localhost 3\nwww.localhost\n")
    words = shlex.split(LAB)
    assert words[:2] == ["stapleproxy", "lab"]
    words[words.index("--port") + 1] = "0"
    said = folder / "said"
    with (
        said.open("w") as out,
        subprocess.Popen([*OURS, *words[1:]], cwd=folder, env=ENVIRONMENT, stdout=out, stderr=out) as process,
    ):
        try:
            found = wait_until(
                lambda: re.search(r"-connect \S+?:(\d+)", said.read_text()) or process.poll() is not None, 60, "the lab"
            )
            assert process.poll() is None, said.read_text()
            yield folder, found[1]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_works(lab, command):
    """Its times are made shorter, and its port is the lab's; all handshakes are made, and all staples are good."""
    folder, port = lab
    command = re.sub(r"(--duration |duration:)\d+", r"\g<1>1", command.replace("8443", port))
    program, *options = shlex.split(command)
    if program == "tshark":
        if shutil.which("tshark") is None:
            pytest.skip("peer not installed: tshark")
        done = subprocess.run([program, *options], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0 or "permission" in done.stderr, done.stderr
        return
    assert (program, options[0]) == ("stapleproxy", "bench")
    done = subprocess.run(
        [*OURS, *options], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "good" in done.stdout
    assert re.search(r'^failed +0$|"failed": 0,', done.stdout, re.MULTILINE), done.stdout
    for option, name in (("--html", "report.html"), ("--samples", "samples.csv")):
        if option in options:
            assert (folder / name).stat().st_size > 100


def test_the_page_has_commands():
    assert LAB.startswith("stapleproxy lab ")
    assert len(COMMANDS) >= 12

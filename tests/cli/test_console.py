"""Signs that something is under way: on a terminal, beside the output, and only when it takes its time."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

PROGRAM = """
import time
from proxy.cli.console import BUSY_AFTER_S, busy
with busy("Reading …"):
    time.sleep({seconds} * BUSY_AFTER_S)
print("done")
"""


@pytest.mark.parametrize(("seconds", "is_shown"), [(0, False), (2, True)])
def test_what_takes_its_time_shows_that_it_is_under_way(seconds, is_shown):
    """And is gone when it is done; nothing of it is in the output."""
    ours, terminal = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0), os.fdopen(terminal, "wb") as screen:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(seconds=seconds)],
            stdout=subprocess.PIPE,
            stderr=screen,
            env=os.environ | {"TERM": "xterm"},
            check=True,
            timeout=30,
        )
        screen.write(b"end")
        screen.flush()
        written = b""
        while not written.endswith(b"end"):
            written += os.read(ours, 65536)
    assert done.stdout == b"done\n"
    assert ("Reading …".encode() in written) is is_shown
    assert not is_shown or written.removesuffix(b"end").endswith((b"\x1b[2K", b"\x1b[?25h")), "the line is cleared"


def test_in_a_pipe_there_is_no_sign():
    """Not a byte."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(seconds=2)], capture_output=True, check=True, timeout=30
    )
    assert (done.stdout, done.stderr) == (b"done\n", b"")

"""The log: one line an event, whatever strangers say."""

from __future__ import annotations

import logging
import subprocess
import sys


def test_what_a_stranger_says_cannot_steer_a_terminal_or_forge_a_line():
    """Escapes and line ends come out as question marks; letters of any script stay."""
    said = "503 \x1b[2J\n2026 ERROR all is lost\x07"
    program = f"""
import logging
from proxy import log
log.set_up("info", "keeper")
logging.getLogger("stapleproxy.x").info("%s said %s", "caf\xe9", {said!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, timeout=20, encoding="utf-8"
    )
    (line,) = done.stderr.splitlines()
    assert line.endswith("café said 503 ?[2J?2026 ERROR all is lost?")
    assert logging.getLevelName(logging.INFO) in line

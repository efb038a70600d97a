"""Runs a command that cannot watch its starter by itself, and ends it when standard input ends: the starter died.

``python -m proxy.lab.leash COMMAND …``. SIGTERM and SIGINT to it end the command too; it ends with the command's
status.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

GRACE_S = 10.0
"""After SIGTERM the command has so long before it is killed."""


def main() -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # before the command starts, so that no signal leaves it behind
        signal.signal(number, lambda *_: stop.set())
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)

    def after(wait: Callable[[], object]) -> None:
        wait()
        stop.set()

    for wait in (_read_to_the_end, child.wait):
        threading.Thread(target=after, args=(wait,), daemon=True).start()
    stop.wait()
    child.terminate()  # does nothing to a child that ended
    try:
        status = child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        status = child.wait()
    return status if status >= 0 else 128 - status  # as a shell says it


def _read_to_the_end() -> None:
    while os.read(0, 4096):
        pass


if __name__ == "__main__":
    sys.exit(main())

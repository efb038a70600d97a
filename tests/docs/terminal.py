"""A shell for the commands of one page, in a folder of its own, with other ports than the page's."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from docs.pages import Step, pattern
from integration.conftest import free_port

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
"""On a machine that does other things too, a server may take some seconds to start."""
_PORT = re.compile(r"(?<![\d.])(?:8\d{3}|9180)(?![\d.]*\d)")
"""What a page uses as a port: 8000 to 8999, and 9180."""
_MARK = "--- the command is over:"


class Terminal:
    """One bash; what it starts in the background is ended with it."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._ports: dict[str, str] = {}
        self._jobs: list[Path] = []
        scripts = Path(sys.executable).parent
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("STAPLEPROXY_", "PYTHON", "COV"))
        } | {
            "PATH": f"{programs}:{scripts}:{os.environ['PATH']}",
            # So that pip finds here all that is to be installed, but for stapleproxy and what builds it.
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry.endswith("site-packages")),
            "PYTHONUNBUFFERED": "1",
            # As on a terminal, which this is in place of.
            "STAPLEPROXY_LOG_FORMAT": "human",
            "COLUMNS": "120",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
        }
        self._said = folder.parent / f"{folder.name}.terminal"

    def __enter__(self) -> Self:
        self._output = self._said.open("wb")
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        # Not the shell first: who serves is asked to end, and only then killed.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._shell.pid, number)
            give_up_at = time.monotonic() + 10
            while self._is_alive() and time.monotonic() < give_up_at:
                self._shell.poll()
                time.sleep(0.02)
        self._shell.wait()
        assert self._shell.stdin is not None
        with suppress(BrokenPipeError):
            self._shell.stdin.close()
        self._output.close()

    def text(self, page_text: str) -> str:
        """Put this page's free ports in place of those that it names."""
        return _PORT.sub(lambda match: self._ports.setdefault(match[0], str(free_port())), page_text)

    def write(self, name: str, content: str) -> None:
        """Write a file of the page."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text(content))

    def run(self, step: Step, *, may_fail: bool = False) -> None:
        """Run a command and compare what it prints; of one that stays, wait until it has printed that."""
        wanted = pattern(self.text(step.output))
        if step.stays:
            self._start(step, wanted)
            return
        begin = self._said.stat().st_size
        self._send(f"{self.text(step.command)}\n__status=$?\nprintf '\\n{_MARK} %s\\n' $__status\n(exit $__status)\n")
        end = re.compile(rf"(.*?)\n{re.escape(_MARK)} (\d+)\n", re.DOTALL)
        found = self._wait(lambda: end.match(self._read(begin)), step, lambda: self._read(begin))
        assert re.fullmatch(wanted, _plain(found[1])), self._differs(step, found[1])
        assert found[2] == "0" or may_fail, f"line {step.line}: {step.command}: status {found[2]}\n{found[1]}"

    def _start(self, step: Step, wanted: str) -> None:
        assert step.output, f"line {step.line}: {step.command}: say what it prints when it is ready"
        said = self._folder.parent / f"{self._folder.name}.job{len(self._jobs)}"
        self._jobs.append(said)
        said.touch()
        command = self.text(step.command).removesuffix("&")
        # No job control here, so that all of them are of the shell's process group; standard input is nobody's.
        self._send(f"{command} > {said} 2>&1 < /dev/null &\n")
        ready = re.compile(wanted)
        self._wait(lambda: ready.match(_plain(said.read_text())), step, said.read_text)

    def _send(self, text: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(text.encode())
        self._shell.stdin.flush()

    def _read(self, begin: int) -> str:
        return self._said.read_bytes()[begin:].decode(errors="replace")

    def _wait(self, condition, step, said):
        give_up_at = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert self._shell.poll() is None, f"line {step.line}: {step.command}: the shell ended"
            assert time.monotonic() < give_up_at, self._differs(step, said())
            time.sleep(0.02)
        return found

    def _differs(self, step: Step, said: str) -> str:
        jobs = "".join(f"\n--- {path.name}:\n{path.read_text()}" for path in self._jobs)
        return (
            f"line {step.line}: $ {step.command}\n--- it printed:\n{_plain(said)}\n"
            f"--- the page says:\n{self.text(step.output)}{jobs}"
        )

    def _is_alive(self) -> bool:
        try:
            os.killpg(self._shell.pid, 0)
        except ProcessLookupError:
            return False
        return True


def _plain(said: str) -> str:
    """Give whole lines, as the page has them."""
    text = said.replace("\r\n", "\n")
    return text if not text or text.endswith("\n") else text + "\n"

"""The real proxy as a process, for tests: what it is given, what it says, and its end."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

READY_WITHIN_S = 20.0
END_WITHIN_S = 15.0
POLL_S = 0.02
WARNING = "WARNING(?!.*all rights of root)"
"""In a pattern for the log: any but the one that a test run by root always sees."""


def wait_until(condition, within_s: float = 20.0, what: str = "the condition"):
    """The first true answer of `condition`; fails after `within_s`."""
    give_up_at = time.monotonic() + within_s
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < give_up_at, f"{what} did not come true within {within_s:g} s"
        time.sleep(POLL_S)


def children_of(pid: int) -> list[int]:
    """The processes that `pid` has started and that still run."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_alive(pid: int) -> bool:
    """It exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass
class Front:
    """A running proxy."""

    process: subprocess.Popen
    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def port(self) -> int:
        return int(re.search(r"ready: .* on \S*?:(\d+)", self.log)[1])

    def wait_for_log(self, pattern: str, within_s: float = 10.0) -> re.Match:
        return wait_until(lambda: re.search(pattern, self.log), within_s, f"{pattern!r} in the log:\n{self.log}\n")

    def pids(self, role: str) -> list[int]:
        """Those that run, of ``keeper`` or ``worker``, by what they call themselves in /proc or the log."""
        alive = set(children_of(self.process.pid))
        return [int(pid) for pid in re.findall(rf"{role}\S*\[(\d+)\] started", self.log) if int(pid) in alive]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(END_WITHIN_S)


def toml(site: str, **settings) -> str:
    """A configuration of one listening address and what is given, as TOML text."""
    tables = {name: value for name, value in settings.items() if isinstance(value, dict)}
    lines = ['listen = ["127.0.0.1:0"]', "workers = 1"]
    lines += [f"{name} = {value!r}" for name, value in settings.items() if name not in tables]
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {_toml_value(value)}" for key, value in table.items()]
    # A later line of the same name is an error in TOML: what is given replaces the default.
    given = settings.keys() - tables.keys()
    return "\n".join([line for line in lines[:2] if line.partition(" = ")[0] not in given] + lines[2:]) + "\n" + site


def _toml_value(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if not isinstance(value, str) else f'"{value}"'


def site(upstream: str, *certificates: tuple[Path, Path], **settings) -> str:
    """One [[site]]."""
    lines = ["[[site]]", f'upstream = "{upstream}"']
    lines += [f"{name} = {_toml_value(value)}" for name, value in settings.items() if name != "stapling"]
    for chain, key in certificates:
        lines += ["[[site.certificate]]", f'chain = "{chain}"', f'key = "{key}"']
    if "stapling" in settings:
        lines.append("[site.stapling]")
        lines += [f"{key} = {_toml_value(value)}" for key, value in settings["stapling"].items()]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def run(folder: Path, configuration: str, *, until_ready: bool = True):
    """Run the proxy with this configuration; killed at the end, and no child of it may be left."""
    path = folder / "front.toml"
    path.write_text(configuration)
    with run_file(path, until_ready=until_ready) as front:
        yield front


@contextlib.contextmanager
def run_file(path: Path, *options: str, until_ready: bool = True):
    """Run the proxy with this file, likewise; its log is beside it."""
    log_path = path.parent / "front.log"
    with log_path.open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "proxy", "run", *options, str(path)], stderr=log, stdout=log)
    front = Front(process, log_path)
    try:
        if until_ready:
            wait_until(
                lambda: "ready:" in front.log or process.poll() is not None, READY_WITHIN_S, f"ready in {front.log}"
            )
            assert process.poll() is None, front.log
        yield front
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(END_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

"""What some work costs a process: CPU time, instructions, system calls, memory; by whichever counters there are.

Each counter is a function of the process and of the work that it does meanwhile, and gives totals. The work is done by
this process, the load generator; the counted one is a server's worker.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Work = Callable[[], object]
Totals = dict[str, float]
"""By quantity, such as "instructions, user"."""

ATTACH_WITHIN_S = 20.0
POLL_INTERVAL_S = 0.01

CPU = "CPU time, µs"
USER = "instructions, user"
KERNEL = "instructions, kernel"
SUM = "instructions, user + kernel"
CALLS = "system calls"

_PERF_EVENTS = {"instructions:u": USER, "instructions:k": KERNEL}


class CountingError(Exception):
    """A counter that is there did not count."""


@dataclass(frozen=True, slots=True)
class Counter:
    """`prefix` is what the server's command has to be started with, if anything."""

    method: str
    count: Callable[[int, Work], Totals]
    prefix: tuple[str, ...] = ()


def on_all(count: Callable[[int, Work], Totals], pids: Sequence[int], work: Work) -> Totals:
    """Count several processes during one piece of work, and sum up."""
    first, *others = pids
    totals: Totals = {}

    def rest() -> None:
        if others:
            totals.update(on_all(count, others, work))
        else:
            work()

    own = count(first, rest)
    return {quantity: value + totals.get(quantity, 0) for quantity, value in own.items()}


def cpu_time(pid: int, work: Work) -> Totals:
    """User and system time by the scheduler's own clock (clock_getcpuclockid(3)).

    It does not count in ticks, but of a process that is just running it is up to a tick old: nothing for thousands of
    operations, and up to all of it for a handful.
    """
    before = cpu_s(pid)
    work()
    return {CPU: (cpu_s(pid) - before) * 1e6}


def cpu_s(pid: int) -> float:
    """What all its threads have used so far."""
    return time.clock_gettime((~pid << 3) | 2)


def perf(pid: int, work: Work) -> Totals:
    """Instructions by the processor's counters. perf says over a pipe when it counts, so that nothing is missed."""
    control_read, control_write = os.pipe()
    ack_read, ack_write = os.pipe()
    command = ["perf", "stat", "-x", ",", "-e", ",".join(_PERF_EVENTS), "-p", str(pid), "-D", "-1"]
    try:
        process = subprocess.Popen(
            [*command, "--control", f"fd:{control_read},{ack_write}"],
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=(control_read, ack_write),
        )
        os.close(ack_write)  # so that a perf that dies ends the read
        ack_write = -1
        with process:
            try:
                os.write(control_write, b"enable\n")
                if not os.read(ack_read, 16).startswith(b"ack"):
                    raise CountingError(f"perf stat did not start to count: {process.communicate()[1]}")
                work()
                os.write(control_write, b"disable\n")
                os.read(ack_read, 16)
            finally:
                process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=ATTACH_WITHIN_S)[1]
    finally:
        for fd in (control_read, control_write, ack_read, ack_write):
            if fd >= 0:
                os.close(fd)
    totals = parse_perf(said)
    return totals | {SUM: sum(totals.values())}


def parse_perf(said: str) -> Totals:
    """Read ``perf stat -x ,``; CountingError where an event was not counted."""
    totals: Totals = {}
    for line in said.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[2] in _PERF_EVENTS:
            if not fields[0].isdigit():
                raise CountingError(f"perf stat: {fields[2]} is {fields[0]}")
            totals[_PERF_EVENTS[fields[2]]] = float(fields[0])
    if len(totals) < len(_PERF_EVENTS):
        raise CountingError(f"perf stat counted nothing: {said.strip()}")
    return totals


def callgrind(folder: Path, pid: int, work: Work) -> Totals:
    """User instructions of a process that runs under valgrind. It cannot see the kernel's.

    The dump of the work alone stays in `folder`, for ``callgrind_annotate``.
    """
    # Not --zero: a process that was forked from one that counted would begin with some millions of that one's.
    _callgrind_control("--dump", pid)
    work()
    _callgrind_control("--dump", pid)
    dump = last_dump(folder, pid)
    found = re.search(r"^totals: (\d+)", dump.read_text(), re.MULTILINE) if dump else None
    if found is None:
        raise CountingError(f"callgrind left no totals for process {pid} in {folder}")
    return {USER: float(found[1])}


def last_dump(folder: Path, pid: int) -> Path | None:
    dumps = folder.glob(f"callgrind.out.{pid}.*")
    return max(dumps, key=lambda path: int(path.suffix[1:]), default=None)


def _callgrind_control(what: str, pid: int) -> None:
    done = subprocess.run(["callgrind_control", what, str(pid)], capture_output=True, text=True, check=False)
    if done.returncode or "OK." not in done.stdout:
        raise CountingError(f"callgrind_control {what} {pid}: {done.stdout}{done.stderr}")


def system_calls(pid: int, work: Work) -> Totals:
    """System calls of all threads, by strace. Slow, so not in the rounds that take time."""
    with tempfile.NamedTemporaryFile(mode="r") as output:
        process = subprocess.Popen(["strace", "-q", "-c", "-f", "-U", "calls,name", "-o", output.name, "-p", str(pid)])
        with process:
            try:
                _wait_until_traced(pid, process)
                work()
            finally:
                process.send_signal(signal.SIGINT)
        found = re.search(r"^\s*(\d+)\s+total$", output.read(), re.MULTILINE)
    if found is None:
        raise CountingError("strace printed no total")
    return {CALLS: float(found[1])}


def _wait_until_traced(pid: int, tracer: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + ATTACH_WITHIN_S
    while f"TracerPid:\t{tracer.pid}\n" not in Path(f"/proc/{pid}/status").read_text():
        if tracer.poll() is not None or time.monotonic() > give_up_at:
            raise CountingError("strace cannot attach: it needs root or a ptrace_scope of 0")
        time.sleep(POLL_INTERVAL_S)


def proportional_kib(pid: int) -> int:
    """Memory of the process with its share of what it has in common with others (Pss), in KiB."""
    found = re.search(r"^Pss:\s+(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    if found is None:
        raise CountingError(f"/proc/{pid}/smaps_rollup has no Pss")
    return int(found[1])


def instruction_counter(folder: Path, *, by_perf: bool = True) -> Counter | None:
    """The best way to count instructions that works on this machine: tried, since installed is not enough.

    `folder` takes what callgrind writes; `by_perf` False: by callgrind in any case.
    """
    if by_perf and shutil.which("perf"):
        probe = subprocess.run(
            ["perf", "stat", "-x", ",", "-e", ",".join(_PERF_EVENTS), "true"],
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            parse_perf(probe.stderr)
        except CountingError:
            pass  # a virtual machine without counters, or perf_event_paranoid forbids the kernel's
        else:
            return Counter("perf stat", perf)
    if shutil.which("valgrind") and shutil.which("callgrind_control"):
        # --trace-children: without it a forked worker cannot be spoken to.
        output = f"--callgrind-out-file={folder}/callgrind.out.%p"
        return Counter(
            "callgrind",
            partial(callgrind, folder),
            ("valgrind", "--tool=callgrind", "--quiet", "--trace-children=yes", output),
        )
    return None


def call_counter() -> Counter | None:
    return Counter("strace", system_calls) if shutil.which("strace") else None

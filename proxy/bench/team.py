"""The processes of the load, from the parent's side: starts them, tells them rounds, adds up what they counted."""

from __future__ import annotations

import multiprocessing
import signal
import time
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from proxy.bench.context import BenchError
from proxy.bench.process import STOP, Order, Progress, serve
from proxy.bench.tally import SECOND_NS, Tally, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.process import BaseProcess

    from proxy.bench.plan import Phase, Work

_READY_WITHIN_S = 60.0
_START_IN_S = 0.05
"""From the order to the first client: by then every process has read it."""
_END_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.25
"""Whether Ctrl-C was pressed: a signal handler cannot end a wait by itself."""


class Team:
    """Processes that wait for rounds."""

    def __init__(self, members: list[tuple[BaseProcess, Connection]]) -> None:
        self._members = members
        self.is_stopped = False
        """Ctrl-C has ended a round early; what it counted is true all the same."""

    def stop(self) -> None:
        """End the round, and tell what there is."""
        self.is_stopped = True

    def run(self, phase: Phase, tell: Callable[[int, int], None]) -> Tally:
        """Run one round; `tell` hears now and then how many handshakes were made and how many clients failed."""
        start_ns = time.monotonic_ns() + int(_START_IN_S * SECOND_NS)
        count = len(self._members)
        for index, (_, pipe) in enumerate(self._members):
            pipe.send(Order(phase, phase.part(index, count), start_ns))
        latest = {pipe: Progress() for _, pipe in self._members}
        tallies: list[Tally] = []
        open_pipes = set(latest)
        was_told = False
        while open_pipes:
            if self.is_stopped and not was_told:
                was_told = True
                for pipe in open_pipes:
                    pipe.send(STOP)
            ready = wait(open_pipes, _LOOK_EVERY_S)
            for pipe in [pipe for pipe in latest if pipe in ready]:
                said = _receive(pipe)
                if isinstance(said, Tally):
                    tallies.append(said)
                    open_pipes.remove(pipe)
                    latest[pipe] = Progress(said.handshakes, said.failed)
                else:
                    latest[pipe] = said
            tell(sum(each.handshakes for each in latest.values()), sum(each.failed for each in latest.values()))
        return merged(tallies)


@contextmanager
def running_team(work: Work, count: int) -> Iterator[Team]:
    """So many processes, ready; ended when the context is."""
    # Not forked: whoever calls may have threads, and OpenSSL's state of the parent is none of theirs.
    context = multiprocessing.get_context("spawn")
    members: list[tuple[BaseProcess, Connection]] = []
    try:
        for number in range(count):
            here, there = context.Pipe()
            process: BaseProcess = context.Process(
                target=serve, args=(work, there), name=f"bench-{number}", daemon=True
            )
            with _on_ctrl_c(None):  # children ignore it from their first instruction: the parent ends them
                process.start()
            there.close()
            members.append((process, here))
        for _, pipe in members:
            if not pipe.poll(_READY_WITHIN_S):
                raise BenchError(f"a process of the load was not ready within {_READY_WITHIN_S:g} s")
            _receive(pipe)
        team = Team(members)
        with _on_ctrl_c(team.stop):
            yield team
    finally:
        for _, pipe in members:
            pipe.close()  # which ends each of them, whatever it is at
        end_s = time.monotonic() + _END_WITHIN_S
        for member, _ in members:
            member.join(max(end_s - time.monotonic(), 0.0))
            member.kill()
            member.join()


@contextmanager
def _on_ctrl_c(call: Callable[[], None] | None) -> Iterator[None]:
    """Call this the first time, and let the second time end everything; None: it does nothing."""

    def handle(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if call is not None:
            call()

    before = signal.signal(signal.SIGINT, signal.SIG_IGN if call is None else handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _receive(pipe: Connection) -> Progress | Tally:
    try:
        said = pipe.recv()
    except (EOFError, ConnectionResetError) as error:
        raise BenchError(
            "a process of the load has ended by itself: its last words stand above, if it had any"
        ) from error
    if isinstance(said, str):
        raise BenchError(said)
    assert isinstance(said, Progress | Tally)
    return said

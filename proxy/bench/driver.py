"""One round in one process: begins each client when it is due, and ends when the last one is over."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from proxy.bench.alarm import Alarm
from proxy.bench.arrivals import Arrivals, is_in_share
from proxy.bench.attempt import Attempt
from proxy.bench.outcomes import Failure
from proxy.bench.plan import MAX_OPEN
from proxy.bench.tally import SECOND_NS, Tally

if TYPE_CHECKING:
    from proxy.bench.crowd import Crowd
    from proxy.bench.plan import Part, Phase

_SWEEP_S = 0.05
_AT_ONCE = 16
"""Clients that begin before those that are open get their turn: each costs as much as a handshake does."""
_PAUSE_AFTER_FAILURE_S = 0.01
"""A server that refuses at once would otherwise be asked without a pause, and the refusals fill the report."""


class Round:
    """Runs a phase's part; `max_open` bounds the connections of an open loop."""

    def __init__(self, crowd: Crowd, phase: Phase, part: Part, start_ns: int, *, max_open: int = MAX_OPEN) -> None:
        self._crowd = crowd
        self._phase = phase
        self._part = part
        self._start_ns = start_ns
        self._max_open = max_open
        self._counted_ns = start_ns + int(phase.uncounted_s * SECOND_NS)
        self._end_ns = None if phase.length_s is None else start_ns + int(phase.length_s * SECOND_NS)
        self._arrivals = Arrivals(phase.rate, phase.ramp_s)
        self._number = part.index  # of the next client
        self._begun = 0  # of those that are counted
        self._slots = 0  # of a closed loop, that will come back
        self._is_stopped = False
        self._alarm: Alarm | None = None
        self._over = asyncio.get_running_loop().create_future()
        crowd.tally = self.tally = Tally(begin_ns=self._counted_ns, end_ns=self._counted_ns)
        crowd.asks_staple = phase.asks_staple
        crowd.on_over = self._on_over

    async def run(self) -> Tally:
        """Give what was counted, when the last client is over."""
        loop = asyncio.get_running_loop()
        verified_before = self._crowd.judge.verified
        sweeping = loop.create_task(self._sweep())
        try:
            if self._phase.rate:
                self._alarm = Alarm(loop, self._launch)
                self._alarm.set(self._start_ns)
            else:
                self._open_slots()
            await self._over
        finally:
            sweeping.cancel()
            if self._alarm is not None:
                self._alarm.close()
        if self._phase.rate and self._end_ns is not None and not self._is_stopped:
            # Nobody was due in its last moment: that is a part of the schedule.
            self.tally.end_ns = max(self.tally.end_ns, self._end_ns)
        if self._crowd.samples is not None:
            self._crowd.samples.flush()
        self.tally.verified = self._crowd.judge.verified - verified_before
        return self.tally

    def stop(self) -> None:
        """Begin no more clients; those that are open are waited for."""
        self._is_stopped = True
        self._end_if_over()

    def abort(self, error: BaseException) -> None:
        """End it with an error, whoever is open."""
        if not self._over.done():
            self._over.set_exception(error)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            self._crowd.sweep(time.monotonic_ns())

    # An open loop.

    def _due_ns(self) -> int:
        return self._start_ns + int(self._arrivals.due_s(self._number) * SECOND_NS)

    def _launch(self) -> None:
        """Begin who is due, and set the alarm for the next."""
        part, crowd = self._part, self._crowd
        begun = 0
        while self._number < part.end and not self._is_stopped:
            due_ns = self._due_ns()
            now = time.monotonic_ns()
            if due_ns > now or begun == _AT_ONCE:
                assert self._alarm is not None
                self._alarm.set(due_ns)
                return
            if len(crowd.open) >= self._max_open:
                if not self._is_hopeless(now):
                    return  # the next one that is over calls again
                self._give_up(now)
                break
            self._begin(due_ns, is_counted=self._number >= part.first_counted)
            begun += 1
        self._end_if_over()

    def _is_hopeless(self, now: int) -> bool:
        """Tell whether everybody was due long ago: who has not begun by now is not waited for any longer."""
        timeouts = self._crowd.work.timeouts
        last_ns = self._start_ns + int(self._arrivals.due_s(self._part.end) * SECOND_NS)
        return now > last_ns + int((timeouts.connect_s + timeouts.handshake_s + timeouts.answer_s) * SECOND_NS)

    def _give_up(self, now: int) -> None:
        for number in range(self._number, self._part.end, self._part.parts):
            if number >= self._part.first_counted:
                self.tally.fail(Failure.NEVER_BEGUN, "", now)
        self._number = self._part.end

    # A closed loop.

    def _open_slots(self) -> None:
        loop, count = asyncio.get_running_loop(), self._part.concurrency
        self._slots = count
        wait_s = max(self._start_ns - time.monotonic_ns(), 0) / SECOND_NS
        for index in range(count):
            loop.call_later(wait_s + self._phase.ramp_s * index / count, self._next_in_slot)
        if not count:
            self._over.set_result(None)

    def _next_in_slot(self) -> None:
        now = time.monotonic_ns()
        # A loop's timers may ring a little early, which is no warm-up.
        is_counted = not self._phase.uncounted_s or now >= self._counted_ns
        if self._is_enough(now, is_counted=is_counted):
            self._slots -= 1
            self._end_if_over()
        else:
            self._begin(now, is_counted=is_counted)

    def _is_enough(self, now: int, *, is_counted: bool) -> bool:
        if self._is_stopped or (self._end_ns is not None and now >= self._end_ns):
            return True
        wanted = self._part.handshakes
        return is_counted and wanted is not None and self._begun >= wanted

    # Both.

    def _begin(self, due_ns: int, *, is_counted: bool) -> None:
        number, work = self._number, self._crowd.work
        self._number += self._part.parts
        self._begun += is_counted
        Attempt(
            self._crowd,
            work.names.pick(number),
            due_ns,
            is_counted=is_counted,
            resumes=is_in_share(number // self._part.parts, work.resume),
        )

    def _on_over(self, attempt: Attempt) -> None:
        if self._phase.rate:
            if len(self._crowd.open) == self._max_open - 1:
                self._launch()  # somebody may be waiting for room
            else:
                self._end_if_over()
        elif attempt.failure:
            self._crowd.loop.call_later(_PAUSE_AFTER_FAILURE_S, self._next_in_slot)
        else:
            self._next_in_slot()

    def _end_if_over(self) -> None:
        if self._crowd.open or self._over.done():
            return
        if self._phase.rate:
            is_over = self._is_stopped or self._number >= self._part.end
        else:
            is_over = not self._slots
        if is_over:
            self._over.set_result(None)

"""Runs the operator's command at each event: no shell, the facts in its environment and as JSON on its input.

What runs, and what waits to run, is bounded: a command that hangs delays no staple, it loses events.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn

from proxy.keeper.reporter import Observer
from proxy.log import about

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping, Sequence

    from proxy.keeper.events import Event

AT_ONCE = 4
MAX_WAITING = 1_000
GRACE_S = 1.0
"""Between SIGTERM and SIGKILL."""
_INHERITED = ("PATH", "LANG", "HOME", "TZ")
_MAX_VALUE_CHARACTERS = 30_000
"""A certificate may have a thousand names, and Linux takes 128 KiB in one variable. The JSON has all of them."""
_MAX_ERROR_BYTES = 4_096
_MAX_TOLD_CHARACTERS = 500


class Commands(Observer):
    """Hears events, and runs the command for each of them while `run` does."""

    def __init__(
        self,
        command: Sequence[str],
        timeout_s: float,
        log: logging.Logger,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._command = tuple(command)
        self._timeout_s = timeout_s
        self._log = log
        self._inherited = {name: environment[name] for name in _INHERITED if name in environment}
        self._waiting: asyncio.Queue[Event] = asyncio.Queue(MAX_WAITING)
        self._lost = 0

    def happened(self, event: Event) -> None:
        """Queue the event; when too many wait, it is lost."""
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            if not self._lost:
                self._log.warning("on_event: %d events wait for the command: further ones are lost", MAX_WAITING)
            self._lost += 1

    async def run(self) -> NoReturn:
        """Tell events for ever; cancel to stop, which ends what runs."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())
        raise AssertionError("unreachable")

    async def _work(self) -> NoReturn:
        while True:
            event = await self._waiting.get()
            if self._waiting.empty() and self._lost:
                self._log.warning("on_event: %d events were lost", self._lost)
                self._lost = 0
            try:
                trouble = await self._tell(event)
            except Exception:  # noqa: BLE001  the edge of a task: a mistake of ours must not end the telling
                self._log.exception("on_event: telling %s of %s broke", event.kind, event.certificate)
                continue
            if trouble:
                extra = about(certificate=event.certificate)
                what = "on_event: %s of %s: %s %s"
                self._log.warning(what, event.kind, event.certificate, self._command[0], trouble, extra=extra)

    async def _tell(self, event: Event) -> str:
        """Run the command once; what went wrong, empty: nothing did."""
        starting = asyncio.ensure_future(
            asyncio.get_running_loop().subprocess_exec(
                _Process,
                *self._command,
                stdout=asyncio.subprocess.DEVNULL,
                env={**self._inherited, **{name: value.encode() for name, value in variables(event).items()}},
                start_new_session=True,  # a group of its own: its children end with it
            )
        )
        try:
            transport, process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # asyncio would kill the command alone, and not its children, which it may have by now.
            with contextlib.suppress(OSError, ValueError):
                transport, process = await starting
                await _end(transport, process)
                transport.close()
            raise
        except (OSError, ValueError) as error:
            return f"cannot be run: {error}"
        try:
            async with asyncio.timeout(self._timeout_s):
                _feed(transport, document(event))
                await process.is_over.wait()
        except TimeoutError:
            return f"was ended: it had not left, or a child had its error output, after {self._timeout_s:g} s"
        finally:
            if not process.is_over.is_set():  # also when `run` is cancelled
                await _end(transport, process)
            transport.close()
        status = transport.get_returncode()
        if not status:
            return ""
        how = f"exited with status {status}" if status > 0 else f"was ended by signal {-status}"
        said = process.last_line()
        return f"{how}: {said}" if said else how


class _Process(asyncio.SubprocessProtocol):
    """Waits for the end of a process, and keeps the end of what it says."""

    def __init__(self) -> None:
        self.has_left = asyncio.Event()
        self.is_over = asyncio.Event()
        """It has left, and nobody has its error output any more."""
        self._said = b""

    def pipe_data_received(self, _fd: int, data: bytes) -> None:
        self._said = (self._said + data)[-_MAX_ERROR_BYTES:]

    def process_exited(self) -> None:
        self.has_left.set()

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_over.set()

    def last_line(self) -> str:
        lines = self._said.decode(errors="replace").split("\n")
        return next((plain(line) for line in reversed(lines) if line.strip()), "").strip()[-_MAX_TOLD_CHARACTERS:]


def _feed(transport: asyncio.SubprocessTransport, content: bytes) -> None:
    pipe = transport.get_pipe_transport(0)
    assert isinstance(pipe, asyncio.WriteTransport)  # it was asked for
    pipe.write(content)  # a command that does not read it, or has left, is no error
    pipe.close()  # after what is unsent


async def _end(transport: asyncio.SubprocessTransport, process: _Process) -> None:
    """End the group, the politest first."""
    try:
        _signal_group(transport, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await process.is_over.wait()
    finally:
        # Whether or not the command itself is gone by now: a child of it may have stayed.
        _signal_group(transport, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):  # the kernel may be at work for it, on a disk that is gone, say
            async with asyncio.timeout(GRACE_S):
                await process.has_left.wait()


def _signal_group(transport: asyncio.SubprocessTransport, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # all are gone, or became another user's
        os.killpg(transport.get_pid(), number)


def variables(event: Event) -> dict[str, str]:
    """Tell an event in environment variables: times in UTC by RFC 3339, several values apart by spaces."""
    facts = {
        "EVENT": event.kind,
        "CERTIFICATE": event.certificate,
        "NAMES": " ".join(event.names),
        "SERIAL": event.serial,
        "REASONS": " ".join(event.reasons),
        "DETAIL": event.detail,
        "RESPONDER": event.responder,
        "THIS_UPDATE": _clock(event.this_update),
        "NEXT_UPDATE": _clock(event.next_update),
        "SERVE_UNTIL": _clock(event.serve_until),
    }
    return {f"STAPLEPROXY_{name}": plain(value)[:_MAX_VALUE_CHARACTERS] for name, value in facts.items()}


def document(event: Event) -> bytes:
    """Tell an event as one JSON object, with the names of its fields; null is what is not known."""
    fields = asdict(event)
    fields = {name: _clock(value) if isinstance(value, datetime) else value for name, value in fields.items()}
    return json.dumps({"event": fields.pop("kind"), **fields}).encode() + b"\n"


def plain(text: str) -> str:
    """Leave out what could steer a terminal or end a variable: responders and certificates say what they like."""
    return "".join(character for character in text if character.isprintable())


def _clock(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment else ""

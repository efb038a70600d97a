"""Staple files at run time: what the operator puts there is stapled within a second, if it verifies.

A file is looked at by its date, length and inode, and read when one of them differs. A file that goes, or gets worse,
takes nothing back: what is held stays until its end.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from typing import TYPE_CHECKING, NoReturn

from proxy.errors import Reason, StapleRejected
from proxy.keeper.events import EventKind, event_of
from proxy.keeper.watched import Trouble
from proxy.log import about
from proxy.staplefile import Mark, read_marked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from proxy.keeper.refresher import Refresher
    from proxy.keeper.reporter import Observer
    from proxy.keeper.watched import Watched

LOOK_EVERY_S = 1.0
MAX_PER_LOOK = 5_000
"""About 25 ms of work a second; of more files each is looked at in its turn."""
_READ_AT_ONCE = 64
"""Files in a row, each to be verified perhaps, before anything else gets its turn."""

_LOG = logging.getLogger("stapleproxy.keeper")


@dataclass(slots=True)
class _File:
    watched: Watched
    path: Path
    seen: Mark | None = None
    """The state that was read last; None: none was."""
    trouble: str = ""
    """Why it cannot be read, as it was told last."""


class StapleFiles:
    """Offers what is in the files: once by `look`, before responders are asked, then by `watch` what changes."""

    def __init__(
        self,
        refresher: Refresher,
        limit_bytes: int,
        observer: Observer,
        *,
        log: logging.Logger = _LOG,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._refresher = refresher
        self._limit_bytes = limit_bytes
        self._observer = observer
        self._log = log
        self._now = now
        self._files = [
            _File(watched, path) for watched in refresher.watched() if (path := watched.identity.staple_file)
        ]
        self._turns = cycle(self._files)

    async def look(self) -> None:
        """Look at every file, and offer what is new in it; for `Refresher.warm_up`."""
        await self._look_at(self._files)

    async def watch(self) -> NoReturn:
        """Look again and again, also whether a staple nears its end: maybe nobody is asked for it. Cancel to stop."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._look_at(islice(self._turns, min(len(self._files), MAX_PER_LOOK)))

    async def _look_at(self, files: Iterable[_File]) -> None:
        for number, file in enumerate(files, 1):
            try:
                self._look_into(file)
                self._refresher.look_at_end(file.watched)
            except Exception:  # noqa: BLE001  the edge of a task: a mistake of ours must not end the watching
                self._log.exception("%s: looking at it broke", file.path)
            if not number % _READ_AT_ONCE:
                await asyncio.sleep(0)

    def _look_into(self, file: _File) -> None:
        if file.watched.issuer is None:  # not fetched yet: without it nothing can be proved
            return
        try:
            if Mark.of(os.stat(file.path)) == file.seen:  # noqa: PTH116  half the time of Path.stat
                return
            is_first = file.seen is None
            der, file.seen = read_marked(file.path, self._limit_bytes)
        except OSError as error:
            self._unreadable(file, error.strerror or str(error))
            return
        file.trouble = ""
        try:
            self._refresher.offer(file.watched, der, f"the file {file.path}")
        except StapleRejected as refusal:
            self._refused(file, refusal, is_first=is_first)

    def _unreadable(self, file: _File, why: str) -> None:
        file.seen = None
        if why != file.trouble:
            file.trouble = why
            what = "%s: the staple file %s cannot be read: %s; %s"
            label = file.watched.identity.label
            self._log.warning(what, label, file.path, why, self._lasting(file.watched), extra=about(certificate=label))

    def _refused(self, file: _File, refusal: StapleRejected, *, is_first: bool) -> None:
        label = file.watched.identity.label
        if is_first and refusal.reason is Reason.OLDER_THAN_HELD:
            # As after each restart, when a responder has given a newer one before.
            self._log.info("%s: the cache has a newer response than the staple file %s", label, file.path)
            return
        what = "%s: the staple file %s is not stapled: %s; %s"
        extra = about(certificate=label, reasons=[refusal.reason])
        self._log.warning(what, label, file.path, refusal, self._lasting(file.watched), extra=extra)
        trouble = Trouble(str(file.path), refusal.reason, refusal.detail)
        self._observer.happened(event_of(EventKind.REFUSED, file.watched, self._now(), [trouble]))

    def _lasting(self, watched: Watched) -> str:
        held = watched.held(self._now())
        return f"the one held lasts until {held.serve_until:%Y-%m-%d %H:%M:%SZ}" if held else "none is held"

"""Fetches while handshakes wait, as Apache's mod_ssl does: one at a time, for all certificates and workers.

Nothing is fetched ahead. Who waits is served in the order of asking, and what an earlier one's fetch has brought is
looked up again before anybody is asked, by the settings of the site that wants it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from proxy.httpd import tell
from proxy.inline import Answerer, Question
from proxy.keeper.httpd_fetch import HttpdFetcher, NoAnswerError, Way
from proxy.ocsp.httpd import MAX_STORED_BYTES, Decision, Outcome, end_notes
from proxy.ocsp.httpd_request import UnusableUriError, ocsp_request, target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from proxy.cache.reader import CacheReader
    from proxy.cache.writer import CacheWriter
    from proxy.httpd import Table
    from proxy.identity import CacheKey
    from proxy.inline import Inline
    from proxy.keeper.reporter import Observer
    from proxy.ocsp.httpd import Stored
    from proxy.ocsp.httpd_check import Response
    from proxy.ocsp.httpd_notes import Note

_log = logging.getLogger("stapleproxy.httpd")


class HttpdRefresher:
    """Answers the workers of all `inlines`, each by its own table. `clock` gives the wall clock's seconds."""

    def __init__(
        self,
        inlines: Sequence[Inline],
        reader: CacheReader,
        writer: CacheWriter,
        observer: Observer,
        clock: Callable[[], float] = time.time,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._reader = reader
        self._writer = writer
        self._observer = observer
        self._clock = clock
        self._name = ""
        """What the site is called in the log whose client is being answered."""
        self._fetcher = HttpdFetcher(lambda note: self._tell([note]))
        # Bounded: a worker has no more than inline.MAX_WAITING questions open.
        self._queue: asyncio.Queue[tuple[Table, Answerer, Question]] = asyncio.Queue()
        self._answerers = [
            Answerer(wire, loop, partial(self._ask, inline.table)) for inline in inlines for wire in inline.wires
        ]

    async def run(self) -> NoReturn:
        """Answer for ever; cancel to stop."""
        while True:
            table, answerer, question = await self._queue.get()
            try:
                decision = await self._decide(table, question)
            except Exception:  # noqa: BLE001  it would be asked again of each keeper to come, and end all of them
                _log.exception("nothing is stapled for a client: this is a bug in stapleproxy")
                decision = Decision(Outcome.NONE, b"")
            answerer.answer(question, decision.outcome, decision.staple)

    def _ask(self, table: Table, answerer: Answerer, question: Question) -> None:
        self._queue.put_nowait((table, answerer, question))

    async def _decide(self, table: Table, question: Question) -> Decision:
        key = question.key
        self._name = table.name(question.site)
        certificate, rules = table.certificates[key], table.rules[question.site]
        now_s = self._clock()
        held = rules.judge(self._reader.get(key, now_s), certificate.cert_id, now_s)
        self._tell(held.notes)
        if held.outcome is not Outcome.FETCH:
            self._tell([(3237,), (1956,)] if held.outcome is Outcome.STAPLE else [])
            return held
        self._tell([(3238,), (1938,)])
        try:
            response = await self._fetch(table, question)
        except UnusableUriError as error:
            self._tell([error.note, *end_notes(Outcome.FATAL)])
            return Decision(Outcome.FATAL, b"")
        now_s = self._clock()
        decision, stored = rules.after_fetch(response, certificate.cert_id, now_s)
        self._tell(decision.notes)
        if stored:
            self._store(key, stored, now_s)
        self._tell(end_notes(decision.outcome))
        return decision

    def _tell(self, notes: Iterable[Note]) -> None:
        tell(notes, self._name)

    async def _fetch(self, table: Table, question: Question) -> Response | None:
        key = question.key
        settings = table.rules[question.site].settings
        to = target(table.uri(key, question.site))
        request = ocsp_request(table.certificates[key].cert_id, question.extensions)
        began_s, outcome = time.monotonic(), "no-answer"
        try:
            response = await self._fetcher.fetch(to, request, Way(settings.responder_timeout_s, settings.http_proxy))
            outcome = "fetched"
        except NoAnswerError:
            response = None
        self._observer.asked(f"{to.host}:{to.port}", outcome, time.monotonic() - began_s)
        return response

    def _store(self, key: CacheKey, stored: Stored, now_s: float) -> None:
        if len(stored.value) > MAX_STORED_BYTES:
            self._tell([(1928, len(stored.value) - 1), (1945,)])
            return
        try:
            self._writer.put(key, stored.value, now_s + stored.lasts_s, now_s)
        except ValueError as error:
            self._tell([(1929, error), (1945,)])

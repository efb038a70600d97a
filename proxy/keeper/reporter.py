"""What happens to staples, said in the log and to who observes: one event, one line."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from proxy.errors import Reason
from proxy.keeper.events import Event, EventKind, event_of
from proxy.log import about
from proxy.ocsp.response import CertStatus

if TYPE_CHECKING:
    from datetime import datetime

    from proxy.identity import CacheKey
    from proxy.keeper.watched import Watched
    from proxy.ocsp.response import Staple


class Observer:
    """Hears what happens; this one does nothing with it."""

    def asked(self, responder: str, outcome: str, elapsed_s: float) -> None:
        """One exchange with HOST:PORT is over: ``fetched``, ``not-modified``, or the code of what went wrong."""

    def happened(self, event: Event) -> None:
        """A staple came, was refused, is about to end, or ended."""


class Observers(Observer):
    """Tells several."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def asked(self, responder: str, outcome: str, elapsed_s: float) -> None:
        for each in self._observers:
            each.asked(responder, outcome, elapsed_s)

    def happened(self, event: Event) -> None:
        for each in self._observers:
            each.happened(event)


class Reporter:
    """Writes the lines, makes the events."""

    def __init__(self, log: logging.Logger, observer: Observer) -> None:
        self._log = log
        self._observer = observer
        self._failing: set[CacheKey] = set()
        """Those of which `refused` was told last: that it is over is news, whatever the response."""

    def taken_over(self, watched: Watched, staple: Staple) -> None:
        label = watched.identity.label
        extra = about(certificate=label, is_over=True)
        self._log.info("%s: stapled until %s, from the cache", label, _text(staple.serve_until), extra=extra)

    def accepted(
        self,
        watched: Watched,
        before: Staple | None,
        staple: Staple,
        url: str,
        now: datetime,
        due: datetime | None,
        source: str = "",
    ) -> None:
        """Tell of a response that is kept; quietly where it is the one held before, and nothing had gone wrong.

        `url` empty: the operator gave it, by `source`.
        """
        is_new = before is None or before.der != staple.der
        is_well_again = watched.identity.cache_key in self._failing
        self._failing.discard(watched.identity.cache_key)
        is_revoked = staple.status is CertStatus.REVOKED  # and stapled by the operator's wish, who is to hear of it
        if watched.newest is staple or not is_new:  # else the cache did not take it, and said so
            self._log.log(
                logging.INFO if is_new or is_well_again else logging.DEBUG,
                "%s: %sstapled until %s, from %s%s",
                *(
                    watched.identity.label,
                    "revoked, and so " * is_revoked,
                    _text(staple.serve_until),
                    url or source,
                ),
                f"; next refresh at {_text(due)}" if due else "",
                extra=about(
                    certificate=watched.identity.label,
                    responder=url,
                    reasons=[Reason.REVOKED] if is_revoked else (),
                    is_over=True,
                ),
            )
        if is_new and watched.newest is staple:
            self._observer.happened(
                event_of(EventKind.REVOKED if is_revoked else EventKind.FETCHED, watched, now, responder=url)
            )
        if not is_new:  # a responder may say the same until it is over: nobody refuses anything, and yet it ends
            self.note_end(watched, now)

    def refused(self, watched: Watched, now: datetime, pause_s: float) -> None:
        """Tell that no responder helped, why, and what clients get meanwhile."""
        self._failing.add(watched.identity.cache_key)
        held = watched.held(now)
        lasting = f"the one held lasts until {_text(held.serve_until)}" if held else "none is held"
        troubles = "; ".join(map(str, watched.troubles))
        label = watched.identity.label
        what = "%s: no new staple, %s; trying again in %.0f s; %s"
        reasons = [trouble.reason for trouble in watched.troubles]
        asked = watched.troubles[0].url if len(watched.troubles) == 1 else ""
        extra = about(certificate=label, responder=asked, reasons=reasons)
        self._log.warning(what, label, lasting, pause_s, troubles, extra=extra)
        is_revoked = any(trouble.reason == Reason.REVOKED for trouble in watched.troubles)
        kind = EventKind.REVOKED if is_revoked else EventKind.REFUSED
        self._observer.happened(event_of(kind, watched, now, watched.troubles))
        self.note_end(watched, now)

    def note_end(self, watched: Watched, now: datetime) -> None:
        """Tell once of each staple that it is about to expire, and once that it has."""
        stage = watched.newly_over(now)
        if not stage:
            return
        watched.told = stage
        newest = watched.newest
        assert newest is not None  # or nothing could be over
        what = "expired, and clients get none" if stage == "expired" else "is about to expire"
        label = watched.identity.label
        extra = about(certificate=label, reasons=[stage])
        self._log.warning("%s: the staple of %s %s", label, _text(newest.this_update), what, extra=extra)
        self._observer.happened(event_of(EventKind(stage), watched, now, watched.troubles))


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%SZ}"

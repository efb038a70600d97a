"""What happens to staples, as facts for whoever wants to hear of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from proxy.keeper.watched import Trouble, Watched


class EventKind(StrEnum):
    """The words of `stapling.on_event`."""

    FETCHED = "fetched"
    REFUSED = "refused"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to the staple of one certificate."""

    kind: EventKind
    at: datetime
    certificate: str
    """Its label: file and kind of key."""
    names: tuple[str, ...]
    serial: str
    reasons: tuple[str, ...] = ()
    """The codes of what went wrong, responder by responder; empty: nothing did."""
    detail: str = ""
    """The same for people."""
    responder: str = ""
    """URL of the responder, where one response is meant."""
    this_update: datetime | None = None
    next_update: datetime | None = None
    serve_until: datetime | None = None
    """Until when what is held now is stapled; None: nothing is held."""


def event_of(
    kind: EventKind, watched: Watched, now: datetime, troubles: Sequence[Trouble] = (), responder: str = ""
) -> Event:
    """Say what happened with all that is known of the certificate now."""
    newest, held = watched.newest, watched.held(now)
    return Event(
        kind=kind,
        at=now,
        certificate=watched.identity.label,
        names=watched.certificate.names,
        serial=f"{watched.identity.leaf.serial_number:x}",
        reasons=tuple(trouble.reason for trouble in troubles),
        detail="; ".join(map(str, troubles)),
        responder=responder,
        this_update=newest.this_update if newest else None,
        next_update=newest.next_update if newest else None,
        serve_until=held.serve_until if held else None,
    )

"""What the refresher asks of a fleet; without one there is none, and nothing of it costs anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from proxy.keeper.fleet.decide import Found, Turn
    from proxy.keeper.watched import Watched
    from proxy.ocsp.response import Staple


class Sharing(Protocol):
    """One fetch for all machines."""

    @property
    def name(self) -> str:
        """Of the server, for people."""

    async def look(self, watched: Watched, *, insists: bool) -> Turn:
        """Look what the others have and do; `insists`: though one has just asked in vain, or got the same again."""

    async def begin(self, watched: Watched, *, insists: bool) -> Turn:
        """Look again, and take the lock if nobody has it."""

    async def store(self, watched: Watched, staple: Staple, max_age_s: float | None) -> None:
        """Give the others what a responder has given just now, and release the lock."""

    async def give_up(self, watched: Watched, pause_s: float) -> None:
        """Say that nothing came, and that it is tried again after `pause_s`; release the lock."""

    def taken(self, watched: Watched, found: Found, staple: Staple) -> None:
        """Say that what was found is proved, and held now."""

    def refused(self, watched: Watched, found: Found, reason: str, detail: str) -> None:
        """Say that it was not, and is to count as absent."""


class Taking(Protocol):
    """What a fleet asks of the refresher."""

    def announced(self, watched: Watched, found: Found) -> None:
        """Take what another machine has fetched, whether it is due here or not."""

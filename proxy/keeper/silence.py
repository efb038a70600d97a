"""Which responders gave no answer in time: who has another one asks that one first, for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.sites import responder_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.keeper.watched import Watched

SILENT_S = 60.0


class Silence:
    """One writer: the refresher. `clock` gives the wall clock's seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until_s: dict[str, float] = {}
        """By lane."""

    def begins(self, lane: str) -> None:
        """Say that a question got no answer in time."""
        self._until_s[lane] = self._clock() + SILENT_S

    def ends(self, lane: str) -> None:
        """Say that it did, whatever it was."""
        self._until_s.pop(lane, None)

    def prefer_another(self, watched: Watched) -> None:
        """Begin with the first responder that is not known to be silent; none: as it was."""
        urls = watched.certificate.responder_urls
        for number in range(len(urls)):
            if not self._is_silent(responder_address(watched.url(number))):
                watched.working = (watched.working + number) % len(urls)
                return

    def is_better_asked_elsewhere(self, watched: Watched, lane: str) -> bool:
        """Whether it waited at one that proved silent meanwhile, and another one may answer.

        Else all who wait there would wait for one deadline after the other, and lose what they hold.
        """
        if watched.round or not self._is_silent(lane):
            return False
        return any(not self._is_silent(responder_address(url)) for url in watched.certificate.responder_urls)

    def _is_silent(self, lane: str) -> bool:
        # A clock that was set back leaves nobody silent for longer.
        return 0 < self._until_s.get(lane, 0.0) - self._clock() <= SILENT_S

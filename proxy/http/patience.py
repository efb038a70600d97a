"""How long one client is waited for, while it sends a body or takes an answer. Pure: times and counts are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.deadlines import Pace

if TYPE_CHECKING:
    from proxy.settings.http import HttpSettings


class Patience:
    """Of one connection. A client may be slow, not slower than `client_min_bytes_per_second` for `client_timeout_s`."""

    __slots__ = ("_pace", "_settings", "_unsent_bytes", "received_bytes")

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._pace: Pace | None = None  # while a request's body is waited for
        self._unsent_bytes = 0  # when the writing was paused, or was last looked at
        self.received_bytes = 0
        """All that came, in requests and else."""

    def for_body(self, now: float) -> float:
        """Until when more of a request's body is waited for; called again as it comes."""
        if self._pace is None:
            settings = self._settings
            self._pace = Pace(settings.client_timeout_s, settings.client_min_bytes_per_second, now, self.received_bytes)
        return self._pace.move(now)

    def end_body(self) -> None:
        """No body is waited for now: the next time begins anew."""
        self._pace = None

    def longer_for_body(self, now: float) -> float | None:
        """Until when to wait further, after a deadline; None: it comes too slowly, or nothing was to come."""
        return None if self._pace is None else self._pace.look(now, self.received_bytes)

    def begin_taking(self, unsent_bytes: int) -> None:
        """The client has to take what is unsent before it gets more."""
        self._unsent_bytes = unsent_bytes

    def takes_enough(self, unsent_bytes: int) -> bool:
        """Whether it took as much as it must since the last look."""
        settings = self._settings
        least_bytes = max(1, settings.client_timeout_s * settings.client_min_bytes_per_second)
        taken_bytes = self._unsent_bytes - unsent_bytes
        if taken_bytes < least_bytes:
            return False
        self._unsent_bytes = unsent_bytes
        return True

"""What is stapled is fetched while a handshake waits: the words between it and whoever fetches.

OpenSSL's callback cannot wait. Where nothing can be decided it raises `StapleWantedError`; whoever owns the engine
throws it away, has the response fetched, and feeds the same bytes to a new engine that has the answer as `Preset`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.identity import CacheKey
    from proxy.tls.site import SiteContext

MAX_REPLAYED_BYTES = 131_072
"""What a client sends before the first flight of ours that cannot be made again: its ClientHello, or two of them."""

InlineLookup = Callable[["CacheKey", float], bytes]
"""(cache key, now as unix seconds) -> what is stapled, b"": nothing. Raises StapleWantedError. No I/O, no lock."""


class StapleWantedError(Exception):
    """A response must be fetched before this handshake can go on; `site` by its index."""

    def __init__(self, site: int, key: CacheKey) -> None:
        super().__init__("a response must be fetched first")
        self.site = site
        self.key = key


class StapleFatalError(Exception):
    """The handshake is to be ended with internal_error (80), as Apache does where it can ask nobody."""

    def __str__(self) -> str:
        return "the client asks for a staple, and there is nobody who could be asked for it"


@dataclass(frozen=True, slots=True)
class Preset:
    """What the callback gives, decided by itself or by who was asked."""

    staple: bytes
    """b"": none."""
    is_fatal: bool = False


Asking = Callable[[StapleWantedError, bytes, Callable[[Preset], None]], None]
"""(what is wanted, what the client has sent, what is called with the answer; later, never at once)."""


class Replay:
    """What is needed to begin one handshake again. It is the app data of the connection, where the callback finds it.

    OpenSSL asks once in a handshake, and twice in one with a HelloRetryRequest: what was answered before is answered
    again, and only then is anything decided anew.
    """

    __slots__ = ("_answered", "_sent", "_to_skip", "answers", "is_waiting", "left_s", "received", "site")

    def __init__(self, site: SiteContext) -> None:
        self.site = site
        self.received = bytearray()
        self.answers: list[Preset] = []
        self._answered = 0
        self._sent = b""
        self._to_skip = b""
        self.is_waiting = False
        self.left_s = 0.0
        """Of the time for the handshake, which stands still meanwhile."""

    def end(self) -> None:
        """Hold no more than the answer: from here on the handshake cannot be begun again."""
        self.received = bytearray()

    @property
    def staple(self) -> bytes | None:
        """What was stapled; b"": nothing; None: nobody asked."""
        return self.answers[-1].staple if self.answers else None

    def answer(self, decide: Callable[[], bytes]) -> bytes:
        """Answer OpenSSL. Raises what `decide` raises, and StapleFatalError."""
        if self._answered == len(self.answers):
            self.answers.append(Preset(decide()))
        preset = self.answers[self._answered]
        self._answered += 1
        if preset.is_fatal:
            raise StapleFatalError
        return preset.staple

    def begin_again(self, preset: Preset) -> bytes:
        """Go on with what was wanted; what the new engine is to be fed."""
        self.answers.append(preset)
        self._answered, self.is_waiting = 0, False
        # The new engine writes the HelloRetryRequest once more that the client has: there is no chance in it (RFC 8446
        # 4.1.4), so that it is the same.
        self._to_skip, self._sent = self._sent, b""
        return bytes(self.received)

    def unsent(self, data: bytes) -> bytes | None:
        """What is to be sent of what an engine has written; None: it is not what was sent before."""
        self._sent += data
        skipped, self._to_skip = self._to_skip, b""
        return data[len(skipped) :] if data.startswith(skipped) else None

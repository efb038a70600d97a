"""One case of the comparison, and what it shows on one server: step by step, ready to be compared."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from zlib import crc32

from differential.modssl import client
from differential.modssl.answers import SYNTHETIC

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from differential.modssl.answers import Act, Speaker
    from differential.modssl.client import Shown
    from differential.modssl.responder import Query, Responder

SETTLED_WITHIN_S = 3.0
_POLL_S = 0.02
_LABEL = 60


@dataclass(frozen=True, slots=True)
class Host:
    """One virtual host of a case. Hosts whose `certificate` is the same word share one certificate."""

    label: str = ""
    directives: tuple[str, ...] = ()
    certificate: str = ""
    uris: tuple[str, ...] | None = None
    """Of the certificate's responders, with the placeholders of `world`. None: the case's own path."""
    kinds: tuple[str, ...] = ("ec",)
    stapling: str | None = "on"
    """Of SSLUseStapling; None: it says nothing."""
    port: int = 0
    """Which of the world's ports."""
    has_chain: bool = True
    names: tuple[str, ...] = ()
    """ServerAlias."""


@dataclass(frozen=True, slots=True)
class Case:
    row: str
    title: str
    play: Callable[[Stage], None]
    hosts: tuple[Host, ...] = (Host(),)
    flags: str = ""
    at: str = ""
    """The path of its responder, where it is not one of its own."""

    @property
    def key(self) -> str:
        """How it is called in the report."""
        return " · ".join(filter(None, (self.row, self.title, self.flags)))

    @property
    def slug(self) -> str:
        """The same as a label of a host name, which has 63 octets at most."""
        slug = re.sub(r"[^a-z0-9]+", "-", f"{self.row} {self.title} {self.flags}".lower()).strip("-")
        return slug if len(slug) < _LABEL else f"{slug[: _LABEL - 10]}-{crc32(slug.encode()):08x}"

    def name(self, label: str = "") -> str:
        """Give the server name of one of its hosts."""
        return f"{self.slug}.{label or 'own'}.test"

    def path(self, certificate: str = "") -> str:
        """Where its responder answers for this certificate."""
        return self.at or f"/{self.slug}/{certificate or 'own'}"


@dataclass(frozen=True, slots=True)
class Observation:
    """What one step showed."""

    what: str
    outcome: str
    queries: tuple[Query, ...]
    numbers: tuple[int, ...]
    shown: Shown | None = field(default=None, compare=False, repr=False)
    """Not compared: a response is made and signed anew for each server, and `outcome` says which one it is."""


class Log(Protocol):
    def numbers(self, names: Sequence[str]) -> list[int]:
        """Give the AH numbers of these hosts' lines so far, in order."""


@dataclass
class Stage:
    """A case being played on one server."""

    case: Case
    ports: tuple[int, ...]
    responder: Responder
    speaker: Speaker
    log: Log
    expected: tuple[Observation, ...] = ()
    """What the other server showed: a log that comes late is waited for until it says as much."""
    observations: list[Observation] = field(default_factory=list)
    _seen_numbers: int = 0
    _seen_queries: dict[str, int] = field(default_factory=dict)

    def does(self, act: Act | None, certificate: str | None = None) -> None:
        """Let the responder do this from now on, for one certificate or all of them."""
        for path in self._paths if certificate is None else [self.case.path(certificate)]:
            self.responder.shelf(path).act = act

    def says(self, build, **how) -> None:
        """Let the responder give this response from now on, for all certificates."""
        self.does(self.speaker.says(build, **how))

    def wait_s(self, seconds: float) -> None:
        """Let a cache entry's time pass: nothing but the clock says when it is over."""
        time.sleep(seconds)

    def shake(self, what: str, label: str = "", **how) -> Shown:
        """One handshake with one of the case's hosts, as a step of its own."""
        shown = self.client(label, **how)
        self.note(what, self.describe(shown), shown=shown)
        return shown

    def client(self, label: str = "", *, name: str | None = "", port: int = 0, **how) -> Shown:
        """Shake hands without noting it."""
        return client.shake(self.ports[port], self.case.name(label) if name == "" else name, **how)

    def describe(self, shown: Shown) -> str:
        """Say in words what can be compared: a staple is told by which of the responder's answers it is."""
        if shown.alert is not None:
            outcome = f"alert {shown.alert}"
        elif not shown.is_complete:
            outcome = "connection lost"
        elif shown.staple is None:
            outcome = "none"
        elif shown.staple == SYNTHETIC:
            outcome = "tryLater"
        else:
            outcome = self._which(shown.staple)
        return outcome + (", resumed" if shown.is_resumed else "")

    def _which(self, staple: bytes) -> str:
        for path in self._paths:
            for number, body in enumerate(dict.fromkeys(self.responder.shelf(path).bodies), 1):
                if body == staple:
                    return f"answer {number}"
        return f"other bytes, {len(staple)} of them"

    @property
    def _paths(self) -> list[str]:
        return sorted({self.case.path(host.certificate) for host in self.case.hosts})

    def note_start(self) -> None:
        """Add what was logged before the first step. Apache reads its configuration twice, and says all twice."""
        self.note("start", "", told=lambda numbers: tuple(dict.fromkeys(numbers)))

    def note_many(self, what: str, outcome: str) -> None:
        """Add what several clients saw that were served at once: the numbers are told without their order."""
        self.note(what, outcome, told=lambda numbers: tuple(sorted(numbers)))

    def note(
        self,
        what: str,
        outcome: str,
        *,
        shown: Shown | None = None,
        told: Callable[[list[int]], tuple[int, ...]] | None = None,
    ) -> None:
        """Add what was seen, with the queries and log numbers since the last step."""
        tell = told or _without_repeats
        position = len(self.observations)
        awaited = self.expected[position] if position < len(self.expected) else None
        give_up_at = time.monotonic() + SETTLED_WITHIN_S
        while True:
            made = Observation(what, outcome, self._new_queries(), tell(self._new_numbers()), shown)
            is_as_awaited = awaited is None or (
                made.numbers == awaited.numbers and len(made.queries) == len(awaited.queries)
            )
            if is_as_awaited or time.monotonic() > give_up_at:
                break
            time.sleep(_POLL_S)
        self._seen_queries = {path: len(self.responder.shelf(path).queries) for path in self._paths}
        self._seen_numbers = len(self.log.numbers(self._names))
        self.observations.append(made)

    def _new_queries(self) -> tuple[Query, ...]:
        new = ((self.responder.shelf(path).queries, self._seen_queries.get(path, 0)) for path in self._paths)
        return tuple(query for queries, seen in new for query in queries[seen:])

    def _new_numbers(self) -> list[int]:
        return self.log.numbers(self._names)[self._seen_numbers :]

    @property
    def _names(self) -> list[str]:
        return [self.case.name(host.label) for host in self.case.hosts]


def _without_repeats(numbers: Sequence[int]) -> tuple[int, ...]:
    """A number that comes several times in a row counts once: some tell of each piece that was read."""
    return tuple(number for at, number in enumerate(numbers) if at == 0 or numbers[at - 1] != number)

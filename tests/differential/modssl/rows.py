"""What a fetch may come to, with both flags on and off: three handshakes, then the responder is well, then two more.

And how long each outcome is kept: one of the two timeouts is a second, the other an hour, and a second is waited.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from differential.modssl import answers
from differential.modssl.answers import good
from differential.modssl.stage import Case, Host

if TYPE_CHECKING:
    from differential.modssl.answers import Act, Build
    from differential.modssl.stage import Stage

A_SECOND_S = 1.25
"""More than a timeout of one second, measured from after the handshake that stored."""
_LARGEST = 10239

FLAGS = tuple(product(("on", "off"), repeat=2))
SAME_FLAGS = (("on", "on"), ("off", "off"))


def flag_directives(errors: str, fake: str) -> tuple[str, ...]:
    return f"SSLStaplingReturnResponderErrors {errors}", f"SSLStaplingFakeTryLater {fake}"


def flag_words(errors: str, fake: str) -> str:
    return f"errors {errors}, fake {fake}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A responder's outcome, to be seen with these flags."""

    row: str
    title: str
    response: Build | None = None
    act: Act | None = None
    directives: tuple[str, ...] = ()
    flags: tuple[tuple[str, str], ...] = SAME_FLAGS
    uris: tuple[str, ...] | None = None

    def begin(self, stage: Stage) -> None:
        if self.response is not None:
            stage.says(self.response)
        else:
            stage.does(self.act)


_NOT_FOUND = answers.sends(b"HTTP/1.0 404 Not Found\r\n\r\nno")
OUTCOMES = (
    Outcome("A", "good", good, flags=FLAGS),
    Outcome("B", "revoked", answers.revoked, flags=FLAGS),
    Outcome("B", "unknown", answers.unknown, flags=FLAGS),
    Outcome("C", "status 404", act=_NOT_FOUND, flags=FLAGS),
    Outcome("D", "tryLater", answers.status(3), flags=FLAGS),
    Outcome("D", "unauthorized", answers.status(6), flags=FLAGS),
    Outcome("D", "internalError", answers.status(2)),
    Outcome("D", "malformedRequest", answers.status(1)),
    Outcome("D", "sigRequired", answers.status(5)),
    Outcome("D", "status 9", answers.status(9)),
    Outcome("E", "basic response unparsable", answers.unparsable_basic, flags=FLAGS),
    Outcome("E", "another type of response", answers.other_type),
    Outcome("E", "successful and nothing more", answers.successful_and_empty),
    Outcome("F", "another serial number", answers.other_serial, flags=FLAGS),
    Outcome("F", "hashed with SHA-256", answers.sha256, flags=FLAGS),
    Outcome("G", "expired", answers.times(-7200, -3600), flags=FLAGS),
    Outcome("G", "from the future", answers.times(3600, 7200), flags=FLAGS),
    Outcome("G", "too old", answers.times(-3600, 7200), directives=("SSLStaplingResponseMaxAge 60",)),
    Outcome("H", "largest that is kept", answers.sized(good, _LARGEST)),
    Outcome("H", "good, a byte too long", answers.sized(good, _LARGEST + 1), flags=FLAGS),
    Outcome("H", "other serial, a byte too long", answers.sized(answers.other_serial, _LARGEST + 1)),
    Outcome("H", "expired, a byte too long", answers.sized(answers.times(-7200, -3600), _LARGEST + 1)),
    Outcome("I", "https", good, uris=("https://127.0.0.1:{port}/x",), flags=FLAGS),
    Outcome("I", "HTTP in capitals", good, uris=("HTTP://127.0.0.1:{port}/x",)),
    Outcome("I", "port is no number", good, uris=("http://127.0.0.1:abc/x",)),
)


def _sequence(outcome: Outcome):
    def play(stage: Stage) -> None:
        outcome.begin(stage)
        stage.shake("first")
        stage.shake("second", tls="1.2")
        stage.shake("third")
        stage.says(good)
        stage.shake("responder well")
        stage.shake("once more", tls="1.2")

    return play


def _kept(outcome: Outcome):
    def play(stage: Stage) -> None:
        outcome.begin(stage)
        stage.shake("standard timeout 1 s", "standard")
        stage.shake("error timeout 1 s", "error")
        stage.wait_s(A_SECOND_S)
        stage.says(good)
        stage.shake("standard timeout 1 s, over", "standard")
        stage.shake("error timeout 1 s, over", "error")

    return play


def cases() -> list[Case]:
    """Every outcome with its flags."""
    made = []
    for outcome in OUTCOMES:
        for flags in outcome.flags:
            directives = (*flag_directives(*flags), *outcome.directives)
            own = Host(directives=directives, uris=outcome.uris)
            made.append(Case(outcome.row, outcome.title, _sequence(outcome), (own,), flag_words(*flags)))
            if outcome.row == "I":  # nothing is ever stored
                continue
            hosts = tuple(
                Host(
                    label,
                    (
                        *directives,
                        f"SSLStaplingStandardCacheTimeout {standard}",
                        f"SSLStaplingErrorCacheTimeout {error}",
                    ),
                    certificate=label,
                )
                for label, standard, error in (("standard", 1, 3600), ("error", 3600, 1))
            )
            made.append(Case(outcome.row, f"{outcome.title}: how long", _kept(outcome), hosts, flag_words(*flags)))
    return made

"""Play all cases on Apache, then on ours, and judge each step: the same, different as it has to be, or a finding."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from differential.modssl import bare, servers, world
from differential.modssl.answers import Speaker
from differential.modssl.responder import Deaf, Responder
from differential.modssl.stage import Observation, Stage
from differential.modssl.worlds import worlds

from proxy.lab.ca import LabCA
from proxy.lab.signing import Signing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from differential.modssl.servers import Running
    from differential.modssl.stage import Case
    from differential.modssl.world import Site, World

Seen = dict[str, tuple[Observation, ...]]
"""By the case's key."""

INTERNAL_ERROR = "alert 80"


class Verdict(StrEnum):
    SAME = "same"
    KNOWN = "different as it has to be"
    GONE = "an expected difference that is none any more"
    FINDING = "DIFFERENT"


@dataclass(frozen=True, slots=True)
class Known:
    """A difference that has to be, with its reason."""

    name: str
    reason: str
    proof: str
    ours: Callable[[Compared, Observation], Observation | None]
    """What ours has to show where Apache shows this; None: the difference is not about this step."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A case on both."""

    case: Case
    site: Site
    apache: tuple[Observation, ...]
    ours: tuple[Observation, ...]

    def steps(self) -> list[Step]:
        """Judge step by step; a step that one of them never came to is a finding."""
        nothing = Observation("-", "never came to it", (), ())
        count = max(len(self.apache), len(self.ours))
        padded = [(*seen, *[nothing] * (count - len(seen))) for seen in (self.apache, self.ours)]
        return [self._judge(*pair) for pair in zip(*padded, strict=True)]

    def _judge(self, apache: Observation, ours: Observation) -> Step:
        for known in KNOWN:
            expected = known.ours(self, apache)
            if expected is not None:
                verdict = Verdict.KNOWN if ours == expected else Verdict.GONE if ours == apache else Verdict.FINDING
                return Step(self.case, apache, ours, verdict, known)
        return Step(self.case, apache, ours, Verdict.SAME if apache == ours else Verdict.FINDING, None)


@dataclass(frozen=True, slots=True)
class Step:
    """One step on both, judged."""

    case: Case
    apache: Observation
    ours: Observation
    verdict: Verdict
    known: Known | None


def _unsent(compared: Compared, apache: Observation) -> Observation | None:
    if apache.shown is None or apache.shown.staple is None or apache.shown.serial is None:
        return None
    is_sent = bare.sends(apache.shown.staple, *compared.site.files(apache.shown.serial))
    return None if is_sent else replace(apache, outcome="none")


def _survived(compared: Compared, apache: Observation) -> Observation | None:
    if compared.case.row != "J" or apache.outcome != "connection lost":
        return None
    return replace(apache, outcome=INTERNAL_ERROR, numbers=(*apache.numbers, 1940, 1955))


KNOWN = (
    Known(
        "not sent by OpenSSL",
        "OpenSSL 4 reads what is to be stapled, and leaves it out without a word if it is about another serial number "
        "than the certificate's; the OpenSSL 3 under Apache sends any bytes. Queries, log and cache are the same.",
        "`bare.py`: a server of a few lines on the same OpenSSL, given the very bytes that Apache sent, sends none.",
        _unsent,
    ),
    Known(
        "Apache dies",
        "A responder's URI without a scheme makes Apache's process end with a segmentation fault, in the middle of all "
        "its connections. Ours treats it as a scheme that it cannot ask: the handshake ends with internal_error, and "
        "the process lives.",
        "Apache's log: AH00052, child exit signal Segmentation fault; both times in the same configuration.",
        _survived,
    ),
)


def play_all(
    world_: World, site: Site, running: Running, responder: Responder, speaker: Speaker, expected: Seen
) -> Seen:
    """Run the cases side by side; a case's own steps are in order."""

    def play(case: Case) -> tuple[Observation, ...]:
        stage = Stage(case, site.ports, responder, speaker, running.log, expected.get(case.key, ()))
        stage.note_start()
        try:
            case.play(stage)
        except Exception as error:  # noqa: BLE001  # one case that breaks must not hide what the others show
            stage.observations.append(Observation("broken", f"{type(error).__name__}: {error}", (), ()))
        return tuple(stage.observations)

    with ThreadPoolExecutor(world_.at_once) as pool:
        return {case.key: seen for case, seen in zip(world_.cases, pool.map(play, world_.cases), strict=True)}


def compare(folder: Path, only: str | None = None) -> list[Compared]:
    """Run all worlds, or the one of this name: Apache first, then ours on the same ports with the same file."""
    ca = LabCA.create(datetime.now(UTC))
    speaker = Speaker(Signing.of(ca, "delegate"))

    def run(name: str) -> list[Compared]:
        with Responder() as responder, Deaf() as deaf:
            places = world.Places(responder.port, responder.port6, deaf.port)
            world_ = next(each for each in worlds(speaker, has_ipv6=responder.port6 is not None) if each.name == name)
            site = world.write(world_, folder / name, ca, places)
            with servers.apache(site) as running:
                apache = play_all(world_, site, running, responder, speaker, {})
            responder.forget()
            with servers.ours(site) as running:
                ours = play_all(world_, site, running, responder, speaker, apache)
        return [Compared(case, site, apache[case.key], ours[case.key]) for case in world_.cases]

    names = [each.name for each in worlds(speaker, has_ipv6=False) if only in {None, each.name}]
    # They wait most of the time; but what is compared by order needs some of the machine for itself.
    with ThreadPoolExecutor(2) as pool:
        return [compared for some in pool.map(run, names) for compared in some]

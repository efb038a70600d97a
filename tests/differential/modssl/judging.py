"""How a response is judged when it comes and when it lies in the cache, and what hosts that share it make of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from differential.modssl import answers
from differential.modssl.answers import good, times
from differential.modssl.rows import SAME_FLAGS, flag_directives, flag_words
from differential.modssl.stage import Case, Host

from proxy.lab import der, wrong_answers

if TYPE_CHECKING:
    from differential.modssl.answers import Act, Build
    from differential.modssl.stage import Stage

    from proxy.lab.wrong_answers import Occasion

_OFF = flag_directives("off", "off")
_DAY_S = 86400
_SOON_S, _THEN_S = 3, 4.5
"""A response that is over so soon, and when it surely is."""
_VALID = times(0, _DAY_S)


def _skew(seconds: int) -> tuple[str, ...]:
    return (f"SSLStaplingResponseTimeSkew {seconds}",)


def _max_age(seconds: int) -> tuple[str, ...]:
    return (f"SSLStaplingResponseMaxAge {seconds}",)


# Ten seconds from each edge: the clock goes on while a response is on its way.
TIMES: dict[str, tuple[Build, tuple[str, ...]]] = {
    "thisUpdate in 290 s": (times(290, _DAY_S), ()),
    "thisUpdate in 310 s": (times(310, _DAY_S), ()),
    "nextUpdate 290 s ago": (times(-_DAY_S, -290), ()),
    "nextUpdate 310 s ago": (times(-_DAY_S, -310), ()),
    "skew 0, thisUpdate in 10 s": (times(10, _DAY_S), _skew(0)),
    "skew 0, nextUpdate 1 s ago": (times(-_DAY_S, -1), _skew(0)),
    "skew 0, valid": (times(-10, _DAY_S), _skew(0)),
    "skew 20, thisUpdate in 10 s": (times(10, _DAY_S), _skew(20)),
    "skew 20, thisUpdate in 30 s": (times(30, _DAY_S), _skew(20)),
    "skew 20, nextUpdate 10 s ago": (times(-_DAY_S, -10), _skew(20)),
    "skew 20, nextUpdate 30 s ago": (times(-_DAY_S, -30), _skew(20)),
    "skew of a day, expired 10 hours ago": (times(-2 * _DAY_S, -36000), _skew(_DAY_S)),
    "maximum age 60, thisUpdate 50 s ago": (times(-50, _DAY_S), _max_age(60)),
    "maximum age 60, thisUpdate 70 s ago": (times(-70, _DAY_S), _max_age(60)),
    "maximum age 60, skew 20, thisUpdate 70 s ago": (times(-70, _DAY_S), _max_age(60) + _skew(20)),
    "maximum age 0": (times(-1, _DAY_S), _max_age(0)),
    "maximum age 0, thisUpdate in 100 s": (times(100, _DAY_S), _max_age(0)),
    "no nextUpdate": (times(-30 * _DAY_S, None), ()),
    "no nextUpdate, maximum age 60": (times(-70, None), _max_age(60)),
    "nextUpdate before thisUpdate": (times(-100, -200), ()),
    "nextUpdate as thisUpdate": (times(-100, -100), ()),
}


def _produced(occasion: Occasion) -> bytes:
    return replace(occasion.right, produced_at=occasion.now + timedelta(days=1)).encoded


def _first_expired(occasion: Occasion) -> bytes:
    single = occasion.right.single
    old = replace(
        single, this_update=single.this_update - timedelta(days=9), next_update=single.this_update - timedelta(days=8)
    )
    return occasion.right.saying(old, single).encoded


def _first_valid(occasion: Occasion) -> bytes:
    single = occasion.right.single
    old = replace(
        single, this_update=single.this_update - timedelta(days=9), next_update=single.this_update - timedelta(days=8)
    )
    return occasion.right.saying(single, old).encoded


def _says_nothing(occasion: Occasion) -> bytes:
    return occasion.right.saying().encoded


_CRITICAL = der.extension(wrong_answers.PRIVATE_EXTENSION, b"\x05\x00", critical=True)
FORMS: dict[str, Build] = {
    "signature broken": wrong_answers.tampered,
    "signed by another key": wrong_answers.signature_of_other_key,
    "signed with SHA-1": wrong_answers.signed_with_sha1,
    "signed by the issuer": wrong_answers.by_issuer,
    "signer's certificate not sent": wrong_answers.sent_with(),
    "producedAt tomorrow": _produced,
    "nonce that nobody asked for": wrong_answers.nonce_unasked,
    "critical extension": wrong_answers.with_extensions(_CRITICAL),
    "critical extension of the single response": wrong_answers.with_single_extensions(_CRITICAL),
    "the certificate second of three": wrong_answers.several(1, 0, 2),
    "the certificate twice, first expired": _first_expired,
    "the certificate twice, first valid": _first_valid,
    "no certificate at all": _says_nothing,
    "other name hash": wrong_answers.about(wrong_answers.other_name_hash),
    "other key hash": wrong_answers.about(wrong_answers.other_key_hash),
    "fraction of a second": wrong_answers.fractional_seconds,
}

SHARED: dict[str, tuple[Build | None, Act | None]] = {
    "good": (good, None),
    "revoked": (answers.revoked, None),
    "no usable answer": (None, answers.sends(b"HTTP/1.0 404 Not Found\r\n\r\n")),
    "unauthorized": (answers.status(6), None),
    "basic response unparsable": (answers.unparsable_basic, None),
    "another serial number": (answers.other_serial, None),
    "expired": (times(-7200, -3600), None),
}


def _twice(build: Build):
    def play(stage: Stage) -> None:
        stage.says(build)
        stage.shake("first")
        stage.shake("second", tls="1.2")

    return play


def _over_in_cache(build: Build):
    def play(stage: Stage) -> None:
        stage.says(build)
        stage.shake("first")
        stage.wait_s(_THEN_S)
        stage.says(_VALID)
        stage.shake("no longer valid")

    return play


def _shared(build: Build | None, act: Act | None, *labels: str):
    def play(stage: Stage) -> None:
        if build is not None:
            stage.says(build)
        else:
            stage.does(act)
        for number, label in enumerate(labels, 1):
            stage.shake(f"{number}: {label}", label)

    return play


_SHARING = tuple(
    Host(f"{errors}-{fake}", flag_directives(errors, fake), certificate="shared")
    for errors in ("on", "off")
    for fake in ("on", "off")
)


def cases() -> list[Case]:
    made = [
        Case("times", title, _twice(build), (Host(directives=(*_OFF, *directives)),))
        for title, (build, directives) in TIMES.items()
    ]
    made += [
        Case("form", title, _twice(build), (Host(directives=flag_directives(*flags)),), flag_words(*flags))
        for title, build in FORMS.items()
        for flags in SAME_FLAGS
    ]
    for title, (build, act) in SHARED.items():
        for labels in (("on-on", "off-off", "off-on", "on-off", "on-on"), ("off-off", "on-on", "off-on", "off-off")):
            made.append(Case("cache", f"{title}, shared", _shared(build, act, *labels), _SHARING, f"first {labels[0]}"))
    for flags in SAME_FLAGS:
        directives, words = flag_directives(*flags), flag_words(*flags)
        expiring, aging = (*directives, *_skew(0)), (*directives, *_max_age(_SOON_S))
        made += [
            Case(
                "cache", "nextUpdate passes", _over_in_cache(times(-3600, _SOON_S)), (Host(directives=expiring),), words
            ),
            Case("cache", "grows too old", _over_in_cache(times(0, _DAY_S)), (Host(directives=aging),), words),
        ]
    zero = ("SSLStaplingStandardCacheTimeout 0", "SSLStaplingErrorCacheTimeout 0")
    made.append(Case("cache", "timeouts 0", _twice(good), (Host(directives=zero),)))
    return made

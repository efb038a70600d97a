"""When mod_ssl staples what, row by row: the tables are those of Apache's behaviour, with the lines that it writes."""

from __future__ import annotations

import pytest
from ocsp.pki import CA, DAY, LEAF, NOW, OTHER_LEAF, UNKNOWN, Answer, cert_id, revoked, single

from proxy.ocsp.httpd import MAX_STORED_BYTES, TRY_LATER, Decision, Outcome, Rules, Stored, end_notes
from proxy.ocsp.httpd_check import CertId, read
from proxy.ocsp.httpd_notes import NOTES, words
from proxy.settings.stapling_httpd import HttpdStapling

ID = CertId.of(LEAF.cert, CA.cert)
NOW_S = NOW.timestamp()
STD, ERR = 3600, 600

GOOD = Answer().der
REVOKED = Answer(singles=(single(status=revoked(NOW - DAY, 1)),)).der
UNKNOWN_STATUS = Answer(singles=(single(status=UNKNOWN),)).der
REAL_TRY_LATER = TRY_LATER
UNAUTHORIZED = bytes.fromhex("30030a0106")
UNPARSABLE = bytes.fromhex("30140a0100a00f300d06092b06010505073001010400")
OTHER = Answer(singles=(single(cert_id(OTHER_LEAF)),)).der
EXPIRED = Answer(singles=(single(this_update=NOW - 2 * DAY, next_update=NOW - DAY),)).der
EARLY = Answer(singles=(single(this_update=NOW + DAY, next_update=NOW + 2 * DAY),)).der
REVOKED_AND_EXPIRED = Answer(
    singles=(single(status=revoked(NOW - DAY), this_update=NOW - 2 * DAY, next_update=NOW - DAY),)
).der


def rules(*, errors: bool = True, fake: bool = True, trunk: bool = False) -> Rules:
    return Rules(HttpdStapling(return_responder_errors=errors, fake_try_later=fake), trunk)


def numbers(decision: Decision) -> list[int]:
    return [note[0] for note in decision.notes]


# What the cache holds: response, its flag, return_responder_errors, 2.4's outcome and lines, trunk's outcome if other.
STAPLE, NONE, FETCH, FATAL = Outcome.STAPLE, Outcome.NONE, Outcome.FETCH, Outcome.FATAL
JUDGED = [
    *((GOOD, flag, errors, STAPLE, [], STAPLE) for flag in (1, 0) for errors in (True, False)),
    *((REVOKED, 1, errors, STAPLE, [], STAPLE) for errors in (True, False)),
    (TRY_LATER, 1, True, STAPLE, [], STAPLE),
    (TRY_LATER, 1, False, FETCH, [], FETCH),
    (TRY_LATER, 0, True, STAPLE, [], STAPLE),
    (TRY_LATER, 0, False, NONE, [], NONE),
    (UNPARSABLE, 0, True, STAPLE, [1934], STAPLE),
    (UNPARSABLE, 0, False, STAPLE, [1934], NONE),
    (OTHER, 0, True, STAPLE, [1935], STAPLE),
    (OTHER, 0, False, NONE, [1935], NONE),
    (EXPIRED, 1, True, FETCH, [1937], FETCH),
    (EXPIRED, 1, False, FETCH, [1937], FETCH),
    (EXPIRED, 0, True, STAPLE, [1937], STAPLE),
    (EXPIRED, 0, False, NONE, [1937], NONE),
]


@pytest.mark.parametrize(("der", "flag", "errors", "outcome", "complaints", "in_trunk"), JUDGED)
def test_what_the_cache_holds_is_judged_anew(der, flag, errors, outcome, complaints, in_trunk):
    """By the flag it was stored with and the site's own settings; the lines are those of a hit."""
    value = bytes([flag]) + der
    found = rules(errors=errors).judge(value, ID, NOW_S)
    assert (found.outcome, numbers(found)) == (outcome, [1933, 1953, *complaints])
    assert found.staple == (der if outcome is STAPLE else b"")
    assert rules(errors=errors, trunk=True).judge(value, ID, NOW_S).outcome is in_trunk


@pytest.mark.parametrize(("value", "note"), [(None, 1930), (b"\x01nothing", 1932), (b"\x01", 1932)])
def test_a_miss_and_what_cannot_be_read_are_fetched(value, note):
    """Whatever the settings are."""
    for each in (rules(), rules(errors=False, fake=False)):
        found = each.judge(value, ID, NOW_S)
        assert (found.outcome, numbers(found)) == (FETCH, [note])


def test_a_response_is_dropped_in_the_second_in_which_it_is_over():
    """nextUpdate plus the skew, by the settings of the site that asks."""
    end_s = int((NOW + DAY).timestamp())
    assert rules().judge(b"\x01" + GOOD, ID, end_s + 299).outcome is STAPLE
    assert rules().judge(b"\x01" + GOOD, ID, end_s + 299.9).outcome is STAPLE
    assert rules().judge(b"\x01" + GOOD, ID, end_s + 300).outcome is FETCH
    strict = Rules(HttpdStapling(response_time_skew_s=0))
    assert strict.judge(b"\x01" + GOOD, ID, end_s - 1).outcome is STAPLE
    assert strict.judge(b"\x01" + GOOD, ID, end_s).outcome is FETCH


# Row, what the responder sent (None: nothing of use), outcome by (errors, fake), flag stored, how long, lines.
ALL = [(errors, fake) for errors in (True, False) for fake in (True, False)]
ALWAYS = dict.fromkeys(ALL, STAPLE)
AS_ERRORS = {(errors, fake): STAPLE if errors else NONE for errors, fake in ALL}
FETCHED = [
    ("A", GOOD, ALWAYS, 1, STD, [1942]),
    ("B revoked", REVOKED, ALWAYS, 1, STD, [1942, 2969]),
    ("B unknown", UNKNOWN_STATUS, ALWAYS, 1, STD, [1942, 2969]),
    ("D", REAL_TRY_LATER, AS_ERRORS, 0, ERR, [1944]),
    ("D unauthorized", UNAUTHORIZED, AS_ERRORS, 0, ERR, [1944]),
    ("E", UNPARSABLE, AS_ERRORS, 0, ERR, [1942, 1934, 1943]),
    ("F", OTHER, AS_ERRORS, 0, ERR, [1942, 1935, 1943]),
    ("G expired", EXPIRED, AS_ERRORS, 0, ERR, [1942, 1936, 1943]),
    ("G future", EARLY, AS_ERRORS, 0, ERR, [1942, 1936, 1943]),
    ("B and G", REVOKED_AND_EXPIRED, AS_ERRORS, 0, ERR, [1942, 1936, 2969, 1943]),
]


@pytest.mark.parametrize("is_trunk", [False, True])
@pytest.mark.parametrize(("row", "der", "outcomes", "flag", "lasts_s", "lines"), FETCHED, ids=[r[0] for r in FETCHED])
def test_what_a_fetch_brings(row, der, outcomes, flag, lasts_s, lines, is_trunk):
    """Rows A, B and D to G, under each setting of both flags."""
    for (errors, fake), outcome in outcomes.items():
        decision, stored = rules(errors=errors, fake=fake, trunk=is_trunk).after_fetch(read(der), ID, NOW_S)
        assert (decision.outcome, numbers(decision)) == (outcome, lines), (row, errors, fake)
        assert decision.staple == (der if outcome is STAPLE else b"")
        assert stored == Stored(bytes([flag]) + der, lasts_s)


NO_ANSWER = [
    # errors, fake, 2.4: outcome, flag, lasts; trunk: outcome, flag, lasts
    (True, True, (STAPLE, 1, STD), (STAPLE, 0, ERR)),
    (False, True, (STAPLE, 1, STD), (NONE, 0, ERR)),
    (True, False, (NONE, None, 0), (FATAL, None, 0)),
    (False, False, (NONE, None, 0), (FATAL, None, 0)),
]


@pytest.mark.parametrize(("errors", "fake", "now", "trunk"), NO_ANSWER, ids=["C1", "C2", "C3 errors", "C3"])
def test_no_answer(errors, fake, now, trunk):
    """Rows C1 to C3: 2.4 takes its own made-up tryLater for right, trunk does not, and fails without one."""
    for is_trunk, (outcome, flag, lasts_s) in ((False, now), (True, trunk)):
        decision, stored = rules(errors=errors, fake=fake, trunk=is_trunk).after_fetch(None, ID, NOW_S)
        assert (decision.outcome, numbers(decision)) == (outcome, [1941])
        assert decision.staple == (TRY_LATER if outcome is STAPLE else b"")
        assert stored == (None if flag is None else Stored(bytes([flag]) + TRY_LATER, lasts_s))


def test_a_made_up_try_later_is_asked_for_again_where_errors_are_not_stapled():
    """Row C2, the next handshake: 2.4 drops its own copy, trunk keeps it and staples nothing."""
    for is_trunk, expected in ((False, FETCH), (True, NONE)):
        own = rules(errors=False, trunk=is_trunk)
        _, stored = own.after_fetch(None, ID, NOW_S)
        assert stored is not None
        assert own.judge(stored.value, ID, NOW_S).outcome is expected


def test_what_is_stored_is_what_openssl_writes_again():
    """Bytes behind the response are neither stored nor stapled."""
    decision, stored = rules().after_fetch(read(GOOD + b"more"), ID, NOW_S)
    assert decision.staple == GOOD
    assert stored == Stored(b"\x01" + GOOD, STD)


@pytest.mark.parametrize(("outcome", "expected"), [(STAPLE, [3040, 1956]), (NONE, [3040, 1957]), (FATAL, [1955])])
def test_the_last_lines(outcome, expected):
    """`success` stands there after every fetch that was not fatal, even one that brought nothing."""
    assert [note[0] for note in end_notes(outcome)] == expected


def test_every_line_can_be_written():
    """Each number that is used has words, and they take what is given."""
    revocation = rules().after_fetch(read(REVOKED), ID, NOW_S)[0].notes[1]
    assert (
        words(revocation) == f"AH02969: the certificate is revoked (reason: keyCompromise), serial number {ID.serial:X}"
    )
    unknown = rules().after_fetch(read(UNKNOWN_STATUS), ID, NOW_S)[0].notes[1]
    assert "(reason: n/a)" in words(unknown)
    assert words((1944, "trylater")) == "AH01944: the responder has answered with an error: trylater"
    for number, (_, text) in NOTES.items():
        assert words((number, *[1] * text.count("%"))).startswith(f"AH{number:05}: ")


def test_the_limit_is_apaches():
    """10,239 octets of a response fit, with the flag before them."""
    assert MAX_STORED_BYTES == 10_240

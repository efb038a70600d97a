"""The judge of staples: verified once, compared after, and never longer good than they are."""

from datetime import timedelta

import pytest
from ocsp.pki import CA, DAY, LEAF, NOW, OTHER_LEAF, UNKNOWN, Answer, cert_id, revoked, single

from proxy.bench.outcomes import FAILURE_MEANING, MEANING, Failure, StapleOutcome
from proxy.bench.staples import Judge

AT = NOW.timestamp()
CHAIN = (LEAF.cert, CA.cert)
GOOD = Answer().der


def judged(der, *, chain=CHAIN, now=AT, judge=None):
    return (judge or Judge()).judge(der, chain[0].fingerprint(CHAIN[0].signature_hash_algorithm), lambda: chain, now)


@pytest.mark.parametrize(
    ("der", "outcome", "reason"),
    [
        (GOOD, StapleOutcome.GOOD, ""),
        (Answer(singles=(single(status=revoked(NOW - DAY)),)).der, StapleOutcome.REVOKED, ""),
        (Answer(singles=(single(status=UNKNOWN),)).der, StapleOutcome.OTHER, "unknown"),
        (bytes.fromhex("30030a0103"), StapleOutcome.OTHER, "try-later"),
        (bytes.fromhex("30030a0106"), StapleOutcome.OTHER, "unauthorized"),
        (Answer(singles=(single(cert_id(OTHER_LEAF)),)).der, StapleOutcome.INVALID, "certid-mismatch"),
        (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), StapleOutcome.INVALID, "bad-signature"),
        (GOOD + b"\0", StapleOutcome.INVALID, "trailing-bytes"),
        (b"\x30", StapleOutcome.INVALID, "unparsable"),
    ],
)  # fmt: skip
def test_each_staple_has_its_outcome_and_its_reason(der, outcome, reason):
    verdict = judged(der)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def test_a_staple_is_verified_once():
    """However often it comes: the signature costs as much as a handshake."""
    judge = Judge()
    assert {judged(GOOD, judge=judge).outcome for _ in range(100)} == {StapleOutcome.GOOD}
    assert judge.verified == 1


def test_another_byte_is_another_staple():
    judge = Judge()
    judged(GOOD, judge=judge)
    assert judged(GOOD[:-1] + bytes([GOOD[-1] ^ 1]), judge=judge).outcome is StapleOutcome.INVALID
    assert judge.verified == 2


def test_a_good_staple_with_another_certificate_is_not_good():
    """What is remembered is remembered for one certificate."""
    judge = Judge()
    judged(GOOD, judge=judge)
    verdict = judged(GOOD, chain=(OTHER_LEAF.cert, CA.cert), judge=judge)
    assert (verdict.outcome, verdict.reason) == (StapleOutcome.INVALID, "certid-mismatch")


def test_a_remembered_staple_ends_when_it_is_over():
    judge = Judge()
    until = judged(GOOD, judge=judge).holds_until
    assert judged(GOOD, now=until - 0.001, judge=judge).outcome is StapleOutcome.GOOD
    verdict = judged(GOOD, now=until, judge=judge)
    assert (verdict.outcome, verdict.reason) == (StapleOutcome.INVALID, "expired")


def test_staples_without_end_are_not_held_without_end(monkeypatch):
    """A server that staples something new, and large, to each client; and one that stays is still verified once."""
    monkeypatch.setattr("proxy.bench.staples._MAX_REMEMBERED_BYTES", 100_000)
    judge = Judge()
    for number in range(300):
        judged(number.to_bytes(1000), judge=judge)
        held = sum(len(der) for _, der in judge._verdicts)
        assert held == judge._held_bytes <= 100_000
    judged(bytes(200_000), judge=judge)
    verified = judge.verified
    assert {judged(GOOD, judge=judge).outcome for _ in range(100)} == {StapleOutcome.GOOD}
    assert judge.verified == verified + 1


def test_what_is_not_valid_yet_may_be_so_later():
    judge = Judge()
    early = AT - timedelta(days=10).total_seconds()
    assert judged(GOOD, now=early, judge=judge).reason == "not-yet-valid"
    assert judged(GOOD, judge=judge).outcome is StapleOutcome.GOOD


def test_without_the_issuer_nothing_is_proved():
    """Unless it was given apart."""
    assert judged(GOOD, chain=(LEAF.cert,)).reason == "no-issuer"
    assert judged(GOOD, chain=(LEAF.cert,), judge=Judge(more=(CA.cert,))).outcome is StapleOutcome.GOOD


def test_every_word_is_explained():
    assert list(MEANING) == list(StapleOutcome)
    assert list(FAILURE_MEANING) == list(Failure)

"""What clients of a comparison were served, by what they were sent."""

from datetime import UTC, datetime, timedelta

import pytest
from lab.compared import PROFILES, a_report

from proxy.lab.answers import right_answer
from proxy.lab.ca import LabCA
from proxy.lab.compare_outcomes import MEANING, Handshake, Outcome, judge, summarize
from proxy.lab.compare_plan import phases
from proxy.lab.faults import BY_NAME
from proxy.lab.signing import Signing
from proxy.lab.wrong_answers import Occasion
from proxy.ocsp.request import build_request

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
VALIDITY = timedelta(seconds=60)


@pytest.fixture(scope="module")
def ca():
    return LabCA.create(NOW)


@pytest.fixture(scope="module")
def leaf(ca):
    return ca.issue(["a.test"], ocsp_urls=["http://127.0.0.1/"]).leaf


@pytest.fixture
def judged(ca, leaf):
    """Judges what the lab's responder answers at NOW, rightly or with a fault, when it comes `age` later."""
    signing = Signing.of(ca, "delegate")
    issuer = ca.intermediate.certificate

    def judge_it(fault=None, *, age=timedelta(0), trouble_since=None):
        answer = right_answer(build_request(leaf, issuer), signing, NOW, validity=VALIDITY, revoked_at={})
        sent = BY_NAME[fault].play.build(Occasion(answer, signing, NOW, 1)) if fault else answer.encoded
        return judge(sent, leaf=leaf, issuer=issuer, now=NOW + age, trouble_since=trouble_since)

    return judge_it


def test_a_verified_staple_is_good_before_any_trouble(judged):
    assert judged() == (Outcome.GOOD, "")


@pytest.mark.parametrize(("since", "expected"), [(-1, Outcome.GOOD), (0, Outcome.GOOD), (1, Outcome.OLD)])
def test_a_staple_from_before_the_trouble_is_old(judged, since, expected):
    """By its thisUpdate: one of the very second in which the trouble began is not."""
    trouble_since = NOW + timedelta(seconds=since)
    assert judged(age=timedelta(seconds=5), trouble_since=trouble_since) == (expected, "")


@pytest.mark.parametrize(("age_s", "expected"), [(59, Outcome.OLD), (60, Outcome.EXPIRED), (61, Outcome.EXPIRED)])
def test_a_staple_at_its_next_update_is_expired(judged, age_s, expected):
    outcome, _ = judged(age=timedelta(seconds=age_s), trouble_since=NOW + timedelta(seconds=1))
    assert outcome is expected


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("expired", Outcome.EXPIRED),
        ("try-later", Outcome.TRY_LATER),
        ("internal-error", Outcome.TRY_LATER),
        ("malformed-request", Outcome.TRY_LATER),
        ("sig-required", Outcome.TRY_LATER),
        ("unauthorized", Outcome.TRY_LATER),
        ("bad-signature", Outcome.BAD),
        ("revoked-key-compromise", Outcome.BAD),
        ("wrong-serial", Outcome.BAD),
        ("garbage", Outcome.BAD),
    ],
)
def test_what_is_no_good_has_its_word_and_its_reason(judged, fault, expected):
    """The reason is the fault table's, so that the two never say different things."""
    assert judged(fault) == (expected, BY_NAME[fault].reason)


def test_no_staple_is_none(ca, leaf):
    issuer = ca.intermediate.certificate
    assert judge(None, leaf=leaf, issuer=issuer, now=NOW, trouble_since=None) == (Outcome.NONE, "")


def test_every_word_is_explained():
    assert list(MEANING) == list(Outcome)


def test_a_summary_counts_and_finds_the_longest_wait():
    handshakes = [
        Handshake("a", 0, 0.1, Outcome.GOOD),
        Handshake("a", 1, 3.0, Outcome.TRY_LATER),
        Handshake("a", 2, 0.2, Outcome.GOOD),
    ]
    summary = summarize(handshakes)
    assert (summary.counts, summary.longest_wait_s) == ({Outcome.GOOD: 2, Outcome.TRY_LATER: 1}, 3.0)
    assert summary.total == 3
    assert (summarize([]).total, summarize([]).longest_wait_s) == (0, 0.0)


def test_the_phases_part_the_clients():
    """Each client belongs to one profile and one phase."""
    report = a_report()
    parts = [report.of(profile, phase) for phase in phases(report.plan) for profile in PROFILES]
    assert sorted(map(repr, (each for part in parts for each in part))) == sorted(map(repr, report.handshakes))
    assert [len(part) for part in parts] == [12, 12, 24, 24, 24, 24]

"""Staple files before the start: what is wrong with one is said at its place, and age is no mistake."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from certs import key_pem, pem
from ocsp import pki
from ocsp.pki import CA, DAY, LEAF, NOW, OTHER_CA, OTHER_LEAF, UNKNOWN, Answer, cert_id, delegated, revoked, single

from proxy.errors import Reason
from proxy.identity import CacheKey
from proxy.ocsp.response import Rules, verify
from proxy.settings.model import CertificateFiles, Settings, Site, SiteStapling, StaplingSettings
from proxy.settings.values import UpstreamAddress
from proxy.sites import load_sites
from proxy.staplefile import BY_THE_CLOCK, Proved, judge, read_marked

GOOD = Answer().der


@pytest.fixture
def judged(tmp_path):
    """Judge a site with this staple file (None: it is not there); mistakes and warnings, as text."""

    def judged(der, *, now=NOW, chain=(LEAF, CA), enabled=True, **stapling):
        files = CertificateFiles(chain=tmp_path / "chain", key=tmp_path / "key", staple=tmp_path / "staple")
        files.chain.write_bytes(pem(*(party.cert for party in chain)))
        files.key.write_bytes(key_pem(LEAF.key))
        if der is not None:
            files.staple.write_bytes(der)
        upstream = UpstreamAddress("127.0.0.1", 8000)
        site = Site(certificate=(files,), upstream=upstream, stapling=SiteStapling(enabled=enabled))
        settings = Settings(site=(site,), stapling=StaplingSettings(**stapling))
        found = judge(load_sites(settings), settings, now)
        return [[str(each).replace(f"{tmp_path}/", "") for each in some] for some in (found.mistakes, found.warnings)]

    return judged


@pytest.mark.parametrize(
    "answer",
    [Answer(), delegated(), Answer(singles=(single(status=revoked(NOW - DAY)),))],
    ids=["good", "by a delegate", "revoked"],
)
def test_a_file_that_verifies_is_taken(judged, answer):
    """Revoked too: 'a staple from a file is sent as it is, revoked too'."""
    assert judged(answer.der) == [[], []]


@pytest.mark.parametrize(
    ("der", "reason", "advice"),
    [
        (b"", Reason.UNPARSABLE, ""),
        (GOOD[:-1], Reason.UNPARSABLE, ""),
        (GOOD + b"\n", Reason.TRAILING_BYTES, ""),
        (b"-----BEGIN OCSP RESPONSE-----\n", Reason.UNPARSABLE, "must be DER, as openssl ocsp -respout writes it"),
        (pki.seq(pki.tlv(0x0A, b"\x03")), Reason.TRY_LATER, ""),
        (Answer(singles=(single(cert_id(OTHER_LEAF)),)).der, Reason.CERTID_MISMATCH, "another certificate's response"),
        (Answer(signer=OTHER_CA).der, Reason.UNAUTHORIZED_SIGNER, ""),
        (Answer(key=OTHER_CA.key).der, Reason.BAD_SIGNATURE, ""),
        (Answer(singles=(single(status=UNKNOWN),)).der, Reason.UNKNOWN, ""),
        (bytes(70_000), Reason.TOO_LARGE, ""),
    ],
    ids=["empty", "cut", "trailing", "PEM", "tryLater", "another's", "stranger", "bad signature", "unknown", "long"],
)
def test_a_file_that_does_not_verify_is_refused_at_start(judged, der, reason, advice):
    """'a staple file that does not verify is refused at start': at its place, with the reason's code."""
    mistakes, warnings = judged(der)
    assert warnings == []
    assert len(mistakes) == 1
    assert mistakes[0].startswith(f"site[0].certificate[0].staple: staple is not stapled: {reason}: ")
    assert advice in mistakes[0]


@pytest.mark.parametrize(
    ("answer", "now", "reason"),
    [
        (Answer(), NOW + 2 * DAY, Reason.EXPIRED),
        (Answer(), NOW - 2 * DAY, Reason.NOT_YET_VALID),
        (Answer(singles=(single(next_update=NOW + 365 * DAY),)), NOW + 101 * DAY, Reason.CERTIFICATE_EXPIRED),
        (delegated(singles=(single(next_update=NOW + 90 * DAY),)), NOW + 40 * DAY, Reason.SIGNER_OUT_OF_DATE),
    ],
    ids=lambda value: str(value) if isinstance(value, Reason) else "",
)
def test_a_file_that_grew_old_is_a_warning(judged, answer, now, reason):
    """A restart must not fail because of the time of day."""
    mistakes, warnings = judged(answer.der, now=now)
    assert mistakes == []
    assert len(warnings) == 1
    assert f"is not stapled: {reason}: " in warnings[0]
    assert reason in BY_THE_CLOCK


def test_a_file_that_cannot_be_read_is_a_mistake(judged, tmp_path):
    """Missing, or no file; a pipe to which nobody writes stops nothing."""
    where = "site[0].certificate[0].staple: cannot read staple: "
    assert judged(None) == [[f"{where}No such file or directory"], []]
    os.mkfifo(tmp_path / "staple")
    assert judged(None) == [[f"{where}it is no file"], []]
    (tmp_path / "staple").unlink()
    (tmp_path / "staple").mkdir()
    assert judged(None) == [[f"{where}it is no file"], []]


def test_a_file_is_looked_at_where_it_is_of_use(judged):
    """Not where stapling is off; and without the issuer nothing can be said of it yet."""
    assert judged(b"nonsense", enabled=False) == [[], []]
    assert judged(b"nonsense", chain=(LEAF,)) == [[], []], "no issuer: nothing is stapled, which is told elsewhere"


def test_no_more_of_a_file_is_read_than_could_be_taken(tmp_path):
    """The mark is that of the state that was read."""
    path = tmp_path / "staple"
    path.write_bytes(bytes(5000))
    content, mark = read_marked(path, 1024)
    assert len(content) == 1025
    found = path.stat()
    assert mark == (found.st_mtime_ns, 5000, found.st_ino)


def test_what_was_proved_is_proved_until_its_end_and_of_these_bytes_only():
    """Else it is verified: when the clock was set back, too, since thisUpdate may lie in the future again."""
    key, other = CacheKey(bytes(20)), CacheKey(bytes([1] * 20))
    staple = verify(GOOD, leaf=LEAF.cert, issuer=CA.cert, now=NOW, rules=Rules())
    proved = Proved(NOW, {key: staple})
    assert staple.der == GOOD
    assert proved.find(key, GOOD, NOW) is staple
    for asked in (
        (other, GOOD, NOW),
        (key, GOOD + b"\n", NOW),
        (key, GOOD, NOW - timedelta(seconds=1)),
        (key, GOOD, staple.serve_until),
    ):
        assert proved.find(*asked) is None

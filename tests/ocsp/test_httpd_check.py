"""What mod_ssl looks at in a response, and how OpenSSL reads one: compared with the machine's own library."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from ocsp import libcrypto
from ocsp.mutate import alter_bytes, alter_elements
from ocsp.pki import (
    CA,
    DAY,
    DELEGATE,
    LEAF,
    NOW,
    OTHER_CA,
    OTHER_LEAF,
    SHA256,
    SHA512,
    UNKNOWN,
    Answer,
    cert_id,
    moment,
    nonce,
    revoked,
    single,
    unknown_hash_cert_id,
)

from proxy.ocsp.httpd_check import CertId, Finding, check, read
from proxy.ocsp.httpd_dates import is_valid

ID = CertId.of(LEAF.cert, CA.cert)
NOW_S = int(NOW.timestamp())
SKEW_S = 300
SECOND = timedelta(seconds=1)
BROKEN = Answer().der[:-1] + bytes([Answer().der[-1] ^ 1])


def finding(der: bytes, max_age_s: int | None = None) -> Finding | None:
    response = read(der)
    return response and check(response, ID, NOW_S, SKEW_S, max_age_s).finding


def test_the_cert_id_is_written_as_openssl_writes_it():
    """SHA-1, with NULL for its parameters."""
    assert ID.encoded() == cert_id()


STATUSES = [
    pytest.param(Answer().der, Finding.RIGHT, id="right"),
    pytest.param(BROKEN, Finding.RIGHT, id="the signature is not looked at"),
    pytest.param(Answer(signer=OTHER_CA).der, Finding.RIGHT, id="nor who signed"),
    pytest.param(Answer(signer=DELEGATE, certs=()).der, Finding.RIGHT, id="nor whether its certificate is there"),
    pytest.param(Answer(extensions=(nonce(b"x" * 16),)).der, Finding.RIGHT, id="nor a nonce"),
    pytest.param(Answer(produced_at=NOW + 100 * DAY).der, Finding.RIGHT, id="nor producedAt"),
    pytest.param(Answer(singles=(single(status=UNKNOWN),)).der, Finding.RIGHT, id="unknown is right"),
    pytest.param(Answer(singles=(single(status=revoked(NOW, 1)),)).der, Finding.RIGHT, id="revoked is right"),
    pytest.param(Answer().der + b"more", Finding.RIGHT, id="bytes behind it"),
    pytest.param(Answer(status=3).der, Finding.NOT_SUCCESSFUL, id="tryLater, with a body"),
    pytest.param(bytes.fromhex("30030a0103"), Finding.NOT_SUCCESSFUL, id="tryLater"),
    pytest.param(bytes.fromhex("30030a01ff"), Finding.NOT_SUCCESSFUL, id="a negative status"),
    pytest.param(bytes.fromhex("30040a0200c8"), Finding.NOT_SUCCESSFUL, id="a status of two octets"),
    pytest.param(bytes.fromhex("30030a0100"), Finding.UNPARSABLE, id="successful, and nothing"),
    pytest.param(Answer(type="1.3.6.1.5.5.7.48.1.2").der, Finding.UNPARSABLE, id="another type"),
    pytest.param(Answer(singles=()).der, Finding.OTHER_CERTIFICATE, id="no single"),
    pytest.param(Answer(singles=(single(cert_id(OTHER_LEAF)),)).der, Finding.OTHER_CERTIFICATE, id="other serial"),
    pytest.param(Answer(singles=(single(cert_id(key_of=OTHER_CA)),)).der, Finding.OTHER_CERTIFICATE, id="other key"),
    pytest.param(Answer(singles=(single(cert_id(name_of=OTHER_CA)),)).der, Finding.OTHER_CERTIFICATE, id="other name"),
    pytest.param(Answer(singles=(single(cert_id(digest=SHA256)),)).der, Finding.OTHER_CERTIFICATE, id="SHA-256"),
    pytest.param(Answer(singles=(single(cert_id(digest=SHA512)),)).der, Finding.OTHER_CERTIFICATE, id="SHA-512"),
    pytest.param(Answer(singles=(single(unknown_hash_cert_id()),)).der, Finding.OTHER_CERTIFICATE, id="unknown hash"),
    pytest.param(
        Answer(singles=(single(cert_id(OTHER_LEAF)), single())).der, Finding.RIGHT, id="the second is about it"
    ),
    pytest.param(
        Answer(singles=(single(next_update=NOW - DAY), single())).der, Finding.TIMES_INVALID, id="the first decides"
    ),
    pytest.param(b"", None, id="nothing"),
    pytest.param(b"hello", None, id="text"),
    pytest.param(Answer().der[:-1], None, id="cut short"),
]


@pytest.mark.parametrize(("der", "expected"), STATUSES)
def test_each_check_in_its_order(der: bytes, expected: Finding | None):
    """The first that fails is what is found."""
    assert finding(der) is expected


DATES = [
    (NOW + SKEW_S * SECOND, None, None, True, "thisUpdate at the edge of the skew"),
    (NOW + (SKEW_S + 1) * SECOND, None, None, False, "and a second beyond"),
    (NOW - 1000 * DAY, None, None, True, "without nextUpdate it is for ever"),
    (NOW - DAY, NOW - SKEW_S * SECOND, None, False, "nextUpdate at the edge: equal counts as earlier"),
    (NOW - DAY, NOW - (SKEW_S - 1) * SECOND, None, True, "and a second within"),
    (NOW - 10 * SECOND, NOW + DAY, 10, False, "so old as is allowed: equal counts as earlier"),
    (NOW - 9 * SECOND, NOW + DAY, 10, True, "a second younger"),
    (NOW, NOW + DAY, 0, False, "no age at all is allowed"),
    (NOW + SECOND, NOW + DAY, 0, True, "but one that begins in the future, within the skew, is younger than none"),
    (NOW + 20 * SECOND, NOW + 10 * SECOND, None, False, "nextUpdate before thisUpdate"),
    (NOW, NOW, None, True, "at the same moment"),
    (b"20300615120000.5Z", b"20300616120000.5Z", None, True, "fractions cannot be compared, and pass"),
    (b"19990615120000.5Z", b"19990616120000.5Z", 10, True, "however old"),
    (b"20300615120000.5Z", b"20300616120000Z", None, False, "a shorter nextUpdate is the lesser"),
    (b"20300615120000+0000", None, 10, True, "so does one with an offset"),
    (b"20301315120000Z", None, None, False, "a thirteenth month"),
    (b"20300229120000Z", None, None, False, "no leap year"),
    (b"20280229120000Z", None, None, True, "a leap year"),
    (b"2030061512000 Z", None, None, False, "no digits"),
]


@pytest.mark.parametrize(("start", "end", "max_age_s", "expected", "why"), DATES, ids=[row[4] for row in DATES])
def test_dates_at_their_edges(start, end, max_age_s, expected, why):
    """As OCSP_check_validity compares, with equality on its side; OpenSSL itself agrees."""
    this_update, next_update = moment(start)[2:], None if end is None else moment(end)[2:]
    assert is_valid(this_update, next_update, NOW_S, SKEW_S, max_age_s) is expected, why
    seen = asked(Answer(singles=(single(this_update=start, next_update=end),)).der, max_age_s)
    assert seen is None or seen.times_valid is expected


def asked(der: bytes, max_age_s: int | None = None) -> libcrypto.Seen | None:
    if libcrypto.loaded() is None:
        pytest.skip("this machine has no libcrypto")
    return libcrypto.look(der, NOW_S, SKEW_S, -1 if max_age_s is None else max_age_s)


def agree(der: bytes) -> None:
    """Ours and OpenSSL's reading are the same, in all that mod_ssl goes by."""
    ours, theirs = read(der), asked(der)
    assert (ours is None) == (theirs is None), der.hex()
    if ours is None or theirs is None:
        return
    assert (ours.status, ours.der) == (theirs.status, theirs.again), der.hex()
    if ours.status:
        return
    assert (ours.singles is not None) == theirs.is_basic, der.hex()
    found = check(ours, ID, NOW_S, SKEW_S, None)
    assert (found.single is not None) == (theirs.times_valid is not None), der.hex()
    if found.single:
        assert (found.finding is Finding.RIGHT) == theirs.times_valid, der.hex()
        assert ["good", "revoked", "unknown"].index(found.single.status) == theirs.cert_status
        if found.single.status == "revoked":
            assert (-1 if found.single.reason is None else found.single.reason) == theirs.reason


ORIGINALS = (
    Answer().der,
    Answer(by_key_hash=True, singles=(single(status=revoked(NOW, 1)),), extensions=(nonce(b"x" * 16),)).der,
    Answer(singles=(single(cert_id(OTHER_LEAF)), single(status=UNKNOWN, next_update=None))).der,
    Answer(signer=DELEGATE, certs=(DELEGATE.cert.public_bytes(Encoding.DER),)).der,
)
ROUNDS = 1500


@pytest.mark.parametrize("alter", [alter_bytes, alter_elements])
@pytest.mark.parametrize("original", ORIGINALS, ids=["plain", "revoked", "two", "with a certificate"])
def test_whatever_happens_to_a_response_it_is_read_as_openssl_reads_it(original, alter):
    """Ours is another program, so it is compared: each of some thousand altered responses, and the same each time."""
    chance = random.Random(20300615)
    agree(original)
    for _ in range(ROUNDS):
        agree(alter(original, chance))


@pytest.mark.parametrize(
    "der",
    [
        "30800a01030000",  # indefinite length
        "3080 0a0103",  # without its end
        "308200030a0103",  # more octets of length than it takes
        "30830000030a0103",
        "30040a8101 03",
        "300a0a0103a0050000000000",
        "1f100a0103",
        "3f10030a0103",
        "3f8010030a0103",
        "30050a0200030000",
        "30060a01030a0103",
        "3003 4a0103",
        "30052a030a0103",
        "30140a0100a00f300d06092b06010505073001010400",
        "30180a0100a01330 1106092b06010505073001012404 0401300401 00",
        "3080 0a0100 a080 3080 06092b0601050507300101 2480 040130 040100 0000 0000 0000 0000",
        "300f0a0100a00a3008060228 0104020500",
        "300f0a0100a00a3008060280010402 0500",
        "300f0a0100a00a3008060228810402 0500",
    ],
)
def test_a_response_in_an_odd_form_is_read_as_openssl_reads_it(der):
    """Lengths, tags and strings in pieces, which BER has and DER has not."""
    agree(bytes.fromhex(der))

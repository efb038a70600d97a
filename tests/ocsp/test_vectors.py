"""The OCSP responses and requests of `cryptography_vectors`: real ones of many CAs, and broken ones.

Each response is judged twice: for our own certificate, for which none of them is, and for the certificate that it is
for, where the vectors have that and its issuer's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509
from ocsp.cases import RULES
from ocsp.pki import CA, LEAF, NOW

from proxy.errors import Reason, StapleRejected
from proxy.ocsp.response import check, verify
from proxy.ocsp.text import response_text

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of odd serials and names: no error to `cryptography`

VECTORS = Path(cryptography_vectors.__file__).parent / "x509"
ALL = sorted(path.name for path in (VECTORS / "ocsp").glob("*.der"))
RESPONSES = [name for name in ALL if name.startswith("resp-") or name.endswith("-resp.der")]

LETS_ENCRYPT = ("cryptography.io.precert.pem", "letsencryptx3.pem", datetime(2018, 9, 1, tzinfo=UTC))
RAPID_SSL = ("cryptography.io.pem", "rapidssl_sha256_ca_g3.pem", datetime(2018, 10, 23, 1, tzinfo=UTC))

ACCEPTED = {"resp-sha256.der": LETS_ENCRYPT}
"""Signed by the issuer with RSA and SHA-256, by name, for a week of 2018: a response of Let's Encrypt as all were."""

REFUSED_FOR_THEIR_OWN = {
    "resp-invalid-signature-oid.der": (*LETS_ENCRYPT, Reason.WEAK_SIGNATURE),
    # Made for tests: both name the right certificate, and are signed by a key that is not the issuer's.
    "resp-revoked-no-next-update.der": (*RAPID_SSL, Reason.UNAUTHORIZED_SIGNER),
    "resp-single-extension-reason.der": (*RAPID_SSL, Reason.UNAUTHORIZED_SIGNER),
}

REASONS = {
    "resp-invalid-version.der": Reason.UNPARSABLE,
    "resp-response-type-unknown-oid.der": Reason.RESPONSE_TYPE,
    "resp-successful-no-response-bytes.der": Reason.UNPARSABLE,
    "resp-unauthorized.der": Reason.UNAUTHORIZED,
    "resp-unknown-response-status.der": Reason.UNPARSABLE,
}
"""What is wrong whomever they are for; the others are for another certificate than ours."""


def vector(name: str) -> bytes:
    return (VECTORS / "ocsp" / name).read_bytes()


def certificate(name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates((VECTORS / name).read_bytes())[0]


def refusal(name: str, leaf: x509.Certificate, issuer: x509.Certificate, now: datetime) -> StapleRejected:
    with pytest.raises(StapleRejected) as caught:
        verify(vector(name), leaf=leaf, issuer=issuer, now=now, rules=RULES)
    return caught.value


def test_there_are_vectors():
    """The lists above name vectors that exist."""
    assert len(RESPONSES) >= 16
    assert {*ACCEPTED, *REFUSED_FOR_THEIR_OWN, *REASONS} <= set(RESPONSES)


@pytest.mark.parametrize("name", RESPONSES)
def test_none_is_for_our_certificate(name):
    """Whatever they say, and however they are signed."""
    assert refusal(name, LEAF.cert, CA.cert, NOW).reason is REASONS.get(name, Reason.CERTID_MISMATCH)


@pytest.mark.parametrize("name", sorted(set(ALL) - set(RESPONSES)))
def test_no_request_is_a_response(name):
    assert refusal(name, LEAF.cert, CA.cert, NOW).reason is Reason.UNPARSABLE


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_right_is_accepted(name):
    """In its time; after it, it is expired."""
    leaf, issuer, now = ACCEPTED[name]
    certificates = {"leaf": certificate(leaf), "issuer": certificate(issuer)}
    staple = check(vector(name), **certificates, now=now, rules=RULES)
    assert staple.der == vector(name)
    assert staple.signer == certificates["issuer"].subject.rfc4514_string()
    assert refusal(name, *certificates.values(), now + timedelta(days=7)).reason is Reason.EXPIRED


@pytest.mark.parametrize("name", REFUSED_FOR_THEIR_OWN)
def test_what_is_wrong_is_refused_for_its_own_certificate(name):
    leaf, issuer, now, reason = REFUSED_FOR_THEIR_OWN[name]
    error = refusal(name, certificate(leaf), certificate(issuer), now)
    assert error.reason is reason, error


@pytest.mark.parametrize("name", ALL)
def test_all_can_be_described(name):
    """`explain` shows them, or says in a sentence why not."""
    try:
        text = response_text(vector(name))
    except ValueError as error:
        text = str(error)
    assert text.startswith("OCSP Response Data:\n") or "\n" not in text

"""What may be stapled, and until when: the rules that no row of test_behaviours.py asks for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp
from ocsp import pki
from ocsp.cases import (
    GOOD,
    HARMLESS,
    RSA,
    RSA_CA,
    RSA_LEAF,
    RULES,
    SECOND,
    by,
    checked,
    delegate,
    ok,
    one,
    refusal,
    row,
    rsa,
)
from ocsp.pki import CA, DAY, DELEGATE, LEAF, NOW, Answer, cert_id, delegated, der_of, single

from proxy.errors import Reason, StapleRejected
from proxy.ocsp.response import CertStatus, Rules, require_nonce, verify
from proxy.settings.model import StaplingSettings

FRACTION = b"20300614120000.5Z"
SMALL_CA = pki.issue("Small CA", pki.ROOT, own_key=pki.key("small ca", "rsa1024"), ca=True)
SMALL_LEAF = pki.issue("small-leaf.example", SMALL_CA)
CURVE_CA = pki.issue("Curve CA", pki.ROOT, own_key=pki.key("curve", "p192"), ca=True)
CURVE_LEAF = pki.issue("curve-leaf.example", CURVE_CA)
NAMESAKE = pki.issue("Test CA", pki.ROOT, own_key=pki.key("namesake"), ca=True)

REFUSED = [
    # form
    row("HTML", Reason.UNPARSABLE, b"<html><body>It works!</body></html>"),
    row("too large", Reason.TOO_LARGE, GOOD.der, rules=Rules(max_response_bytes=100)),
    row("thisUpdate with a fraction", Reason.FRACTIONAL_SECONDS, one(this_update=FRACTION)),
    row("nextUpdate with a fraction", Reason.FRACTIONAL_SECONDS, one(next_update=FRACTION)),
    row("producedAt with a fraction", Reason.FRACTIONAL_SECONDS, GOOD.but(produced_at=FRACTION)),
    row("a date without Z", Reason.UNPARSABLE, GOOD.but(produced_at=b"20300614120000")),
    row("a year that is none", Reason.UNPARSABLE, one(this_update=b"00000614120000Z")),
    row("a signature that is no whole octets", Reason.UNPARSABLE, GOOD.but(unused_bits=1)),
    row("something that is no certificate in the list", Reason.UNPARSABLE, GOOD.but(certs=(pki.seq(),))),
    # the right certificate
    row("serial of another", Reason.CERTID_MISMATCH, one(cert_id(serial=7))),
    row("CertID by SHA-512", Reason.CERTID_MISMATCH, one(cert_id(digest=pki.SHA512))),
    row("CertID by a hash that nobody knows", Reason.CERTID_MISMATCH, one(pki.unknown_hash_cert_id())),
    # the signature
    row("issuer's namesake with another key", Reason.BAD_SIGNATURE, GOOD.but(signer=NAMESAKE, certs=der_of(NAMESAKE))),
    row(
        "signature of a kind that the key cannot make",
        Reason.BAD_SIGNATURE,
        GOOD.wrap(GOOD.tbs).replace(pki.oid("1.2.840.10045.4.3.2"), pki.oid("1.2.840.10045.4.3.3")),
    ),
    row(
        "RSA algorithm, EC key",
        Reason.BAD_SIGNATURE,
        GOOD.but(algorithm=(pki.ALGORITHMS["rsa-sha256"][0], pki.ALGORITHMS["ecdsa-sha256"][1])),
    ),
    row("RSA with MD5", Reason.WEAK_SIGNATURE, rsa("rsa-md5"), **RSA),
    row(
        "RSA with 1024 bits",
        Reason.WEAK_SIGNATURE,
        by(SMALL_CA, SMALL_LEAF, algorithm="rsa-sha256"),
        issuer=SMALL_CA,
        leaf=SMALL_LEAF,
    ),
    row("curve too small", Reason.WEAK_SIGNATURE, by(CURVE_CA, CURVE_LEAF), issuer=CURVE_CA, leaf=CURVE_LEAF),
    row("PSS with another mask", Reason.WEAK_SIGNATURE, rsa(pki.pss(mask=pki.SHA1)), **RSA),
    row(
        "unknown signature algorithm",
        Reason.WEAK_SIGNATURE,
        GOOD.but(algorithm=(pki.seq(pki.oid("1.2.3.4")), pki.ALGORITHMS["ecdsa-sha256"][1])),
    ),
    # the signer
    row("responder id empty", Reason.UNAUTHORIZED_SIGNER, GOOD.but(responder=pki.tlv(0xA1, pki.seq()))),
    # dates
    row("nextUpdate before thisUpdate", Reason.BAD_DATES, one(next_update=NOW - 2 * DAY)),
    row(
        "nextUpdate absent, none allowed",
        Reason.NO_NEXT_UPDATE,
        one(this_update=NOW, next_update=None),
        rules=Rules(max_age_without_next_update_s=0),
    ),
    row("certificate expired", Reason.CERTIFICATE_EXPIRED, GOOD, now=LEAF.cert.not_valid_after_utc + SECOND),
    row(
        "the certificate's last second",
        Reason.EXPIRED,
        one(next_update=NOW + 999 * DAY),
        now=LEAF.cert.not_valid_after_utc,
    ),
    # status
    row(
        "revoked by a stranger is no revocation",
        Reason.UNAUTHORIZED_SIGNER,
        GOOD.but(signer=pki.ROOT, singles=(single(status=pki.revoked(NOW - DAY)),)),
    ),
    row(
        "an expired 'revoked' is expired", Reason.EXPIRED, one(status=pki.revoked(NOW - DAY), next_update=NOW - SECOND)
    ),
]


@pytest.mark.parametrize(("der", "reason", "how"), REFUSED)
def test_is_refused_for_its_reason(der, reason, how):
    """Each defect is refused, for its own reason, in a sentence."""
    error = refusal(der, **how)
    assert error.reason is reason, error
    assert error.detail
    assert "\n" not in error.detail


SIGNERS = {
    "RSA with SHA-256": ("rsa2048", "rsa-sha256"),
    "RSA with SHA-512": ("rsa2048", "rsa-sha512"),
    "RSA of 3072 bits": ("rsa3072", "rsa-sha256"),
    "RSASSA-PSS with SHA-256": ("rsa2048", pki.pss()),
    "RSASSA-PSS with SHA-512": ("rsa2048", pki.pss(pki.SHA512, salt=64)),
    "RSASSA-PSS with the longest salt": ("rsa2048", pki.pss(salt=222)),
    "RSASSA-PSS with the salt left out": ("rsa2048", pki.pss(salt=None)),
    "ECDSA P-256 with SHA-256": ("ec", "ecdsa-sha256"),
    "ECDSA P-256 with SHA-384": ("ec", "ecdsa-sha384"),
    "ECDSA P-384": ("p384", "ecdsa-sha384"),
    "ECDSA P-521": ("p521", "ecdsa-sha512"),
    "Ed25519": ("ed25519", "ed25519"),
    "Ed448": ("ed448", "ed448"),
}


@pytest.mark.parametrize(("kind", "algorithm"), SIGNERS.values(), ids=SIGNERS)
def test_every_kind_of_signer(kind, algorithm):
    """As issuer, and as delegate of an issuer of the same kind."""
    issuer = pki.issue(f"{kind} CA", pki.ROOT, own_key=pki.key("signing ca", kind), ca=True)
    leaf = pki.issue("signed.example", issuer)
    signer = pki.issue("signing delegate", issuer, own_key=pki.key("signing delegate", kind), eku=pki.OCSP_EKU)
    answer = by(issuer, leaf, algorithm=algorithm)
    assert checked(answer.der, issuer=issuer, leaf=leaf).signer == f"CN={kind} CA"
    answer = answer.but(signer=signer, certs=der_of(signer))
    assert checked(answer.der, issuer=issuer, leaf=leaf).signer == "CN=signing delegate"
    assert refusal(answer.but(key=issuer.key).der, issuer=issuer, leaf=leaf).reason is Reason.BAD_SIGNATURE


@pytest.mark.parametrize(
    "algorithm",
    [
        pki.pss(salt=-1),
        pki.pss(said=60_000),
        pki.pss(said=2**70),
        pki.pss(trailer=b"\xa3\x03\x02\x01\x01"),
        pki.pss(trailer=b"\x00"),
        (pki.seq(pki.oid(pki.PSS), b"\x05"), pki.pss()[1]),
    ],
    ids=["negative salt", "long salt", "salt that no C int holds", "trailer field", "garbage behind", "garbage"],
)
def test_odd_pss_parameters_are_refused(algorithm):
    """Parameters of RSASSA-PSS that nobody writes are refused, and break nothing; some are already unparsable."""
    assert refusal(rsa(algorithm).der, **RSA).reason in (Reason.WEAK_SIGNATURE, Reason.UNPARSABLE)


RSA_SHA1_DELEGATE = pki.signed_with_sha1(pki.issue("SHA-1 delegate", RSA_CA, eku=pki.OCSP_EKU), RSA_CA)
EC_SHA1_DELEGATE = pki.signed_with_sha1(pki.issue("SHA-1 EC delegate", CA, eku=pki.OCSP_EKU), CA, "ecdsa-sha1")
WITH_SHA1 = [
    ok("RSA", rsa("rsa-sha1"), **RSA),
    ok("RSASSA-PSS", rsa(pki.pss(pki.SHA1, salt=None)), **RSA),
    ok("RSASSA-PSS with a salt of its own", rsa(pki.pss(pki.SHA1)), **RSA),
    ok("ECDSA", GOOD.but(algorithm="ecdsa-sha1")),
    ok(
        "delegate's certificate, RSA", delegated(RSA_SHA1_DELEGATE, singles=(single(cert_id(RSA_LEAF, RSA_CA)),)), **RSA
    ),
    ok("delegate's certificate, ECDSA", delegated(EC_SHA1_DELEGATE)),
]


@pytest.mark.parametrize(("der", "how"), WITH_SHA1)
def test_sha1_signatures_are_taken_only_if_so_set(der, how):
    """`accept_sha1_signatures` is for the response's signature and for that on the delegate's certificate."""
    error = refusal(der, **how)
    assert error.reason is Reason.WEAK_SIGNATURE
    assert "accept_sha1_signatures" in error.detail
    assert checked(der, **how, rules=Rules(accept_sha1_signatures=True)).status == "good"


def test_md5_is_never_taken():
    rules = Rules(accept_sha1_signatures=True)
    assert refusal(rsa("rsa-md5").der, **RSA, rules=rules).reason is Reason.WEAK_SIGNATURE


def test_rules_come_from_the_settings():
    """Each limit is the operator's."""
    settings = StaplingSettings(
        max_response_bytes=2048, clock_skew_s=1, max_age_without_next_update_s=2, accept_sha1_signatures=True
    )
    assert Rules.from_settings(settings) == Rules(2048, 1, 2, accept_sha1_signatures=True)


ACCEPTED = [
    ok("delegate without key usage and constraints", delegate("plain delegate", ca=None)),
    ok("delegate with a critical ocsp-nocheck", delegate("nocheck delegate", extra=[(x509.OCSPNoCheck(), True)])),
    ok("CertID by SHA-256", one(cert_id(digest=pki.SHA256))),
    ok(
        "the same serial by a hash that nobody knows, and by SHA-1",
        GOOD.but(singles=(single(pki.unknown_hash_cert_id()), single())),
    ),
    ok("a nonce that nobody asked for", GOOD.but(extensions=(pki.nonce(b"x" * 32),))),
]


@pytest.mark.parametrize(("der", "how"), ACCEPTED)
def test_is_accepted(der, how):
    """What is odd but right is stapled, and its bytes are the responder's."""
    staple = checked(der, **how)
    assert staple.der == der
    assert staple.status == "good"
    assert staple.serve_until > NOW


@pytest.mark.parametrize("signer", [CA, DELEGATE, pki.named_otherwise(DELEGATE, CA)])
def test_names_are_compared_by_value(signer):
    """RFC 5280 7.1: the issuer's name may be one kind of string in its own certificate, and another in those it issues.

    The CertID has it as the certificate has it (RFC 6960 4.1.1).
    """
    leaf = pki.named_otherwise(LEAF, CA)
    as_in_leaf = leaf.cert.issuer.public_bytes()
    assert as_in_leaf != CA.cert.subject.public_bytes()
    answer = Answer(signer=signer, certs=() if signer is CA else der_of(signer))
    response = answer.but(singles=(single(cert_id(leaf, name=as_in_leaf)),))
    assert checked(response.der, leaf=leaf).status == "good"
    assert refusal(answer.but(singles=(single(cert_id(leaf)),)).der, leaf=leaf).reason is Reason.CERTID_MISMATCH


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (delegated(certs=der_of(DELEGATE, CA)), (DELEGATE,)),
        (delegated(certs=der_of(pki.ROOT, CA, pki.OTHER_LEAF, DELEGATE)), (DELEGATE,)),
        (delegated(certs=der_of(DELEGATE, DELEGATE)), (DELEGATE,)),
        (GOOD.but(certs=der_of(pki.OTHER_LEAF, CA)), (CA,)),
        (GOOD.but(certs=der_of(DELEGATE, pki.ROOT)), ()),
    ],
    ids=["delegate first", "delegate last", "delegate twice", "issuer last", "neither"],
)
def test_only_the_signers_certificate_is_stapled(answer, kept):
    """Nothing else in the list is needed, and nobody signed the list; what is signed stays as it was."""
    der = answer.der
    staple = checked(der)
    response = ocsp.load_der_ocsp_response(staple.der)
    before = ocsp.load_der_ocsp_response(der)
    assert response.certificates == [party.cert for party in kept]
    assert (response.tbs_response_bytes, response.signature) == (before.tbs_response_bytes, before.signature)
    assert checked(staple.der) == staple


def test_a_response_built_by_cryptography_is_accepted():
    """Our DER writer is not our only witness."""
    built = (
        ocsp.OCSPResponseBuilder()
        .add_response(LEAF.cert, CA.cert, hashes.SHA256(), ocsp.OCSPCertStatus.GOOD, NOW, NOW + DAY, None, None)
        .responder_id(ocsp.OCSPResponderEncoding.HASH, DELEGATE.cert)
        .certificates([DELEGATE.cert])
        .sign(DELEGATE.key, hashes.SHA256())
    )
    staple = checked(built.public_bytes(pki.Encoding.DER))
    assert staple.der == built.public_bytes(pki.Encoding.DER)
    assert (staple.this_update, staple.next_update, staple.signer) == (NOW, NOW + DAY, "CN=Test OCSP")
    assert staple.cert_id_hash == "sha256"


def far(**parts) -> tuple[bytes, ...]:
    return (single(**{"this_update": NOW, "next_update": NOW + 999 * DAY, **parts}),)


def test_serve_until_is_the_first_of_all_ends():
    """nextUpdate, the certificate's end, the delegate's end, the age allowed without it: the first one counts."""
    assert checked(GOOD.der).serve_until == NOW + DAY
    assert checked(GOOD.but(singles=far()).der).serve_until == LEAF.cert.not_valid_after_utc
    assert checked(delegated(singles=far()).der).serve_until == DELEGATE.cert.not_valid_after_utc
    without = checked(GOOD.but(singles=far(next_update=None)).der)
    assert without.next_update is None
    assert without.serve_until == NOW + timedelta(seconds=RULES.max_age_without_next_update_s)


def test_verify_tells_a_proved_revocation():
    """`verify` proves a response whatever its status; since when and why it is revoked is told."""
    der = one(status=pki.revoked(NOW - DAY, reason=1)).der
    staple = verify(der, leaf=LEAF.cert, issuer=CA.cert, now=NOW, rules=RULES)
    assert staple.status is CertStatus.REVOKED
    assert "keyCompromise" in staple.revocation
    assert "2030-06-14" in staple.revocation


NONCE = bytes(range(32))


def test_a_nonce_that_comes_back_is_right():
    require_nonce(GOOD.but(extensions=(HARMLESS, pki.nonce(NONCE))).der, NONCE)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (GOOD, Reason.NONCE_MISMATCH),
        (GOOD.but(extensions=(HARMLESS,)), Reason.NONCE_MISMATCH),
        (GOOD.but(extensions=(pki.nonce(NONCE[::-1]),)), Reason.NONCE_MISMATCH),
        (GOOD.but(extensions=(pki.nonce(NONCE[:16]),)), Reason.NONCE_MISMATCH),
        (GOOD.but(singles=(single(extensions=[pki.nonce(NONCE)]),)), Reason.NONCE_MISMATCH),
        (GOOD.but(extensions=(pki.nonce(NONCE), pki.nonce(NONCE[::-1]))), Reason.UNPARSABLE),
        (GOOD.but(extensions=(pki.extension(pki.NONCE, critical=False),)), Reason.NONCE_MISMATCH),
    ],
    ids=["none", "none among others", "another", "part of it", "in the wrong place", "two", "no OCTET STRING"],
)
def test_any_other_nonce_is_refused(answer, reason):
    """Replay protection was asked for: without the request's own nonce the answer may be an old one."""
    with pytest.raises(StapleRejected) as caught:
        require_nonce(answer.der, NONCE)
    assert caught.value.reason is reason


def test_require_nonce_reads_anything():
    """What is no response at all is refused like everywhere."""
    with pytest.raises(StapleRejected):
        require_nonce(b"<html>", NONCE)
    with pytest.raises(StapleRejected):
        require_nonce(bytes.fromhex("30030a0103"), NONCE)

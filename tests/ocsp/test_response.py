"""What may be stapled: a row for every case that other implementations test, with the reason it is refused for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ocsp import pki
from ocsp.pki import CA, DAY, DELEGATE, LEAF, NOW, Answer, cert_id, delegated, der_of, single

from proxy.errors import Reason, StapleRejected
from proxy.ocsp.response import CertStatus, Rules, Staple, check, verify

RULES = Rules()
SECOND = timedelta(seconds=1)


def checked(der: bytes, *, leaf=LEAF, issuer=CA, now=NOW, rules=RULES) -> Staple:
    return check(der, leaf=leaf.cert, issuer=issuer.cert, now=now, rules=rules)


def refusal(der: bytes, **how) -> StapleRejected:
    with pytest.raises(StapleRejected) as caught:
        checked(der, **how)
    return caught.value


def row(name: str, reason: Reason, answer: Answer | bytes, **how) -> object:
    der = answer if isinstance(answer, bytes) else answer.der
    return pytest.param(der, reason, how, id=name)


GOOD = Answer()
FRACTION = b"20300614120000.5Z"
RSA_CA = pki.issue("RSA CA", pki.ROOT, own_key=pki.key("rsa ca", "rsa2048"), ca=True)
RSA_LEAF = pki.issue("rsa-leaf.example", RSA_CA)
SMALL_CA = pki.issue("Small CA", pki.ROOT, own_key=pki.key("small ca", "rsa1024"), ca=True)
SMALL_LEAF = pki.issue("small-leaf.example", SMALL_CA)
RSA = {"issuer": RSA_CA, "leaf": RSA_LEAF}
CURVE_CA = pki.issue("Curve CA", pki.ROOT, own_key=pki.key("curve", "p192"), ca=True)
CURVE_LEAF = pki.issue("curve-leaf.example", CURVE_CA)
SHA1_DELEGATE = pki.signed_with_sha1(pki.issue("SHA-1 delegate", RSA_CA, eku=pki.OCSP_EKU), RSA_CA)
NAMESAKE = pki.issue("Test CA", pki.ROOT, own_key=pki.key("namesake"), ca=True)
CRITICAL = pki.extension(pki.UNKNOWN_EXTENSION, critical=True)
HARMLESS = pki.extension(pki.UNKNOWN_EXTENSION, critical=False)
UNKNOWN_CRITICAL = x509.UnrecognizedExtension(x509.ObjectIdentifier(pki.UNKNOWN_EXTENSION), b"\x05\x00")


def by(issuer: pki.Party, leaf: pki.Party, **parts) -> Answer:
    return Answer(signer=issuer, singles=(single(cert_id(leaf, issuer)),), **parts)


def delegate(name: str = "odd delegate", issuer: pki.Party = CA, **parts) -> Answer:
    """An answer by a delegate that has something wrong with its certificate."""
    return delegated(pki.issue(name, issuer, **{"eku": pki.OCSP_EKU, **parts}))


def one(cid: bytes | None = None, **parts) -> Answer:
    """An answer by the issuer with one single response."""
    return Answer(singles=(single(cid, **parts),))


def rsa(algorithm: str | tuple) -> Answer:
    return by(RSA_CA, RSA_LEAF, algorithm=algorithm)


def with_broken(delegate: pki.Party) -> bytes:
    (der,) = der_of(delegate)
    return der[:-8] + bytes(8)


REFUSED = [
    # form
    row("empty staple", Reason.UNPARSABLE, b""),
    row("HTML", Reason.UNPARSABLE, b"<html><body>It works!</body></html>"),
    row("trailing garbage", Reason.TRAILING_BYTES, GOOD.der + b"\x00"),
    row("two responses", Reason.TRAILING_BYTES, GOOD.der * 2),
    row("too large", Reason.TOO_LARGE, GOOD.der, rules=Rules(max_response_bytes=100)),
    row("malformedRequest", Reason.MALFORMED_REQUEST, bytes.fromhex("30030a0101")),
    row("internalError", Reason.INTERNAL_ERROR, bytes.fromhex("30030a0102")),
    row("tryLater", Reason.TRY_LATER, bytes.fromhex("30030a0103")),
    row("sigRequired", Reason.SIG_REQUIRED, bytes.fromhex("30030a0105")),
    row("unauthorized", Reason.UNAUTHORIZED, bytes.fromhex("30030a0106")),
    row("tryLater with a good response inside", Reason.TRY_LATER, GOOD.but(status=3)),
    row("status 4 is not used", Reason.UNPARSABLE, bytes.fromhex("30030a0104")),
    row("successful without response bytes", Reason.UNPARSABLE, bytes.fromhex("30030a0100")),
    row("unknown response type", Reason.RESPONSE_TYPE, GOOD.but(type="1.3.6.1.5.5.7.48.1.99")),
    row("thisUpdate with a fraction", Reason.FRACTIONAL_SECONDS, one(this_update=FRACTION)),
    row("nextUpdate with a fraction", Reason.FRACTIONAL_SECONDS, one(next_update=FRACTION)),
    row("producedAt with a fraction", Reason.FRACTIONAL_SECONDS, GOOD.but(produced_at=FRACTION)),
    row("a date without Z", Reason.UNPARSABLE, GOOD.but(produced_at=b"20300614120000")),
    row("a year that is none", Reason.UNPARSABLE, one(this_update=b"00000614120000Z")),
    row("a signature that is no whole octets", Reason.UNPARSABLE, GOOD.but(unused_bits=1)),
    row("something that is no certificate in the list", Reason.UNPARSABLE, GOOD.but(certs=(pki.seq(),))),
    # the right certificate
    row("no single response", Reason.CERTID_MISMATCH, GOOD.but(singles=())),
    row("for another certificate only", Reason.CERTID_MISMATCH, one(cert_id(pki.OTHER_LEAF))),
    row("issuer name hash of another", Reason.CERTID_MISMATCH, one(cert_id(name_of=pki.ROOT))),
    row("issuer key hash of another", Reason.CERTID_MISMATCH, one(cert_id(key_of=pki.ROOT))),
    row("serial of another", Reason.CERTID_MISMATCH, one(cert_id(serial=7))),
    row("CertID by SHA-512", Reason.CERTID_MISMATCH, one(cert_id(digest=pki.SHA512))),
    row("from another CA", Reason.CERTID_MISMATCH, by(pki.OTHER_CA, LEAF)),
    row("several, none matches", Reason.CERTID_MISMATCH, GOOD.but(singles=(single(cert_id(pki.OTHER_LEAF)),) * 3)),
    # extensions
    row("unknown critical extension of the response", Reason.CRITICAL_EXTENSION, GOOD.but(extensions=(CRITICAL,))),
    row(
        "unknown critical extension of the single response",
        Reason.CRITICAL_EXTENSION,
        one(extensions=[HARMLESS, CRITICAL]),
    ),
    row(
        "the same in the second of two",
        Reason.CRITICAL_EXTENSION,
        GOOD.but(singles=(single(cert_id(pki.OTHER_LEAF)), single(extensions=[CRITICAL]))),
    ),
    # the signature
    row("signature broken", Reason.BAD_SIGNATURE, GOOD.wrap(GOOD.tbs, signed=b"else")),
    row("key not that of the issuer", Reason.BAD_SIGNATURE, GOOD.but(key=pki.ROOT.key)),
    row("issuer's namesake with another key", Reason.BAD_SIGNATURE, GOOD.but(signer=NAMESAKE, certs=der_of(NAMESAKE))),
    row("key not that of the delegate", Reason.BAD_SIGNATURE, delegated(key=CA.key)),
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
    row("ECDSA with SHA-1", Reason.WEAK_SIGNATURE, GOOD.but(algorithm="ecdsa-sha1")),
    row("RSA with SHA-1", Reason.WEAK_SIGNATURE, rsa("rsa-sha1"), **RSA),
    row("RSA with MD5", Reason.WEAK_SIGNATURE, rsa("rsa-md5"), **RSA),
    row(
        "RSA with 1024 bits",
        Reason.WEAK_SIGNATURE,
        by(SMALL_CA, SMALL_LEAF, algorithm="rsa-sha256"),
        issuer=SMALL_CA,
        leaf=SMALL_LEAF,
    ),
    row("PSS with SHA-1", Reason.WEAK_SIGNATURE, rsa(pki.pss(pki.SHA1)), **RSA),
    row("PSS with another mask", Reason.WEAK_SIGNATURE, rsa(pki.pss(mask=pki.SHA1)), **RSA),
    row(
        "unknown signature algorithm",
        Reason.WEAK_SIGNATURE,
        GOOD.but(algorithm=(pki.seq(pki.oid("1.2.3.4")), pki.ALGORITHMS["ecdsa-sha256"][1])),
    ),
    # the signer
    row(
        "responder id of another",
        Reason.UNAUTHORIZED_SIGNER,
        GOOD.but(responder=pki.tlv(0xA1, pki.ROOT.cert.subject.public_bytes())),
    ),
    row(
        "responder key hash of another",
        Reason.UNAUTHORIZED_SIGNER,
        GOOD.but(responder=pki.tlv(0xA2, pki.tlv(0x04, bytes(20)))),
    ),
    row("responder id empty", Reason.UNAUTHORIZED_SIGNER, GOOD.but(responder=pki.tlv(0xA1, pki.seq()))),
    row(
        "signed by another CA under the same root",
        Reason.UNAUTHORIZED_SIGNER,
        GOOD.but(signer=pki.OTHER_CA, certs=der_of(pki.OTHER_CA)),
    ),
    row("signed by the root", Reason.UNAUTHORIZED_SIGNER, GOOD.but(signer=pki.ROOT, certs=der_of(pki.ROOT))),
    row("delegate's certificate missing", Reason.UNAUTHORIZED_SIGNER, delegated(certs=())),
    row("missing among several", Reason.UNAUTHORIZED_SIGNER, delegated(certs=der_of(CA, pki.OTHER_LEAF, pki.ROOT))),
    row("delegate expired", Reason.SIGNER_OUT_OF_DATE, delegate(end=NOW - DAY)),
    row("delegate not yet valid", Reason.SIGNER_OUT_OF_DATE, delegate(begin=NOW + DAY)),
    row("delegate without EKU", Reason.UNAUTHORIZED_SIGNER, delegate(eku=None)),
    row(
        "delegate with an EKU of another kind",
        Reason.UNAUTHORIZED_SIGNER,
        delegate(eku=[ExtendedKeyUsageOID.SERVER_AUTH]),
    ),
    row(
        "delegate with anyExtendedKeyUsage",
        Reason.UNAUTHORIZED_SIGNER,
        delegate(eku=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
    ),
    row("delegate with crlSign key usage only", Reason.UNAUTHORIZED_SIGNER, delegate(key_usage="crl_sign")),
    row("delegate that is a CA", Reason.UNAUTHORIZED_SIGNER, delegate(ca=True)),
    row(
        "delegate with an unknown critical extension",
        Reason.UNAUTHORIZED_SIGNER,
        delegate(extra=[(UNKNOWN_CRITICAL, True)]),
    ),
    row("delegate tampered", Reason.UNAUTHORIZED_SIGNER, delegated(certs=(with_broken(DELEGATE),))),
    row("delegate issued by a subordinate CA", Reason.UNAUTHORIZED_SIGNER, delegate(issuer=pki.SUB_CA)),
    row("delegate issued by the grandparent", Reason.UNAUTHORIZED_SIGNER, delegate(issuer=pki.ROOT)),
    row("delegate issued by an unknown CA", Reason.UNAUTHORIZED_SIGNER, delegate(issuer=pki.issue("Nobody", ca=True))),
    row("delegate issued by a namesake of the issuer", Reason.UNAUTHORIZED_SIGNER, delegate(issuer=NAMESAKE)),
    row(
        "delegate's key too short",
        Reason.WEAK_SIGNATURE,
        delegated(
            pki.issue("short delegate", CA, own_key=pki.key("short", "rsa1024"), eku=pki.OCSP_EKU),
            algorithm="rsa-sha256",
        ),
    ),
    row(
        "delegate's certificate signed with SHA-1",
        Reason.WEAK_SIGNATURE,
        delegated(SHA1_DELEGATE, singles=(single(cert_id(RSA_LEAF, RSA_CA)),)),
        **RSA,
    ),
    row("curve too small", Reason.WEAK_SIGNATURE, by(CURVE_CA, CURVE_LEAF), issuer=CURVE_CA, leaf=CURVE_LEAF),
    row("the leaf itself signs", Reason.UNAUTHORIZED_SIGNER, delegated(LEAF)),
    # dates
    row("thisUpdate to come", Reason.NOT_YET_VALID, one(this_update=NOW + 301 * SECOND, next_update=NOW + DAY)),
    row("nextUpdate past", Reason.EXPIRED, one(next_update=NOW - SECOND)),
    row("nextUpdate now", Reason.EXPIRED, one(next_update=NOW)),
    row("nextUpdate before thisUpdate", Reason.BAD_DATES, one(next_update=NOW - 2 * DAY)),
    row("nextUpdate absent and thisUpdate old", Reason.EXPIRED, one(next_update=None)),
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
    row("revoked", Reason.REVOKED, one(status=pki.revoked(NOW - DAY))),
    row("unknown", Reason.UNKNOWN, one(status=pki.UNKNOWN)),
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


def edwards(kind: str) -> tuple[pki.Party, pki.Party]:
    issuer = pki.issue(f"{kind} CA", pki.ROOT, own_key=pki.key("ca", kind), ca=True)
    return issuer, pki.issue(f"{kind}.example", issuer)


def accepted_rows() -> list:
    rows = [
        ("signed by the issuer, by name", GOOD, {}),
        ("signed by the issuer, by key hash", GOOD.but(by_key_hash=True), {}),
        ("the issuer's certificate comes along", GOOD.but(certs=der_of(CA)), {}),
        ("signed by a delegate, by name", delegated(), {}),
        ("signed by a delegate, by key hash", delegated(by_key_hash=True), {}),
        ("delegate's certificate first of several", delegated(certs=der_of(DELEGATE, pki.ROOT, CA)), {}),
        ("delegate's certificate last of several", delegated(certs=der_of(CA, pki.OTHER_LEAF, DELEGATE)), {}),
        ("delegate without key usage and constraints", delegate("plain delegate", ca=None), {}),
        (
            "delegate with a critical ocsp-nocheck",
            delegate("nocheck delegate", extra=[(x509.OCSPNoCheck(), True)]),
            {},
        ),
        (
            "a delegate's expired certificate beside the one in force",
            delegated(certs=der_of(pki.issue("Test OCSP", CA, eku=pki.OCSP_EKU, end=NOW - DAY), DELEGATE)),
            {},
        ),
        ("CertID by SHA-256", one(cert_id(digest=pki.SHA256)), {}),
        (
            "the right one of several",
            GOOD.but(singles=(single(cert_id(pki.OTHER_LEAF), status=pki.revoked(NOW)), single())),
            {},
        ),
        (
            "unknown extension, not critical",
            GOOD.but(extensions=(HARMLESS,), singles=(single(extensions=[HARMLESS]),)),
            {},
        ),
        (
            "another's critical extension",
            GOOD.but(singles=(single(cert_id(pki.OTHER_LEAF), extensions=[CRITICAL]), single())),
            {},
        ),
        ("empty extension list", one(extensions=[]), {}),
        ("SCT list", one(extensions=[pki.extension("1.3.6.1.4.1.11129.2.4.5", critical=False)]), {}),
        ("thisUpdate to come within the skew", one(this_update=NOW + 300 * SECOND), {}),
        ("nextUpdate absent while thisUpdate is recent", one(this_update=NOW, next_update=None), {}),
        ("ECDSA with SHA-384", GOOD.but(algorithm="ecdsa-sha384"), {}),
    ]
    for algorithm in ("rsa-sha256", "rsa-sha512", pki.pss(), pki.pss(pki.SHA512, salt=64), pki.pss(salt=None)):
        name = algorithm if isinstance(algorithm, str) else f"RSASSA-PSS {len(rows)}"
        rows.append((name, rsa(algorithm), RSA))
    for kind in ("ed25519", "ed448"):
        issuer, leaf = edwards(kind)
        rows.append((kind, by(issuer, leaf, algorithm=kind), {"issuer": issuer, "leaf": leaf}))
    return [pytest.param(answer.der, how, id=name) for name, answer, how in rows]


@pytest.mark.parametrize(("der", "how"), accepted_rows())
def test_is_accepted(der, how):
    """What is odd but right is stapled, and its bytes are the responder's."""
    staple = checked(der, **how)
    assert staple.der == der
    assert staple.status == "good"
    assert staple.serve_until > NOW


@pytest.mark.parametrize(
    "parameters",
    [
        pki.pss(salt=-1),
        pki.pss(trailer=b"\xa3\x03\x02\x01\x01"),
        pki.pss(trailer=b"\x00"),
    ],
    ids=["negative salt", "trailer field", "garbage"],
)
def test_odd_pss_parameters_are_refused(parameters):
    """Parameters of RSASSA-PSS that nobody writes are refused, and break nothing."""
    der = rsa(parameters).der
    assert refusal(der, **RSA).reason in (Reason.UNAUTHORIZED_SIGNER, Reason.UNPARSABLE)


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


ORIGINALS = {
    "issuer": GOOD.der,
    "delegate": delegated(by_key_hash=True).der,
    "several": GOOD.but(singles=(single(cert_id(pki.OTHER_LEAF)), single(extensions=[HARMLESS]))).der,
}


@pytest.mark.parametrize("original", ORIGINALS.values(), ids=ORIGINALS)
def test_every_truncation_is_unparsable(original):
    """A response cut anywhere is refused as what it is."""
    for length in range(len(original)):
        assert refusal(original[:length]).reason is Reason.UNPARSABLE


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("original", ORIGINALS.values(), ids=ORIGINALS)
def test_no_flipped_bit_is_accepted(original):
    """Each single bit of a response counts: none can be changed unseen, and none breaks the check."""
    for position in range(len(original) * 8):
        altered = bytearray(original)
        altered[position // 8] ^= 1 << position % 8
        refusal(bytes(altered))


@st.composite
def altered(draw: st.DrawFn) -> bytes:
    original = draw(st.sampled_from(sorted(ORIGINALS.values())))
    body = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body) - 1))
        end = draw(st.integers(at, min(len(body), at + 8)))
        body[at:end] = draw(st.binary(max_size=8))
    return bytes(body) if bytes(body) != original else original + b"\x00"


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(altered())
def test_no_altered_response_is_accepted(der):
    """Whatever is changed, inserted or cut: StapleRejected, and nothing else."""
    refusal(der)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_check(der):
    """Anything may come from a responder."""
    refusal(der)

"""What other implementations' tests ask of who verifies a response, row by row.

The rows are those of a table collected from OpenSSL, mozilla::pkix, Firefox and Go; a test's name begins with its row.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from ocsp import pki
from ocsp.cases import (
    CRITICAL,
    GOOD,
    HARMLESS,
    SECOND,
    by,
    checked,
    delegate,
    ok,
    one,
    refusal,
    row,
    unrecognized,
)
from ocsp.pki import CA, DAY, DELEGATE, LEAF, NOW, ROOT, Answer, cert_id, delegated, der_of, single

from proxy.errors import Reason
from proxy.ocsp.request import build_request

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNED_RIGHT = (
    "signed by the issuer, or by a delegate it issued with id-kp-OCSPSigning; responder by name or by key hash;"
    " delegate's certificate first or last in the list"
)
SIGNED_WRONG = (
    "signature broken; responder id of another; issuer name hash or key hash of another; delegate's key not the"
    " signer's; delegate's own signature broken; issuer with another subject, another key, or a broken signature"
)
DELEGATES = (
    "delegate's certificate missing, missing among several, expired, not yet valid, no EKU, EKU of another kind,"
    " tampered, crlSign key usage, issued by a subordinate, by the grandparent or an unknown CA, key under 1024 bits"
)
STATUSES = "status malformedRequest, internalError, tryLater, sigRequired, unauthorized"
FORMS = "'successful' with no response bytes; empty staple; trailing garbage; unknown response type"
OTHERS = "for another certificate only (right CA); from another CA, trusted or not"
SEVERAL = "several single responses: the right one is picked; none matches: refused"
DATES = (
    "thisUpdate to come, nextUpdate past, nextUpdate absent (taken while thisUpdate is recent: pkix a day),"
    " validThrough from nextUpdate"
)
NOT_GOOD = "'unknown' and 'revoked' are told apart from 'good'"
EXTENSIONS = "unknown critical extension; unknown non-critical, empty extension list, SCT list are taken"
REQUEST = "request: serials of up to 20 octets; a longer one is no crash"

ROWS = {
    SIGNED_RIGHT: "test_signed_right",
    SIGNED_WRONG: "test_signed_wrong",
    DELEGATES: "test_delegates",
    STATUSES: "test_statuses",
    FORMS: "test_forms",
    OTHERS: "test_others",
    SEVERAL: "test_several",
    DATES: "test_dates",
    NOT_GOOD: "test_not_good",
    EXTENSIONS: "test_extensions",
    REQUEST: "test_request",
}


@pytest.mark.parametrize("test", ROWS.values())
def test_every_row_has_its_tests(test):
    """A row without a test of its name, or a name that two rows share, is a row that nobody tests."""
    assert any(name.startswith(test) for name in globals())
    assert list(ROWS.values()).count(test) == 1


def refused(row_title: str, *cases):
    """Tests of a row: `der` is refused for `reason`."""
    assert row_title in ROWS
    return pytest.mark.parametrize(("der", "reason", "how"), cases)


def accepted(row_title: str, *cases):
    """Tests of a row: `der` may be stapled."""
    assert row_title in ROWS
    return pytest.mark.parametrize(("der", "how"), cases)


# --- who signed ---

HIERARCHIES = {
    "intermediate to leaf": (CA, LEAF),
    "root to intermediate": (ROOT, CA),
    "root to leaf": (ROOT, pki.issue("root-leaf.example", ROOT)),
}


def signed(issuer: pki.Party, leaf: pki.Party, signer: pki.Party, **parts) -> Answer:
    """A right answer by `signer`, the issuer or its delegate, but for `parts`."""
    certs = () if signer is issuer else der_of(signer)
    return Answer(**{"signer": signer, "certs": certs, "singles": (single(cert_id(leaf, issuer)),), **parts})


def hierarchies() -> Iterator[tuple[str, pki.Party, pki.Party, pki.Party]]:
    """Name, issuer, leaf and signer: each hierarchy, once signed by the issuer and once by its delegate."""
    for name, (issuer, leaf) in HIERARCHIES.items():
        yield f"not delegated, {name}", issuer, leaf, issuer
        yield f"delegated, {name}", issuer, leaf, pki.issue("Delegate", issuer, eku=pki.OCSP_EKU)


def signed_right() -> Iterator[object]:
    for name, issuer, leaf, signer in hierarchies():
        for by_key_hash in (False, True):
            way = "by key hash" if by_key_hash else "by name"
            answer = signed(issuer, leaf, signer, by_key_hash=by_key_hash)
            yield ok(f"{name}, {way}", answer, issuer=issuer, leaf=leaf)


@accepted(
    SIGNED_RIGHT,
    *signed_right(),
    ok("issuer's certificate in the list", GOOD.but(certs=der_of(CA))),
    ok("delegate's certificate first of several", delegated(certs=der_of(DELEGATE, ROOT, CA))),
    ok("delegate's certificate last of several", delegated(certs=der_of(CA, pki.OTHER_LEAF, DELEGATE))),
    ok("delegate's expired certificate beside the one in force", delegated(
        certs=der_of(pki.issue("Test OCSP", CA, eku=pki.OCSP_EKU, end=NOW - DAY), DELEGATE)
    )),
)  # fmt: skip
def test_signed_right(der, how):
    assert checked(der, **how).status == "good"


def signed_wrong() -> Iterator[object]:
    """OpenSSL's test/recipes/80-test_ocsp.t with its abbreviations."""
    stranger = pki.issue("Stranger", ca=True)
    for name, issuer, leaf, signer in hierarchies():
        right = signed(issuer, leaf, signer)
        how = {"issuer": issuer, "leaf": leaf}
        by_name = pki.tlv(0xA1, stranger.cert.subject.public_bytes())
        by_hash = pki.tlv(0xA2, pki.tlv(0x04, hashlib.sha1(stranger.key_bits).digest()))  # noqa: S324  RFC 6960 4.2.1
        of_another_name = (single(cert_id(leaf, issuer, name_of=stranger)),)
        of_another_key = (single(cert_id(leaf, issuer, key_of=stranger)),)
        yield row(f"ISOP, {name}", Reason.BAD_SIGNATURE, right.wrap(right.tbs, signed=b"else"), **how)
        yield row(f"WRID, {name}, by name", Reason.UNAUTHORIZED_SIGNER, right.but(responder=by_name), **how)
        yield row(f"WRID, {name}, by key hash", Reason.UNAUTHORIZED_SIGNER, right.but(responder=by_hash), **how)
        yield row(f"WINH, {name}", Reason.CERTID_MISMATCH, right.but(singles=of_another_name), **how)
        yield row(f"WIKH, {name}", Reason.CERTID_MISMATCH, right.but(singles=of_another_key), **how)
        if signer is not issuer:
            rekeyed = pki.issue("Delegate", issuer, eku=pki.OCSP_EKU, own_key=pki.key("rekeyed"))
            broken = pki.with_broken_signature(signer)
            yield row(f"WKDOSC, {name}", Reason.BAD_SIGNATURE, right.but(certs=der_of(rekeyed)), **how)
            yield row(f"ISDOSC, {name}", Reason.UNAUTHORIZED_SIGNER, right.but(certs=der_of(broken)), **how)
        renamed = pki.issue("Renamed", own_key=issuer.key, ca=True)
        namesake = pki.issue(pki.common_name(issuer), own_key=pki.key("namesake"), ca=True)
        for way in (right, right.but(by_key_hash=True)):
            word = "by key hash" if way.by_key_hash else "by name"
            yield row(f"WSNIC, {name}, {word}", Reason.UNAUTHORIZED_SIGNER, way, issuer=renamed, leaf=leaf)
            yield row(f"WKIC, {name}, {word}", Reason.CERTID_MISMATCH, way, issuer=namesake, leaf=leaf)


@refused(SIGNED_WRONG, *signed_wrong())
def test_signed_wrong(der, reason, how):
    assert refusal(der, **how).reason is reason


@accepted(SIGNED_WRONG, *(
    ok(f"ISIC, {name}", signed(issuer, leaf, signer), issuer=pki.with_broken_signature(issuer), leaf=leaf)
    for name, issuer, leaf, signer in hierarchies()
))  # fmt: skip
def test_signed_wrong_above_the_issuer_is_not_judged(der, how):
    """Which issuer is trusted is told, not found out: OpenSSL expects success here, for the same reason."""
    assert checked(der, **how).status == "good"


@refused(
    DELEGATES,
    row("missing", Reason.UNAUTHORIZED_SIGNER, delegated(certs=())),
    row("missing among several", Reason.UNAUTHORIZED_SIGNER, delegated(certs=der_of(CA, pki.OTHER_LEAF, ROOT))),
    row("expired", Reason.SIGNER_OUT_OF_DATE, delegate(end=NOW - DAY)),
    row("expired a second ago", Reason.SIGNER_OUT_OF_DATE, delegate(end=NOW - SECOND)),
    row("not yet valid", Reason.SIGNER_OUT_OF_DATE, delegate(begin=NOW + DAY)),
    row("valid in a second", Reason.SIGNER_OUT_OF_DATE, delegate(begin=NOW + SECOND)),
    row("no EKU", Reason.UNAUTHORIZED_SIGNER, delegate(eku=None)),
    row("EKU of another kind", Reason.UNAUTHORIZED_SIGNER, delegate(eku=[ExtendedKeyUsageOID.SERVER_AUTH])),
    row("any EKU", Reason.UNAUTHORIZED_SIGNER, delegate(eku=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])),
    row("tampered", Reason.UNAUTHORIZED_SIGNER, delegated(certs=der_of(pki.with_broken_signature(DELEGATE)))),
    row("crlSign key usage", Reason.UNAUTHORIZED_SIGNER, delegate(key_usage="crl_sign")),
    row("a CA", Reason.UNAUTHORIZED_SIGNER, delegate(ca=True)),
    row("unknown critical extension", Reason.UNAUTHORIZED_SIGNER, delegate(extra=[unrecognized(critical=True)])),
    row("issued by a subordinate", Reason.UNAUTHORIZED_SIGNER, delegate(issuer=pki.SUB_CA)),
    row("issued by a subordinate, which is in the list", Reason.UNAUTHORIZED_SIGNER, delegated(
        issued := pki.issue("sub delegate", pki.SUB_CA, eku=pki.OCSP_EKU), certs=der_of(issued, pki.SUB_CA)
    )),
    row("issued by the grandparent", Reason.UNAUTHORIZED_SIGNER, delegate(issuer=ROOT)),
    row("issued by an unknown CA", Reason.UNAUTHORIZED_SIGNER, delegate(issuer=pki.issue("Nobody", ca=True))),
    row("issued by a namesake of the issuer", Reason.UNAUTHORIZED_SIGNER, delegate(
        issuer=pki.issue("Test CA", ROOT, own_key=pki.key("namesake"), ca=True)
    )),
    row("signed by itself", Reason.UNAUTHORIZED_SIGNER, delegated(pki.issue("Self", eku=pki.OCSP_EKU))),
    row("key of 1024 bits", Reason.WEAK_SIGNATURE, delegated(
        pki.issue("short delegate", CA, own_key=pki.key("short", "rsa1024"), eku=pki.OCSP_EKU), algorithm="rsa-sha256"
    )),
    row("the leaf itself", Reason.UNAUTHORIZED_SIGNER, delegated(LEAF)),
)  # fmt: skip
def test_delegates(der, reason, how):
    assert refusal(der, **how).reason is reason


# --- the rest of the response ---


@refused(
    STATUSES,
    row("malformedRequest", Reason.MALFORMED_REQUEST, bytes.fromhex("30030a0101")),
    row("internalError", Reason.INTERNAL_ERROR, bytes.fromhex("30030a0102")),
    row("tryLater", Reason.TRY_LATER, bytes.fromhex("30030a0103")),
    row("sigRequired", Reason.SIG_REQUIRED, bytes.fromhex("30030a0105")),
    row("unauthorized", Reason.UNAUTHORIZED, bytes.fromhex("30030a0106")),
    row("tryLater with a good response inside", Reason.TRY_LATER, GOOD.but(status=3)),
    row("4, which is not used", Reason.UNPARSABLE, bytes.fromhex("30030a0104")),
    row("7, which is unknown", Reason.UNPARSABLE, bytes.fromhex("30030a0107")),
)
def test_statuses(der, reason, how):
    assert refusal(der, **how).reason is reason


@refused(
    FORMS,
    row("'successful' with no response bytes", Reason.UNPARSABLE, bytes.fromhex("30030a0100")),
    row("empty staple", Reason.UNPARSABLE, b""),
    row("trailing garbage", Reason.TRAILING_BYTES, GOOD.der + b"\x00"),
    row("two responses", Reason.TRAILING_BYTES, GOOD.der * 2),
    row("unknown response type", Reason.RESPONSE_TYPE, GOOD.but(type="1.3.6.1.5.5.7.48.1.99")),
)
def test_forms(der, reason, how):
    assert refusal(der, **how).reason is reason


@refused(
    OTHERS,
    row("for another certificate only", Reason.CERTID_MISMATCH, one(cert_id(pki.OTHER_LEAF))),
    row("from another CA that is trusted", Reason.CERTID_MISMATCH, by(pki.OTHER_CA, LEAF)),
    row("from another CA that is not", Reason.CERTID_MISMATCH, by(pki.issue("Nobody", ca=True), LEAF)),
    row("for the right certificate, by another CA", Reason.UNAUTHORIZED_SIGNER, GOOD.but(
        signer=pki.OTHER_CA, certs=der_of(pki.OTHER_CA)
    )),
    row("for the right certificate, by the root", Reason.UNAUTHORIZED_SIGNER, GOOD.but(
        signer=ROOT, certs=der_of(ROOT)
    )),
)  # fmt: skip
def test_others(der, reason, how):
    assert refusal(der, **how).reason is reason


OTHER = single(cert_id(pki.OTHER_LEAF), status=pki.revoked(NOW))


@accepted(
    SEVERAL,
    ok("the right one is the last", GOOD.but(singles=(OTHER, single()))),
    ok("the right one is the first", GOOD.but(singles=(single(), OTHER))),
    ok("by SHA-256 among others by SHA-1", GOOD.but(singles=(OTHER, single(cert_id(digest=pki.SHA256))))),
)
def test_several(der, how):
    assert checked(der, **how).status == "good"


@refused(
    SEVERAL,
    row("none matches", Reason.CERTID_MISMATCH, GOOD.but(singles=(OTHER,) * 3)),
    row("there is none", Reason.CERTID_MISMATCH, GOOD.but(singles=())),
)
def test_several_none_matches(der, reason, how):
    assert refusal(der, **how).reason is reason


@refused(
    DATES,
    row("thisUpdate to come", Reason.NOT_YET_VALID, one(this_update=NOW + 301 * SECOND, next_update=NOW + DAY)),
    row("nextUpdate past", Reason.EXPIRED, one(next_update=NOW - SECOND)),
    row("nextUpdate now", Reason.EXPIRED, one(next_update=NOW)),
    row("nextUpdate absent and thisUpdate old", Reason.EXPIRED, one(next_update=None)),
)
def test_dates(der, reason, how):
    assert refusal(der, **how).reason is reason


def test_dates_valid_through_next_update():
    assert checked(GOOD.der).serve_until == NOW + DAY


@accepted(
    DATES,
    ok("nextUpdate absent while thisUpdate is recent", one(this_update=NOW, next_update=None)),
    ok("thisUpdate to come, within the skew", one(this_update=NOW + 300 * SECOND)),
)
def test_dates_that_are_right(der, how):
    assert checked(der, **how).serve_until > NOW


@refused(
    NOT_GOOD,
    row("revoked", Reason.REVOKED, one(status=pki.revoked(NOW - DAY))),
    row("unknown", Reason.UNKNOWN, one(status=pki.UNKNOWN)),
    *(
        row(f"revoked for reason {reason}", Reason.REVOKED, one(status=pki.revoked(NOW - DAY, reason)))
        for reason in (0, 1, 2, 3, 4, 5, 6, 8, 9, 10)  # RFC 5280 5.3.1
    ),
)
def test_not_good(der, reason, how):
    assert refusal(der, **how).reason is reason


@refused(
    EXTENSIONS,
    row("critical, of the response", Reason.CRITICAL_EXTENSION, GOOD.but(extensions=(CRITICAL,))),
    row("critical, of the single response", Reason.CRITICAL_EXTENSION, one(extensions=[HARMLESS, CRITICAL])),
    row("critical, of the second of two", Reason.CRITICAL_EXTENSION, GOOD.but(
        singles=(single(cert_id(pki.OTHER_LEAF)), single(extensions=[CRITICAL]))
    )),
)  # fmt: skip
def test_extensions(der, reason, how):
    assert refusal(der, **how).reason is reason


SCT_LIST = pki.extension("1.3.6.1.4.1.11129.2.4.5", critical=False)


@accepted(
    EXTENSIONS,
    ok("not critical, of the response", GOOD.but(extensions=(HARMLESS,))),
    ok("not critical, of the single response", one(extensions=[HARMLESS])),
    ok("critical, of another's single response", GOOD.but(
        singles=(single(cert_id(pki.OTHER_LEAF), extensions=[CRITICAL]), single())
    )),
    ok("empty list", one(extensions=[])),
    ok("empty list of the response", GOOD.but(extensions=())),
    ok("SCT list", one(extensions=[SCT_LIST])),
)  # fmt: skip
def test_extensions_that_are_taken(der, how):
    assert checked(der, **how).status == "good"


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("serial", [
    *(b"\x7f" * octets for octets in (1, 8, 9, 19, 20, 21, 37, 127, 128, 300)),
    b"\x00\xff" + b"\xff" * 19,
    b"\x00",
    b"\xff",
    b"\x80" + b"\x01" * 19,
], ids=lambda serial: f"{len(serial)} octets from {serial[:2].hex()}")  # fmt: skip
def test_request_and_response_for_any_serial(serial):
    """RFC 5280 4.1.2.2 has 20 octets, positive; what a private CA writes beyond that works as well."""
    leaf = pki.with_serial(LEAF, CA, serial)
    number = int.from_bytes(serial, signed=True)
    assert ocsp.load_der_ocsp_request(build_request(leaf.cert, CA.cert)).serial_number == number
    assert checked(one(cert_id(leaf)).der, leaf=leaf).status == "good"
    assert refusal(GOOD.der, leaf=leaf).reason is Reason.CERTID_MISMATCH

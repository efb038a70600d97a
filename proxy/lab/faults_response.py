"""Faults of the OCSP response itself, which comes over HTTP as it should."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from proxy.errors import Reason
from proxy.lab import answers, der
from proxy.lab import wrong_answers as wrong
from proxy.lab.delegates import ED25519_KEY, WEAK_KEY, Delegation
from proxy.lab.fault import Condition, Fault
from proxy.lab.plays import Says

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.lab.wrong_answers import Occasion

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def _row(
    name: str,
    what: str,
    reason: Reason | None,
    build: Callable[[Occasion], bytes],
    only_when: Condition | None = None,
) -> Fault:
    return Fault(name, "response", what, reason, Says(build), only_when)


def _revoked(flag: x509.ReasonFlags) -> Fault:
    return _row(
        f"revoked-{flag.name.replace('_', '-')}",
        f"The certificate is revoked for the reason {flag.value}.",
        Reason.REVOKED,
        wrong.revoked(answers.REASON_CODES[flag]),
    )


_EMPTY_SCT_LIST = der.octets(b"\x00\x00")

RESPONSE = (
    # OCSPResponseStatus (RFC 6960 4.2.1)
    _row(
        "malformed-request",
        "The responder calls the request malformed.",
        Reason.MALFORMED_REQUEST,
        wrong.always(answers.MALFORMED_REQUEST),
    ),
    _row(
        "internal-error",
        "The responder has an internal error.",
        Reason.INTERNAL_ERROR,
        wrong.always(answers.INTERNAL_ERROR),
    ),
    _row("try-later", "The responder wants to be asked later.", Reason.TRY_LATER, wrong.always(answers.TRY_LATER)),
    _row(
        "sig-required", "The responder wants signed requests.", Reason.SIG_REQUIRED, wrong.always(answers.SIG_REQUIRED)
    ),
    _row(
        "unauthorized",
        "The responder does not answer for this certificate.",
        Reason.UNAUTHORIZED,
        wrong.always(answers.UNAUTHORIZED),
    ),
    _row(
        "status-unknown",
        "The status is 4, which means nothing.",
        Reason.UNPARSABLE,
        wrong.always(answers.unsuccessful(4)),
    ),
    _row(
        "successful-without-bytes",
        "The status is 'successful', and no response follows.",
        Reason.UNPARSABLE,
        wrong.always(answers.unsuccessful(0)),
    ),
    # the form
    _row("response-type", "The response is of a private type.", Reason.RESPONSE_TYPE, wrong.other_type),
    _row("garbage", "The body is random bytes.", Reason.UNPARSABLE, wrong.garbage),
    _row("truncated", "The response is cut anywhere.", Reason.UNPARSABLE, wrong.cut),
    _row("base64", "The response is right, but in base64.", Reason.UNPARSABLE, wrong.base64_text),
    _row("ber", "A length is left open, as BER allows and DER does not.", Reason.UNPARSABLE, wrong.indefinite_length),
    _row("trailing-garbage", "Bytes follow the response.", Reason.TRAILING_BYTES, wrong.followed_by(b"garbage")),
    _row("trailing-newline", "A newline follows the response.", Reason.TRAILING_BYTES, wrong.followed_by(b"\n")),
    _row("11-kilobytes", "The response has 11 kB, more than Apache takes.", None, wrong.padded(11_000)),
    _row("2-megabytes", "The response has 2 MB.", Reason.TOO_LARGE, wrong.padded(2_000_000)),
    _row(
        "fractional-seconds",
        "thisUpdate has half a second, which RFC 5280 forbids and some clients refuse.",
        Reason.FRACTIONAL_SECONDS,
        wrong.fractional_seconds,
    ),
    # which certificate it is about
    _row(
        "wrong-serial",
        "The answer is about another certificate.",
        Reason.CERTID_MISMATCH,
        wrong.about(wrong.other_serial),
    ),
    _row(
        "wrong-name-hash",
        "The hash of the issuer's name is another.",
        Reason.CERTID_MISMATCH,
        wrong.about(wrong.other_name_hash),
    ),
    _row(
        "wrong-key-hash",
        "The hash of the issuer's key is another.",
        Reason.CERTID_MISMATCH,
        wrong.about(wrong.other_key_hash),
    ),
    _row(
        "wrong-issuer",
        "The answer is about that serial number of another CA.",
        Reason.CERTID_MISMATCH,
        wrong.about(wrong.of_another_ca),
    ),
    _row(
        "sha512-certid",
        "The CertID is hashed with SHA-512, which nobody asked for.",
        Reason.CERTID_MISMATCH,
        wrong.about(wrong.hashed_with("sha512")),
    ),
    _row(
        "sha256-certid",
        "The CertID is hashed with SHA-256, whatever was asked for.",
        None,
        wrong.about(wrong.hashed_with("sha256")),
    ),
    _row(
        "several-singles", "The answer is about three certificates, ours in the middle.", None, wrong.several(1, 0, 2)
    ),
    _row("several-others", "The answer is about three others.", Reason.CERTID_MISMATCH, wrong.several(1, 2, 3)),
    _row("no-singles", "The answer is about no certificate.", Reason.CERTID_MISMATCH, wrong.several()),
    # what it says about it
    _row("expired", "nextUpdate was an hour ago.", Reason.EXPIRED, wrong.lasting(-DAY, -HOUR)),
    _row("future", "thisUpdate is tomorrow.", Reason.NOT_YET_VALID, wrong.lasting(DAY, 2 * DAY)),
    _row(
        "slightly-ahead",
        "The responder's clock is a minute ahead, as clocks are.",
        None,
        wrong.moved(MINUTE, MINUTE),
    ),
    _row("bad-dates", "nextUpdate is before thisUpdate.", Reason.BAD_DATES, wrong.lasting(-HOUR, -2 * HOUR)),
    _row(
        "no-next-update",
        "There is no nextUpdate: stapled for max_age_without_next_update_s.",
        None,
        wrong.lasting(timedelta(), None),
    ),
    _row(
        "no-next-update-old",
        "There is no nextUpdate, and thisUpdate was a month ago.",
        Reason.EXPIRED,
        wrong.lasting(-30 * DAY, None),
    ),
    _row(
        "older-than-before",
        "thisUpdate is a day before that of an earlier answer, although nextUpdate is to come.",
        Reason.OLDER_THAN_HELD,
        wrong.moved(-DAY, timedelta()),
        Condition.HELD,
    ),
    _row("unknown", "The responder does not know the certificate.", Reason.UNKNOWN, wrong.with_status(answers.UNKNOWN)),
    _row("revoked", "The certificate is revoked, and no reason is told.", Reason.REVOKED, wrong.revoked(None)),
    *map(_revoked, answers.REASON_CODES),
    # extensions
    _row(
        "critical-extension",
        "The response has a critical extension of its own.",
        Reason.CRITICAL_EXTENSION,
        wrong.with_extensions(der.extension(wrong.PRIVATE_EXTENSION, der.NULL, critical=True)),
    ),
    _row(
        "critical-single-extension",
        "What is said about the certificate has a critical extension.",
        Reason.CRITICAL_EXTENSION,
        wrong.with_single_extensions(der.extension(wrong.PRIVATE_EXTENSION, der.NULL, critical=True)),
    ),
    _row(
        "private-extension",
        "The response has an unknown extension that is not critical.",
        None,
        wrong.with_extensions(der.extension(wrong.PRIVATE_EXTENSION, der.NULL)),
    ),
    _row("empty-extensions", "The list of extensions is empty.", None, wrong.with_single_extensions()),
    _row(
        "sct-list",
        "The answer carries an SCT list.",
        None,
        wrong.with_single_extensions(der.extension(wrong.SCT_LIST, _EMPTY_SCT_LIST)),
    ),
    _row(
        "nonce-missing",
        "The request's nonce does not come back.",
        Reason.NONCE_MISMATCH,
        wrong.nonce_missing,
        Condition.NONCE,
    ),
    _row("nonce-wrong", "Another nonce comes back.", Reason.NONCE_MISMATCH, wrong.nonce_wrong, Condition.NONCE),
    _row("nonce-unasked", "A nonce comes although none was sent.", None, wrong.nonce_unasked),
    # signatures
    _row("tampered", "A signed 'revoked' was changed into 'good'.", Reason.BAD_SIGNATURE, wrong.tampered),
    _row("bad-signature", "Another key than the signer's signed.", Reason.BAD_SIGNATURE, wrong.signature_of_other_key),
    _row("sha1-signature", "The signature is over SHA-1.", Reason.WEAK_SIGNATURE, wrong.signed_with_sha1),
    # signers (RFC 6960 4.2.2.2)
    _row("issuer-signed", "The issuer itself signed.", None, wrong.by_issuer),
    _row("responder-by-name", "The signer is named by its subject, not by its key.", None, wrong.named_by_name),
    _row(
        "ed25519-signed", "A delegate with an Ed25519 key signed.", None, wrong.by_delegate(Delegation(key=ED25519_KEY))
    ),
    _row(
        "other-signer",
        "A stranger signed, whose certificate is by itself.",
        Reason.UNAUTHORIZED_SIGNER,
        wrong.by_delegate(Delegation(by="itself")),
    ),
    _row(
        "other-responder-id",
        "The signer is named as another one.",
        Reason.UNAUTHORIZED_SIGNER,
        wrong.responder_of_another,
    ),
    _row(
        "delegate-last",
        "The delegate's certificate is the last of three.",
        None,
        wrong.sent_with("stranger", "issuer", "delegate"),
    ),
    _row("delegate-missing", "The delegate's certificate is not sent.", Reason.UNAUTHORIZED_SIGNER, wrong.sent_with()),
    _row(
        "delegate-missing-among-others",
        "Certificates are sent, but not the delegate's.",
        Reason.UNAUTHORIZED_SIGNER,
        wrong.sent_with("stranger", "issuer"),
    ),
    _row(
        "delegate-without-eku",
        "The delegate's certificate has no extended key usage.",
        Reason.UNAUTHORIZED_SIGNER,
        wrong.by_delegate(Delegation(purposes=())),
    ),
    _row(
        "delegate-other-eku",
        "The delegate's certificate is for servers.",
        Reason.UNAUTHORIZED_SIGNER,
        wrong.by_delegate(Delegation(purposes=(ExtendedKeyUsageOID.SERVER_AUTH,))),
    ),
    _row(
        "delegate-any-eku",
        "The delegate's certificate is for any purpose, which does not delegate.",
        Reason.UNAUTHORIZED_SIGNER,
        wrong.by_delegate(Delegation(purposes=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,))),
    ),
    _row(
        "delegate-expired",
        "The delegate's certificate ended an hour ago.",
        Reason.SIGNER_OUT_OF_DATE,
        wrong.by_delegate(Delegation(end=-HOUR)),
    ),
    _row(
        "delegate-not-yet-valid",
        "The delegate's certificate begins in an hour.",
        Reason.SIGNER_OUT_OF_DATE,
        wrong.by_delegate(Delegation(begin=HOUR)),
    ),
    _row(
        "delegate-by-root",
        "The delegate was named by the CA above the issuer.",
        Reason.UNAUTHORIZED_SIGNER,
        wrong.by_delegate(Delegation(by="root")),
    ),
    _row(
        "delegate-is-ca",
        "The delegate's certificate is a CA's.",
        Reason.UNAUTHORIZED_SIGNER,
        wrong.by_delegate(Delegation(is_ca=True)),
    ),
    _row(
        "delegate-key-usage",
        "The delegate's key may sign certificates and CRLs, but nothing else.",
        Reason.UNAUTHORIZED_SIGNER,
        wrong.by_delegate(Delegation(may_sign=False)),
    ),
    _row(
        "delegate-critical-extension",
        "The delegate's certificate has an unknown critical extension.",
        Reason.UNAUTHORIZED_SIGNER,
        wrong.by_delegate(
            Delegation(
                critical=x509.UnrecognizedExtension(x509.ObjectIdentifier(wrong.PRIVATE_EXTENSION), der.NULL),
            )
        ),
    ),
    _row(
        "delegate-tampered",
        "The delegate's certificate was changed after it was signed.",
        Reason.UNAUTHORIZED_SIGNER,
        wrong.by_delegate(Delegation(is_tampered=True)),
    ),
    _row(
        "delegate-weak-key",
        "The delegate's key has 192 bits.",
        Reason.WEAK_SIGNATURE,
        wrong.by_delegate(Delegation(key=WEAK_KEY)),
    ),
)

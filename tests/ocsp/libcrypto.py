"""The machine's own libcrypto, the one that Apache stands on, asked what it makes of a response."""

from __future__ import annotations

import ctypes
import ctypes.util
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_ubyte, c_void_p
from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.serialization import Encoding
from ocsp.pki import CA, LEAF


@dataclass(frozen=True)
class Seen:
    """What OpenSSL reads; `times_valid` None: it says nothing of the certificate."""

    status: int
    again: bytes
    is_basic: bool = False
    cert_status: int | None = None
    reason: int | None = None
    times_valid: bool | None = None


@cache
def loaded() -> ctypes.CDLL | None:
    name = ctypes.util.find_library("crypto")
    if not name:
        return None
    lib = ctypes.CDLL(name)
    for function in ("d2i_OCSP_RESPONSE", "OCSP_response_get1_basic", "OCSP_cert_to_id", "d2i_X509", "EVP_sha1"):
        getattr(lib, function).restype = c_void_p
    lib.OCSP_cert_to_id.argtypes = [c_void_p, c_void_p, c_void_p]
    lib.d2i_OCSP_RESPONSE.argtypes = lib.d2i_X509.argtypes = [c_void_p, POINTER(c_char_p), c_long]
    lib.i2d_OCSP_RESPONSE.argtypes = [c_void_p, POINTER(c_void_p)]
    for function in ("OCSP_response_status", "OCSP_response_get1_basic", "ASN1_GENERALIZEDTIME_check"):
        getattr(lib, function).argtypes = [c_void_p]
    for function in ("OCSP_RESPONSE_free", "OCSP_BASICRESP_free"):
        getattr(lib, function).argtypes = [c_void_p]
    lib.OCSP_resp_find_status.argtypes = [c_void_p, c_void_p, *[c_void_p] * 5]
    lib.X509_cmp_time.argtypes = [c_void_p, POINTER(c_long)]
    lib.ASN1_STRING_cmp.argtypes = [c_void_p, c_void_p]
    return lib


@cache
def _cert_id() -> int:
    lib = loaded()

    def x509(party) -> int:
        der = party.cert.public_bytes(Encoding.DER)
        return lib.d2i_X509(None, byref(c_char_p(der)), len(der))

    return lib.OCSP_cert_to_id(lib.EVP_sha1(), x509(LEAF), x509(CA))


def look(der: bytes, now_s: int, skew_s: int, max_age_s: int) -> Seen | None:
    """What OpenSSL makes of it, by the calls that mod_ssl makes; None: it is no OCSPResponse. For LEAF of CA."""
    lib = loaded()
    response = lib.d2i_OCSP_RESPONSE(None, byref(c_char_p(der)), len(der))
    if not response:
        lib.ERR_clear_error()
        return None
    try:
        status, again = lib.OCSP_response_status(response), _again(lib, response)
        basic = lib.OCSP_response_get1_basic(response) if not status else None
        if not basic:
            lib.ERR_clear_error()
            return Seen(status, again)
        try:
            return _look(lib, basic, Seen(status, again, is_basic=True), now_s, skew_s, max_age_s)
        finally:
            lib.OCSP_BASICRESP_free(basic)
    finally:
        lib.OCSP_RESPONSE_free(response)


def _again(lib, response: int) -> bytes:
    buffer = (c_ubyte * 100_000)()
    at = c_void_p(ctypes.addressof(buffer))
    return bytes(buffer[: lib.i2d_OCSP_RESPONSE(response, byref(at))])


def _look(lib, basic: int, seen: Seen, now_s: int, skew_s: int, max_age_s: int) -> Seen:
    status, reason, revoked, start, end = c_int(), c_int(), c_void_p(), c_void_p(), c_void_p()
    found = lib.OCSP_resp_find_status(
        basic, _cert_id(), byref(status), byref(reason), byref(revoked), byref(start), byref(end)
    )
    if not found:
        return seen

    def compare(time: c_void_p, with_s: int) -> int:
        return lib.X509_cmp_time(time, byref(c_long(with_s)))

    # OCSP_check_validity, which cannot be told the time.
    valid = lib.ASN1_GENERALIZEDTIME_check(start) == 1 and compare(start, now_s + skew_s) <= 0
    valid &= max_age_s < 0 or compare(start, now_s - max_age_s) >= 0
    if end:
        valid &= lib.ASN1_GENERALIZEDTIME_check(end) == 1 and compare(end, now_s - skew_s) >= 0
        valid &= lib.ASN1_STRING_cmp(end, start) >= 0
    lib.ERR_clear_error()
    return Seen(seen.status, seen.again, True, status.value, reason.value, bool(valid))

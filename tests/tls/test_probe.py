"""What the linked OpenSSL does not staple although it is told to."""

from __future__ import annotations

from datetime import UTC, datetime

from proxy.tls.probe import CASES, not_stapled


def test_the_probe_tells_what_clients_do_not_get():
    """Whatever OpenSSL it is, the right response is stapled; and it is never said that nothing is."""
    missing = not_stapled(datetime.now(UTC))
    assert set(missing) < set(CASES)
    assert "right" not in missing
    assert "a tryLater" not in missing


def test_with_openssl_4_it_is_the_response_for_another_certificate():
    """The one known difference: should another one come, or this one go, the documents must say so."""
    assert set(not_stapled(datetime.now(UTC))) <= {"about a certificate of another serial number"}

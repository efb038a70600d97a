"""A response is described as OpenSSL describes it."""

import re
import shutil
import subprocess

import pytest
from ocsp.pki import (
    CA,
    DAY,
    NOW,
    SHA256,
    UNKNOWN,
    UNKNOWN_EXTENSION,
    Answer,
    cert_id,
    delegated,
    extension,
    issue,
    key,
    revoked,
    single,
)

from proxy.ocsp.text import response_text

NONCE = extension("1.3.6.1.5.5.7.48.1.2", critical=False, value=b"\x04\x10" + bytes(range(16)))
RSA_CA = issue("Test RSA CA", own_key=key("text", "rsa2048"), ca=True)


def said_by_openssl(der, tmp_path):
    (tmp_path / "response.der").write_bytes(der)
    command = ["openssl", "ocsp", "-respin", tmp_path / "response.der", "-resp_text", "-noverify"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # It writes what is in a certificate above its PEM.
    return re.sub(r"^Certificate:\n.*?(?=^-----BEGIN)", "", said, flags=re.MULTILINE | re.DOTALL)


def plain(text):
    """Newer versions write CN=x, older CN = x; and it ends with an empty line or two."""
    return text.replace(" = ", "=").rstrip("\n")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(), id="good"),
        pytest.param(Answer(singles=(single(cert_id(serial=0x0A)),), produced_at=NOW + 20 * DAY), id="short serial"),
        pytest.param(delegated(), id="with the certificate of a delegate"),
        pytest.param(Answer(by_key_hash=True, extensions=(NONCE,)), id="by key hash, with a nonce"),
        pytest.param(Answer(signer=RSA_CA, algorithm="rsa-sha256"), id="RSA"),
        pytest.param(Answer(singles=(single(status=revoked(NOW - DAY, 1), next_update=None),)), id="revoked"),
        pytest.param(Answer(singles=(single(status=revoked(NOW - DAY)),)), id="revoked without a reason"),
        pytest.param(
            Answer(singles=(single(), single(cert_id(digest=SHA256), status=UNKNOWN))), id="of two certificates"
        ),
    ],
)
def test_it_is_openssls_text(answer, tmp_path):
    der = answer.der  # signed anew each time
    assert plain(response_text(der)) == plain(said_by_openssl(der, tmp_path))


def test_other_extensions_are_told_by_number_and_bytes():
    text = response_text(
        Answer(
            singles=(single(extensions=[extension(UNKNOWN_EXTENSION, critical=False)]),),
            extensions=(extension(UNKNOWN_EXTENSION, critical=True),),
        ).der
    )
    assert f"        Response Single Extensions:\n            {UNKNOWN_EXTENSION}: \n                0500\n" in text
    assert f"    Response Extensions:\n        {UNKNOWN_EXTENSION}: critical\n            0500\n" in text


def test_an_error_response_is_its_status():
    assert response_text(bytes.fromhex("30030a0103")) == (
        "OCSP Response Data:\n    OCSP Response Status: trylater (0x3)\n"
    )


@pytest.mark.parametrize("der", [b"", b"nonsense", Answer().der[:-1], Answer(signer=CA).der + b"x"])
def test_what_is_no_response_is_one_sentence(der):
    with pytest.raises(ValueError, match=r"^the response cannot be read: [^\n]*$"):
        response_text(der)

"""The lab's certificates hold up before the real openssl."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from lab.servers import openssl

from proxy.lab.ca import LabCA

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    ca = LabCA.create(NOW)
    for kind in ("rsa", "ec"):
        ca.issue(["lab.test", "*.lab.test", "127.0.0.1", "::1"], key=kind, ocsp_urls=["http://127.0.0.1:1"])
    folder = tmp_path_factory.mktemp("ca")
    ca.write(folder)
    return folder


@pytest.mark.parametrize("kind", ["rsa", "ec"])
@pytest.mark.parametrize("name", ["-verify_hostname lab.test", "-verify_hostname www.lab.test", "-verify_ip 127.0.0.1"])
def test_strict_openssl_takes_the_chain_for_each_name(folder, kind, name):
    result = openssl(
        "verify", "-x509_strict", "-purpose", "sslserver", *name.split(), "-CAfile", folder / "root.pem",
        "-untrusted", folder / "intermediate.pem", folder / f"lab.test.{kind}.pem",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_openssl_takes_the_ocsp_signer_for_its_purpose(folder):
    result = openssl(
        "verify", "-x509_strict", "-purpose", "ocsphelper", "-CAfile", folder / "root.pem",
        "-untrusted", folder / "intermediate.pem", folder / "ocsp-signer.pem",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_keys_are_for_the_owner_only(folder):
    keys = sorted(folder.glob("*.key"))
    assert [key.stem for key in keys] == ["intermediate", "lab.test.ec", "lab.test.rsa", "ocsp-signer", "root"]
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_openssl_as_the_responder_knows_the_certificates_from_the_index(folder, tmp_path):
    """``openssl ocsp -index`` answers 'good' for what was issued: the lab can stand on a foreign responder."""
    request, response = tmp_path / "request.der", tmp_path / "response.der"
    leaf = ("-issuer", folder / "intermediate.pem", "-cert", folder / "lab.test.ec.pem")
    assert openssl("ocsp", *leaf, "-reqout", request, "-no_nonce").returncode == 0
    made = openssl(
        "ocsp", "-index", folder / "index.txt", "-CA", folder / "intermediate.pem", "-rsigner",
        folder / "ocsp-signer.pem", "-rkey", folder / "ocsp-signer.key", "-reqin", request, "-respout", response,
        "-ndays", "1",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    checked = openssl(
        "ocsp", "-respin", response, *leaf, "-CAfile", folder / "root.pem", "-verify_other", folder / "intermediate.pem"
    )
    assert "Response verify OK" in checked.stderr
    assert "lab.test.ec.pem: good" in checked.stdout


def test_a_loaded_ca_goes_on_where_the_first_stopped(folder, tmp_path):
    """The same root and intermediate; what was issued before stays in the index, once."""
    shutil.copytree(folder, tmp_path / "again")
    ca = LabCA.load(tmp_path / "again")
    ca.issue(["later.test"])
    ca.write(tmp_path / "again")
    ca.write(tmp_path / "again")
    index = (tmp_path / "again" / "index.txt").read_text().splitlines()
    assert [line.rpartition("=")[2] for line in index] == ["lab.test", "lab.test", "later.test"]
    result = openssl(
        "verify", "-CAfile", folder / "root.pem", "-untrusted", folder / "intermediate.pem",
        tmp_path / "again" / "later.test.ec.pem",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_a_leaf_says_what_was_asked_for():
    ca = LabCA.create(NOW)
    end = (NOW + timedelta(days=2)).replace(microsecond=0)
    leaf = ca.issue(
        ["a.test"], ocsp_urls=["http://o.test/a", "http://o.test/b"], ca_issuers_url="http://i.test/ca.der",
        must_staple=True, not_after=end,
    ).leaf  # fmt: skip
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert [d.access_location.value for d in access] == ["http://o.test/a", "http://o.test/b", "http://i.test/ca.der"]
    assert x509.TLSFeatureType.status_request in leaf.extensions.get_extension_for_class(x509.TLSFeature).value
    assert leaf.not_valid_after_utc == end


def test_the_ca_needs_no_more_than_cryptography():
    """It is a fixture for anybody's tests: importing it must not pull in servers or OpenSSL's bindings."""
    program = (
        "import sys, proxy.lab.ca; print({m.split('.')[0] for m in sys.modules} & {'aiohttp', 'OpenSSL', 'pydantic'})"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20)
    assert result.stdout == "set()\n"

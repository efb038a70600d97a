"""What the operator decides, end to end: refusing without a staple, and staples from files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from integration.clients import alert_number, is_stapled, s_client
from integration.front import run, site, toml

from proxy.lab.client import probe

FAST = {"refresh_min_interval_s": 1, "retry_min_interval_s": 0.2, "retry_max_interval_s": 0.5, "fetch_timeout_s": 2}
INTERNAL_ERROR = 80


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["-tls1_2", "-tls1_3"])
def test_without_a_staple_who_asks_is_refused(lab, backend, tmp_path, flag):
    """on_missing = "refuse": internal_error to who asks, service to who does not, and to all once there is a staple."""
    pair = lab.issue("localhost")
    settings = {"stapling": {**FAST, "warmup_timeout_s": 0.5, "on_missing": "refuse"}}
    with run(tmp_path, toml(site(backend, pair), **settings)) as front:
        assert alert_number(s_client(front.port, "-status", flag, ca=lab.root)) == INTERNAL_ERROR
        assert "Verify return code: 0 (ok)" in s_client(front.port, flag, ca=lab.root)
        front.wait_for_log(
            r"site\[0\]: clients that ask for a staple are refused: there is none, and on_missing says so"
        )
        with lab.responder():
            front.wait_for_log("stapled until")
            assert is_stapled(s_client(front.port, "-status", flag, ca=lab.root))


def test_a_site_may_refuse_where_others_do_not(lab, backend, tmp_path):
    """The site's own word goes before the global one."""
    strict = site(backend, lab.issue("localhost"), stapling={"on_missing": "refuse"})
    lenient = site(backend, lab.issue("other.test"))
    with run(tmp_path, toml(strict + lenient, stapling={**FAST, "warmup_timeout_s": 0.5})) as front:
        assert alert_number(s_client(front.port, "-status", ca=lab.root)) == INTERNAL_ERROR
        assert "OCSP response: no response sent" in s_client(front.port, "-status", ca=lab.root, name="other.test")


def with_file(configuration: str, path) -> str:
    return configuration.replace("[[site.certificate]]", f'[[site.certificate]]\nstaple = "{path}"')


def response(lab, pair, days=1.0, ago=timedelta(hours=1), status=ocsp.OCSPCertStatus.GOOD) -> bytes:
    """As the CA would hand it out, for days from now."""
    leaf, issuer = (x509.load_pem_x509_certificate(path.read_bytes()) for path in (pair[0], lab.intermediate))
    now = datetime.now(UTC).replace(microsecond=0)
    is_revoked = status is ocsp.OCSPCertStatus.REVOKED
    built = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            leaf, issuer, hashes.SHA1(), status,  # noqa: S303  as responders still do
            now - ago, now + timedelta(days=days), now - ago if is_revoked else None, None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, issuer)
    )  # fmt: skip
    return built.sign(lab.ca.intermediate.key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_a_staple_file_that_does_not_verify_is_refused_at_start(lab, backend, tmp_path):
    """'a staple file that does not verify is refused at start': one sentence, and status 2."""
    pair, other = lab.issue("localhost"), lab.issue("other.test")
    path = tmp_path / "staple.der"
    path.write_bytes(response(lab, other))
    configuration = with_file(toml(site(backend, pair)), path)
    with run(tmp_path, configuration, until_ready=False) as front:
        assert front.process.wait(10) == 2
    assert f"front.toml: site[0].certificate[0].staple: {path} is not stapled: certid-mismatch: " in front.log


def test_a_staple_file_that_grew_old_hinders_no_start(lab, backend, tmp_path):
    """It is told."""
    pair = lab.issue("localhost", with_uri=False)
    path = tmp_path / "staple.der"
    path.write_bytes(response(lab, pair, days=-0.01))
    with run(tmp_path, with_file(toml(site(backend, pair)), path)) as front:
        front.wait_for_log(rf"WARNING master\S+ site\[0\]\S+: {path} is not stapled: expired: ")
        result = probe("127.0.0.1", front.port, "localhost", roots=lab.root)
        assert result.staple_der is None

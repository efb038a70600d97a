"""``stapleproxy check``: what would be served, or all mistakes."""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from certs import key_pem, make_chain, new_key, pem
from click.testing import CliRunner
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from proxy import __version__
from proxy.cli import main

TODAY = datetime.now(UTC)


@pytest.fixture
def check(tmp_path):
    """Write a configuration of these lines, check it, and give exit status, standard output and standard error."""

    def check(*lines):
        (tmp_path / "x.toml").write_text("\n".join(lines))
        result = CliRunner().invoke(main, ["check", str(tmp_path / "x.toml")])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.stdout, result.stderr.replace(f"{tmp_path}/", "")

    return check


def fresh(folder, **changes):
    end = TODAY + timedelta(days=30, hours=1)
    return make_chain(folder, not_before=TODAY - timedelta(days=1), not_after=end, **changes)


SITE = ("[[site]]", 'upstream = "http://127.0.0.1:8000"')
EC = ("[[site.certificate]]", 'chain = "ec.chain.pem"', 'key = "ec.key.pem"')
RSA = ("[[site.certificate]]", 'chain = "rsa.chain.pem"', 'key = "rsa.key.pem"')


def test_what_would_be_served(check, tmp_path):
    """Names, certificates with their end, and which responder the firewall must let out."""
    fresh(tmp_path, must_staple=True, ocsp=["http://ocsp.test:8080/", "http://b.test/"])
    fresh(tmp_path, kind="rsa", ocsp=())
    status, out, err = check(*SITE, *EC, *RSA)
    assert (status, err) == (0, "")
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "DATE", out).replace(f"{tmp_path}/", "") == (
        "listen on 127.0.0.1:8443\n"
        "www.test, *.www.test (default) -> http://127.0.0.1:8000\n"
        "  ec.chain.pem (EC secp256r1)\n"
        "    subject   CN=www.test\n"
        "    expires   DATE UTC, in 30 days\n"
        "    stapling  yes, asking ocsp.test:8080, b.test:80\n"
        "    must-staple: clients that obey refuse it without a response\n"
        "  rsa.chain.pem (RSA 2048)\n"
        "    subject   CN=www.test\n"
        "    expires   DATE UTC, in 30 days\n"
        "    stapling  no: no-ocsp-uri: the certificate names no OCSP responder, which is normal today: "
        "TLS works all the same\n"
        "cache in memory, 524288 bytes: room for the 1 response of about 2 KiB\n"
        "x.toml: ok\n"
    )


def test_everything_else_that_would_be_served(check, tmp_path):
    """Modes, routes, client certificates, the redirecting port, the access log, and who may say who the client is."""
    made = fresh(tmp_path, ocsp=())
    made.write("ca.pem", pem(made.issuer))
    fresh(tmp_path, ocsp=(), label="tcp", names=["db.test"])
    (tmp_path / "log").mkdir()
    lines = (
        "[proxy_protocol]", 'trusted = ["10.0.0.0/8", "::1"]',
        "[redirect]", 'listen = [":80"]', "status = 308", 'acme_folder = "acme"',
        "[access_log]", 'path = "log/access"', 'format = "json"',
        *SITE[:1], 'upstream = [{ url = "http://a.test:1", weight = 2 }, "unix:/run/b"]',
        "[[site.route]]", 'prefix = "/api/"', 'upstream = "https://c.test"',
        "[site.client_certificate]", 'mode = "require"', 'ca = "ca.pem"', *EC,
        *SITE[:1], 'upstream = "tcp://db.test:5432"', 'mode = "tcp"', 'proxy_protocol = "v2"', 'alpn = ["postgresql"]',
        "[[site.certificate]]", 'chain = "tcp.chain.pem"', 'key = "tcp.key.pem"',
    )  # fmt: skip
    status, out, err = check(*lines)
    assert (status, err) == (0, "")
    told = [line for line in out.replace(f"{tmp_path}/", "").splitlines() if not line.startswith("    ")]
    assert told == [
        "listen on 127.0.0.1:8443",
        "  a PROXY header is required from 10.0.0.0/8, ::1/128, and refused from all others",
        "308 to https, port 443, on :80",
        "  /.well-known/acme-challenge/ from acme",
        "access log log/access, json",
        "www.test, *.www.test (default) -> http://a.test:1 (weight 2), unix:/run/b",
        "  /api/ -> https://c.test:443",
        "  client certificates are required: CAs of ca.pem, no CRL; no session resumes",
        "  ec.chain.pem (EC secp256r1)",
        "db.test -> tcp://db.test:5432",
        "  mode tcp: bytes are relayed as they are, PROXY header v2, ALPN postgresql",
        "  tcp.chain.pem (EC secp256r1)",
        "cache in memory, 524288 bytes: no certificate's responses to hold",
        "x.toml: warning: redirect.acme_folder: there is no folder acme yet: no challenge will be found",
        "x.toml: ok",
    ]
    (tmp_path / "log").rmdir()
    told = "x.toml: access_log.path: the folder log does not exist: make it, or give another path\n"
    assert check(*lines) == (2, "", told)
    _, out, _ = check("[access_log]", 'path = "-"', *SITE, *EC)
    assert "access log to standard output, combined\n" in out


def test_warnings_do_not_fail(check, tmp_path):
    """nginx and Apache start with all of these."""
    made = make_chain(tmp_path, not_after=datetime(2026, 6, 2, tzinfo=UTC), not_before=datetime(2026, 1, 1, tzinfo=UTC))
    made.write("ec.chain.pem", pem(made.leaf))
    made.files.key.chmod(0o620)
    status, out, err = check(*SITE, *EC)
    where = f"{tmp_path}/x.toml: warning: site[0].certificate[0]: ec.chain.pem (EC secp256r1): "
    assert (status, err) == (0, "")
    assert "stapling  no: no-issuer: the issuer's certificate was not found\n" in out
    for what in ("the certificate expired on 2026-06-02", "no stapling, because", "the file's group may change"):
        assert where + what in out


def test_a_key_that_everybody_may_read_is_refused(check, tmp_path):
    """In the same round as other mistakes, as OpenSSH does it; Apache does not look, so its profile only warns."""
    make_chain(tmp_path).files.key.chmod(0o644)
    told = "everybody on this machine may read the private key in ec.key.pem: chmod o= ec.key.pem"
    status, _, err = check("workers = 1000", *SITE, *EC)
    assert status == 2
    assert "workers: must be from 0 to 256" in err
    assert f"x.toml: site[0].certificate[0].key: {told}\n" in err
    status, out, err = check("[stapling]", 'profile = "httpd-2.4"', *SITE, *EC)
    assert (status, err) == (0, "")
    assert "x.toml: warning: site[0].certificate[0]: ec.chain.pem (EC secp256r1): everybody on this machine may" in out


def test_a_user_that_there_is_not(check, tmp_path):
    """Both settings are looked up, in one round."""
    make_chain(tmp_path)
    status, _, err = check('user = "no-such-user"', 'group = "no-such-group"', *SITE, *EC)
    assert status == 2
    assert "user: there is no user no-such-user on this machine: getent passwd lists those it has\n" in err
    assert "group: there is no group no-such-group on this machine: getent group lists those it has\n" in err
    status, _, err = check('group = "nogroup"', *SITE, *EC)
    assert (status, err) == (2, "x.toml: group: has no effect without user: set user as well\n")
    status, _, err = check('user = "-x"', *SITE, *EC)
    assert status == 2
    assert 'user: must be the name or the number of a user or a group, such as "www-data", found "-x"\n' in err


def test_what_is_wrong_with_the_cache_on_this_machine_is_told_of_its_own_key_in_a_fleet(check, tmp_path):
    fresh(tmp_path)
    fleet = ["[stapling]", 'cache = "redis:localhost"', "[stapling.redis]"]
    status, _, err = check(*fleet, 'local_cache = "shmcb:logs/x"', *SITE, *EC)
    assert (status, err) == (
        2,
        "x.toml: stapling.redis.local_cache: the folder logs does not exist: make it, or give another path\n",
    )


def test_a_cache_too_small_for_all_is_told(check, tmp_path):
    certificate = '[[site.certificate]]\nchain = "{0}.chain.pem"\nkey = "{0}.key.pem"'
    sites = ["\n".join([*SITE, certificate.format(number)]) for number in range(6)]
    for number in range(6):
        fresh(tmp_path, label=str(number), names=[f"{number}.test"])
    status, out, _ = check("[stapling]", 'cache = "shmcb:x(8192)"', *sites)
    assert status == 0
    room = "room for 3 of 6 responses of about 2 KiB"
    assert f"cache {tmp_path}/x, 8192 bytes: {room}\n" in out
    told = rf"warning: stapling\.cache: {room}, so they take turns: shmcb:PATH\((\d+)\) would do for all\n"
    assert int(re.search(told, out)[1]) in {16384, 32768, 65536}  # by chance of where their keys fall
    _, out, _ = check("[stapling]", 'cache = "shmcb:(65536)"', *sites)
    assert "cache in memory, 65536 bytes: room for all 6 responses of about 2 KiB\n" in out
    assert "warning: stapling.cache" not in out
    _, out, _ = check("[stapling]", "enabled = false", *sites)
    assert "cache in memory, 524288 bytes: no certificate's responses to hold\n" in out


def test_a_staple_file_is_judged(check, tmp_path):
    """'a staple file that does not verify is refused at start'; one that grew old is not."""
    made = fresh(tmp_path, ocsp=())
    lines = (*SITE, *EC, 'staple = "ec.ocsp"')
    where = "x.toml: site[0].certificate[0].staple: "
    assert check(*lines) == (2, "", f"{where}cannot read ec.ocsp: No such file or directory\n")
    (tmp_path / "ec.ocsp").write_bytes(b"0")
    status, _, err = check(*lines)
    assert status == 2
    assert err.startswith(f"{where}ec.ocsp is not stapled: unparsable: ")
    for days, warning in ((1, ""), (-1, "is not stapled: expired: ")):
        response = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                made.leaf, made.issuer, SHA1(), ocsp.OCSPCertStatus.GOOD,  # noqa: S303  as responders still do
                TODAY - timedelta(days=2), TODAY + timedelta(days=days), None, None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.NAME, made.issuer)
        )  # fmt: skip
        (tmp_path / "ec.ocsp").write_bytes(response.sign(new_key("ec", "ca"), SHA256()).public_bytes(Encoding.DER))
        status, out, err = check(*lines)
        assert (status, err) == (0, "")
        assert f"    stapling  yes, with the file {tmp_path}/ec.ocsp\n" in out
        assert ("warning: " in out) == bool(warning)
        assert warning in out


def test_a_command_that_cannot_be_run_is_told(check, tmp_path):
    """A warning: who checks may be another user than who serves."""
    fresh(tmp_path)
    command = tmp_path / "on-event"
    lines = ("[stapling]", f'on_event = ["{command}", "x"]', *SITE, *EC)
    told = f"warning: stapling.on_event: {command} {{}}: no event will be told\n"
    assert told.format("does not exist") in check(*lines)[1]
    command.write_text("#!/bin/sh\n")
    assert told.format("may not be executed") in check(*lines)[1], "root needs an x bit as well"
    command.chmod(0o700)
    assert "warning" not in check(*lines)[1]


def test_a_folder_that_is_not_there_is_told(check, tmp_path):
    """`run` would not start either: it makes the cache's file, but no folder."""
    fresh(tmp_path)
    lines = ("[stapling]", 'cache = "shmcb:logs/x(128000)"', *SITE, *EC)
    told = "x.toml: stapling.cache: the folder logs does not exist: make it, or give another path\n"
    assert check(*lines) == (2, "", told)
    (tmp_path / "logs").mkdir()
    assert check(*lines)[0] == 0


def test_mistakes_of_the_file_hide_no_others(check, tmp_path):
    """Neither files that are missing, also those of the very table that has a mistake, nor what only OpenSSL knows."""
    fresh(tmp_path)
    site = (*SITE, 'names = ["a.test"]')
    lost = ("[[site.certificate]]", 'chain = "no.pem"', 'key = "ec.key.pem"')
    tls = ("[tls]", 'ciphers = "NOPE"', "session_tickets = 1")
    status, out, err = check("wokers = 4", *tls, *site, *EC, "x = 1", *lost, *site, *EC, *site, *lost)
    assert (status, out) == (2, "")
    assert err.splitlines() == [
        "x.toml: tls.session_tickets: must be true or false, found 1",
        "x.toml: site[0].certificate[0].x: unknown key",
        "x.toml: wokers: unknown key: did you mean workers?",
        "x.toml: site[2].certificate[0].chain: cannot read no.pem: No such file or directory",
        "x.toml: site[2].names: a.test is a name of site[1] as well: set `names` so that each has its own",
        "x.toml: site[0].certificate[1].chain: cannot read no.pem: No such file or directory",
        "x.toml: tls.ciphers: OpenSSL knows no cipher in 'NOPE'; try `openssl ciphers -v`",
    ]


def test_what_does_not_go_together_hides_no_file_that_is_missing(check, tmp_path):
    """And the other way round: a backend of the other mode is told in the same round."""
    fresh(tmp_path)
    lost = ("[[site.certificate]]", 'chain = "no.pem"', 'key = "ec.key.pem"')
    status, _, err = check("[[site]]", 'upstream = "tcp://a.test:1"', *lost)
    assert (status, err.splitlines()) == (
        2,
        [
            "x.toml: site[0].certificate[0].chain: cannot read no.pem: No such file or directory",
            'x.toml: site[0].upstream: tcp:// is for mode = "tcp"; write http://HOST:PORT',
        ],
    )


def test_mistakes_of_the_certificates_hide_none_of_openssl(check, tmp_path):
    """A key too short for the security level is told beside a file that is missing."""
    made = fresh(tmp_path, kind="rsa")
    status, _, err = check("[tls]", 'ciphers = "DEFAULT@SECLEVEL=3"', *SITE, *RSA, *EC)
    assert (status, made.files.key.exists()) == (2, True)
    lines = err.splitlines()
    assert [line.partition(": ")[2].partition(": ")[0] for line in lines] == [
        "site[0].certificate[1].chain",
        "site[0].certificate[1].key",
        "site[0]",
    ]
    assert "OpenSSL refuses rsa.chain.pem (RSA 2048): " in lines[2]


def test_mistakes_of_the_certificates(check, tmp_path):
    made = fresh(tmp_path)
    made.write("ec.key.pem", key_pem(new_key("ec", "other")))
    told = "the private key in ec.key.pem does not belong to the first certificate in ec.chain.pem"
    assert check(*SITE, *EC) == (2, "", f"x.toml: site[0].certificate[0].key: {told}\n")


def test_mistakes_that_only_openssl_knows(check, tmp_path):
    fresh(tmp_path)
    status, _, err = check("[tls]", 'ciphers = "nonsense"', *SITE, *EC)
    assert status == 2
    assert err.startswith("x.toml: tls.ciphers: ")


def test_no_file():
    result = CliRunner().invoke(main, ["check", "/no/such.toml"])
    assert (result.exit_code, result.stderr) == (
        2,
        "/no/such.toml: cannot read the configuration: No such file or directory\n",
    )


def test_the_version_comes_quickly():
    """Neither --version nor a mistyped option waits for what a server needs."""
    code = (
        "import sys; from proxy.cli import main; main(['--version'], standalone_mode=False);"
        "print([name for name in ('OpenSSL', 'aiohttp', 'asyncio', 'cryptography', 'pydantic') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [f"stapleproxy, version {__version__}", "[]"]

"""``stapleproxy explain``: what it tells of files, configurations and servers, and how it ends."""

import functools
import json
import re
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from certs import self_signed
from click.testing import CliRunner
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from lab.servers import build_response, openssl_server, process_at

from proxy.cache.layout import CacheArgument
from proxy.cache.segment import Segment
from proxy.cache.writer import CacheWriter
from proxy.cli import main
from proxy.cli.explain import server_address
from proxy.lab.ca import LabCA
from proxy.lab.signing import Signing

NOW = datetime.now(UTC)


def explain(*arguments):
    return CliRunner().invoke(main, ["explain", *map(str, arguments)])


def explained(*arguments):
    """Its JSON, and the exit status."""
    result = explain("--json", *arguments)
    return json.loads(result.stdout), result.exit_code


@pytest.fixture(scope="module")
def ca():
    return LabCA.create(NOW)


@pytest.fixture(scope="module")
def responder(ca, tmp_path_factory):
    """A responder's address; it says 'revoked' of the certificate with the name revoked.test."""
    folder = tmp_path_factory.mktemp("responder")
    revoked = ca.issue(["revoked.test"]).leaf
    ca.write(folder)
    with process_at("responder", "--folder", str(folder), "--revoked", f"{revoked.serial_number:x}") as (url, _):
        yield url


def file_of(folder, issued, *, only_leaf=False):
    path = folder / f"{issued.stem}.pem"
    path.write_bytes(issued.leaf.public_bytes(Encoding.PEM) if only_leaf else issued.chain_pem)
    path.with_suffix(".key").write_bytes(issued.key_pem)
    path.with_suffix(".key").chmod(0o600)
    return path


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_pem_file_is_told_with_what_the_firewall_must_let_out(ca, tmp_path):
    urls = ["http://ocsp.example.com/a", "https://[2001:db8::1]:8443"]
    chain = file_of(tmp_path, ca.issue(["a.test", "*.a.test"], ocsp_urls=urls, ca_issuers_url="http://i.test/ca.der"))
    result = explain(chain)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for line in (
        "subject CN=a.test",
        "names a.test, *.a.test",
        "key EC secp256r1",
        "issuer CN=Lab Intermediate CA (found in the same file)",
        "must-staple no",
        "OCSP responder http://ocsp.example.com/a",
        "firewall tcp 80 to ocsp.example.com",
        "firewall tcp 8443 to 2001:db8::1",
        "CA issuers http://i.test/ca.der",
    ):
        assert line in lines
    assert "\x1b" not in result.stdout, "no colours where there is no terminal"


def test_the_keys_of_the_json_are_stable(ca, tmp_path):
    chain = file_of(tmp_path, ca.issue(["a.test"], key="rsa", ocsp_urls=["http://o.test"], must_staple=True))
    told, status = explained(chain)
    certificate = told["certificates"][0]
    assert status == 0
    assert {key: certificate.pop(key) for key in ("serial", "not_before", "not_after")}
    assert told == {
        "target": str(chain),
        "kind": "pem",
        "certificates": [
            {
                "source": str(chain),
                "subject": "CN=a.test",
                "issuer_name": "CN=Lab Intermediate CA",
                "names": ["a.test"],
                "key": "RSA 2048",
                "issuer_found": True,
                "issuer_source": "the same file",
                "self_signed": False,
                "must_staple": True,
                "responders": [
                    {"uri": "http://o.test", "origin": "certificate", "host": "o.test", "port": 80, "answer": None}
                ],
                "ca_issuers": [],
                "not_stapled": None,
                "staple_file": None,
                "server_staple": None,
            }
        ],
        "forecast": None,
    }


@pytest.mark.parametrize(("must_staple", "status"), [(False, 0), (True, 1)])
def test_no_ocsp_uri_is_normal_unless_clients_will_insist(ca, tmp_path, must_staple, status):
    result = explain("--live", file_of(tmp_path, ca.issue(["a.test"], must_staple=must_staple)))
    assert "That is normal today: Let's Encrypt and other public CAs have ended OCSP." in result.stdout
    assert ("says must-staple" in result.stdout) is must_staple
    assert result.exit_code == status


def test_a_missing_issuer_is_told_with_what_to_do(ca, tmp_path):
    chain = file_of(
        tmp_path,
        ca.issue(["a.test"], ocsp_urls=["http://o.test"], ca_issuers_url="http://i.test/ca.der"),
        only_leaf=True,
    )
    result = explain(chain)
    assert "add the intermediate to the chain file" in result.stdout
    assert "It can be had at http://i.test/ca.der." in result.stdout
    assert result.exit_code == 0


def test_a_self_signed_certificate_misses_no_issuer(tmp_path):
    result = explain(self_signed(tmp_path).files.chain)
    assert "CN=self.test (self-signed)" in result.stdout
    assert "the certificate is self-signed, and no issuer vouches for it." in result.stdout
    assert "add the intermediate" not in result.stdout


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("www.test:8443", ("www.test", 8443)),
        ("[::1]:8443", ("::1", 8443)),
        ("[::1]", ("::1", 443)),
        ("www.test", ("www.test", 443)),
        ("localhost", ("localhost", 443)),
        ("https://www.test", ("www.test", 443)),
        ("HTTPS://www.test:8443/a?b=c:1#d", ("www.test", 8443)),
        ("https://[::1]/", ("::1", 443)),
        ("https://www.test?a", ("www.test", 443)),
        ("https://", None),
        ("https://me@www.test/", None),
        ("http://www.test/", None),
        ("www.test/a", None),
        ("missing.PEM", None),
        ("folder/chain", None),
        (":443", None),
        ("", None),
    ],
)
def test_how_a_server_may_be_named(target, address):
    assert server_address(target) == address


def test_a_url_of_a_server(ca, tmp_path):
    chain = file_of(tmp_path, ca.issue(["localhost"]))
    with openssl_server("-cert", chain, "-key", chain.with_suffix(".key")) as port:
        told, status = explained(f"https://localhost:{port}/")
    assert (status, told["kind"], told["certificates"][0]["names"]) == (0, "server", ["localhost"])


def test_live_without_an_issuer_tells_which_responders_can_be_reached(ca, responder, tmp_path):
    """Whether the firewall lets it out is known by connecting; what is answered, only with the issuer."""
    urls = [responder, f"http://127.0.0.1:{closed_port()}", "http://name.invalid", f"http://{'x' * 64}.invalid"]
    told, status = explained("--live", file_of(tmp_path, ca.issue(["a.test"], ocsp_urls=urls), only_leaf=True))
    answers = [each["answer"] for each in told["certificates"][0]["responders"]]
    assert status == 1
    assert [each["method"] for each in answers] == ["connect", None, None, None]
    assert all(each["elapsed_s"] >= 0 and each["verdict"]["reason"] == "no-issuer" for each in answers)
    details = [each["verdict"]["detail"].partition("; ") for each in answers]
    assert {why for _, _, why in details} == {"a response can only be asked for with the issuer's certificate"}
    assert [found for found, _, _ in details][:3] == [
        "it accepts connections",
        "it cannot be reached (Connection refused)",
        "it cannot be reached (its name has no address)",
    ]
    assert details[3][0].startswith("it cannot be reached (")


def test_an_expired_certificate_is_told(ca, tmp_path):
    chain = file_of(tmp_path, ca.issue(["a.test"], not_after=NOW - timedelta(seconds=5)))
    assert "The certificate expired on" in explain(chain).stdout


def test_a_file_with_two_leaves_tells_both(ca, tmp_path):
    both = tmp_path / "both.pem"
    both.write_bytes(ca.issue(["a.test"]).chain_pem + ca.issue(["b.test"], key="rsa").chain_pem)
    told, _ = explained(both)
    assert [each["subject"] for each in told["certificates"]] == ["CN=a.test", "CN=b.test"]


def test_live_tells_how_a_responder_answers(ca, responder, tmp_path):
    chain = file_of(tmp_path, ca.issue(["a.test"], ocsp_urls=[responder]))
    result = explain("--live", chain)
    assert result.exit_code == 0
    assert "GET, " in result.stdout
    assert "good, thisUpdate " in result.stdout
    assert "signed by CN=Lab OCSP Signer; would be stapled" in result.stdout


def test_live_tells_what_would_not_be_stapled_and_why(ca, responder, tmp_path):
    file_of(tmp_path, next(each for each in ca.issued if each.stem == "revoked.test.ec"))
    config = tmp_path / "site.toml"
    config.write_text(
        f'[stapling]\nresponder_url = "{responder}"\n[[site]]\nupstream = "http://127.0.0.1:1"\n'
        '[[site.certificate]]\nchain = "revoked.test.ec.pem"\nkey = "revoked.test.ec.key"\n'
    )
    told, status = explained("--live", config)
    answer = told["certificates"][0]["responders"][0]["answer"]
    assert status == 1
    assert (answer["method"], answer["elapsed_s"] > 0) == ("GET", True)
    verdict = answer["verdict"]
    assert (verdict["would_staple"], verdict["reason"], verdict["status"]) == (False, "revoked", "revoked")
    assert verdict["detail"].startswith("the certificate is revoked since")
    config.write_text(config.read_text().replace("[stapling]", '[stapling]\non_revoked = "staple"'))
    told, status = explained("--live", config)
    assert (status, told["certificates"][0]["responders"][0]["answer"]["verdict"]["would_staple"]) == (0, True)


def test_live_goes_by_the_configuration_as_the_proxy_does(ca, responder, tmp_path):
    """The issuer is fetched where that is allowed, and a nonce asked for; what a file has is stapled without asking."""
    (tmp_path / "ca.cer").write_bytes(ca.intermediate.certificate.public_bytes(Encoding.DER))
    folder = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/ca.cer"
        file_of(tmp_path, ca.issue(["a.test"], ocsp_urls=[responder], ca_issuers_url=url), only_leaf=True)
        file_of(tmp_path, ca.issue(["b.test"]))
        (tmp_path / "b.der").write_bytes(b"judged at the start")
        config = tmp_path / "site.toml"
        config.write_text(
            "[stapling]\nfetch_issuer = true\nnonce = true\n"
            '[[site]]\nupstream = "http://127.0.0.1:1"\n'
            '[[site.certificate]]\nchain = "a.test.ec.pem"\nkey = "a.test.ec.key"\n'
            '[[site]]\nupstream = "http://127.0.0.1:1"\n'
            '[[site.certificate]]\nchain = "b.test.ec.pem"\nkey = "b.test.ec.key"\nstaple = "b.der"\n'
        )
        told, status = explained("--live", config)
        server.shutdown()
    one, two = told["certificates"]
    verdict = one["responders"][0]["answer"]["verdict"]
    assert (status, one["not_stapled"], verdict["reason"], verdict["would_staple"]) == (0, None, None, True)
    assert (two["not_stapled"], two["staple_file"]) == (None, str(tmp_path / "b.der"))
    told, status = explained("--live", config)
    verdict = told["certificates"][0]["responders"][0]["answer"]["verdict"]
    assert (status, verdict["reason"]) == (1, "no-issuer")


def test_one_responder_that_answers_is_enough(ca, responder, tmp_path):
    urls = [f"http://127.0.0.1:{closed_port()}", responder]
    told, status = explained("--live", file_of(tmp_path, ca.issue(["a.test"], ocsp_urls=urls)))
    first, second = (each["answer"]["verdict"] for each in told["certificates"][0]["responders"])
    assert (first["reason"], second["would_staple"], status) == ("connect", True, 0)


def test_no_responder_that_answers_is_a_failure(ca, tmp_path):
    chain = file_of(tmp_path, ca.issue(["a.test"], ocsp_urls=[f"http://127.0.0.1:{closed_port()}"]))
    result = explain("--live", chain)
    assert result.exit_code == 1
    assert re.search(r"answer +\d+ ms; would not be stapled: connect: ", result.stdout)


def test_a_configuration_is_told_site_by_site(ca, tmp_path):
    """With the responder that it names, and with the sites where it turns stapling off."""
    for name, kind in (("a.test", "ec"), ("a.test", "rsa"), ("b.test", "ec")):
        file_of(tmp_path, ca.issue([name], key=kind, ocsp_urls=["http://o.test"]))
    certificate = '[[site.certificate]]\nchain = "{0}.pem"\nkey = "{0}.key"\n'
    (tmp_path / "all.toml").write_text(
        '[[site]]\nupstream = "http://127.0.0.1:1"\n[site.stapling]\nresponder_url = "http://mine.test:81"\n'
        + certificate.format("a.test.ec")
        + certificate.format("a.test.rsa")
        + '[[site]]\nupstream = "http://127.0.0.1:1"\n[site.stapling]\nenabled = false\n'
        + certificate.format("b.test.ec")
    )
    told, status = explained(tmp_path / "all.toml")
    assert (status, told["kind"]) == (0, "config")
    seen = [(each["source"].split(":")[0], each["key"], each["not_stapled"]) for each in told["certificates"]]
    assert seen == [
        ("site[0].certificate[0]", "EC secp256r1", None),
        ("site[0].certificate[1]", "RSA 2048", None),
        ("site[1].certificate[0]", "EC secp256r1", "disabled"),
    ]
    responders = [(one["uri"], one["origin"]) for each in told["certificates"] for one in each["responders"]]
    assert responders == [("http://mine.test:81", "configuration")] * 2 + [("http://o.test", "certificate")]


def test_a_configuration_tells_until_when_its_sites_are_stapled(ca, tmp_path):
    """The outage forecast, by what the cache's file holds; before the first start there is none."""
    issued = ca.issue(["a.test"], ocsp_urls=["http://o.test"])
    file_of(tmp_path, issued)
    config = tmp_path / "a.toml"
    config.write_text(
        '[stapling]\ncache = "shmcb:cache(65536)"\n[[site]]\nupstream = "http://127.0.0.1:1"\n'
        '[[site.certificate]]\nchain = "a.test.ec.pem"\nkey = "a.test.ec.key"\n'
    )
    assert explained(config)[0]["forecast"] is None
    segment = Segment.create(CacheArgument(str(tmp_path / "cache"), 65536))
    until = datetime(2100, 1, 2, 3, 4, 5, tzinfo=UTC)
    CacheWriter(segment).put(issued.leaf.fingerprint(hashes.SHA1()), b"any", until.timestamp(), 0.0)  # noqa: S303  the key
    segment.close()
    label = "a.test.ec.pem (EC secp256r1)"
    assert explained(config)[0]["forecast"] == [
        {"names": ["a.test"], "certificate": label, "stapled_until": "2100-01-02T03:04:05Z"}
    ]
    assert explain(config).stdout.endswith(
        f"with all responders gone from now:\n  a.test: stapled until 2100-01-02 03:04Z, when {label} ends first\n"
    )


def staple_file(ca, issued, path, *, revoked=False):
    leaf = issued.leaf
    request = ocsp.OCSPRequestBuilder().add_certificate(leaf, ca.intermediate.certificate, hashes.SHA256()).build()
    der = build_response(
        request.public_bytes(Encoding.DER),
        Signing.of(ca, "delegate"),
        NOW,
        validity=timedelta(hours=1),
        revoked={leaf.serial_number: NOW.replace(microsecond=0)} if revoked else {},
    )
    path.write_bytes(der)
    return path


@pytest.mark.parametrize(
    ("staple", "says", "status"),
    [
        ("good", "signed by CN=Lab OCSP Signer; verified", 0),
        ("revoked", "not good: revoked: the certificate is revoked since", 1),
        (None, "stapled now no", 0),
    ],
)
def test_a_server_is_told_with_what_it_staples_now(ca, tmp_path, staple, says, status):
    issued = ca.issue(["a.test"])
    chain = file_of(tmp_path, issued)
    options = ["-cert", chain, "-key", chain.with_suffix(".key"), "-cert_chain", chain]
    if staple:
        der = staple_file(ca, issued, tmp_path / "staple.der", revoked=staple == "revoked")
        options += ["-status_file", der]
    with openssl_server(*options) as port:
        result = explain(f"127.0.0.1:{port}", "--name", "a.test", "--live")
    assert says in " ".join(result.stdout.split())
    assert "found in the server's chain" in result.stdout
    assert result.exit_code == status


def test_a_server_without_tls_is_told():
    with process_at("backend") as (url, _):
        target = url.removeprefix("http://")
        result = explain(target)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{target}: the TLS handshake failed (what answers there does not speak TLS)\n"


def test_names_are_text_and_not_markup(ca, tmp_path):
    """What stands in a certificate neither colours nor breaks the output."""
    path = tmp_path / "odd.pem"
    path.write_bytes(ca.issue(["[/red]"]).chain_pem)
    assert "CN=[/red]" in explain(path).stdout


def test_a_certificate_that_cannot_be_read_is_told(ca, tmp_path):
    """cryptography finds it only when the field is looked at."""
    der = bytearray(ca.issue(["a.test"], must_staple=True).leaf.public_bytes(Encoding.DER))
    value = bytes.fromhex("06082b06010505070118")  # the OID of TLS Feature; then OCTET STRING, SEQUENCE, INTEGER
    der[der.index(value) + len(value) + 2] = 0x31
    path = tmp_path / "odd.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(bytes(der)))
    result = explain(path)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "a certificate holds something that cannot be read" in result.stderr


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("key.pem", "holds no certificate but a private key"),
        ("empty.pem", "holds no certificate: it is empty"),
        ("junk.bin", "holds no certificate in PEM"),
        ("folder", "Is a directory"),
        ("missing.pem", "no such file, and not HOST:PORT"),
        ("missing.toml", "cannot read the configuration: No such file or directory"),
        ("broken.toml", "not TOML"),
        ("empty.toml", "is missing"),
        ("no-key.toml", "No such file or directory"),
        ("host:port", "no such file, and not HOST:PORT"),
        ("a..b:443", "'a..b' is not a host name"),
        ("x" * 300 + ":443", "is not a host name"),
        ("x" * 300, "no such file, and not HOST:PORT"),
        ("host:99999", "no such file, and not HOST:PORT"),
        ("name.invalid:443", "the name name.invalid has no address"),
        ("closed", "cannot connect (Connection refused)"),
    ],
)
def test_a_bad_target_is_one_clear_sentence(ca, tmp_path, monkeypatch, target, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key.pem").write_bytes(ca.issue(["a.test"]).key_pem)
    (tmp_path / "empty.pem").touch()
    (tmp_path / "junk.bin").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.toml").write_text("[[site")
    (tmp_path / "empty.toml").touch()
    (tmp_path / "no-key.toml").write_text(
        f'[[site]]\nupstream = "http://127.0.0.1:1"\n[[site.certificate]]\nchain = '
        f'"{file_of(tmp_path, ca.issue(["a.test"]))}"\nkey = "none.key"\n'
    )
    result = explain(target if target != "closed" else f"127.0.0.1:{closed_port()}")
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1

"""Client certificates: who gets in, what the backend is told, and what nobody can forge."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from integration import peers
from integration.clients import alert_number, curl, s_client
from integration.conftest import free_port
from integration.front import run, site, toml

from proxy.lab.client import probe
from proxy.proxyprotocol import read as read_header

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


@dataclass
class ClientCa:
    """A root that issues client certificates, itself or by an intermediate, and revokes them."""

    folder: Path
    name: str

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.sign(self.name, self.key.public_key(), ca=True)
        self.path.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.pem"

    def sign(self, name, public_key, *, ca=False, issuer=None, signer=None, days=30, usage=None):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder(
            issuer_name=issuer or (subject if ca else self.certificate.subject),
            subject_name=subject,
            public_key=public_key,
            serial_number=x509.random_serial_number(),
            not_valid_before=NOW - 10 * DAY,
            not_valid_after=NOW + days * DAY,
        ).add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(signer or self.key, hashes.SHA256())

    def issue(self, name="alice", *, chain=(), file=None, **how) -> tuple[Path, x509.Certificate]:
        """A file with certificate, chain and key, and the certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.sign(name, key.public_key(), **how)
        path = self.folder / (file or f"{name}.client.pem")
        path.write_bytes(
            b"".join(each.public_bytes(Encoding.PEM) for each in (certificate, *chain))
            + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        return path, certificate

    def crl(self, *revoked: x509.Certificate, until=NOW + DAY) -> Path:
        builder = x509.CertificateRevocationListBuilder(self.certificate.subject, NOW - 5 * DAY, until)
        for each in revoked:
            entry = x509.RevokedCertificateBuilder(each.serial_number, NOW - 5 * DAY).build()
            builder = builder.add_revoked_certificate(entry)
        path = self.folder / f"{self.name}.crl"
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return path


@pytest.fixture
def pair(lab):
    return lab.issue("localhost", with_uri=False)


@pytest.fixture
def ca(tmp_path):
    return ClientCa(tmp_path / "clients", "Clients CA")


def asking(site_text: str, **settings) -> str:
    lines = [f"{key} = {value}" if isinstance(value, int) else f'{key} = "{value}"' for key, value in settings.items()]
    return site_text + "\n".join(["[site.client_certificate]", *lines, ""])


def headers_seen(front, lab, *options) -> dict[str, list[str]]:
    """What the backend got, by name in lower case."""
    done = curl(*options, f"https://localhost:{front.port}/", ca=lab.root)
    assert done.returncode == 0, done.stderr
    seen: dict[str, list[str]] = {}
    for name, value in json.loads(done.stdout)["headers"]:
        seen.setdefault(name.lower(), []).append(value)
    return seen


def about_certificates(seen: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: values for name, values in seen.items() if "cert" in name}


def test_the_backend_is_told_of_the_certificate(lab, pair, backend, ca, tmp_path):
    """Each fact in a header of its own, and the certificate as RFC 9440 has it."""
    path, certificate = ca.issue("Zoë\r\nX-Admin: yes", file="zoe.pem")
    der = certificate.public_bytes(Encoding.DER)
    with run(tmp_path, toml(asking(site(backend, pair), mode="optional", ca=ca.path))) as front:
        seen = headers_seen(front, lab, "--cert", str(path))
        assert about_certificates(seen) == {
            "x-client-cert-verified": ["SUCCESS"],
            "x-client-cert-subject": [r"CN=Zo\C3\AB\0D\0AX-Admin: yes"],
            "x-client-cert-serial": [f"{certificate.serial_number:X}"],
            "x-client-cert-fingerprint": [hashlib.sha256(der).hexdigest()],
            "x-client-cert-not-after": [certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")],
            "client-cert": [f":{base64.b64encode(der).decode()}:"],
        }
        assert "x-admin" not in seen
        assert about_certificates(headers_seen(front, lab)) == {"x-client-cert-verified": ["NONE"]}


@pytest.mark.parametrize("mode", ["none", "optional", "require"])
def test_nobody_can_forge_it(lab, pair, backend, ca, tmp_path, mode):
    """Such headers from a client are dropped, whatever the site asks for."""
    path, _ = ca.issue()
    forged = ["X-Client-Cert-Verified: FORGED", "x-client-cert-subject: FORGED", "X-Client-Cert-Other: FORGED"]
    forged += ["Client-Cert: :FORGED=:", "CLIENT-CERT-CHAIN: :FORGED=:", "X_Client_Cert_Verified: FORGED"]
    forged += ["Connection: close, X-Client-Cert-Verified, Client-Cert"]
    options = [part for line in forged for part in ("-H", line)]
    with run(tmp_path, toml(asking(site(backend, pair), mode=mode, ca=ca.path))) as front:
        seen = headers_seen(front, lab, "--cert", str(path), *options)
        assert "FORGED" not in str(seen)
        assert seen.get("x-client-cert-verified", []) == ([] if mode == "none" else ["SUCCESS"])


@pytest.mark.parametrize(("version", "number"), [("-tls1_2", 40), ("-tls1_3", 116)])
def test_who_has_none_where_one_is_required_is_refused(lab, pair, backend, ca, tmp_path, version, number):
    """certificate_required in TLS 1.3, handshake_failure before; and the CA's name is in the request."""
    path, _ = ca.issue()
    ask = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with run(tmp_path, toml(asking(site(backend, pair), mode="require", ca=ca.path))) as front:
        said = s_client(front.port, version, "-ign_eof", ca=lab.root, stdin=ask)
        assert alert_number(said) == number, said
        assert "200 OK" not in said
        said = s_client(front.port, version, "-ign_eof", "-cert", str(path), "-key", str(path), ca=lab.root, stdin=ask)
        assert "Acceptable client certificate CA names\nCN = Clients CA" in said
        assert "200 OK" in said


def refused_with(front, lab, path, *options) -> int | None:
    return alert_number(s_client(front.port, "-ign_eof", "-cert", str(path), "-key", str(path), *options, ca=lab.root))


@pytest.mark.parametrize("mode", ["optional", "require"])
def test_a_certificate_that_does_not_verify_is_refused_in_either_mode(lab, pair, backend, ca, tmp_path, mode):
    """Of another CA, out of date, or for servers: the alert says which."""
    other = ClientCa(tmp_path / "other", "Other CA")
    wrong = {
        48: other.issue()[0],  # unknown_ca
        45: ca.issue("old", days=-1)[0],  # certificate_expired
        43: ca.issue("server", usage=ExtendedKeyUsageOID.SERVER_AUTH)[0],  # unsupported_certificate
    }
    with run(tmp_path, toml(asking(site(backend, pair), mode=mode, ca=ca.path))) as front:
        for number, path in wrong.items():
            assert refused_with(front, lab, path) == number, path
        right, _ = ca.issue("right", usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        assert headers_seen(front, lab, "--cert", str(right))["x-client-cert-subject"] == ["CN=right"]


def test_an_intermediate_may_come_from_the_client(lab, pair, backend, ca, tmp_path):
    """As many as `depth` allows."""
    key = ec.generate_private_key(ec.SECP256R1())
    intermediate = ca.sign("Intermediate", key.public_key(), ca=True, issuer=ca.certificate.subject)
    path, _ = ca.issue(chain=[intermediate], issuer=intermediate.subject, signer=key)
    short, _ = ca.issue(file="short.pem", issuer=intermediate.subject, signer=key)
    for depth, number in ((1, None), (0, 48)):
        with run(tmp_path, toml(asking(site(backend, pair), mode="require", ca=ca.path, depth=depth))) as front:
            chain = ("-cert_chain", str(path))
            ask = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            options = ("-ign_eof", "-cert", str(path), "-key", str(path), *chain)
            said = s_client(front.port, *options, ca=lab.root, stdin=ask)
            assert alert_number(said) == number, said
            assert ("200 OK" in said) is (number is None)
            assert refused_with(front, lab, short) == 48


def test_a_revoked_certificate_is_refused(lab, pair, backend, ca, tmp_path):
    """certificate_revoked; others of the same CA get in."""
    (good, _), (bad, revoked) = ca.issue("good"), ca.issue("bad")
    table = {"mode": "require", "ca": ca.path, "crl": ca.crl(revoked)}
    with run(tmp_path, toml(asking(site(backend, pair), **table))) as front:
        assert refused_with(front, lab, bad) == 44
        assert headers_seen(front, lab, "--cert", str(good))["x-client-cert-subject"] == ["CN=good"]


def test_a_crl_that_is_out_of_date_lets_nobody_in(lab, pair, backend, ca, tmp_path):
    """The operator hears of it at start and when it happens, and once a minute is enough."""
    path, _ = ca.issue()
    table = {"mode": "optional", "ca": ca.path, "crl": ca.crl(until=NOW - DAY)}
    with run(tmp_path, toml(asking(site(backend, pair), **table))) as front:
        front.wait_for_log("the CRL of CN=Clients CA is out of date since")
        for _ in range(3):
            assert refused_with(front, lab, path) is not None
        front.wait_for_log("a client certificate is refused: the CRL is out of date")
        assert front.log.count("a client certificate is refused") == 1
        assert headers_seen(front, lab)["x-client-cert-verified"] == ["NONE"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_gets_in_without_a_certificate(lab, backend, ca, tmp_path, version):
    """A session is offered to its own site and to one that requires another CA: both look at the certificate again."""
    other = ClientCa(tmp_path / "other", "Other CA")
    path, _ = ca.issue()
    one, two = lab.issue("one.test", with_uri=False), lab.issue("two.test", with_uri=False)
    free = lab.issue("free.test", with_uri=False)
    sites = asking(site(backend, one), mode="require", ca=ca.path)
    sites += asking(site(backend, two), mode="require", ca=other.path) + site(backend, free)
    context = ssl.create_default_context(cafile=lab.root)
    context.minimum_version = context.maximum_version = version

    def visit(name: str, session=None, *, certificate=False):
        """Whether it answered, and with what session."""
        if certificate:
            context.load_cert_chain(path)
        sock = socket.create_connection(("127.0.0.1", front.port), 10)
        with sock, context.wrap_socket(sock, server_hostname=name, session=session) as tls:
            tls.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            answer = tls.recv(65_536)
            return answer.startswith(b"HTTP/1.1 200"), tls.session, tls.session_reused

    with run(tmp_path, toml(sites)) as front:
        _, of_free, _ = visit("free.test")
        for name in ("one.test", "two.test"):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                visit(name, of_free)
        answered, of_one, _ = visit("one.test", certificate=True)
        assert answered
        with pytest.raises((ssl.SSLError, ConnectionError)):
            visit("two.test", of_one)
        answered, _, reused = visit("one.test", of_one)
        assert (answered, reused) == (True, False)
        assert probe("127.0.0.1", front.port, "free.test", roots=lab.root, request_path="/").http_status == 200


def test_version_2_of_the_proxy_header_names_the_client(lab, pair, ca, tmp_path):
    """In mode tcp the verified common name goes to the backend in the SSL field."""
    path, _ = ca.issue()
    heads = []
    with peers.backend() as raw, raw.does(lambda visit: heads.append(visit.sock.recv(65_536))):
        relayed = site(raw.url.replace("http:", "tcp:"), pair, mode="tcp", proxy_protocol="v2")
        with run(tmp_path, toml(asking(relayed, mode="require", ca=ca.path))) as front:
            s_client(front.port, "-cert", str(path), "-key", str(path), ca=lab.root)
    field = dict(read_header(heads[0]).tlvs)[0x20]
    assert field[:5] == b"\x07\0\0\0\0"
    assert b"\x22\0\x05alice" in field


@pytest.mark.slow
def test_mistakes_are_told_at_start(lab, pair, backend, ca, tmp_path):
    """All in one round, each where it is."""
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    other = ClientCa(tmp_path / "other", "Other CA")
    tables = {
        "is missing: the file with the CAs": {"mode": "require"},
        "client_certificate.ca: cannot read": {"mode": "require", "ca": "none.pem"},
        "holds no certificate": {"mode": "require", "ca": empty},
        "holds no CRL in PEM": {"mode": "require", "ca": ca.path, "crl": ca.path},
        "holds no CRL signed by CN=Clients CA": {"mode": "require", "ca": ca.path, "crl": other.crl()},
        "holds a CRL of CN=Other CA, which is not": {"mode": "require", "ca": ca.path, "crl": other.crl()},
    }
    for expected, table in tables.items():
        with run(tmp_path, toml(asking(site(backend, pair), **table)), until_ready=False) as front:
            assert front.process.wait(20) != 0
            assert expected in " ".join(front.log.split())
            assert "Traceback" not in front.log


def test_no_host_leads_round_the_certificate(lab, backend, ca, tmp_path):
    """A Host of the site that asks, on a connection to one that does not: they may share a backend."""
    free, closed = lab.issue("free.test", with_uri=False), lab.issue("closed.test", with_uri=False)
    path, _ = ca.issue()
    sites = site(backend, free) + asking(site(backend, closed), mode="require", ca=ca.path)
    with run(tmp_path, toml(sites)) as front:
        for name, host, status in (
            ("free.test", "closed.test", "421"),
            ("free.test", "CLOSED.test.:8443", "421"),
            ("free.test", "free.test", "200"),
            ("free.test", "other.test", "200"),
            ("closed.test", "closed.test", "200"),
            ("closed.test", "free.test", "200"),
        ):
            options = ("--resolve", f"{name}:{front.port}:127.0.0.1", "-H", f"Host: {host}", "-o", "/dev/null")
            options += ("--cert", str(path), "-w", "%{http_code}", f"https://{name}:{front.port}/")
            assert curl(*options, ca=lab.root).stdout == status, (name, host)


def test_one_name_may_ask_at_one_address_only(lab, pair, backend, ca, tmp_path):
    """As with virtual hosts of one name at several ports; other names do not lead round either of those that ask."""
    path, _ = ca.issue()
    free, *closed = ports = [free_port() for _ in range(3)]
    other = lab.issue("other.test", with_uri=False)
    sites = site(backend, pair, listen=[f"127.0.0.1:{free}"]) + site(backend, other)
    sites += "".join(
        asking(site(backend, pair, listen=[f"127.0.0.1:{port}"]), mode="require", ca=ca.path) for port in closed
    )
    with run(tmp_path, toml(sites, listen=[f"127.0.0.1:{port}" for port in ports])):
        for port, name, host, status in (
            (free, "localhost", "localhost", "200"),
            (free, "other.test", "localhost", "421"),
            *((port, "localhost", "localhost", "200") for port in closed),
        ):
            options = ("--resolve", f"{name}:{port}:127.0.0.1", "-H", f"Host: {host}", "-o", "/dev/null")
            options += ("--cert", str(path), "-w", "%{http_code}", f"https://{name}:{port}/")
            assert curl(*options, ca=lab.root).stdout == status, (port, name, host)

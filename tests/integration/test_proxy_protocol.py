"""The PROXY protocol with real peers: HAProxy before and behind the front, nginx behind it."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import time

import pytest
from integration import peers
from integration.clients import curl
from integration.conftest import free_port
from integration.front import run, site, toml, wait_until
from integration.peers import PATIENCE_S
from lab.servers import require_peer

from proxy.proxyprotocol import Endpoint, v1, v2

CLIENT = Endpoint("192.0.2.7", 4711), Endpoint("198.51.100.1", 443)
TRUSTED = {"trusted": ["127.0.0.1"]}


@pytest.fixture
def pair(lab):
    return lab.issue("localhost", with_uri=False)


@contextlib.contextmanager
def peer(name: str, port: int, *arguments: str):
    """Run a foreign server until the test ends; it is there when its port is."""
    with subprocess.Popen([name, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:

            def is_there() -> bool:
                assert process.poll() is None, process.stdout.read()
                with socket.socket() as sock:
                    return sock.connect_ex(("127.0.0.1", port)) == 0

            wait_until(is_there, what=f"{name} on its port")
            yield
        finally:
            process.terminate()


@contextlib.contextmanager
def haproxy(tmp_path, text: str):
    require_peer("haproxy")
    port, path = free_port(), tmp_path / "haproxy.cfg"
    timeouts = "timeout connect 5s\n timeout client 5s\n timeout server 5s"
    path.write_text(f"defaults\n {timeouts}\nlisten test\n bind 127.0.0.1:{port}{text}\n")
    with peer("haproxy", port, "-db", "-f", str(path)):
        yield port


@contextlib.contextmanager
def nginx(tmp_path):
    """It says whom it sees, behind PROXY headers of either version."""
    require_peer("nginx")
    port, path = free_port(), tmp_path / "nginx.conf"
    says = '"$proxy_protocol_addr:$proxy_protocol_port\\n"'
    temporary = "".join(
        f"{each}_temp_path {tmp_path};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path.write_text(
        f"daemon off; pid {tmp_path}/nginx.pid; error_log stderr; events {{}} http {{ access_log off; {temporary}"
        f"server {{ listen 127.0.0.1:{port} proxy_protocol; location / {{ return 200 {says}; }} }} }}"
    )
    with peer("nginx", port, "-p", str(tmp_path), "-c", str(path)):
        yield port


def client(front, lab, beginning: bytes = b"") -> tuple[ssl.SSLSocket, tuple[str, int]]:
    """A TLS connection behind `beginning`, and its own address."""
    sock = socket.create_connection(("127.0.0.1", front.port), PATIENCE_S)
    sock.sendall(beginning)
    own = sock.getsockname()
    return ssl.create_default_context(cafile=lab.root).wrap_socket(sock, server_hostname="localhost"), own


def forwarded_for(tls) -> str:
    tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n")
    answer = b"".join(iter(lambda: tls.recv(65_536), b""))
    headers = json.loads(answer.partition(b"\r\n\r\n")[2])["headers"]
    (value,) = (value for name, value in headers if name.lower() == "x-forwarded-for")
    return value


# ---- Accepted, from load balancers ----


@pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"])
def test_haproxy_may_say_who_the_client_is(lab, pair, backend, tmp_path, how):
    """Its client's address goes on to the backend, from the other port of loopback that only that client has."""
    with run(tmp_path, toml(site(backend, pair), proxy_protocol=TRUSTED)) as front:
        text = f"\n mode tcp\n server front 127.0.0.1:{front.port} {how}"
        with haproxy(tmp_path, text) as port:
            url = f"https://localhost:{port}/"
            done = curl("--interface", "127.0.0.3", "--resolve", f"localhost:{port}:127.0.0.1", url, ca=lab.root)
            assert ["X-Forwarded-For", "127.0.0.3"] in json.loads(done.stdout)["headers"], done


def test_haproxys_health_checks_pass(lab, pair, backend, tmp_path):
    """They say LOCAL, or come with no word about a client; and TLS follows, or nothing."""
    with run(tmp_path, toml(site(backend, pair), proxy_protocol=TRUSTED, log_level="debug")) as front:
        server = f"server front 127.0.0.1:{front.port} send-proxy-v2 check inter 100 rise 1"
        text = f"\n mode tcp\n option ssl-hello-chk\n {server} check-send-proxy"
        with haproxy(tmp_path, text) as port:
            wait_until(
                lambda: curl(f"https://localhost:{port}/", ca=lab.root).returncode == 0, what="a server that is up"
            )
        assert "a PROXY header is due" not in front.log


@pytest.mark.parametrize("write", [v1, v2])
@pytest.mark.parametrize("step", [1, 1000])
def test_the_header_may_come_in_any_pieces(lab, pair, backend, tmp_path, write, step):
    """Byte by byte, and in one piece with the ClientHello; on sites by name and with one site alone."""
    other = lab.issue("other.test", with_uri=False)
    header = write(*CLIENT)
    for sites in (site(backend, pair), site(backend, other) + site(backend, pair)):
        with run(tmp_path, toml(sites, proxy_protocol=TRUSTED)) as front:
            sock = socket.create_connection(("127.0.0.1", front.port), PATIENCE_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            context = ssl.create_default_context(cafile=lab.root)
            tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
            first = header + outgoing.read()
            for at in range(0, len(first), step):
                sock.sendall(first[at : at + step])
            with sock:
                while True:
                    incoming.write(sock.recv(65_536))
                    with contextlib.suppress(ssl.SSLWantReadError):
                        tls.do_handshake()
                        break
                tls.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                sock.sendall(outgoing.read())
                answer = b""
                while b"}" not in answer:
                    incoming.write(sock.recv(65_536))
                    with contextlib.suppress(ssl.SSLWantReadError):
                        answer += tls.read(65_536)
                assert b'"192.0.2.7"' in answer


def test_from_load_balancers_a_header_is_required(lab, pair, backend, tmp_path):
    """Without one, or with a broken one, there is no handshake, and the log says why."""
    with run(tmp_path, toml(site(backend, pair), proxy_protocol=TRUSTED, log_level="debug")) as front:
        for beginning in (b"", b"PROXY TCP4 1.2.3.4\r\n", v2(*CLIENT)[:12] + b"\x21\x11\xff\xff"):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                client(front, lab, beginning)
        assert len(front.wait_for_log("(?s)(a PROXY header is due from this load balancer.*){3}").groups()) == 1
        assert "Traceback" not in front.log


def test_from_anybody_else_a_header_is_garbage(lab, pair, backend, tmp_path):
    """Nobody may say who he is: the handshake fails, and without a header his own address counts."""
    with run(tmp_path, toml(site(backend, pair), proxy_protocol={"trusted": ["10.0.0.0/8", "::1"]})) as front:
        for header in (v1(*CLIENT), v2(*CLIENT)):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                client(front, lab, header)
        tls, own = client(front, lab)
        with tls:
            assert forwarded_for(tls) == own[0]


@pytest.mark.slow
def test_a_header_that_does_not_come_is_waited_for_as_long_as_a_handshake(lab, pair, backend, tmp_path):
    """Trickled or not at all."""
    settings = {"tls": {"handshake_timeout_s": 1}, "proxy_protocol": TRUSTED}
    with run(tmp_path, toml(site(backend, pair), **settings)) as front:
        for beginning in (b"", b"PROXY TCP4", v2(*CLIENT)[:20]):
            with socket.create_connection(("127.0.0.1", front.port), PATIENCE_S) as sock:
                begin = time.monotonic()
                sock.sendall(beginning)
                with contextlib.suppress(ConnectionResetError):
                    assert sock.recv(100) == b""
                assert 0.5 < time.monotonic() - begin < 5


def test_the_address_goes_through_to_the_next_header(lab, pair, tmp_path):
    """From a load balancer, through mode tcp, to the backend."""
    heads = []
    with peers.backend() as raw, raw.does(lambda visit: heads.append(visit.sock.recv(65_536))):
        relayed = site(raw.url.replace("http:", "tcp:"), pair, mode="tcp", proxy_protocol="v1")
        with run(tmp_path, toml(relayed, proxy_protocol=TRUSTED)) as front:
            client(front, lab, v2(*CLIENT))[0].close()
            wait_until(lambda: heads)
    assert heads == [v1(*CLIENT)]


# ---- Sent, to backends ----


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nginx_reads_what_we_send(lab, pair, tmp_path, version):
    """Address and port of the client, through nginx' own parser."""
    with nginx(tmp_path) as port:
        text = site(f"tcp://127.0.0.1:{port}", pair, mode="tcp", proxy_protocol=version)
        with run(tmp_path, toml(text)) as front:
            done = curl("-w", "%{local_ip}:%{local_port}", f"https://localhost:{front.port}/", ca=lab.root)
            seen, own = done.stdout.split("\n")
            assert seen == own


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_haproxy_reads_what_we_send(lab, pair, tmp_path, version):
    """Address, and of version 2 what it knows of TLS: server name and ALPN."""
    text = (
        " accept-proxy\n mode http\n"
        " http-request return status 200 content-type text/plain lf-string"
        " %[src]:%[src_port]|%[fc_pp_authority]|"
    )
    with haproxy(tmp_path, text) as port:
        relayed = site(f"tcp://127.0.0.1:{port}", pair, mode="tcp", proxy_protocol=version, alpn=["http/1.1"])
        with run(tmp_path, toml(relayed)) as front:
            done = curl("-w", "%{local_ip}:%{local_port}", f"https://localhost:{front.port}/", ca=lab.root)
            seen, name, own = done.stdout.split("|")
            assert seen == own
            assert name == ("localhost" if version == "v2" else "")


def test_what_does_not_go_together_is_told_at_start(lab, pair, backend, tmp_path):
    """All of it in one round."""
    raw = backend.replace("http:", "tcp:")
    port = free_port()
    sites = site(backend, pair, proxy_protocol="v1", alpn=["h2"], hsts_preload=True)
    sites += site(raw, lab.issue("a.test"), names=["a.test"])
    sites += site(backend, lab.issue("b.test"), mode="tcp", hsts_max_age_s=1, names=["b.test"])
    listen = [f"127.0.0.1:{port}"]
    with run(tmp_path, toml(sites, listen=listen, redirect={"listen": listen}), until_ready=False) as front:
        assert front.process.wait(20) != 0
        said = " ".join(front.log.split())
        for expected in (
            f"redirect.listen: 127.0.0.1:{port} is in listen as well",
            'site[0].proxy_protocol: is for mode = "tcp"',
            'site[0].alpn: is for mode = "tcp"',
            "site[0].hsts_preload: is a part of Strict-Transport-Security",
            'site[1].upstream: tcp:// is for mode = "tcp"',
            "site[2].hsts_max_age_s: is about HTTP",
            'site[2].upstream: with mode = "tcp" write tcp://HOST:PORT',
        ):
            assert expected in said, expected

"""Our proxy, nginx and Apache, each before a recorder of its own, and a client that sends bytes as they are."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from differential.recorder import Record, Recorder
from integration import front
from integration.conftest import free_port
from lab.servers import require_peer

from proxy.lab.ca import LabCA

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OURS, NGINX, APACHE = "ours", "nginx", "apache"
_PATIENCE_S = 5.0
_PIECE = 1 << 16
_APACHE_MODULES = Path("/usr/lib/apache2/modules")

# What a careful user writes: the Host as the client meant it, HTTP/1.1 and kept connections to the backend. The body is
# buffered, as it is unless told otherwise. Sizes are as ours: how long a line may be is not what is compared.
_NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log info;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    large_client_header_buffers 4 32k;
    upstream backend {{ server 127.0.0.1:{backend}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name localhost;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_ignore_client_abort on;
            proxy_next_upstream off;
        }}
    }}
}}
"""
_APACHE = """\
ServerRoot {folder}
PidFile {folder}/apache.pid
DefaultRuntimeDir {folder}
ServerName localhost
Listen 127.0.0.1:{port}
ErrorLog {folder}/apache.log
LogLevel warn
User nobody
Group nogroup
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule ssl_module {modules}/mod_ssl.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
Mutex file:{folder} default
ServerLimit 1
StartServers 1
ThreadsPerChild 8
MaxRequestWorkers 8
SSLEngine on
SSLCertificateFile {chain}
SSLCertificateKeyFile {key}
LimitRequestLine 32768
LimitRequestFieldSize 32768
AllowEncodedSlashes NoDecode
ProxyPreserveHost On
ProxyPass "/" "http://127.0.0.1:{backend}/" nocanon enablereuse=on
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one proxy made of one case."""

    record: Record
    answers: bytes
    """As the client got them."""
    has_ended: bool
    """The proxy closed the connection, once the client had said that it would send no more."""

    @property
    def statuses(self) -> list[int]:
        """Of the final answers."""
        return [int(each) for each in re.findall(rb"^HTTP/1\.[01] ([2-9]\d\d)", self.answers, re.MULTILINE)]


@dataclass(frozen=True, slots=True)
class Front:
    """One of the three."""

    name: str
    port: int
    recorder: Recorder
    context: ssl.SSLContext

    def play(self, *pieces: bytes) -> Outcome:
        """Send these, each by itself, and close_notify, on a new connection; see what comes of it at both ends."""
        answers, has_ended = _talk(self.port, self.context, pieces)
        return Outcome(self.recorder.take(), answers, has_ended)


def _talk(port: int, context: ssl.SSLContext, pieces: Sequence[bytes]) -> tuple[bytes, bool]:
    """TLS over memory buffers: an SSLSocket cannot send close_notify and go on reading."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    answers = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def turn() -> bool:
            """Send what there is to send, then wait for something; whether the other side has not ended."""
            sock.sendall(outgoing.read())
            received = sock.recv(_PIECE)
            incoming.write(received)
            return bool(received)

        try:
            while not _is_done(tls.do_handshake):
                assert turn(), "the handshake failed"
            for piece in pieces:
                tls.write(piece)
                sock.sendall(outgoing.read())
            _is_done(tls.unwrap)
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    while piece := tls.read(_PIECE):
                        answers += piece
                    return bytes(answers), True
                if not turn():
                    return bytes(answers), True
        except TimeoutError:
            return bytes(answers), False
        except (ConnectionError, ssl.SSLZeroReturnError):
            return bytes(answers), True


def _is_done(step) -> bool:
    try:
        step()
    except ssl.SSLWantReadError:
        return False
    return True


@contextlib.contextmanager
def ours(folder: Path, files: tuple[Path, Path], context: ssl.SSLContext) -> Iterator[Front]:
    """The proxy as it is without settings."""
    with Recorder() as recorder:
        site = front.site(f"http://127.0.0.1:{recorder.port}", files)
        with front.run(folder, front.toml(site, stapling={"enabled": False})) as running:
            yield Front(OURS, running.port, recorder, context)


@contextlib.contextmanager
def nginx(folder: Path, files: tuple[Path, Path], context: ssl.SSLContext) -> Iterator[Front]:
    with _peer(NGINX, _NGINX, ["-e", f"{folder}/nginx.log", "-c"], folder, files, context) as made:
        yield made


@contextlib.contextmanager
def apache(folder: Path, files: tuple[Path, Path], context: ssl.SSLContext) -> Iterator[Front]:
    with _peer(APACHE, _APACHE, ["-D", "FOREGROUND", "-f"], folder, files, context) as made:
        yield made


@contextlib.contextmanager
def _peer(
    name: str, template: str, options: list[str], folder: Path, files: tuple[Path, Path], context: ssl.SSLContext
) -> Iterator[Front]:
    program = "apache2" if name == APACHE else name
    require_peer(program)
    port = free_port()
    with Recorder() as recorder:
        chain, key = files
        path = folder / f"{name}.conf"
        path.write_text(
            template.format(
                folder=folder, port=port, chain=chain, key=key, backend=recorder.port, modules=_APACHE_MODULES
            )
        )
        log = folder / f"{name}.said"
        with log.open("w") as said:
            process = subprocess.Popen([shutil.which(program), *options, path], stdout=said, stderr=said)
        try:
            front.wait_until(
                lambda: _listens(port) or process.poll() is not None, what=f"{name} listening: {log.read_text()}"
            )
            assert process.poll() is None, log.read_text() + (folder / f"{name}.log").read_text()
            yield Front(name, port, recorder, context)
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def all_three(folder: Path) -> Iterator[dict[str, Front]]:
    """By name. One process each, so that all cases meet the same pool of connections to the backend."""
    ca = LabCA.create(datetime.now(UTC))
    issued = ca.issue(["localhost"])
    ca.write(folder)
    files = folder / f"{issued.stem}.pem", folder / f"{issued.stem}.key"
    context = ssl.create_default_context(cafile=folder / "root.pem")
    with contextlib.ExitStack() as stack:
        yield {
            OURS: stack.enter_context(ours(folder, files, context)),
            NGINX: stack.enter_context(nginx(folder, files, context)),
            APACHE: stack.enter_context(apache(folder, files, context)),
        }

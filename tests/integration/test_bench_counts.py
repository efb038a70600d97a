"""What the load generator says it did is what the server says was done to it: warm-up, failures and resumptions too.

Clients who must fail ask for a name whose server rejects the handshake.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import urllib.request
from collections import Counter

import pytest
from integration.admin import ask
from integration.conftest import free_port
from integration.front import run, site, toml, wait_until
from lab.servers import require_peer

NAMES = "localhost 3\nrefused.test 1\n"
LOADS = {
    # Each ends while clients are still coming: those that were begun by then are waited for, and counted.
    "open": ("--rate", "150", "--duration", "1.5s", "--ramp", "0.4s", "--warmup", "0.4s", "--resume", "0.5"),
    "closed": ("--concurrency", "8", "--duration", "1.5s", "--warmup", "0.5s", "--resume", "0.5"),
}
MODULES = "/usr/lib/apache2/modules"


def bench(port, *options):
    command = [sys.executable, "-m", "proxy", "bench", f"127.0.0.1:{port}", "--json", "--request", "/", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.stderr == ""
    data = json.loads(done.stdout)
    assert done.returncode == (0 if data["handshakes"] else 1), "nothing could be measured where nobody is let in"
    return data


def all_of(data):
    """Handshakes, resumed ones and failures with those of ramp and warm-up, which the server cannot tell apart."""
    warmup = data["not_counted"]
    return [data[name] + warmup[name] for name in ("handshakes", "resumed", "failed")]


@pytest.fixture
def names(tmp_path):
    path = tmp_path / "names"
    path.write_text(NAMES)
    return path


@contextlib.contextmanager
def started(command, port):
    """Run a server until the block is over; ready when its plain port answers."""
    process = subprocess.Popen(command)
    try:
        url = f"http://127.0.0.1:{port}/status?auto"

        def status():
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read().decode()

        def is_ready():
            assert process.poll() is None, f"{command} has ended"
            with contextlib.suppress(OSError):
                return status()

        wait_until(is_ready, what="the server")
        yield status
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("load", LOADS)
def test_nginx_counts_the_same(lab, tmp_path, names, version, load):
    """stub_status: connections; its access log, a line for each request: handshakes, and which of them were resumed."""
    require_peer("nginx")
    chain, key = lab.issue("localhost")
    port, status_port, log = free_port(), free_port(), tmp_path / "access.log"
    temporary = " ".join(
        f"{each}_temp_path {tmp_path};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(f"""{user} daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;
      worker_processes 2; events {{ worker_connections 4096; }}
      http {{ {temporary} log_format resumed "$ssl_session_reused"; ssl_protocols TLSv1.2 TLSv1.3;
        server {{ listen 127.0.0.1:{port} ssl; server_name localhost; access_log {log} resumed;
          ssl_certificate {chain}; ssl_certificate_key {key}; location / {{ return 200 "one"; }} }}
        server {{ listen 127.0.0.1:{port} ssl; server_name refused.test; ssl_reject_handshake on; }}
        server {{ listen 127.0.0.1:{status_port}; access_log off; location / {{ stub_status; }} }} }}
    """)
    command = [shutil.which("nginx"), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    with started(command, status_port) as status:

        def counts():
            accepts, handled, requests = map(int, re.search(r"(\d+) (\d+) (\d+) \n", status()).groups())
            return Counter(accepts=accepts, handled=handled, requests=requests)

        before = counts()
        data = bench(port, "--names", names, "--tls", version, *LOADS[load])
        handshakes, resumed, failed = all_of(data)
        assert min(data["handshakes"], data["resumed"], data["failed"], data["not_counted"]["failed"]) > 0
        assert data["failures"] == [{"kind": "alert", "detail": "unrecognized name", "count": data["failed"]}]
        assert sum(data["answers"].values()) == data["handshakes"]

        more = counts() - before
        more.subtract(accepts=1, handled=1, requests=1)  # the last question itself
    assert more == {"accepts": data["connections"], "handled": data["connections"], "requests": handshakes}
    assert data["connections"] == handshakes + failed
    # nginx writes a log's line when the request is over; it has ended by now.
    assert Counter(log.read_text().split()) == {"r": resumed, ".": handshakes - resumed}


@pytest.mark.slow
@pytest.mark.parametrize("load", LOADS)
def test_apache_counts_the_same(lab, tmp_path, load):
    """mod_status: requests; its log as nginx's."""
    require_peer("apache2")
    chain, key = lab.issue("localhost")
    port, status_port, log = free_port(), free_port(), tmp_path / "access.log"
    (tmp_path / "one").write_text("one")
    loads = "\n".join(
        f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in ("mpm_event", "authz_core", "ssl", "status")
    )
    user = "User nobody" if os.getuid() == 0 else ""
    tmp_path.chmod(0o755)
    config = tmp_path / "apache.conf"
    config.write_text(f"""{loads}
      {user}
      ServerName localhost
      ServerRoot {tmp_path}
      DefaultRuntimeDir {tmp_path}
      PidFile {tmp_path}/apache.pid
      ErrorLog {tmp_path}/error.log
      Listen 127.0.0.1:{port}
      Listen 127.0.0.1:{status_port}
      ExtendedStatus On
      <VirtualHost 127.0.0.1:{port}>
        SSLEngine on
        SSLCertificateFile {chain}
        SSLCertificateKeyFile {key}
        DocumentRoot {tmp_path}
        LogFormat "%{{SSL_SESSION_RESUMED}}x" resumed
        CustomLog {log} resumed
      </VirtualHost>
      <VirtualHost 127.0.0.1:{status_port}>
        <Location "/status">
          SetHandler server-status
        </Location>
      </VirtualHost>
    """)
    command = [shutil.which("apache2"), "-D", "FOREGROUND", "-f", str(config)]
    with started(command, status_port) as status:

        def accesses():
            return int(re.search(r"Total Accesses: (\d+)", status())[1])

        before = accesses()
        data = bench(port, "--name", "localhost", *LOADS[load])
        handshakes, resumed, failed = all_of(data)
        assert (failed, data["connections"]) == (0, handshakes)
        # A request is counted when it is over: this question is not, the one before is.
        wait_until(lambda: accesses() - before >= handshakes, what="the last request's count")
        lines = wait_until(lambda: len(said := log.read_text().split()) >= handshakes and said, what="the last line")
    assert Counter(lines) == {"Resumed": resumed, "Initial": handshakes - resumed}


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("load", LOADS)
def test_our_own_metrics_count_the_same(lab, backend, tmp_path, version, load):
    """/metrics: connections, handshakes by version, resumption and staple, failures, requests, of two workers."""
    pair = lab.issue("localhost")
    admin = tmp_path / "admin.sock"
    text = toml(site(backend, pair), admin={"socket": str(admin)}, workers=2)
    with lab.responder(), run(tmp_path, text) as running:
        running.wait_for_log("staple")

        def metrics(name, label):
            said = re.findall(rf"^{name}{{(.*)}} (\d+)(?:\.0)?$", ask(admin, "/metrics")[1], re.MULTILINE)
            found = Counter()
            for labels, value in said:
                found[re.search(rf'{label}="([^"]*)"', labels)[1]] += int(value)
            return +found

        def total(name):
            return metrics(name, "worker").total()

        data = bench(running.port, "--name", "localhost", "--tls", version, *LOADS[load])
        more = bench(
            running.port, "--ciphers", "ECDHE-RSA-AES128-SHA", "--tls", "1.2", "--handshakes", "9", "--warmup", "0s"
        )
        handshakes, resumed, _ = all_of(data)
        wait_until(lambda: total("stapleproxy_open_connections") == 0, what="the end of all connections")
        assert more["failed"] == 9
        assert total("stapleproxy_connections_total") == data["connections"] + more["connections"]
        name = "stapleproxy_handshakes_total"
        assert metrics(name, "version") == {f"TLSv{version}": handshakes}
        assert metrics(name, "resumed") == {"true": resumed, "false": handshakes - resumed}
        assert metrics(name, "staple") == {"resumed": resumed, "fresh": handshakes - resumed}
        assert total("stapleproxy_handshake_failures_total") == more["failed"] + more["not_counted"]["failed"]
        assert metrics("stapleproxy_requests_total", "status") == {"200": handshakes}

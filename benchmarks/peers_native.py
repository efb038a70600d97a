"""nginx, Apache and HAProxy: one worker, the same certificate, a kept-alive backend, the same headers added."""

from __future__ import annotations

import os
import pwd
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from load import HOST
from peers import MAX_CONNECTIONS, Server, chain_with_key, free_port, only_child, running, started, wait_for_staples

from proxy.lab.stack import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from peers import Lab

APACHE_MODULES = "/usr/lib/apache2/modules"
_APACHE_LOADS = ("mpm_event", "authz_core", "headers", "ssl", "proxy", "proxy_http")
# The event MPM gives each worker thread this many connections; what is idle beyond that would be closed.
_APACHE_THREADS = 4


def find(program: str) -> str:
    """Where Debian puts servers is not on everybody's path. LabError if it is not there."""
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is None:
        raise LabError(f"{program} is not installed")
    return found


@contextmanager
def nginx(lab: Lab, prefix: Sequence[str]) -> Iterator[Server]:
    """Run nginx as its documentation says for stapling and a kept-alive backend; bodies are streamed, as ours are."""
    port = free_port()
    folder = lab.folder / "nginx"
    folder.mkdir(exist_ok=True)
    config = folder / "nginx.conf"
    config.write_text(_nginx_config(lab, folder, port))
    with running("nginx", [*prefix, find("nginx"), "-c", str(config), "-e", str(folder / "error.log")], lab) as child:
        staples = wait_for_staples(child, port, lab)
        yield Server("nginx", port, only_child(only_child(child.process.pid)), staples)


def _nginx_config(lab: Lab, folder: Path, port: int) -> str:
    certificates = "".join(
        f"    ssl_certificate {chain}; ssl_certificate_key {chain.with_suffix('.key')};\n"
        for chain in lab.chains.values()
    )
    temporary = "".join(
        f"  {name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # As root it would change to another user, who may not write profiles here.
    user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
    return f"""{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile {MAX_CONNECTIONS * 2};
pid {folder}/nginx.pid;
events {{ worker_connections {MAX_CONNECTIONS}; }}
http {{
{temporary}  access_log off;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  proxy_request_buffering off;
  proxy_max_temp_file_size 0;
  upstream backend {{
    server {lab.backend_url.removeprefix("http://")};
    keepalive 64;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {HOST}:{port} ssl;
    server_name localhost;
{certificates}    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_tickets on;
    ssl_stapling on;
    ssl_stapling_verify on;
    ssl_trusted_certificate {lab.folder}/authorities.pem;
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto https;
      proxy_set_header X-Forwarded-Host $http_host;
    }}
  }}
}}
"""


def apache(lab: Lab, prefix: Sequence[str]) -> AbstractContextManager[Server]:
    """Run Debian's Apache with the event MPM and mod_proxy_http."""
    folder = lab.folder / "apache"
    folder.mkdir(exist_ok=True)

    def command(port: int) -> list[str]:
        config = folder / "apache2.conf"
        config.write_text(_apache_config(lab, folder, port))
        return [find("apache2"), "-DFOREGROUND", "-f", str(config)]

    return started("Apache", lab, command, prefix)


def _apache_config(lab: Lab, folder: Path, port: int) -> str:
    chain = lab.chains["ec"]
    loads = "\n".join(f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in _APACHE_LOADS)
    # As root it starts its worker as another user, who must be named.
    user = f"User {pwd.getpwnam('nobody').pw_name}" if os.getuid() == 0 else ""
    return f"""{loads}
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/apache2.pid
ErrorLog {folder}/error.log
ServerName localhost
{user}
Listen {HOST}:{port}
ServerLimit 1
StartServers 1
ThreadsPerChild {_APACHE_THREADS}
MinSpareThreads {_APACHE_THREADS}
MaxSpareThreads {_APACHE_THREADS}
MaxRequestWorkers {_APACHE_THREADS}
AsyncRequestWorkerFactor {MAX_CONNECTIONS // _APACHE_THREADS}
MaxKeepAliveRequests 0
KeepAliveTimeout 75
SSLEngine on
SSLProtocol -all +TLSv1.2 +TLSv1.3
SSLCertificateFile {chain}
SSLCertificateKeyFile {chain.with_suffix(".key")}
RequestHeader set X-Forwarded-Proto https
ProxyPreserveHost on
ProxyPass / {lab.backend_url}/
"""


def haproxy(lab: Lab, prefix: Sequence[str]) -> AbstractContextManager[Server]:
    """Run HAProxy with one thread, its backend's connections shared between clients as nginx does."""

    def command(port: int) -> list[str]:
        config = lab.folder / "haproxy.cfg"
        config.write_text(_haproxy_config(lab, port))
        return [find("haproxy"), "-db", "-f", str(config)]

    return started("HAProxy", lab, command, prefix)


def _haproxy_config(lab: Lab, port: int) -> str:
    return f"""global
  nbthread 1
  maxconn {MAX_CONNECTIONS}
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 75s
  http-reuse always
frontend tls
  bind {HOST}:{port} ssl crt {chain_with_key(lab)}
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto https
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  default_backend app
backend app
  server one {lab.backend_url.removeprefix("http://")}
"""

"""PURE: the configuration of each TLS front, with all at its default but what the comparison needs.

That is: where to listen, the certificates, stapling, how many workers, room for the connections of the run, a long life
for idle ones, and no access log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from certificates import Site

HOST = "127.0.0.1"
KEPT_ALIVE_S = 600
"""So that thousands of idle connections can be opened, and are there still, on a slow machine too."""
APACHE_MODULES = "/usr/lib/apache2/modules"
_APACHE_LOADS = ("mpm_event", "authz_core", "socache_shmcb", "ssl", "proxy", "proxy_http")
# What mod_ssl keeps of one response, with room to spare.
_APACHE_BYTES_PER_STAPLE = 4096
_APACHE_THREADS = 25
"""ThreadsPerChild's default."""

Stapling = Literal["fetched", "file", "off"]
"""The server asks the responder, reads a file of the site's, or does neither."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a front is to be: the same for all of them."""

    folder: Path
    port: int
    sites: Sequence[Site]
    stapling: Stapling
    workers: int
    connections: int
    """So many must find room at once."""
    backend: str
    """HOST:PORT."""
    authorities: Path
    is_root: bool
    """Then servers want to be told as whom to work. As root where they take it: so they may read and write here."""
    cache: str = "shmcb:"
    """Of ours."""


def stapleproxy(setup: Setup) -> str:
    lines = [
        f'listen = ["{HOST}:{setup.port}"]',
        f"workers = {setup.workers}",
        "[stapling]",
        f"enabled = {json.dumps(setup.stapling != 'off')}",
        f"cache = {json.dumps(setup.cache)}",
        "warmup_timeout_s = 300",  # under valgrind the first fetch takes its time, and thousands of files take theirs
        "[http]",
        f"client_idle_timeout_s = {KEPT_ALIVE_S}",
    ]
    for site in setup.sites:
        lines += [
            "[[site]]",
            f'names = ["{site.name}"]',
            f'upstream = "http://{setup.backend}"',
            "[[site.certificate]]",
            f"chain = {json.dumps(str(site.chain))}",
            f"key = {json.dumps(str(site.key))}",
        ]
        if setup.stapling == "file":
            lines.append(f"staple = {json.dumps(str(site.staple))}")
    return "\n".join(lines) + "\n"


def nginx(setup: Setup) -> str:
    folder = setup.folder
    temporary = "".join(
        f"  {name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    stapling = "" if setup.stapling == "off" else "    ssl_stapling on;\n"
    if setup.stapling == "fetched":
        stapling += f"    ssl_stapling_verify on;\n    ssl_trusted_certificate {setup.authorities};\n"
    servers = "".join(
        f"""  server {{
    listen {HOST}:{setup.port} ssl;
    server_name {site.name};
    ssl_certificate {site.chain}; ssl_certificate_key {site.key};
{stapling}{f"    ssl_stapling_file {site.staple};" if setup.stapling == "file" else ""}
    location / {{ proxy_pass http://{setup.backend}; }}
  }}
"""
        for site in setup.sites
    )
    # Of so many names its hash wants to be told how large it may be; for one site that is its default.
    hash_size = max(512, 2 * len(setup.sites))
    user = "user root;\n" if setup.is_root else ""
    return f"""{user}daemon off;
worker_processes {setup.workers};
worker_rlimit_nofile {setup.connections * 2 + 1024};
pid {folder}/nginx.pid;
events {{ worker_connections {setup.connections * 2 + 512}; }}
http {{
{temporary}  access_log off;
  server_names_hash_max_size {hash_size};
  server_names_hash_bucket_size 128;
  keepalive_timeout {KEPT_ALIVE_S};
  ssl_protocols TLSv1.2 TLSv1.3;
{servers}}}
"""


def apache(setup: Setup) -> str:
    folder = setup.folder
    loads = "\n".join(f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in _APACHE_LOADS)
    stapling = "" if setup.stapling == "off" else "  SSLUseStapling on\n"
    cache_bytes = max(131072, _APACHE_BYTES_PER_STAPLE * len(setup.sites))
    servers = "".join(
        f"""<VirtualHost {HOST}:{setup.port}>
  ServerName {site.name}
  SSLEngine on
  SSLCertificateFile {site.chain}
  SSLCertificateKeyFile {site.key}
{stapling}  ProxyPass / http://{setup.backend}/
</VirtualHost>
"""
        for site in setup.sites
    )
    threads = _APACHE_THREADS * setup.workers
    return f"""{loads}
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/apache2.pid
ErrorLog {folder}/error.log
ServerName localhost
{"User nobody" if setup.is_root else ""}
Listen {HOST}:{setup.port}
ServerLimit {setup.workers}
StartServers {setup.workers}
ThreadsPerChild {_APACHE_THREADS}
MinSpareThreads {threads}
MaxSpareThreads {threads}
MaxRequestWorkers {threads}
AsyncRequestWorkerFactor {max(2, 4 * setup.connections // _APACHE_THREADS)}
KeepAliveTimeout {KEPT_ALIVE_S}
SSLProtocol -all +TLSv1.2 +TLSv1.3
SSLStaplingCache "shmcb:{folder}/stapling({cache_bytes})"
{servers}"""


def haproxy(setup: Setup) -> str:
    """The certificates are those of a folder, or of a list beside the configuration (see `haproxy_list`)."""
    return f"""global
  nbthread {setup.workers}
  maxconn {setup.connections + 512}
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 5s
  timeout client {KEPT_ALIVE_S}s
  timeout server {KEPT_ALIVE_S}s
frontend tls
  bind {HOST}:{setup.port} ssl crt-list {setup.folder}/sites.txt
  default_backend app
backend app
  server one {setup.backend}
"""


def haproxy_list(setup: Setup) -> str:
    return "".join(f"{site.both}\n" for site in setup.sites)


def hitch(setup: Setup) -> str:
    host, _, port = setup.backend.rpartition(":")
    sites = "".join(
        f'pem-file = {{\n  cert = "{site.both}"\n'
        + (f'  ocsp-resp-file = "{site.staple}"\n' if setup.stapling != "off" else "")
        + "}\n"
        for site in setup.sites
    )
    return f"""frontend = "[{HOST}]:{setup.port}"
backend = "[{host}]:{port}"
workers = {setup.workers}
daemon = off
ocsp-dir = ""
write-proxy-v2 = off
tls-protos = TLSv1.2 TLSv1.3
{'user = "root"' if setup.is_root else ""}
{sites}"""

"""The files that both servers are given: certificates, and one configuration with virtual hosts for all cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding
from integration.conftest import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from differential.modssl.stage import Case, Host

    from proxy.lab.ca import LabCA

APACHE_MODULES = "/usr/lib/apache2/modules"
_MODULES = ("mpm_event", "authz_core", "socache_shmcb", "ssl")
# Only Apache is started with -D FOREGROUND: nobody may not be able to read the Python that runs ours.
# Mutexes as file locks would now and then be refused to Apache: the kernel takes two threads' waiting for a deadlock.
_HEAD = """\
ServerRoot {folder}
PidFile {folder}/apache.pid
DefaultRuntimeDir {folder}
ServerName main.test
ErrorLog {folder}/error.log
LogLevel debug
<IfDefine FOREGROUND>
User nobody
Group nogroup
</IfDefine>
{modules}
Mutex pthread default
ServerLimit 2
StartServers 1
ThreadsPerChild 32
MaxRequestWorkers 64
SSLStaplingCache "shmcb:{folder}/stapling(5242880)"
SSLSessionCache "shmcb:{folder}/sessions(512000)"
"""


@dataclass(frozen=True, slots=True)
class World:
    """Cases that run on one pair of servers."""

    name: str
    cases: tuple[Case, ...]
    directives: tuple[str, ...] = ()
    """Of the main server."""
    at_once: int = 24
    """How many cases run side by side: they wait most of the time."""
    ports: int = 1
    """How many ports are listened on."""


@dataclass(frozen=True, slots=True)
class Site:
    """A world's files, written."""

    folder: Path
    config: Path
    ports: tuple[int, ...]
    stems: dict[int, str]
    """Of the files of each certificate, by its serial number."""

    def files(self, serial: int) -> tuple[Path, Path]:
        """Give a certificate with its chain, and its key."""
        return self.folder / f"{self.stems[serial]}.pem", self.folder / f"{self.stems[serial]}.key"


@dataclass(frozen=True, slots=True)
class Places:
    """Where things listen that are not the servers: what the placeholders in URIs and directives stand for."""

    responder: int
    responder6: int | None
    deaf: int

    def fill(self, text: str, path: str = "") -> str:
        values = {
            "{own}": f"http://127.0.0.1:{self.responder}{path}",
            "{path}": path,
            "{port}": str(self.responder),
            "{port6}": str(self.responder6 or 1),
            "{deaf}": str(self.deaf),
        }
        for name, value in values.items():
            text = text.replace(name, value)
        return text


def write(world: World, folder: Path, ca: LabCA, places: Places) -> Site:
    """Issue the certificates and write the configuration."""
    folder.mkdir()
    for stem, authority in (("root", ca.root), ("intermediate", ca.intermediate)):
        (folder / f"{stem}.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    ports = tuple(free_port() for _ in range(world.ports))
    lines = [_HEAD.format(folder=folder, modules=load_modules())]
    lines += [f"Listen 127.0.0.1:{port}" for port in ports]
    lines += [places.fill(each) for each in world.directives]
    serials: dict[int, str] = {}
    for case in world.cases:
        stems: dict[tuple[str, str], str] = {}
        for host in case.hosts:
            for kind in host.kinds:
                if (host.certificate, kind) not in stems:
                    stems[host.certificate, kind] = _issue(case, host, kind, folder, ca, places, serials)
            lines += _virtual_host(case, host, [stems[host.certificate, kind] for kind in host.kinds], ports, folder)
            path = case.path(host.certificate)
            lines[-1:-1] = [places.fill(each, path).replace("{folder}", str(folder)) for each in host.directives]
    config = folder / "site.conf"
    config.write_text("\n".join(lines) + "\n")
    return Site(folder, config, ports, serials)


def load_modules() -> str:
    return "\n".join(f"LoadModule {each}_module {APACHE_MODULES}/mod_{each}.so" for each in _MODULES)


def _issue(case: Case, host: Host, kind: str, folder: Path, ca: LabCA, places: Places, serials: dict[int, str]) -> str:
    path = case.path(host.certificate)
    uris = [places.fill(uri, path) for uri in (("{own}",) if host.uris is None else host.uris)]
    names = [case.name(each.label) for each in case.hosts if each.certificate == host.certificate]
    issued = ca.issue(["modssl.test", *names], key=kind, ocsp_urls=uris)
    stem = f"{case.slug}.{host.certificate or 'own'}.{kind}"
    serials[issued.leaf.serial_number] = stem
    chain = issued.chain_pem if host.has_chain else issued.leaf.public_bytes(Encoding.PEM)
    (folder / f"{stem}.pem").write_bytes(chain)
    (folder / f"{stem}.key").write_bytes(issued.key_pem)
    (folder / f"{stem}.key").chmod(0o600)
    return stem


def _virtual_host(case: Case, host: Host, stems: list[str], ports: tuple[int, ...], folder: Path) -> list[str]:
    lines = [f"<VirtualHost 127.0.0.1:{ports[host.port]}>", f"ServerName {case.name(host.label)}", "SSLEngine on"]
    lines += [f"ServerAlias {name}" for name in host.names]
    for stem in stems:
        lines += [f"SSLCertificateFile {folder}/{stem}.pem", f"SSLCertificateKeyFile {folder}/{stem}.key"]
    if host.stapling is not None:
        lines.append(f"SSLUseStapling {host.stapling}")
    return [*lines, "</VirtualHost>"]

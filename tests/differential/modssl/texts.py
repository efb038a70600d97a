"""What is said about a line of a configuration, right or wrong, by `apache2 -t` and by `stapleproxy check`."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from click.testing import CliRunner
from differential.modssl.servers import apache_command
from differential.modssl.world import load_modules

from proxy.cli import main
from proxy.lab.ca import LabCA

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Place = Literal["server", "vhost", "location"]

FINE = "accepted"
_FLAGS = ("SSLUseStapling", "SSLStaplingReturnResponderErrors", "SSLStaplingFakeTryLater")
_NUMBERS = (
    "SSLStaplingResponderTimeout",
    "SSLStaplingResponseTimeSkew",
    "SSLStaplingResponseMaxAge",
    "SSLStaplingStandardCacheTimeout",
    "SSLStaplingErrorCacheTimeout",
)
_FILE = """\
ServerRoot {folder}
PidFile {folder}/pid
DefaultRuntimeDir {folder}
ErrorLog {folder}/error.log
ServerName main.test
{modules}
Listen 127.0.0.1:1
SSLStaplingCache shmcb
SSLCertificateFile {folder}/host.pem
SSLCertificateKeyFile {folder}/host.key
{server}
<Location />
{location}
</Location>
<VirtualHost 127.0.0.1:1>
ServerName host.test
SSLEngine on
{vhost}
</VirtualHost>
"""


@dataclass(frozen=True, slots=True)
class Input:
    """One line, and where it stands."""

    line: str
    place: Place = "server"

    def __str__(self) -> str:
        return self.line if self.place == "server" else f"{self.line} (in a {self.place})"


INPUTS = (
    *(Input(f"{name} {value}".strip()) for name in _FLAGS for value in ("on", "OFF", "1", "yes", "", "on off")),
    *(
        Input(f"{name} {value}".strip())
        for name in _NUMBERS
        for value in ("1", "0", "-1", "-5", "abc", "5s", "99999999999", "", "1 2", "+3", '" 7"', '""')
    ),
    *(
        Input(f"SSLStaplingForceURL {value}".strip())
        for value in ("http://ocsp.example/", "foo", "https://ocsp.example/", "", "a b")
    ),
    *(
        Input(f"SSLOCSPProxyURL {value}".strip())
        for value in ("http://proxy.example:3128/", "http://x:abc/", "foo", "http://x/", "", "a b", "https://x:1/")
    ),
    *(
        Input(f"SSLStaplingCache {value}".strip())
        for value in (
            "shmcb",
            "shmcb:",
            "shmcb:x(8192)",
            "shmcb:x",
            "default",
            "default:x(9000)",
            "dbm:x",
            "shmcb:x(",
            "shmcb:x(9000",
            "shmcb:x(9000)y",
            "shmcb:x9000)",
            "shmcb:x(64k)",
            "shmcb:x()",
            "shmcb:x(8191)",
            "shmcb:x(4294967295)",
            "shmcb:x(-1)",
            "shmcb:x(0)",
            "shmcb:a(b)c(9000)",
            "shmcb:(9000)",
            "shmcb:x(1e6)",
            "none",
            "nonenotnull",
            "foo",
            "foo:bar",
            "SHMCB:x",
            ":x",
            "",
            "shmcb:a shmcb:b",
        )
    ),
    Input("SSLStaplingCache shmcb:x(9000)", "vhost"),
    Input("SSLStaplingMutex default"),
    Input("SSLStaplingFoo on"),
    *(
        Input(line, place)
        for place in ("vhost", "location")
        for line in (
            "SSLUseStapling on",
            "SSLStaplingReturnResponderErrors off",
            "SSLStaplingFakeTryLater off",
            "SSLStaplingResponderTimeout 5",
            "SSLStaplingResponseTimeSkew 5",
            "SSLStaplingResponseMaxAge 5",
            "SSLStaplingStandardCacheTimeout 5",
            "SSLStaplingErrorCacheTimeout 5",
            "SSLStaplingForceURL http://ocsp.example/",
            "SSLOCSPProxyURL http://127.0.0.1:3128/",
        )
    ),
    Input("SSLStaplingCache shmcb", "location"),
    Input("Mutex default ssl-stapling"),
    Input("Mutex default ssl-stapling-refresh"),
    Input("Mutex none ssl-stapling"),
    Input("Mutex none ssl-stapling-refresh"),
    Input("Mutex default ssl-stapling-foo"),
    Input("Mutex foo ssl-stapling"),
    Input("Mutex file:/nowhere ssl-stapling"),
    Input("Mutex default ssl-stapling", "vhost"),
    Input("sslusestapling ON"),
)


_NO_DBM = (
    "SSLStaplingCache: 'dbm' stapling cache not supported (known names: default,shmcb) "
    "Maybe you need to load the appropriate socache module (mod_socache_dbm?)"
)
OTHERWISE = {
    "SSLOCSPProxyURL foo": (FINE, "SSLOCSPProxyURL: must be http://HOST:PORT"),
    "SSLStaplingCache dbm:x": (
        _NO_DBM,
        "SSLStaplingCache: 'dbm' is a provider of Apache that is not served here: write shmcb:",
    ),
    "Mutex file:/nowhere ssl-stapling": ("Invalid Mutex directory in argument file:/nowhere", FINE),
}
"""Lines about which ours says something else on purpose, Apache's text and ours: a proxy that can never be reached is
refused; a provider that Apache has and ours has not is called that, whether its module is loaded or not; there is no
lock here whose folder would be needed."""


def told_by_apache(folder: Path) -> dict[Input, str]:
    """Give the text of the mistake, or that there is none."""
    return _ask_all(folder, lambda path: _apache_text(_run(apache_command("-t", "-f", str(path)))))


def told_by_ours(folder: Path) -> dict[Input, str]:
    """Give the same of ours, without the file and line in front of it."""
    runner = CliRunner()

    def check(path: Path) -> str:
        result = runner.invoke(main, ["check", str(path)])
        return FINE if result.exit_code == 0 else _our_text(result.output)

    return _ask_all(folder, check)


def _ask_all(folder: Path, ask: Callable[[Path], str]) -> dict[Input, str]:
    folder.mkdir()
    issued = LabCA.create(datetime.now(UTC)).issue(["host.test"])
    (folder / "host.pem").write_bytes(issued.chain_pem)
    (folder / "host.key").write_bytes(issued.key_pem)
    (folder / "host.key").chmod(0o600)
    told = {}
    for number, each in enumerate(INPUTS):
        path = folder / f"{number}.conf"
        lines = {"server": "", "vhost": "", "location": "", each.place: each.line}
        path.write_text(_FILE.format(folder=folder, modules=load_modules(), **lines))
        told[each] = ask(path)
    return told


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    return done.stdout.decode() + done.stderr.decode()


def _apache_text(said: str) -> str:
    if "Syntax OK" in said:
        return FINE
    found = re.search(r"Syntax error on line \d+ of [^\n]*:\n(.*?)\n", said)
    return _in_order(found[1]) if found else said


def _our_text(said: str) -> str:
    found = re.search(r"\.conf:\d+: ([^\n]*)", said)
    return _in_order(found[1]) if found else said


def _in_order(text: str) -> str:
    """Apache tells the names that it knows in the order of a hash table, another at each start."""
    return re.sub(r"(?<=\(known names: )[^)]*", lambda found: ",".join(sorted(found[0].split(","))), text)

"""What is said at the start: certificates that cannot be stapled, and what Apache does not start with at all."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from differential.modssl import world
from differential.modssl.hosts import two_of_each
from differential.modssl.servers import apache_command, ours_command
from differential.modssl.stage import Case, Host

if TYPE_CHECKING:
    from pathlib import Path

    from differential.modssl.world import Site

    from proxy.lab.ca import LabCA

_END_WITHIN_S = 60


def cases() -> list[Case]:
    forced = ("SSLStaplingForceURL {own}",)
    return [
        Case("start", "no responder in the certificate", two_of_each(""), (Host(uris=()),)),
        Case(
            "start", "no responder in the certificate, one forced", two_of_each(""), (Host(uris=(), directives=forced),)
        ),
        Case(
            "start",
            "responder in the certificate, another forced",
            two_of_each(""),
            (Host(uris=("http://127.0.0.1:1/x",), directives=forced),),
        ),
        Case("start", "no issuer", two_of_each(""), (Host(has_chain=False),)),
        Case("start", "no issuer, stapling off", two_of_each(""), (Host(has_chain=False, stapling="off"),)),
        Case(
            "start",
            "issuer in a chain file",
            two_of_each(""),
            (Host(has_chain=False, directives=("SSLCertificateChainFile {folder}/intermediate.pem",)),),
        ),
        Case(
            "start",
            "issuer among the client CAs",
            two_of_each(""),
            (Host(has_chain=False, directives=("SSLCACertificateFile {folder}/intermediate.pem",)),),
        ),
        Case(
            "start",
            "one certificate, responder forced by the first host only",
            two_of_each("plain", "forced", "plain"),
            (Host("forced", forced, "c", uris=()), Host("plain", (), "c", uris=())),
        ),
        Case(
            "start",
            "one certificate, responder forced by the second host only",
            two_of_each("plain", "forced"),
            (Host("plain", (), "c", uris=()), Host("forced", forced, "c", uris=())),
        ),
        Case(
            "start",
            "one certificate, stapling off in the first host",
            two_of_each("off", "on"),
            (Host("off", (), "c", stapling="off"), Host("on", (), "c")),
        ),
        Case(
            "start",
            "second responder of a certificate",
            two_of_each(""),
            (Host(uris=("http://127.0.0.1:1/x", "{own}")),),
        ),
    ]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A change of a right configuration: one of its lines, and what stands in its place."""

    title: str
    pattern: str
    replacement: str
    numbers: frozenset[int]
    """Those that are compared: what else a program says at its end is its own."""


REFUSALS = (Refusal("no stapling cache", r"(?m)^SSLStaplingCache .*$", "", frozenset({1958, 2312})),)


def exits(refusal: Refusal, folder: Path, ca: LabCA) -> tuple[tuple[int, list[int]], tuple[int, list[int]]]:
    """Give exit status and log numbers, of Apache and of ours."""
    places = world.Places(1, None, 1)
    site = world.write(
        world.World("start", (Case("start", refusal.title, lambda _: None, (Host(),)),)), folder, ca, places
    )
    site.config.write_text(re.sub(refusal.pattern, refusal.replacement, site.config.read_text()))
    apache = apache_command("-D", "FOREGROUND", "-f", str(site.config))
    return _exit(apache, refusal, site), _exit(ours_command("run", str(site.config)), refusal, site)


def _exit(command: list[str], refusal: Refusal, site: Site) -> tuple[int, list[int]]:
    log = site.folder / "error.log"
    log.unlink(missing_ok=True)
    done = subprocess.run(command, capture_output=True, check=False, timeout=_END_WITHIN_S)
    said = done.stdout.decode() + done.stderr.decode() + (log.read_text() if log.exists() else "")
    numbers = dict.fromkeys(int(number) for number in re.findall(r"AH(\d{5})", said))
    return done.returncode, [number for number in numbers if number in refusal.numbers]

"""Real clients: openssl and curl."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from lab.servers import require_peer

if TYPE_CHECKING:
    from pathlib import Path


def s_client(port: int, *options: str, ca: Path, name: str | None = "localhost", stdin: str = "") -> str:
    """What ``openssl s_client`` says, both channels; `name` None: without SNI."""
    require_peer("openssl")
    command = [
        "openssl",
        "s_client",
        "-connect",
        f"127.0.0.1:{port}",
        *(["-servername", name] if name else ["-noservername"]),
        "-CAfile",
        str(ca),
        *options,
    ]
    done = subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=20, text=True
    )
    return done.stdout


def is_stapled(said: str) -> bool:
    """Whether ``s_client -status`` got a response that says good."""
    return "OCSP Response Status: successful" in said and "Cert Status: good" in said


def is_not_stapled(said: str) -> bool:
    """Whether ``s_client -status`` ended its handshake without a response."""
    return "OCSP response: no response sent" in said and "Cipher is (NONE)" not in said


def verify_with_openssl(der: bytes, folder: Path, leaf: Path, *, issuer: Path, root: Path, digest: str = "sha1") -> str:
    """What ``openssl ocsp`` thinks of a staple, as a client that trusts the root and was sent the issuer.

    `digest`: the hash of the CertID, by which it looks for the certificate.
    """
    require_peer("openssl")
    path, trusted = folder / "staple.der", folder / "trusted.pem"
    path.write_bytes(der)
    trusted.write_bytes(root.read_bytes() + issuer.read_bytes())
    command = [
        "openssl",
        "ocsp",
        "-respin",
        path,
        "-issuer",
        issuer,
        f"-{digest}",
        "-cert",
        leaf,
        "-CAfile",
        trusted,
        "-no_nonce",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout + done.stderr


def curl(*arguments: str, ca: Path) -> subprocess.CompletedProcess:
    """Run curl with the lab's root."""
    require_peer("curl")
    command = ["curl", "--silent", "--show-error", "--max-time", "15", "--cacert", str(ca), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)


def alert_number(said: str) -> int | None:
    """The TLS alert that s_client got."""
    found = re.search(r"SSL alert number (\d+)", said)
    return int(found[1]) if found else None

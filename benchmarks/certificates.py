"""Sites to serve: a name, a certificate and a good OCSP response each, as the files that the servers read.

All responses are signed here, so that servers which staple from a file need no responder, and the client knows what to
expect of each name.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from proxy.lab.answers import GOOD, Answer, CertId, Single
from proxy.lab.ca import LabCA
from proxy.lab.signing import Party

if TYPE_CHECKING:
    from pathlib import Path

    from load import Kind

VALIDITY = timedelta(days=7)
"""So that no server refreshes a response during the run."""


@dataclass(frozen=True, slots=True)
class Site:
    """What one server name is served with. `both` is chain and key in one file, with `staple` beside it: ``.ocsp``."""

    name: str
    chain: Path
    key: Path
    both: Path
    staple: Path
    staple_der: bytes


def make_sites(authority: Path, folder: Path, count: int, kind: Kind, responder_url: str) -> list[Site]:
    """Issue so many certificates by the CA in `authority`; the names are ``s0.test``, ``s1.test`` …"""
    folder.mkdir()
    ca = LabCA.load(authority)
    signer = Party(ca.ocsp_signer.certificate, ca.ocsp_signer.key)
    this_update = datetime.now(UTC).replace(microsecond=0)
    sites = []
    for number in range(count):
        name = f"s{number}.test"
        issued = ca.issue([name], key=kind, ocsp_urls=[responder_url])
        single = Single(
            CertId.of(ca.intermediate.certificate, issued.leaf.serial_number, "sha1"),
            GOOD,
            this_update,
            this_update + VALIDITY,
        )
        response = Answer(signer, signer.by_key, (signer.certificate,), this_update, (single,)).encoded
        chain, key, both, staple = (folder / f"{name}.{end}" for end in ("chain", "key", "pem", "pem.ocsp"))
        site = Site(name, chain, key, both, staple, response)
        site.chain.write_bytes(issued.chain_pem)
        site.key.write_bytes(issued.key_pem)
        site.key.chmod(0o600)
        site.both.write_bytes(issued.chain_pem + issued.key_pem)
        site.staple.write_bytes(response)
        sites.append(site)
    return sites

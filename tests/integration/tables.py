"""The real proxy with any tables of settings."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from integration import front
from integration.peers import Proxied

from proxy.lab.ca import LabCA

if TYPE_CHECKING:
    from pathlib import Path


@contextmanager
def proxied_with(folder: Path, upstream: str, **settings):
    """As `proxied`, with whole tables of settings."""
    ca = LabCA.create(datetime.now(UTC))
    issued = ca.issue(["localhost", "127.0.0.1"])
    ca.write(folder)
    files = (folder / f"{issued.stem}.pem", folder / f"{issued.stem}.key")
    with front.run(folder, front.toml(front.site(upstream, files), **settings)) as running:
        yield Proxied(running, folder / "root.pem")

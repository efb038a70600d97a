"""A CA, responders and backends for the tests with the real proxy."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from lab.servers import process_at

from proxy.lab.ca import LabCA

if TYPE_CHECKING:
    from pathlib import Path


def free_port() -> int:
    """A port of loopback that nobody uses just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@dataclass
class Lab:
    """A folder with a CA; certificates are issued for the responder on `port`, whether it runs or not."""

    folder: Path
    ca: LabCA
    port: int = field(default_factory=free_port)

    @property
    def root(self) -> Path:
        return self.folder / "root.pem"

    @property
    def intermediate(self) -> Path:
        return self.folder / "intermediate.pem"

    def issue(self, *names: str, key: str = "ec", with_uri: bool = True, **more) -> tuple[Path, Path]:
        """Chain and key of a new certificate, as files."""
        urls = (f"http://127.0.0.1:{self.port}",) if with_uri else ()
        issued = self.ca.issue(names, key=key, ocsp_urls=urls, **more)
        self.ca.write(self.folder)
        return self.folder / f"{issued.stem}.pem", self.folder / f"{issued.stem}.key"

    @contextlib.contextmanager
    def responder(self, *options: str):
        """Run the responder; gives its process."""
        with process_at("responder", "--folder", str(self.folder), "--listen", f"127.0.0.1:{self.port}", *options) as (
            _,
            process,
        ):
            yield process


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A fresh CA: serial numbers, keys and ports of one test do not meet another's."""
    made = Lab(tmp_path / "ca", LabCA.create(datetime.now(UTC)))
    made.ca.write(made.folder)
    return made


@pytest.fixture(scope="session")
def backend():
    """The sample backend's address, one for all tests."""
    with process_at("backend") as (url, _):
        yield url

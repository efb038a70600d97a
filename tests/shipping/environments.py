"""Virtual environments of their own, which see nothing of the sources or of what these tests run in."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
PIP_WITHIN_S = 400


def clean() -> dict[str, str]:
    """This process' environment without what leads Python elsewhere."""
    return {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "COV"))}


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @classmethod
    def create(cls, folder: Path, python: str) -> Self:
        subprocess.run([python, "-m", "venv", folder], check=True, env=clean(), timeout=120)
        return cls(folder)

    def program(self, name: str) -> str:
        return str(self.folder / "bin" / name)

    def pip(self, *arguments: str) -> str:
        done = subprocess.run(
            [self.program("python"), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
            env=clean(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=PIP_WITHIN_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    def installed(self) -> dict[str, str]:
        """Give versions by names in small letters."""
        told = subprocess.run(
            [self.program("python"), "-m", "pip", "--disable-pip-version-check", "list", "--format=json"],
            env=clean(), capture_output=True, text=True, check=True, timeout=60,
        ).stdout  # fmt: skip
        return {each["name"].lower().replace("_", "-"): each["version"] for each in json.loads(told)}

    def run(self, name: str, *arguments: str, folder: Path, within_s: float = 60) -> subprocess.CompletedProcess:
        """Run one of its programs in `folder`."""
        return subprocess.run(
            [self.program(name), *arguments],
            cwd=folder, env=clean(), capture_output=True, text=True, check=False, timeout=within_s,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

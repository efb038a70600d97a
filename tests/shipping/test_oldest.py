"""What pyproject.toml says is old enough: the oldest Python, and of each dependency the oldest release allowed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from typing import TYPE_CHECKING

import pytest
from packaging.version import Version
from shipping.environments import ROOT, Environment, clean

if TYPE_CHECKING:
    from pathlib import Path

TESTS = ("ocsp", "cache", "tls", "settings", "keeper", "cli", "http", "integration/test_stapling.py")
"""Those of what stands on dependencies most: parsing and checking responses (cryptography), TLS (pyOpenSSL), settings
(pydantic), the keeper (aiohttp), commands (click, rich), and the whole proxy between real clients and backends."""

WITHIN_S = 420


def lower_bounds(dependencies: list[str]) -> list[str]:
    """Make constraints that hold each at its lower bound."""
    found = [re.match(r"([\w.-]+)>=([\w.]+)", each) for each in dependencies]
    assert all(found), f"without a lower bound: {dependencies}"
    return [f"{match[1]}=={match[2]}" for match in found if match]


def oldest_python() -> tuple[str, str]:
    """Give the version that requires-python begins with, and the command for it."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    command = f"python{version}"
    # A name on the PATH may be a stub for a version that is not there: only running it tells.
    found = shutil.which(command)
    if found is None or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"no Python {version} on this machine")
    return version, command


@pytest.mark.slow
@pytest.mark.timeout(WITHIN_S + 180)
def test_the_oldest_dependencies_will_do(sdist: Path, tmp_path: Path) -> None:
    """Installed from the sdist; the tests come from it as well, and its sources are away."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = lower_bounds([*project["dependencies"], *project["optional-dependencies"]["redis"]])
    constraints = tmp_path / "oldest.txt"
    constraints.write_text("\n".join(bounds))
    _, python = oldest_python()
    environment = Environment.create(tmp_path / "venv", python)
    environment.pip("install", "--constraint", str(constraints), f"{sdist}[dev,redis]")
    has = environment.installed()
    for bound in bounds:
        name, _, version = bound.partition("==")
        assert Version(has[name.lower()]) == Version(version), name

    shutil.unpack_archive(sdist, tmp_path, filter="data")
    (source,) = tmp_path.glob("stapleproxy-*")
    shutil.rmtree(source / "proxy")
    done = subprocess.run(
        [environment.program("pytest"), "-q", "-p", "no:cacheprovider", *(f"tests/{name}" for name in TESTS)],
        cwd=source, env=clean(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        timeout=WITHIN_S, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-10_000:]


def test_lower_bounds() -> None:
    """Upper bounds and extras do not matter; a dependency without a lower one is a mistake."""
    assert lower_bounds(["a-b>=1.2,<3", "C>=4"]) == ["a-b==1.2", "C==4"]
    with pytest.raises(AssertionError, match="lower bound"):
        lower_bounds(["a"])

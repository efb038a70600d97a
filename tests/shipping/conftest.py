"""What is shipped, built once."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from shipping.environments import ROOT, Environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all that lies about here, so that it stays the same while it is built and looked at."""
    away = shutil.ignore_patterns(".git", ".venv", ".hypothesis", ".*_cache")
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("tree") / "stapleproxy", ignore=away)


@pytest.fixture(scope="session")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist, and the wheel that was made of it with nothing else at hand."""
    folder = tmp_path_factory.mktemp("dist")
    tools = Environment.create(tmp_path_factory.mktemp("tools") / "venv", sys.executable)
    tools.pip("install", "build")
    done = tools.run("python", "-m", "build", "--outdir", str(folder), str(tree), folder=folder, within_s=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def sdist(built: Path) -> Path:
    (found,) = built.glob("*.tar.gz")
    return found


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found

"""The sdist and the wheel, by what is in them, and by what the wheel does where no source is near."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from certs import make_chain
from shipping.environments import ROOT, Environment

from proxy import __version__

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

COMMANDS = ("run", "serve", "check", "convert", "explain", "status", "staples", "reload", "stop", "lab", "bench")
NOT_SHIPPED = re.compile(
    r"(^|/)(\.git|\.ci|\.venv|\.hypothesis|\.benchmarks|__pycache__|\.[a-z]+_cache)(/|$)|\.pyc$|(^|/)\.coverage"
)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = Environment.create(tmp_path_factory.mktemp("installed") / "venv", sys.executable)
    made.pip("install", str(wheel))
    return made


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """Where commands run: no source is near."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def packaged(tree: Path) -> set[str]:
    """Every file of the package."""
    return {
        path.relative_to(tree).as_posix()
        for path in (tree / "proxy").rglob("*")
        if path.is_file() and not NOT_SHIPPED.search(path.relative_to(tree).as_posix())
    }


def test_the_wheel_has_the_package_alone(wheel: Path, tree: Path) -> None:
    """All of it with the mark that it is typed, and beside it nothing but what tells about it, with the license."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if name.startswith("proxy/")} == packaged(tree)
    assert "proxy/py.typed" in names
    about = f"stapleproxy-{__version__}.dist-info"
    told = {name for name in names if not name.startswith("proxy/")}
    files = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    assert told == {f"{about}/{name}" for name in files}


def test_the_metadata(wheel: Path, sdist: Path, tree: Path) -> None:
    """The version is said once, in the package; license and README are there for who looks before installing."""
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"stapleproxy-{__version__}.dist-info/METADATA").decode()
    told = email.message_from_string(text)
    assert (told["Name"], told["Version"]) == ("stapleproxy", __version__)
    assert (told["License-Expression"], told["License-File"]) == ("Apache-2.0", "LICENSE")
    assert told["Description-Content-Type"] == "text/markdown"
    assert told.get_payload() == (tree / "README.md").read_text()
    assert sdist.name == f"stapleproxy-{__version__}.tar.gz"
    assert __version__ not in (tree / "pyproject.toml").read_text()


def test_package_indexes_would_take_both(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    """Twine renders the README as they do."""
    tools = Environment.create(tmp_path / "venv", sys.executable)
    tools.pip("install", "twine")
    done = tools.run("twine", "check", "--strict", str(wheel), str(sdist), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_the_sdist_has_what_builds_and_tests_it(sdist: Path, tree: Path) -> None:
    """With examples and documentation, and without history, caches and anybody's environment."""
    with tarfile.open(sdist) as archive:
        names = {PurePosixPath(*PurePosixPath(name).parts[1:]).as_posix() for name in archive.getnames()}
    assert not [name for name in names if NOT_SHIPPED.search(name)]
    assert packaged(tree) <= names
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"} <= names
    assert {"Makefile", "Dockerfile", ".dockerignore"} <= names
    for folder in ("tests", "config", "docs", "benchmarks"):
        there = {path.relative_to(tree).as_posix() for path in (tree / folder).rglob("*") if path.is_file()}
        assert {name for name in there if not NOT_SHIPPED.search(name) and "_build" not in name} <= names


def test_every_command_tells_what_it_does(installed: Environment, empty: Path) -> None:
    """The program itself and ``python -I -m proxy``, which looks at nothing but what is installed."""
    done = installed.run("stapleproxy", "--version", folder=empty)
    assert done.stdout == f"stapleproxy, version {__version__}\n"
    done = installed.run("python", "-I", "-m", "proxy", "--help", folder=empty)
    assert (done.returncode, done.stderr) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", done.stdout, re.MULTILINE), done.stdout
        told = installed.run("stapleproxy", command, "--help", folder=empty)
        assert (told.returncode, told.stderr) == (0, ""), command
    done = installed.run("stapleproxy", "completion", "bash", folder=empty)
    assert done.returncode == 0
    assert "_stapleproxy_completion" in done.stdout


def test_it_is_what_was_installed(installed: Environment, empty: Path) -> None:
    """Not the sources that these tests are of; and its dependencies agree with each other."""
    done = installed.run("python", "-c", "import proxy; print(proxy.__file__)", folder=empty)
    assert Path(done.stdout.strip()).is_relative_to(installed.folder)
    installed.pip("check")
    assert {"pytest", "hypothesis"}.isdisjoint(installed.installed())


def test_check_reads_the_smallest_configuration(installed: Environment, empty: Path, tmp_path: Path) -> None:
    made = make_chain(tmp_path)
    made.files.chain.rename(tmp_path / "chain.pem")
    made.files.key.rename(tmp_path / "key.pem")
    config = tmp_path / "minimal.toml"
    config.write_text((ROOT / "config" / "minimal.toml").read_text())
    done = installed.run("stapleproxy", "check", str(config), folder=empty)
    assert done.returncode == 0, done.stderr
    assert "www.test" in done.stdout


def test_the_lab_proves_it(installed: Environment, empty: Path) -> None:
    """CA, responder, backend and proxy, all out of the wheel: a stapled handshake, and nothing left in the folder."""
    done = installed.run("stapleproxy", "lab", "--once", folder=empty, within_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "staple" in done.stdout
    assert not [*empty.iterdir()]


def test_types_are_found_by_who_uses_it(installed: Environment, tmp_path: Path) -> None:
    """py.typed does what it is for: mypy in another project sees the types."""
    program = tmp_path / "user.py"
    program.write_text("from proxy.names import normalise\nreveal_type(normalise)\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", installed.program("python"), str(program)],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert "def (name: str) -> str" in done.stdout, done.stdout

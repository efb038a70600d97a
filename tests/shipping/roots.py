"""A fresh Debian in a folder, and programs that run in it with the rights and mounts of a container. Needs root.

It stands for the image `python:3.13-slim-trixie`, which has the same Debian below the same Python, and differs in this:
there Python is made from source, in /usr/local, and here it is Debian's own, linked to where it is there. Debian's pip
refuses to install for the whole system; that mark is taken away, as there is none there.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from integration.front import children_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

WITH_PARENT = "--pdeathsig=KILL"
UNSHARED = ("setpriv", WITH_PARENT, "unshare", "--mount", "--pid", "--fork", "--kill-child")
"""However the tests end, nothing stays: each dies with its parent. Who becomes another user must say it again."""
CONFINED = ("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
DEBOOTSTRAP_WITHIN_S = 500
STEP_WITHIN_S = 300
END_WITHIN_S = 30
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
NEEDLESS = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")
FROM_THIS_MACHINE = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
NETWORK_VARIABLES = ("PIP_", "SSL_CERT_", "http_proxy", "https_proxy", "no_proxy")
"""How package registries are reached from here: an engine gives a build its own way to the network."""


def mirror() -> str:
    """Ask apt where this machine gets Debian from."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)"], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    return next(uri for uri in told if uri.rstrip("/").endswith("/debian"))


@dataclass(frozen=True, slots=True)
class Root:
    """A folder with a whole system in it."""

    path: Path

    def inside(self, path: str) -> Path:
        """Where a path of the system is for this machine."""
        return self.path / path.lstrip("/")

    def copy(self, to: Path) -> Root:
        to.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "--archive", "--reflink=auto", self.path, to], check=True, timeout=STEP_WITHIN_S)
        return Root(to)

    def run(self, command: Sequence[str], env: dict[str, str], *, user: str = "0:0", folder: str = "/") -> None:
        """Run a step of a build: it may write everywhere, and reach the registries."""
        network = {name: text for name, text in os.environ.items() if name.startswith(NETWORK_VARIABLES)}
        entered = entering(self, command, network | env, user=user, folder=folder)
        script = f"mount -t proc proc {self.inside('/proc')} && exec {entered}"
        done = subprocess.run(
            [*UNSHARED, "sh", "-c", script],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=STEP_WITHIN_S,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}"


def entering(
    root: Root, command: Sequence[str], env: dict[str, str], *, user: str, folder: str, rights: Sequence[str] = ()
) -> str:
    """Write the shell's words that run `command` in `root`."""
    return shlex.join(["chroot", str(root.path), *becoming(user, env, rights, folder), *command])


def becoming(user: str, env: dict[str, str], rights: Sequence[str], folder: str) -> list[str]:
    """Give the beginning of a command that becomes `user`, with this environment and no other."""
    uid, gid = user.split(":")
    variables = [f"{name}={text}" for name, text in env.items()]
    become = ["/usr/bin/setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", WITH_PARENT, *rights]
    return [*become, "/usr/bin/env", "-i", f"--chdir={folder}", *variables]


def fresh_debian(suite: str, path: Path) -> Root:
    """Make one with debootstrap."""
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, path, mirror()],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=DEBOOTSTRAP_WITHIN_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2_000:]
    root = Root(path)
    for name in FROM_THIS_MACHINE:
        shutil.copy2(name, root.inside(name))
    for name in NEEDLESS:
        shutil.rmtree(path / name, ignore_errors=True)
    for mark in path.glob("usr/lib/python3.*/EXTERNALLY-MANAGED"):
        mark.unlink()
    for name in ("python", "pip"):
        root.inside(f"/usr/local/bin/{name}").symlink_to(f"/usr/bin/{name}3")
    return root


@dataclass(frozen=True, slots=True)
class Mounts:
    """What a container has besides its image: all else is read-only."""

    tmpfs: dict[str, str]
    """The options of each, by its path."""
    folders: dict[str, Path]
    """Volumes: they may be written to."""
    files: dict[str, Path]
    """Secrets and configuration: they may not."""


@dataclass(frozen=True, slots=True)
class Container:
    """A program that runs as the first process of its own system."""

    unshared: subprocess.Popen
    log_path: Path
    become: list[str]
    """What makes another program as it is."""

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def pid(self) -> int:
        """The program, as this machine numbers it."""
        return children_of(self.unshared.pid)[0]

    def run(self, command: Sequence[str], *, within_s: float = 30) -> subprocess.CompletedProcess:
        """Run another program beside it, as ``docker exec`` does."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--root", "--wd"]
        return subprocess.run(
            [*enter, *self.become, *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=within_s,
        )  # fmt: skip

    def stop(self, number: int = signal.SIGTERM) -> int:
        os.kill(self.pid, number)
        return self.unshared.wait(END_WITHIN_S)


@contextlib.contextmanager
def container(
    root: Root, command: Sequence[str], env: dict[str, str], mounts: Mounts, *, user: str, folder: str, log_path: Path
) -> Iterator[Container]:
    """Run `command` as process 1, with a read-only root, no capabilities and no way to any; it is killed at the end."""
    script = ["set -e", f"mount --bind {root.path} {root.path}", f"mount -t proc proc {root.inside('/proc')}"]
    for path, options in {"/dev/shm": "mode=1777", **mounts.tmpfs}.items():
        root.inside(path).mkdir(parents=True, exist_ok=True)
        script.append(f"mount -t tmpfs -o {options} tmpfs {root.inside(path)}")
    for path, source in mounts.folders.items():
        script.append(f"mount --bind {source} {root.inside(path)}")
    for path, source in mounts.files.items():
        root.inside(path).parent.mkdir(parents=True, exist_ok=True)
        root.inside(path).touch()
        script += [f"mount --bind {source} {root.inside(path)}", f"mount -o remount,bind,ro {root.inside(path)}"]
    script.append(f"mount -o remount,bind,ro {root.path}")
    script.append("exec " + entering(root, command, env, user=user, folder=folder, rights=CONFINED))
    with log_path.open("w") as log:
        unshared = subprocess.Popen(
            [*UNSHARED, "sh", "-c", "\n".join(script)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    made = Container(unshared, log_path, becoming(user, env, CONFINED, folder))
    try:
        wait_until(lambda: children_of(unshared.pid) or unshared.poll() is not None, END_WITHIN_S, "a first process")
        yield made
    finally:
        if unshared.poll() is None:
            unshared.kill()  # and with it, as it is told to, the first process and so all others
            unshared.wait()

"""Reads a Dockerfile, and carries out its steps without Docker: a root folder is the image, `chroot` is the container.

What the two of this project use is understood, and anything else is an error: a step that is skipped would prove
nothing. Of Docker's reference, in the sections of the instructions' names.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shipping.roots import Root

BASE_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction: its name, its --flags and the rest."""

    name: str
    flags: dict[str, str]
    rest: str

    @property
    def words(self) -> list[str]:
        """The exec form, or the words of the rest."""
        return self.exec_form or shlex.split(self.rest)

    @property
    def exec_form(self) -> list[str] | None:
        return json.loads(self.rest) if self.rest.startswith("[") else None


@dataclass(frozen=True, slots=True)
class Image:
    """A root folder, and what is run in it."""

    root: Root
    env: dict[str, str] = field(default_factory=lambda: {"PATH": BASE_PATH})
    user: str = "0:0"
    folder: str = "/"
    volumes: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    stop_signal: str = "SIGTERM"


def steps(text: str) -> list[Step]:
    """Read a Dockerfile: comments are whole lines, also between lines that a backslash joins."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found = []
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        name, _, rest = line.strip().partition(" ")
        flags = {}
        while match := re.match(r"\s*--([a-z-]+)=(\S+)\s", rest):
            flags[match[1]] = match[2]
            rest = rest[match.end() :]
        found.append(Step(name, flags, rest.strip()))
    return found


def build(context: Path, base: Root, folder: Path) -> Image:
    """Build the Dockerfile of `context` on `base`, whatever it is FROM; each stage gets a copy below `folder`."""
    stages: dict[str, Image] = {}
    ignored = context / ".dockerignore"
    patterns = ignored.read_text().splitlines() if ignored.exists() else []
    image = None
    for step in steps((context / "Dockerfile").read_text()):
        if step.name == "FROM":
            name = step.words[2] if step.words[1:2] == ["AS"] else f"stage-{len(stages)}"
            image = stages[name] = Image(base.copy(folder / name))
        else:
            assert image is not None
            source = stages[step.flags["from"]].root.path if "from" in step.flags else context
            image = _carry_out(step, image, source, [] if "from" in step.flags else patterns)
            stages[name] = image
    assert image is not None
    return image


def _carry_out(step: Step, image: Image, source: Path, patterns: list[str]) -> Image:
    match step.name:
        case "RUN":
            image.root.run(["/bin/sh", "-c", step.rest], image.env, folder=image.folder, user=image.user)
        case "COPY":
            _copy(step.words, image, source, patterns)
        case "ENV":
            given = dict(word.split("=", 1) for word in step.words)
            return replace(image, env=image.env | {name: _filled(text, image.env) for name, text in given.items()})
        case "WORKDIR":
            image.root.inside(step.rest).mkdir(parents=True, exist_ok=True)
            return replace(image, folder=step.rest)
        case "USER":
            return replace(image, user=step.rest)
        case "VOLUME":
            return replace(image, volumes=(*image.volumes, *step.words))
        case "STOPSIGNAL":
            return replace(image, stop_signal=step.rest)
        case "ENTRYPOINT":
            return replace(image, entrypoint=tuple(step.exec_form or ["/bin/sh", "-c", step.rest]))
        case "CMD":
            return replace(image, arguments=tuple(step.exec_form or ["/bin/sh", "-c", step.rest]))
        case "HEALTHCHECK":
            command = json.loads(step.rest.removeprefix("CMD").strip())
            return replace(image, health=tuple(command))
        case "LABEL" | "EXPOSE":
            assert step.words  # said to people and programs, and nothing happens
        case other:
            raise NotImplementedError(f"{other} in a Dockerfile")
    return image


def _filled(text: str, env: dict[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda found: env.get(found[1], ""), text)


def _copy(words: list[str], image: Image, source: Path, patterns: list[str]) -> None:
    *names, target = words
    to = image.root.inside(str(Path(image.folder) / target))

    def unwanted(folder: str, entries: list[str]) -> set[str]:
        inside = Path(folder).relative_to(source)
        return {entry for entry in entries if is_ignored(inside / entry, patterns)}

    for name in names:
        found = source / name.lstrip("/")
        assert not is_ignored(Path(name.lstrip("/")), patterns), f".dockerignore keeps {name} from being copied"
        if found.is_dir():
            shutil.copytree(found, to, symlinks=True, ignore=unwanted, dirs_exist_ok=True)
        else:
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, to)


def is_ignored(path: Path, patterns: list[str]) -> bool:
    """Judge a path of the build's context: the last pattern that is for it, or for a folder above it, decides."""
    ignored = False
    ways = [*[*path.parents][:-1], path]
    for line in patterns:
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            texts = [way.name if "**/" in line else str(way) for way in ways]
            if any(fnmatch(text, pattern) for text in texts):
                ignored = not line.startswith("!")
    return ignored

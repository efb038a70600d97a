"""What a page under docs/ holds: fenced blocks, each of a kind that says what the tests do with it.

- ``console``: lines that begin with ``$ `` are run in one shell for the whole page, in order, in an empty folder; what
  stands below a command is all that it prints. ``…`` stands for what varies within a line, and as a line of its own for
  any number of lines. A command must end well, unless the next one is ``echo $?``.
- any block whose first line is ``# NAME`` or ``// NAME`` with a file's name is written to that file.
- everything else is not run: the sentence before it says so, and tests/docs/not_run.py lists it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"

_BLOCK = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<kind>[^\n`]*)\n(?P<body>.*?)^(?P=indent)(?P=fence) *$", re.MULTILINE | re.DOTALL
)
_FILE_NAME = re.compile(r"(?:#|//) ([\w./-]+\.[a-z]+)")
_PROMPT = "$ "


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block, and the line of the page where its text begins."""

    kind: str
    text: str
    line: int
    before: str
    """The paragraph above it."""

    @property
    def file_name(self) -> str | None:
        """Which file it is, if it is one."""
        found = _FILE_NAME.fullmatch(self.text.partition("\n")[0])
        return found[1] if found and self.kind != "console" else None

    @property
    def is_run(self) -> bool:
        """Whether the tests do something with it."""
        return self.kind == "console" or self.file_name is not None


@dataclass(frozen=True, slots=True)
class Step:
    """A command, and what the page says that it prints."""

    command: str
    output: str
    line: int

    @property
    def stays(self) -> bool:
        """Whether it goes on in the background; what it prints is waited for."""
        return self.command.endswith(" &")


def blocks(page: str) -> list[Block]:
    """List all fenced blocks of a page."""
    found = []
    for match in _BLOCK.finditer(page):
        indent = match["indent"]
        body = "".join(line.removeprefix(indent) for line in match["body"].splitlines(keepends=True))
        before = page[: match.start()].rstrip().rpartition("\n\n")[2]
        found.append(Block(match["kind"].strip(), body, page[: match.start("body")].count("\n") + 1, before))
    return found


def steps(block: Block) -> list[Step]:
    """Cut a console block into its commands; a line that ends with a backslash goes on in the next."""
    found: list[Step] = []
    is_command = False
    for number, line in enumerate(block.text.splitlines(keepends=True), block.line):
        if is_command and found[-1].command.endswith("\\"):
            last = found.pop()
            found.append(Step(f"{last.command}\n{line.rstrip()}", "", last.line))
        elif line.startswith(_PROMPT):
            found.append(Step(line.removeprefix(_PROMPT).rstrip(), "", number))
            is_command = True
        else:
            assert found, f"line {number}: a console block begins with a command"
            last = found.pop()
            found.append(Step(last.command, last.output + line, last.line))
            is_command = False
    return found


def pattern(output: str) -> str:
    """Make a regular expression of what a page says that a command prints."""
    lines = []
    for line in output.splitlines():
        if line.strip() == "…":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(".*?".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ \t]*\n")
    return "".join(lines)

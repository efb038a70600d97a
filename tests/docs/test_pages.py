"""Every command and every output in docs/ is as it stands there; what is not run is in a list, and the page says so."""

from __future__ import annotations

import re
import shlex
import sys
from itertools import pairwise

import pytest
from docs.not_run import LIST, TESTED_ELSEWHERE
from docs.pages import DOCS, Step, blocks, steps
from docs.terminal import ROOT, Terminal

PAGES = {path.relative_to(DOCS).as_posix(): blocks(path.read_text()) for path in sorted(DOCS.rglob("*.md"))}
NO_COMMANDS = {"{toctree}", "{literalinclude} ../config/reference.toml", "{code-block} text"}
"""What only Sphinx reads, and a drawing."""
RUN = [name for name, found in PAGES.items() if any(block.is_run for block in found)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", RUN)
def test_commands_print_what_the_page_says(name, tmp_path):
    """From the page's first to its last command, in a folder that has nothing but the clone."""
    folder, programs = tmp_path / "page", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    (folder / "stapleproxy").symlink_to(ROOT)
    program = programs / "stapleproxy"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {shlex.quote(sys.executable)} -m proxy "$@"\n')
    program.chmod(0o755)
    with Terminal(folder, programs) as terminal:
        for block in PAGES[name]:
            if block.file_name:
                terminal.write(block.file_name, block.text)
            elif block.is_run:
                for step, following in pairwise([*steps(block), None]):
                    terminal.run(step, may_fail=following is not None and following.command == "echo $?")


@pytest.mark.parametrize("name", PAGES)
def test_what_is_not_run_is_listed_and_the_page_says_so(name):
    """A block that no test runs is in the list by its first line, and nothing in the list has gone."""
    rest = [block for block in PAGES[name] if not block.is_run and block.kind not in NO_COMMANDS]
    if name in TESTED_ELSEWHERE:
        return
    assert [block.text.partition("\n")[0] for block in rest] == LIST.get(name, [])
    for block in rest:
        assert re.search("not run", block.before), f"{name}:{block.line}: say above it that it is not run"


def test_the_lists_name_pages():
    assert {*LIST, *TESTED_ELSEWHERE} <= set(PAGES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$ one\n", [Step("one", "", 5)]),
        ("$ one\nsaid\n…\n$ two &\nready\n", [Step("one", "said\n…\n", 5), Step("two &", "ready\n", 8)]),
        ("$ one \\\n    more\nsaid\n", [Step("one \\\n    more", "said\n", 5)]),
    ],
)
def test_a_console_block_is_cut_into_commands(text, expected):
    (block,) = blocks(f"# Title\n\nBefore.\n```console\n{text}```\n")
    assert block.before == "# Title\n\nBefore."[9:]
    assert steps(block) == expected

"""The pages as a whole: they make a site without a broken link, and what is named in their prose exists."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest
from docs.pages import DOCS, blocks

from proxy.cli import main
from proxy.settings.build import all_fields

PAGES = {path.relative_to(DOCS).as_posix(): path.read_text() for path in sorted(DOCS.rglob("*.md"))}
_SETTING = re.compile(r"`(?!stapleproxy_)([a-z_]+_(?:s|bytes))`")
_INLINE = re.compile(r"(?<!`)`stapleproxy ([^`]+)`(?!`)")


@pytest.mark.slow
def test_it_builds_without_a_warning(tmp_path):
    """A broken link between pages, a page that is in no list, or a wrong heading would be one."""
    for module in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(module)
    strictly = ("-W", "--keep-going", "-n", "-q")
    command = [sys.executable, "-m", "sphinx", *strictly, "-d", tmp_path / "state", DOCS, tmp_path / "html"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "html" / "index.html").exists()


@pytest.mark.parametrize("name", PAGES)
def test_commands_in_prose_exist(name):
    """Whatever stands as `stapleproxy COMMAND --option` is a command, and it has that option."""
    for text in _INLINE.findall(PAGES[name]):
        word, *rest = text.split()
        if word.startswith("--") or word.isupper():
            continue
        command = main.get_command(click.Context(main), word)
        assert command is not None, text
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        subcommands = getattr(command, "commands", {})
        for each in rest:
            known = options | {option for sub in subcommands.values() for p in sub.params for option in p.opts}
            assert not each.startswith("--") or each in known, text


@pytest.mark.parametrize("name", PAGES)
def test_settings_in_prose_exist(name):
    """Whatever has the name of a time or a size in the configuration is one; metrics end otherwise."""
    known = {path.rpartition(".")[2] for path, _ in all_fields()}
    assert set(_SETTING.findall(PAGES[name])) <= known


@pytest.mark.parametrize("name", PAGES)
def test_no_command_hides_in_an_indented_block(name):
    """Only fenced blocks are looked at, so there are no others."""
    text = PAGES[name]
    for block in blocks(text):
        text = text.replace(block.text, "")
    assert not re.search(r"(?m)^\n(?: {4,}|\t)\S", text)

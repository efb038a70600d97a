"""``stapleproxy completion``: the Tab key in real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli.admin_socket import admin_socket
from click.testing import CliRunner

from proxy.cli import _COMMANDS, main
from proxy.cli.completion import names

ROOT = Path(__file__).parents[2]
CONFIG = """
[admin]
socket = "s"
[[site]]
names = ["www.test", "*.www.test", "api.test"]
upstream = "http://127.0.0.1:8000"
[[site.certificate]]
chain = "chain.pem"
key = "key.pem"
"""
BASH = """
source {script}
COMP_WORDS=({words}) COMP_CWORD={last}
{function}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
ZSH = """
autoload -U compinit; compinit -u -D
compadd() {{ print -l -- "${{(@)completions}}"; }}
_describe() {{ print -l -- "${{(@)completions_with_descriptions%%:*}}"; }}
source {script}
words=({words}) CURRENT={current}
_stapleproxy_completion
"""
FISH = """
source {script}
complete --do-complete '{line}'
"""


@pytest.fixture
def shell(tmp_path):
    """Complete a line in a shell: what it offers."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "stapleproxy"
    program.write_text(f"#!{sys.executable}\nfrom proxy.cli import main\nmain()\n")  # as an installer writes it
    program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }

    def complete(name, line):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
        script = tmp_path / f"script.{name}"
        script.write_text(CliRunner().invoke(main, ["completion", name]).stdout)
        words = line.split(" ")
        quoted = " ".join(f"'{word}'" for word in words)
        if name == "bash":
            program = BASH.format(
                script=script, words=quoted, last=len(words) - 1, function="_stapleproxy_completion stapleproxy"
            )
        elif name == "zsh":
            program = ZSH.format(script=script, words=quoted, current=len(words))
        else:
            program = FISH.format(script=script, line=line)
        done = subprocess.run(
            [name, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.stderr == "", done.stderr
        return {offered.split("\t")[0] for offered in done.stdout.splitlines() if offered}

    return complete


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_names(shell, tmp_path, name):
    """Of commands, of commands of commands, and of certificates, which a running stapleproxy tells."""
    assert shell(name, "stapleproxy ") == set(_COMMANDS)
    assert shell(name, "stapleproxy st") == {"status", "staples", "stop"}
    config = tmp_path / "x.toml"
    config.write_text(CONFIG)
    told = [{"names": ["www.running.test"]}, {"names": ["api.running.test"]}]
    with admin_socket(tmp_path / "s", **{"GET /api/staples": [(200, {"staples": told})]}):
        assert shell(name, f"stapleproxy staples {config} show w") == {"www.running.test"}
        assert shell(name, f"stapleproxy staples refresh -c {config} a") == {"api.running.test"}


def test_names_come_from_the_configuration_when_nobody_answers(tmp_path, monkeypatch):
    """And from nowhere, without a word, when there is none."""
    config = tmp_path / "x.toml"
    config.write_text(CONFIG)
    assert names(config, None, "") == ["*.www.test", "api.test", "www.test"]
    assert names(config, None, "w") == ["www.test"]
    for text in ("[[site]]", "x ="):
        config.write_text(text)
        assert names(config, None, "") == []
    monkeypatch.delenv("STAPLEPROXY_CONFIG", raising=False)
    monkeypatch.delenv("STAPLEPROXY_SOCKET", raising=False)
    assert names(None, None, "") == []
    assert names(tmp_path / "none.toml", None, "") == []


@pytest.mark.parametrize("reply", [{}, {"staples": 1}, {"staples": [1]}, {"staples": [{}]}, [1]])
def test_whatever_answers_there_is_no_traceback_after_tab(tmp_path, reply):
    """It would stand in the middle of the line that somebody types."""
    with admin_socket(tmp_path / "s", **{"GET /api/staples": [(200, reply)]}) as served:
        assert names(None, served.path, "") == []


@pytest.mark.parametrize(
    "name", ["$(reboot)", "`id`", "x;id", "x y", "x\nplain,y", "'", "--help", "/etc", "x\x1b[2J", "é"]
)
def test_what_is_no_server_name_does_not_get_onto_the_command_line(tmp_path, name):
    """The shell would run it when the line is entered."""
    told = [{"names": [name, "*.www.test", "_dmarc.www.test", "WWW-1.test"]}]
    with admin_socket(tmp_path / "s", **{"GET /api/staples": [(200, {"staples": told})]}) as served:
        assert names(None, served.path, "") == ["*.www.test", "WWW-1.test", "_dmarc.www.test"]

"""The exit status of each command is what the one table says, and the help tells it."""

from __future__ import annotations

from pathlib import Path

import pytest
from certs import make_chain
from cli.admin_socket import admin_socket
from cli.test_running import NEWS, reloading
from cli.test_status import IN_TROUBLE, STATUS, document
from click.testing import CliRunner

from proxy.cli import _COMMANDS, main
from proxy.cli.exit_codes import EXITS, Exit, page

SITE = """
[[site]]
upstream = "http://127.0.0.1:8000"
[[site.certificate]]
chain = "{chain}"
key = "{key}"
"""


def test_the_table_has_every_command_and_no_other():
    """What has no line would have no help."""
    assert set(EXITS) == set(_COMMANDS)


def test_the_page_is_written_from_the_table():
    """The docs say the same as the help."""
    path = Path(__file__).parents[2] / "docs" / "exit-status.md"
    assert path.read_text() == page(), (
        "run: python -c 'from proxy.cli import exit_codes as e; print(e.page(), end=\"\")'"
    )


@pytest.mark.parametrize("command", _COMMANDS)
def test_the_help_tells_the_exit_status_and_has_an_example(command):
    """A newcomer finds all of it in one place, in lines that an 80 column terminal has room for."""
    shown = CliRunner().invoke(main, [command, "--help"], terminal_width=80).stdout
    assert "Exit status:" in shown
    for status, meaning in EXITS[command].items():
        assert f"  {status.value:<4}{meaning}" in shown
    assert f"stapleproxy {command}" in shown


def run(*arguments):
    return CliRunner(env={"STAPLEPROXY_SOCKET": None, "STAPLEPROXY_CONFIG": None}).invoke(
        main, list(map(str, arguments))
    )


@pytest.fixture
def files(tmp_path):
    """A good configuration and a wrong one."""
    made = make_chain(tmp_path)
    (tmp_path / "good.toml").write_text(SITE.format(chain=made.files.chain, key=made.files.key))
    (tmp_path / "wrong.toml").write_text("listen = 1\n")
    return tmp_path


def replies():
    refused = {"at": "2026-03-01T13:00:00Z", "ok": False, "mistakes": ["x.toml: listen: one"]}
    taken = {"at": "2026-03-01T13:00:00Z", "ok": True, "mistakes": []}
    well, unwell = map(document, (STATUS, IN_TROUBLE))
    return {
        ("status", Exit.OK): {"GET /api/status": [(200, well)]},
        ("status", Exit.ATTENTION): {"GET /api/status": [(200, unwell)]},
        ("reload", Exit.OK): reloading((200, NEWS | {"reloads": 1, "last_reload": taken})),
        ("reload", Exit.WRONG): reloading((200, NEWS | {"reloads": 1, "last_reload": refused})),
    }


@pytest.mark.parametrize("case", replies(), ids=lambda case: f"{case[0]} {case[1].name}")
def test_commands_that_ask_a_running_stapleproxy(tmp_path, case):
    """Each status of status and reload; those of staples and stop are in their own tests."""
    with admin_socket(tmp_path / "s", **replies()[case]) as served:
        assert run(case[0], "--socket", served.path).exit_code == case[1]


@pytest.mark.parametrize("command", ["status", "staples", "reload", "stop"])
def test_when_nobody_answers(tmp_path, command):
    """Of each that asks."""
    arguments = ["show"] if command == "staples" else []
    assert run(command, *arguments, "--socket", tmp_path / "none").exit_code == Exit.FAILED


@pytest.mark.parametrize(
    ("command", "arguments", "status"),
    [
        ("check", ["good.toml"], Exit.OK),
        ("check", ["wrong.toml"], Exit.WRONG),
        ("convert", ["wrong.conf"], Exit.WRONG),
        ("explain", ["good.toml"], Exit.OK),
        ("explain", ["wrong.toml"], Exit.WRONG),
        ("run", ["wrong.toml"], Exit.WRONG),
        ("serve", ["--cert", "none.pem", "--key", "none.pem", "--upstream", "http://127.0.0.1:1"], Exit.WRONG),
        ("bench", ["nonsense"], Exit.WRONG),
        ("lab", ["--fault", "nonsense"], Exit.WRONG),
        ("completion", ["bash"], Exit.OK),
        ("completion", ["sh"], Exit.WRONG),
        ("staples", ["wrong.toml"], Exit.WRONG),
    ],
)
def test_commands_by_themselves(files, monkeypatch, command, arguments, status):
    """Each of the mistakes is told in a sentence."""
    monkeypatch.chdir(files)
    (files / "wrong.conf").write_text("<A>\n")
    assert status in EXITS[command]
    done = run(command, *arguments)
    assert done.exit_code == status, done.output
    assert "Traceback" not in done.output

"""The comparison as a user runs it: real fronts, one responder, clients, a table and a page."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.lab.compare_outcomes import Outcome

COMPARE = [sys.executable, "-m", "proxy", "lab", "--compare", "httpd-2.4,prefetch"]


def run(folder, *options):
    command = [*COMPARE, "--html", folder / "page.html", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)


@pytest.mark.slow
def test_one_trouble_shows_the_difference_between_the_profiles(tmp_path):
    """Clients of prefetch have a verified staple throughout; Apache's are told tryLater, and some wait for it.

    The numbers on the page are those of the clients, one by one.
    """
    done = run(tmp_path, "--seconds", "15", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert "At 3 s silent begins: The request is taken and never answered.\nAt 9 s silent ends.\n" in done.stderr
    assert f"Plot over time, and what the words mean: {tmp_path / 'page.html'}\n" in done.stderr
    assert [phase["fault"] for phase in report["phases"]] == [None, "silent", None]
    page = (tmp_path / "page.html").read_text()
    for profile in ("httpd-2.4", "prefetch"):
        clients = [each["outcome"] for each in report["handshakes"] if each["profile"] == profile]
        assert len(clients) == 60
        counts = report["profiles"][profile]["clients"]
        assert counts == {str(outcome): clients.count(outcome) for outcome in Outcome}
        row = re.search(rf'<tr><th scope="row">{re.escape(profile)}</th>(.*?)</tr>', page)[1]
        assert re.findall(r">(\d+)</td>", row)[: len(Outcome)] == [str(count) for count in counts.values()]
    apache, ours = (report["profiles"][profile] for profile in ("httpd-2.4", "prefetch"))
    assert ours["clients"]["good"] + ours["clients"]["old"] == 60
    assert ours["clients"]["good"], "before the trouble"
    assert ours["clients"]["old"], "in it"
    assert apache["clients"]["tryLater"]
    assert apache["longest_wait_s"] > 0.9, "the client whose handshake asked the responder waited for its timeout"


@pytest.mark.slow
def test_a_fault_that_is_named_is_what_is_played(tmp_path):
    """Apache staples what is signed wrongly, prefetch keeps what it holds; told as a table, within 80 columns."""
    done = run(tmp_path, "--seconds", "10", "--fault", "bad-signature", "--after", "1s", "--for", "20s")
    assert done.returncode == 0, done.stdout + done.stderr
    table = [
        line.split() for line in done.stdout.splitlines() if line.startswith(("profile ", "httpd-2.4 ", "prefetch "))
    ]
    rows = {row[0]: dict(zip(table[0][1:], row[1:], strict=False)) for row in table[1:]}
    assert int(rows["httpd-2.4"]["bad"]) > 0
    assert int(rows["prefetch"]["bad"]) == 0
    assert int(rows["prefetch"]["good"]) + int(rows["prefetch"]["old"]) == 40
    assert max(len(line) for line in done.stdout.splitlines() if line.startswith("profile ")) <= 80


@pytest.mark.slow
def test_ctrl_c_ends_the_comparison_at_once(tmp_path):
    """With the status of an interrupted program, without a page, and with nothing left behind."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with (tmp_path / "said").open("w") as output:
        command = [*COMPARE, "--html", tmp_path / "page.html", "--seconds", "600"]
        lab = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        give_up_at = time.monotonic() + 30
        while "Watching" not in (tmp_path / "said").read_text():
            assert time.monotonic() < give_up_at, (tmp_path / "said").read_text()
            time.sleep(0.02)
        lab.send_signal(signal.SIGINT)
        assert lab.wait(30) == 130
    finally:
        lab.kill()
        lab.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["said"]
    assert (tmp_path / "said").read_text().endswith("Stopped.\n")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--compare", "prefetch"], "name two or more, with commas between: prefetch,httpd-2.4,httpd-trunk"),
        (["--compare", "prefetch,apache"], "no profile is named 'apache': there are prefetch, httpd-2.4, httpd-trunk"),
        (["--compare", ""], "no profile is named '': there are prefetch, httpd-2.4, httpd-trunk"),
        (["--compare", "prefetch,prefetch"], "prefetch is named twice: name each once"),
        (["--seconds", "20"], "--seconds and --html are for --compare"),
        (["--html", "x.html"], "--seconds and --html are for --compare"),
        (
            ["--compare", "prefetch,httpd-2.4", "--once"],
            "--compare has ports of its own and ends by itself: leave out --once and --port",
        ),
        (
            ["--compare", "prefetch,httpd-2.4", "--fault", "dns", "--after", "75s"],
            "dns begins at 75 s, and the comparison ends at 75 s: give more --seconds",
        ),
        (
            ["--compare", "prefetch,httpd-2.4", "--fault", "dns", "--for", "0s"],
            "--for must be longer than nothing",
        ),
        (
            ["--compare", "prefetch,httpd-2.4", "--html", "/nowhere/page.html"],
            "/nowhere/page.html: no file can be written there: choose another with --html",
        ),
    ],
)
def test_what_cannot_be_compared_is_told(options, told):
    """Before anything is started, in one sentence."""
    result = CliRunner().invoke(main, ["lab", *options])
    assert result.exit_code == 2
    assert result.output.endswith(f"{told}\n")


def test_a_scenario_can_be_compared_if_it_fits(tmp_path):
    """The example lasts ten minutes."""
    scenario = Path(__file__).parents[2] / "config" / "lab.toml"
    options = ["--compare", "prefetch,httpd-2.4", "--scenario", str(scenario), "--html", str(tmp_path / "x")]
    result = CliRunner().invoke(main, ["lab", *options])
    assert result.exit_code == 2
    assert "begins at 480 s, and the comparison ends at 75 s: give more --seconds" in result.output

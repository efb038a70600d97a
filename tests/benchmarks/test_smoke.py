"""The benchmarks run from end to end; what they measure is not judged here."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.lab.stack import LabError

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"

SERVERS = (
    "stapleproxy",
    "nginx",
    "Apache",
    "HAProxy",
    "aiohttp proxy",
    "proxy.py",
    "mitmdump",
    "uvicorn",
    "hypercorn",
)
PERF_COUNTED = "123456,,instructions:u,1000000,100.00,,\n7890,,instructions:k,1000000,100.00,,\n"


def run(name, *options):
    """Run one benchmark as a person would, in the tree that is tested."""
    if shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin") is None:
        (pytest.fail if os.environ.get("REQUIRE_PEERS") == "1" else pytest.skip)("peer not installed: nginx")
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", *options],
        cwd=ROOT,
        # proxy.py and mitmdump cannot be in this environment; that those are named which are left out is tested.
        env=os.environ | {"PYTHONPATH": str(ROOT), "REQUIRE_PEERS": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def figures(line):
    """What a row's cells hold, as far as it is numbers."""
    return [float(cell.replace(",", "")) for cell in line.split("|") if re.fullmatch(r" *[\d.,]+ *", cell)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "works"),
    [
        ("requests", {"proxied GET of 1 KiB, keep-alive"}),
        ("bulk", {"download", "upload"}),
        ("idle", {"idle TLS 1.3 connection after one request"}),
    ],
)
def test_every_server_is_measured_or_named_as_left_out(name, works):
    """Each work has every server that is there, with a cost in each round, and a ratio to ours."""
    done = run(name, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert "nginx/" in report["machine"]["nginx"]
    assert {row["work"] for row in report["rows"]} == works
    for work in works:
        measured = {row["server"] for row in report["rows"] if row["work"] == work}
        for server in SERVERS:
            assert server in measured or any(said.startswith(f"{server} is left out: ") for said in report["missing"])
    for row in report["rows"]:
        assert len(row["rounds"]) == (1 if name == "idle" else 2)
        assert all(cost >= 0 for cost in row["rounds"])  # so few operations may be less than the clock's tick
        assert row["ratio"] == 1 or row["server"] != "stapleproxy"


@pytest.mark.slow
def test_each_table_judges_by_its_targets():
    """In Markdown, one table a work, with nginx's row judged in each."""
    done = run("bulk")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| nginx | ")]
    assert len(rows) == 2
    for row in rows:
        assert len(figures(row)) == 2
        assert re.search(r"\| at most 1\.20: (met|missed) \|$", row)


def imported(name, monkeypatch):
    """A module of the benchmarks, found as they find it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(name)


def test_a_missing_peer_is_named_and_an_error_where_peers_are_required(monkeypatch, tmp_path):
    """proxy.py and mitmdump are looked for on the path."""
    peers = imported("peers_all", monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("REQUIRE_PEERS", "0")
    found, versions, missing = peers.installed()
    assert {peer.name for peer in found} == versions.keys()
    assert {"proxy.py", "mitmdump"}.isdisjoint(versions)
    assert any(said.startswith("mitmdump is left out: it is not installed (pip install mitmproxy") for said in missing)
    monkeypatch.setenv("REQUIRE_PEERS", "1")
    with pytest.raises(LabError, match=r"proxy\.py is left out"):
        peers.installed()


def report_of(module, *costs):
    """Costs of one work, given as (server, quantity, rounds), with the targets that requests have."""
    work, methods = "GET", {"CPU time, µs": "clock"}
    made = [
        module.Costs(work, server, quantity, methods.get(quantity, "perf"), rounds)
        for server, quantity, rounds in costs
    ]
    targets = {work: {"nginx": module.Target(1.8), "ours, idle": module.Target(1.05, 0.95)}}
    return module.Report({}, [], {work: "request"}, targets, made)


def test_a_ratio_is_the_median_of_the_rounds_ratios(monkeypatch):
    """Not the ratio of the medians: what slows a round down slows both servers down."""
    module = imported("proxying_report", monkeypatch)
    cpu = "CPU time, µs"
    report = report_of(module, ("stapleproxy", cpu, [150.0, 300.0, 151.0]), ("nginx", cpu, [100.0, 200.0, 75.0]))
    row = report.markdown().splitlines()[-1]
    assert row == "| nginx | 100 | 1.50 | 1.50-2.01 | at most 1.80: met |"


def test_what_is_too_short_for_the_clock_is_told_without_a_ratio(monkeypatch):
    """A few requests may take no time by a clock that ticks: seen as a division by zero on another machine."""
    module = imported("proxying_report", monkeypatch)
    cpu = "CPU time, µs"
    report = report_of(module, ("stapleproxy", cpu, [100.0, 0.0]), ("nginx", cpu, [0.0, 0.0]))
    assert report.markdown().endswith("| nginx | 0.0 |  |  |  |")
    assert [row["ratio"] for row in json.loads(report.json())["rows"]] == [1.0, None]


@pytest.mark.parametrize(("cost", "said"), [(100.0, "met"), (110.0, "missed"), (90.0, "missed")])
def test_unchanged_is_neither_more_nor_less(monkeypatch, cost, said):
    """A target with two bounds judges by both."""
    module = imported("proxying_report", monkeypatch)
    cpu = "CPU time, µs"
    report = report_of(module, ("stapleproxy", cpu, [100.0]), ("ours, idle", cpu, [cost]))
    assert report.markdown().endswith(f" 0.95 to 1.05: {said} |")


def test_instructions_of_user_and_kernel_judge_where_they_are_counted(monkeypatch):
    """They are the targets' unit; CPU time then stands beside them."""
    module = imported("proxying_report", monkeypatch)
    cpu, both = "CPU time, µs", "instructions, user + kernel"
    costs = [(server, cpu, [100.0]) for server in ("stapleproxy", "nginx")]
    costs += [("stapleproxy", both, [190.0]), ("nginx", both, [100.0])]
    row = report_of(module, *costs).markdown().splitlines()[-1]
    assert row == "| nginx | 100 | 1.90 |  | at most 1.80: missed | 100 (1.00) |"


@pytest.fixture(name="counting")
def import_counting(monkeypatch):
    return imported("counting", monkeypatch)


def test_perf_is_read(counting):
    """User and kernel instructions come out of what perf stat prints."""
    assert counting.parse_perf(PERF_COUNTED) == {counting.USER: 123456, counting.KERNEL: 7890}


@pytest.mark.parametrize(
    "said", ["", "<not supported>,,instructions:u,0,100.00,,\n", PERF_COUNTED.splitlines()[0]], ids=str
)
def test_perf_without_counters_is_no_zero(counting, said):
    """What was not counted is an error, never a number."""
    with pytest.raises(counting.CountingError):
        counting.parse_perf(said)

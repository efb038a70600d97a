"""What `make benchmark` is made of: what it measures is not judged here, but that it is measured, and what is told."""

import csv
import importlib
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
PROFILE = """\
# callgrind format
events: Ir

ob=(1) /usr/lib/libssl.so.3
fl=(1) ssl.c
fn=(1) SSL_do_handshake
12 100
cfn=(2) tls_construct
calls=3 20
13 900
+1 10

ob=(2) /site-packages/cryptography/hazmat/bindings/_rust.abi3.so
fn=(3) _cffi_f_SSL_do_handshake
5 7
fn=(4) SSL_read
* 40
9
fn=(2)
- 50
ob=(3) /usr/lib/libpython3.11.so.1.0
fn=(5) _PyEval_EvalFrameDefault'2
1 30
ob=(1)
fn=(2)
7 900
ob=(4) /lib/libc.so.6
fn=(6) malloc
0x12 5
"""


@pytest.fixture(autouse=True)
def found_as_the_benchmarks_find_each_other(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def imported(name):
    return importlib.import_module(name)


def test_a_profile_is_summed_up_by_what_each_function_did_itself():
    """The line behind calls= is the cost of the one that is called, counted there; a cost of 0 is left out."""
    shares = imported("shares")
    assert shares.by_owner(PROFILE.splitlines()) == {
        "OpenSSL": 100 + 10 + 40 + 50 + 900,
        "glue": 7,
        "Python": 30,
        "libc": 5,
    }


@pytest.mark.parametrize(
    ("library", "function", "owner"),
    [
        ("/x/_rust.abi3.so", "sha256_block_data_order_avx2", "OpenSSL"),
        ("/x/_rust.abi3.so", "cryptography_rust::x509::ocsp_resp::load", "glue"),
        ("/x/uvloop/loop.cpython-311-x86_64-linux-gnu.so", "__pyx_f_run", "Python"),
        ("/x/_cffi_backend.cpython-311-x86_64-linux-gnu.so", "cdata_call", "Python"),
        ("/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "EVP_Digest", "OpenSSL"),
        ("/usr/lib/apache2/modules/mod_ssl.so", "stapling_cb", "the program"),
        ("/usr/sbin/nginx", "ngx_ssl_handshake", "the program"),
        ("/usr/lib/libz.so.1", "deflate", "others"),
        ("", "???", "others"),
    ],
)
def test_every_instruction_has_an_owner(library, function, owner):
    assert imported("shares").owner(library, function) == owner


def samples_of(case, quantity, **rounds):
    sample = imported("samples").Sample
    return [
        sample(case, server, quantity, "clock", number, value)
        for server, values in rounds.items()
        for number, value in enumerate(values)
    ]


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    """Not the ratio of the medians; a round too short for the clock has none."""
    figures = imported("samples").Figures(
        samples_of("full", "CPU", stapleproxy=[150, 300, 151, 9], nginx=[100, 200, 75, 0])
    )
    assert figures.ratio("full", "stapleproxy", "nginx", "CPU") == 1.5
    assert figures.ratio("full", "stapleproxy", "Apache", "CPU") is None
    assert figures.median("full", "Apache", "CPU") is None


def test_samples_survive_the_file(tmp_path):
    """An interrupted run goes on with what it wrote; why a server is left out is kept, too."""
    samples = imported("samples")
    written = [
        *samples_of("1,000 sites", "memory, MiB", nginx=[1.5, 2.25]),
        samples.left_out("1,000 sites", "hitch", "no,\nway"),
    ]
    samples.write(tmp_path / "part.csv", written)
    assert samples.read(tmp_path / "part.csv") == written
    figures = samples.Figures(written)
    assert figures.left_out == ["hitch is left out at 1,000 sites: no,"]
    assert figures.servers() == ["nginx"]


def test_several_processes_are_counted_during_the_same_work():
    counting = imported("counting")
    done = []

    def count(pid, work):
        work()
        return {"instructions": pid}

    assert counting.on_all(count, [1, 20, 300], lambda: done.append("once")) == {"instructions": 321}
    assert done == ["once"]


def test_a_target_is_met_missed_or_not_measured():
    """A figure that is not there is never taken for a good one."""
    targets = imported("targets")
    parts = {
        name: imported("samples").Figures(()) for name in ("instructions", "time", "load", "sites", "idle", "workers")
    }
    assert {target.row(parts)[-1] for target in targets.TARGETS} == {"not measured"}
    full, cpu = targets.FULL.name, imported("counting").CPU
    parts["time"] = imported("samples").Figures(samples_of(full, cpu, stapleproxy=[120.0], nginx=[100.0]))
    parts["sites"] = imported("samples").Figures(
        [
            *samples_of("1 site", "memory, MiB", stapleproxy=[60.0], nginx=[4.0]),
            *samples_of("1,025 sites", "memory, MiB", stapleproxy=[80.0], nginx=[14.0]),
        ]
    )
    rows = {target.what: target.row(parts)[1:] for target in targets.TARGETS}
    assert rows["CPU time, full TLS 1.3 ECDSA, stapled"] == ("1.20 x nginx", "1.20 x nginx", "met")
    assert rows["memory of a site"] == ("1.00 x nginx", "2.00 x nginx", "**missed**")
    assert targets.memory_per_site_kib("nginx", parts["sites"]) == 10


def test_an_interrupted_run_goes_on_only_with_figures_of_the_same_programs(tmp_path):
    run = imported("run")
    folder = tmp_path / "run"
    run.begin(folder, {"date": "1", "nginx": "1.22"}, afresh=False)
    (folder / "time.csv").touch()
    run.begin(folder, {"date": "2", "nginx": "1.22"}, afresh=False)
    assert (folder / "time.csv").exists()
    run.begin(folder, {"date": "2", "nginx": "1.24"}, afresh=False)
    assert not (folder / "time.csv").exists()
    assert (folder / "about.csv").read_text() == "date,2\nnginx,1.24\n"


def test_plots_are_svg_with_every_figure_in_words():
    """Bars and points say what they are to who cannot see them."""
    plots = imported("plots")
    bars = plots.bars("Cost", "µs", {"full, a, b": {"<ours>": 1.0, "nginx": 2.0}})
    lines = plots.lines("Start", "s", "sites", {"nginx": [(1, 0.1), (10_000, 30.0)]}, is_log=True)
    for drawing, words in ((bars, "full, a, b: <ours>: 1"), (lines, "nginx: 30")):
        root = ET.fromstring(drawing)  # noqa: S314  written just now, by us
        assert words in [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]


def test_the_committed_report_is_made_from_the_committed_figures(tmp_path):
    """No number in RESULTS.md or in a plot was written by hand."""
    imported("report").write(BENCHMARKS / "results", tmp_path)
    assert (tmp_path / "RESULTS.md").read_text() == (BENCHMARKS / "RESULTS.md").read_text()
    for made in (tmp_path / "results").iterdir():
        assert made.read_bytes() == (BENCHMARKS / "results" / made.name).read_bytes()


SERVERS = ("stapleproxy", "nginx", "Apache", "HAProxy", "hitch")


def run_of(*parts):
    """What a run of these parts tells, a few of each: the report, and the quantities by server and case."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "run.py"), "--quick", *(word for part in parts for word in ("--only", part))],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "REQUIRE_PEERS": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    folder = ROOT / "build" / "-".join(["benchmark-trial", *parts])
    found = {}
    for part in parts:
        with (folder / f"{part}.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault((row["server"], row["case"]), set()).add(row["quantity"])
    return (folder / "report" / "RESULTS.md").read_text(), found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_growth_with_sites_is_measured_on_every_server_or_it_is_named_as_missing():
    """Start, memory and cost for each number of sites, and a report."""
    told, found = run_of("sites")
    for server in SERVERS:
        for case in ("1 site", "10 sites", "50 sites"):
            assert f"{server} is left out" in told or {"start, s", "memory, MiB", "CPU time, µs"} <= found[server, case]
    assert "| memory of a site | 1.00 x nginx |" in told


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rate_and_latency_are_measured_on_every_server_or_it_is_named_as_missing():
    """By the load generator's own report; the server's cost by the handshakes of the warm-up, too."""
    told, found = run_of("load", "workers")
    for server in SERVERS:
        if f"{server} is left out" not in told:
            assert {"rate, 1/s", "offered, 1/s", "p50, ms", "p99, ms"} <= found[server, "full, ECDSA P-256, TLS 1.3"]
            for case in ("1 worker", "2 workers"):
                assert {"rate, 1/s", "CPU time, µs", "memory, MiB"} <= found[server, case]

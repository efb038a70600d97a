"""The page of a report: whole, readable without network, with the numbers of the run; and as a browser shows it."""

from __future__ import annotations

import re
import shutil
import subprocess
import zlib
from collections import Counter
from datetime import UTC, datetime

import pytest
from lab.servers import require_peer
from page_reader import Read

from proxy.bench.outcomes import Failure, StapleOutcome
from proxy.bench.plan import Phase
from proxy.bench.plot import latency_plot, rate_plot, staple_plot
from proxy.bench.report import Report, notes
from proxy.bench.report_page import page
from proxy.bench.tally import Tally

MS = 1_000_000
SECOND = 1_000_000_000


def a_tally(seconds=10, per_second=50, outcome=lambda _: StapleOutcome.GOOD):
    tally = Tally(0)
    for number in range(seconds * per_second):
        at, latency = number * SECOND // per_second, (1 + number % 7) * MS
        for histogram in (tally.latencies.total, tally.latencies.handshake, tally.latencies.connect):
            histogram.add(latency)
        kind = outcome(at // SECOND)
        tally.staples[kind, "expired" if kind is StapleOutcome.INVALID else ""] += 1
        second = tally.second(at)
        second.total.add(latency)
        second.staples[kind] += 1
    tally.end_ns = seconds * SECOND
    return tally


def a_report(tally=None, **changes):
    values = {"target": "127.0.0.1:8443", "options": {"--rate": "50", "--name": "<b>.test"}, "processes": 2}
    values |= {"begun": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "phase": Phase(seconds=10, rate=50)}
    return Report(**values | changes, tally=tally or a_tally())


def mixed():
    kinds = list(StapleOutcome)
    tally = a_tally(outcome=lambda second: kinds[second % len(kinds)])
    for _ in range(3):
        tally.fail(Failure.ALERT, "<handshake failure>", 5 * SECOND)
    return tally


@pytest.fixture(scope="module")
def text():
    return page(
        a_report(mixed()), made_by="stapleproxy 1.2.3", before=["First & foremost."], extra=[[("a", "b"), ("c", "d")]]
    )


def test_nothing_is_fetched_and_nothing_runs(text):
    """It is whole, has no script and no address, and refers to nothing but its own patterns."""
    read = Read(text)
    tags = Counter(tag for tag, _ in read.elements)
    assert [tags[tag] for tag in ("html", "main", "h1", "title", "figure")] == [1, 1, 1, 1, 3]
    assert not {"script", "link", "img", "iframe", "object", "use"} & set(tags)
    assert not [a for _, a in read.elements if {"src", "href", "srcset"} & set(a) or any(k.startswith("on") for k in a)]
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(ids)
    assert "@import" not in text


def test_every_colour_has_a_twin_for_the_dark(text):
    light, dark = text.split("@media (prefers-color-scheme: dark)")
    dark = dark.split("} }")[0]
    names = set(re.findall(r"var\((--[a-z-]+)\)", text)) | set(re.findall(r"var\((--[a-z0-9-]+)\)", text))
    assert names == set(re.findall(r"(--[a-z0-9-]+):", light)) == set(re.findall(r"(--[a-z0-9-]+):", dark))


def test_the_numbers_of_the_run_are_told(text):
    told = "".join(Read(text).text)
    for words in ("500 in 10.00 s, 50.0 a second", "First & foremost.", "--name <b>.test", "invalid: expired"):
        assert words in told
    assert "alert: <handshake failure>" in told
    assert "2026-01-02 03:04:05 UTC. Made by stapleproxy 1.2.3." in told


def test_a_run_without_a_handshake_has_a_page_too():
    """And says that there is nothing to tell."""
    tally = Tally(0)
    tally.fail(Failure.CONNECT, "Connection refused", 10)
    told = "".join(Read(page(a_report(tally), made_by="x")).text)
    assert "No handshake was completed" in told
    assert "connect: Connection refused" in told


def test_a_port_that_shakes_no_hands_is_not_told_to_be_slow():
    """It answers nobody, so that the run ends late; that is no rate which it could not reach."""
    tally = Tally(0)
    tally.fail(Failure.HANDSHAKE_TIMEOUT, "", 11_000_000_000)
    (said,) = notes(a_report(tally, phase=Phase(seconds=1, rate=10)))
    assert "No handshake was completed" in said


def bands(drawn):
    return [
        (float(x), float(width), kind)
        for x, width, kind in re.findall(
            r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" [^>]*url\(#p-([\w-]+)\)', drawn
        )
    ]


def test_outcomes_stand_where_they_came():
    """Half of the time good, then none: two bands of the same width, the second of the other kind."""
    drawn = staple_plot(a_tally(outcome=lambda at: StapleOutcome.GOOD if at < 5 else StapleOutcome.MISSING))
    (left, width, first), (right, other, second) = bands(drawn)
    assert (first, second, left) == ("good", "missing", 64)
    assert (right, other) == (pytest.approx(64 + 441, abs=0.5), pytest.approx(width, abs=0.5))


def test_a_second_without_handshakes_is_left_blank():
    tally = a_tally()
    del tally.seconds[4]
    (_, before, _), (after, _, _) = bands(staple_plot(tally))
    assert (before, after) == (pytest.approx(882 * 0.4, abs=0.5), pytest.approx(64 + 882 * 0.5, abs=0.5))


def points(drawn, kind):
    (path,) = re.findall(rf'class="curve {kind}" d="([^"]*)"', drawn)
    return [tuple(map(float, each.split())) for each in re.split("[ML]", path) if each]


def test_the_rate_is_drawn_to_scale():
    """50 a second is half of an axis that goes to 100 and all of one that goes to 50."""
    heights = {y for _, y in points(rate_plot(a_tally()), "curve-1")}
    assert heights == {20.0}
    assert {y for _, y in points(rate_plot(a_tally(per_second=60)), "curve-1")} == {240 - 220 * 0.75}


def test_latencies_rise_to_the_right_and_end_at_the_edge():
    drawn = latency_plot({"total": a_tally().latencies.total})
    found = points(drawn, "curve-1")
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    assert [y for _, y in found] == sorted((y for _, y in found), reverse=True)
    assert (found[0][0], found[-1][0]) == (64, 946)


def test_a_long_run_is_no_large_page():
    """An hour, with any latency there is: some hundred kilobytes at most."""
    tally = a_tally(3600, 1)
    for number in range(100_000):
        tally.latencies.total.add(number * number)
    assert len(page(a_report(tally), made_by="x")) < 300_000


def pixels(png):
    """Count the colours of a picture: PNG of eight bits without interlace, as Chromium writes it."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, data = 8, b""
    while at < len(png):
        length, kind = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, depth = int.from_bytes(body[:4], "big"), {2: 3, 6: 4}[body[9]]
        if kind == b"IDAT":
            data += body
        at += 12 + length
    rows, step = zlib.decompress(data), width * depth
    above, counts = bytearray(step), Counter()
    for start in range(0, len(rows), step + 1):
        kind, row = rows[start], bytearray(rows[start + 1 : start + 1 + step])
        for i in range(step):
            left, up, corner = (row[i - depth], above[i], above[i - depth]) if i >= depth else (0, above[i], 0)
            if kind == 4:
                guess = left + up - corner
                ordered = sorted((abs(guess - each), place, each) for place, each in enumerate((left, up, corner)))
                row[i] = (row[i] + ordered[0][2]) & 255
            else:
                row[i] = (row[i] + (0, left, up, (left + up) // 2)[kind]) & 255
        counts.update(bytes(row[i : i + 3]) for i in range(0, step, depth))
        above = row
    return counts


@pytest.mark.slow
def test_a_browser_shows_the_plots(tmp_path):
    """Chromium without a screen and without network: the band is there in its colours, and so are the curves."""
    require_peer("chromium")
    half = a_tally(outcome=lambda at: StapleOutcome.GOOD if at < 5 else StapleOutcome.MISSING)
    (tmp_path / "page.html").write_text(page(a_report(half), made_by="x"), encoding="utf-8")
    picture = tmp_path / "page.png"
    command = [
        shutil.which("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--proxy-server=127.0.0.1:9", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1000,2400",
        f"--screenshot={picture}", (tmp_path / "page.html").as_uri(),
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=100, check=True)
    seen = pixels(picture.read_bytes())
    good, missing, curve = (bytes.fromhex(each) for each in ("5fb08a", "d9d9d9", "1f4e9c"))
    assert seen[good] > 10_000, "half of the band"
    assert seen[missing] > 10_000, "the other half, between its dots"
    assert seen[curve] > 1_000
    assert seen[b"\xff\xff\xff"] > sum(seen.values()) / 2, "a page that is mostly white"

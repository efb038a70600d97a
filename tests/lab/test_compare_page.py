"""The page of a comparison: whole, readable without network, and with the numbers of the clients."""

import re
from collections import Counter

import pytest
from lab.compared import PROFILES, a_plan, a_report
from page_reader import Read

from proxy.lab.compare_outcomes import MEANING, Handshake, Outcome, Report
from proxy.lab.compare_page import page, wait_words
from proxy.lab.compare_plan import phases, scaled
from proxy.lab.compare_plot import plot
from proxy.lab.faults import BY_NAME
from proxy.lab.scenario import Step

TITLES = ["profile", *map(str, Outcome), "clients", "longest wait"]


class ReadTables(Read):
    """The page's tables, too: rows of texts."""

    def __init__(self, text):
        self.tables = []
        super().__init__(text)

    def handle_starttag(self, tag, attrs):
        super().handle_starttag(tag, attrs)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in {"td", "th"}:
            self.tables[-1][-1].append("")

    def handle_data(self, data):
        super().handle_data(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def counted(self):
        return [table for table in self.tables if table and table[0] == TITLES]


@pytest.fixture(scope="module")
def text():
    return page(a_report(), made_by="stapleproxy 1.2.3")


@pytest.fixture(scope="module")
def read(text):
    return ReadTables(text)


def test_the_page_is_whole(read, text):
    """Every element is closed in its order, ids are unique, and there is one main part with one title."""
    assert text.startswith("<!DOCTYPE html>\n")
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [len(read.all(tag)) for tag in ("html", "main", "h1", "title")] == [1, 1, 1, 1]
    assert read.all("html") == [{"lang": "en"}]


def test_nothing_is_fetched_and_nothing_runs(read, text):
    """No script, no address: the patterns in the page itself are all that it refers to."""
    assert not {"script", "link", "img", "iframe", "object", "use"} & {tag for tag, _ in read.elements}
    assert not [a for _, a in read.elements if {"src", "href", "srcset"} & set(a) or any(k.startswith("on") for k in a)]
    assert "@import" not in text
    ids = {attributes["id"] for _, attributes in read.elements if "id" in attributes}
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= ids
    assert text.count("url(") == text.count("url(#")


def test_it_is_made_for_light_and_for_dark(text):
    """Each colour that is used has a value for both."""
    light, dark = text.split("@media (prefers-color-scheme: dark)")
    dark = dark.split("} }")[0]
    names = set(re.findall(r"var\((--[a-z-]+)\)", text))
    assert names == set(re.findall(r"(--[a-z-]+):", light)) == set(re.findall(r"(--[a-z-]+):", dark))


def test_the_first_table_has_the_numbers_of_the_clients(read):
    report = a_report()
    rows = read.counted()[0][1:]
    assert [row[0] for row in rows] == list(PROFILES)
    for row in rows:
        clients = report.of(row[0])
        counts = Counter(each.outcome for each in clients)
        assert row[1:-2] == [str(counts[outcome]) for outcome in Outcome]
        assert row[-2:] == [str(len(clients)), wait_words(max(each.wait_s for each in clients))]


def test_a_table_for_each_phase_adds_up_to_the_first(read):
    whole, *parts = read.counted()
    assert len(parts) == len(phases(a_report().plan))
    for index in range(1, len(whole)):
        columns = zip(*(part[index][1:-1] for part in parts), strict=True)
        assert [sum(map(int, column)) for column in columns] == [int(cell) for cell in whole[index][1:-1]]


def test_every_table_has_titles_for_rows_and_columns(read):
    assert {attributes.get("scope") for attributes in read.all("th")} == {"row", "col"}


def test_each_profile_has_a_plot_with_a_name(read):
    plots = [attributes for attributes in read.all("svg") if attributes.get("class") == "plot"]
    assert [attributes["role"] for attributes in plots] == ["img", "img"]
    for attributes, profile in zip(plots, PROFILES, strict=True):
        assert attributes["aria-label"].startswith(f"{profile}: ")
    others = [attributes for attributes in read.all("svg") if attributes.get("class") != "plot"]
    assert {attributes["aria-hidden"] for attributes in others} == {"true"}


def test_the_words_and_the_settings_are_explained(read):
    """And the trouble, the scaled times and the program are named."""
    told = "".join(read.text)
    for sentence in (*MEANING.values(), *(each.key for each in scaled(a_plan())), BY_NAME["silent"].what):
        assert sentence in told
    assert "From 3 s to 9 s: silent." in told
    assert "2026-01-02 03:04:05 UTC. Made by stapleproxy 1.2.3." in told


def test_no_two_outcomes_look_alike_without_colour(text):
    """The strokes differ, and one outcome is plain."""
    strokes = re.findall(r'<pattern id="[a-z-]+".*?<path d="([^"]*)"', text)
    assert len(strokes) == len(set(strokes)) == len(Outcome)


def bands(drawn):
    return re.findall(
        r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)" fill="url\(#p-(\w+)\)"/>', drawn
    )


def drawn_of(outcomes_at, plan=None, seconds=15):
    plan = plan or a_plan(seconds)
    clients = [Handshake("x", due_s, 0.01, outcome) for due_s in plan.due for outcome in outcomes_at(due_s)]
    return plot("x", clients, phases(plan), seconds)


def test_equal_neighbours_are_one_piece_of_the_band():
    """As long as they lasted, with the word in it."""
    drawn = drawn_of(lambda due_s: [Outcome.GOOD if due_s < 5 else Outcome.NONE])
    (left, _, width, _, first), (_, _, width2, _, second) = bands(drawn)
    assert (first, second) == ("good", "none")
    assert float(width2) / float(width) == pytest.approx(2, abs=0.01)
    assert float(left) == 64
    assert re.findall(r">(good|none)</text>", drawn) == ["good", "none"]


@pytest.mark.parametrize("seconds", [10, 11, 75, 77, 601, 3600])
def test_the_band_has_no_gap(seconds):
    ((left, _, width, _, outcome),) = bands(drawn_of(lambda _: [Outcome.GOOD], seconds=seconds))
    assert (float(left), float(width), outcome) == (64, pytest.approx(882, abs=0.5), "good")


def test_what_came_at_one_time_stands_one_above_the_other():
    """By its share, the best at the bottom, and together as high as the band."""
    drawn = drawn_of(lambda _: [Outcome.NONE, Outcome.GOOD, Outcome.NONE, Outcome.NONE])
    pieces = bands(drawn)
    assert [(piece[4], float(piece[3])) for piece in pieces] == [("good", 15), ("none", 45)]
    assert float(pieces[0][1]) > float(pieces[1][1])


def test_every_client_has_a_dot_however_long_it_waited():
    """Inside the plot: what is beyond its ends stands at them."""
    plan = a_plan()
    waits = (0.0, 0.0001, 0.01, 5.0, 1000.0)
    drawn = plot("x", [Handshake("x", 1.0, wait_s, Outcome.GOOD) for wait_s in waits], phases(plan), 15)
    (path,) = re.findall(r'class="dots" d="([^"]*)"', drawn)
    heights = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)h0", path)]
    assert heights == sorted(heights, reverse=True)
    assert (len(heights), heights[0], heights[-1]) == (5, 226, 102)


@pytest.mark.parametrize("seconds", [10, 75, 601, 3600])
def test_a_long_run_is_no_larger_than_needed(seconds):
    """The band has a bounded number of columns, and the axis of ticks."""
    states = [Outcome.GOOD, Outcome.NONE]
    drawn = drawn_of(lambda due_s: [states[int(due_s * 4) % 2]], seconds=seconds)
    assert len(bands(drawn)) <= 2 * 300
    assert 2 <= len(re.findall(r">\d+ s</text>", drawn)) <= 13 + 2
    assert max(float(left) + float(width) for left, _, width, _, _ in bands(drawn)) <= 960


def test_trouble_is_shaded_from_begin_to_end():
    drawn = drawn_of(lambda _: [Outcome.GOOD], a_plan(15, Step(3, BY_NAME["expired"], 6)))
    (left, width) = re.search(r'class="trouble" x="([\d.]+)" y="\d+" width="([\d.]+)"', drawn).groups()
    assert (float(left), float(width)) == (pytest.approx(64 + 882 / 5, abs=0.1), pytest.approx(882 * 2 / 5, abs=0.1))
    assert "trouble: expired" in drawn


def test_a_profile_without_clients_is_drawn_too():
    report = Report(a_plan(), a_report().begun, ())
    assert [row[-2] for row in ReadTables(page(report, made_by="x")).counted()[0][1:]] == ["0", "0"]


@pytest.mark.parametrize(("wait_s", "words"), [(0.0, "0 ms"), (0.0123, "12 ms"), (0.9996, "1.00 s"), (1.0, "1.00 s")])
def test_waits_have_a_unit(wait_s, words):
    assert wait_words(wait_s) == words

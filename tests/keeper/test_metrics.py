"""The page of metrics: as Prometheus reads it, and as docs/metrics.md has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.accesslog.record import Staple
from proxy.cache.layout import CacheArgument
from proxy.cache.segment import Segment
from proxy.control import Bulletin, News
from proxy.counters import Counters, WorkerCounts
from proxy.keeper import metrics_page, metrics_text
from proxy.keeper.metrics import Metrics
from proxy.keeper.metrics_table import GROUPS, cache_rows, unit_of
from proxy.keeper.metrics_text import Spread

ALL = [metric for _, metrics in GROUPS for metric in metrics]


@pytest.fixture
def segment():
    made = Segment.create(CacheArgument("", 16_384))
    yield made
    made.close()


def families(text):
    return {family.name: family for family in text_string_to_metric_families(text)}


def samples(text):
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families(text).values()
        for sample in family.samples
    }


def test_the_page_in_docs_is_the_tables():
    """``python -m proxy.keeper.metrics_page > docs/metrics.md``."""
    page = Path(__file__).parent.parent.parent / "docs" / "metrics.md"
    assert page.read_text(encoding="utf-8") == metrics_page.page()


def test_names_follow_the_conventions():
    """Counters end in _total, units are base units and stand in the name, and none is there twice."""
    names = [metric.name for metric in ALL] + [name for name, *_ in cache_rows()]
    assert len(names) == len(set(names))
    for name, kind in [(metric.name, metric.kind) for metric in ALL] + [row[:2] for row in cache_rows()]:
        assert re.fullmatch("stapleproxy(_[a-z]+)+", name)
        assert name.endswith("_total") is (kind == "counter")
        assert not re.search("_(milliseconds|ms|minutes|hours|kilobytes|percent)(_|$)", name)
    assert unit_of("stapleproxy_sent_bytes_total") == "bytes"
    assert unit_of("stapleproxy_requests_total") == ""


@pytest.mark.parametrize("value", ["plain", 'with "quotes"', "back\\slash", "line\nbreak", "\\n", "umlaut ü"])
def test_any_label_comes_back_as_it_was(value):
    text = "".join(metrics_text.lines("name", "gauge", "meaning", ("label",), [((value,), 1.5)]))
    (family,) = text_string_to_metric_families(text)
    assert family.documentation == "meaning"
    assert [(sample.labels, sample.value) for sample in family.samples] == [({"label": value}, 1.5)]


def test_a_histogram_is_cumulative():
    """Its last bucket has all, and so has the count."""
    spread = Spread((0.1, 1.0), (3, 0, 2), 7.25)
    text = "".join(metrics_text.lines("took_seconds", "histogram", "meaning", ("worker",), [(("0",), spread)]))
    assert samples(text) == {
        ("took_seconds_bucket", "0.1", "0"): 3,
        ("took_seconds_bucket", "1.0", "0"): 3,
        ("took_seconds_bucket", "+Inf", "0"): 5,
        ("took_seconds_count", "0"): 5,
        ("took_seconds_sum", "0"): 7.25,
    }


def test_what_workers_count_is_told(segment):
    """By worker and by site; every metric of the table is on the page, with its type."""
    counters = Counters()
    counts = WorkerCounts(counters.take(1), counters.places(["one.example", "two.example"]))
    counts.sites[0].shook_hands((0x0304, Staple.RESUMED))
    counts.sites[0].ended(204)
    counts.sites[0].answered(0.02)
    counts.tell(0, {}, 0)
    text = Metrics(segment, counters).text()
    found = samples(text)
    assert found["stapleproxy_handshakes_total", "true", "one.example", "resumed", "TLSv1.3"] == 1
    assert found["stapleproxy_requests_total", "204", "1"] == 1
    assert found["stapleproxy_site_requests_total", "2xx", "one.example"] == 1
    assert found["stapleproxy_upstream_latency_seconds_count", "1"] == 1
    assert found["stapleproxy_handshake_failures_total", "timeout", "1"] == 0
    assert "two.example" not in text
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert {metric.name: metric.kind for metric in ALL}.items() <= types.items()


def test_the_masters_news_are_told(segment):
    """The generation, and how the last reload ended."""
    news: News = {
        "generation": 3,
        "started": "2030-01-01T00:00:00Z",
        "reloads": 4,
        "last_reload": {"at": "2030-01-02T00:00:00Z", "ok": False, "mistakes": ["no"]},
        "master_pid": 1,
        "config": "",
    }
    found = samples(Metrics(segment, bulletin=Bulletin(news)).text())
    assert found["stapleproxy_generation",] == 3
    assert found["stapleproxy_reloads_total",] == 4
    assert found["stapleproxy_last_reload_successful",] == 0
    assert found["stapleproxy_last_reload_timestamp_seconds",] - found["stapleproxy_start_timestamp_seconds",] == 86_400


def test_without_a_reload_there_is_nothing_to_tell_of_it(segment):
    news: News = {
        "generation": 1,
        "started": "2030-01-01T00:00:00Z",
        "reloads": 0,
        "last_reload": None,
        "master_pid": 1,
        "config": "",
    }
    found = samples(Metrics(segment, bulletin=Bulletin(news)).text())
    assert ("stapleproxy_last_reload_successful",) not in found
    assert found["stapleproxy_reloads_total",] == 0

"""What workers count: nothing is lost by who dies, or by a reload, and nothing is counted twice."""

from __future__ import annotations

import os
import signal

import pytest

from proxy import counters_layout as layout
from proxy.accesslog.record import Staple
from proxy.counters import Counters, WorkerCounts
from proxy.limits import Refusal
from proxy.tls.failures import FAILED_BECAUSE, Failure, failure_of

TLS13 = 0x0304


def child(work) -> int:
    """Fork a process that does `work` and leaves."""
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def of(counters, site="one.example"):
    return counters.totals().sites[site]


def test_no_two_counts_share_a_word():
    """Each has its place, within what a sheet has for it."""
    fixed = [
        *range(5),
        *layout.FAILURE_AT.values(),
        *layout.REFUSAL_AT.values(),
        *layout.TUNNEL_AT.values(),
        *range(layout.QUICK_AT, layout.QUICK_END),
        *(layout.HANDSHAKES_AT + at for at in layout.HANDSHAKE_AT.values()),
    ]
    assert len(fixed) == len(set(fixed))
    assert max(fixed) < layout.REQUESTS_AT
    of_site = [
        *layout.HANDSHAKE_AT.values(),
        layout.REFUSED_AT,
        *(layout.CLASSES_AT + status for status in range(1, 6)),
    ]
    assert len(of_site) == len(set(of_site))
    assert max(of_site) < layout.SITE_WORDS


@pytest.mark.parametrize("first", [0, layout.MAX_COUNT])
@pytest.mark.parametrize("rest", [1, layout.MAX_COUNT // 2, layout.MAX_COUNT])
def test_whatever_a_worker_has_written_the_master_goes_on(first, rest):
    """It settles the sheet of one that is gone, as root, and adds it up; the figures may be nonsense then."""
    counters = Counters()
    counted = counters.take_all(["one.example"], 1)
    words = counted.sheets[0].words

    def write():
        for at in range(len(words)):
            words[at] = rest
        words[layout.TLS_CONNECTIONS] = first

    os.waitpid(child(write), 0)
    counted.give_back()
    assert words[layout.OPEN] == 0
    assert of(counters).requests["2xx"] == rest


@pytest.mark.parametrize("sites", [0, 1, 16, 17, 10_000])
def test_all_sites_fit_in_a_slot(sites):
    assert layout.capacity_for(sites) >= sites
    assert layout.sheet_bytes(layout.capacity_for(sites)) == layout.site_at(layout.capacity_for(sites)) * 8


def test_ten_thousand_sites_take_two_megabytes_a_worker():
    assert layout.sheet_bytes(layout.capacity_for(10_000)) < 2_200_000


def test_what_is_counted_has_its_name():
    """One of each, read back; a site that nobody has come to is left out."""
    counters = Counters()
    places = counters.places(["one.example", "two.example"])
    counts = WorkerCounts(counters.take(3), places)
    site = counts.sites[0]
    site.shook_hands((TLS13, Staple.FRESH))
    site.shook_hands((0x0303, Staple.RESUMED))
    site.refused()
    for status in (200, 204, 404, 499):
        site.ended(status)
    site.answered(0.003)
    site.answered(11)
    site.upstream_failed()
    site.relayed("no-backend")
    counts.redirected(308)
    counts.tell(7, {Refusal.WORKER: 2, Refusal.CLIENT: 1}, 5)
    totals = counters.totals()
    assert set(totals.sites) == {"one.example"}
    found = totals.sites["one.example"]
    assert found.handshakes == {("TLSv1.3", Staple.FRESH): 1, ("TLSv1.2", Staple.RESUMED): 1}
    assert (found.refused, found.requests) == (1, {"2xx": 2, "4xx": 2})
    worker = totals.workers[3]
    assert worker.requests == {200: 1, 204: 1, 404: 1, 499: 1}
    assert worker.redirects == {308: 1}
    assert (worker.open, worker.refused[Refusal.WORKER], worker.lost_lines) == (7, 2, 5)
    assert (worker.latency[2], worker.latency[-1], sum(worker.latency)) == (1, 1, 2)
    assert worker.latency_sum_s == pytest.approx(11.003, abs=1e-5)
    assert (worker.upstream_failures, worker.tunnels["no-backend"], worker.handshakes) == (1, 1, 2)
    assert totals.handshakes_by_staple == {Staple.FRESH: 1, Staple.RESUMED: 1}
    assert totals.requests_by_class == {"2xx": 2, "4xx": 2}
    assert totals.connections_open == 7


def test_a_killed_worker_loses_nothing_and_its_successor_goes_on():
    """What was under way when it died is a failure of its own, so that the sums stay right."""
    counters = Counters()
    places = counters.places(["one.example"])
    sheet = counters.take(0)
    reading, writing = os.pipe()

    def serve():
        counts = WorkerCounts(sheet, places)
        for _ in range(1000):
            counts.words[layout.TLS_CONNECTIONS] += 1
        for _ in range(997):
            counts.sites[0].shook_hands((TLS13, Staple.NONE))
        counts.tell(3, {Refusal.WORKER: 1}, 4)
        os.write(writing, b"r")
        signal.pause()

    pid = child(serve)
    os.read(reading, 1)
    assert counters.totals().workers[0].in_handshake == 3
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    def succeed():
        counts = WorkerCounts(sheet, places)
        counts.sites[0].shook_hands((TLS13, Staple.NONE))
        counts.words[layout.TLS_CONNECTIONS] += 1
        counts.tell(1, {Refusal.WORKER: 1}, 2)

    os.waitpid(child(succeed), 0)
    worker = counters.totals().workers[0]
    assert worker.failures[Failure.WORKER_ENDED] == 3
    assert (worker.handshakes, worker.in_handshake) == (998, 0)
    assert (worker.open, worker.refused[Refusal.WORKER], worker.lost_lines) == (1, 2, 6)


def test_workers_of_two_generations_count_at_once():
    """The one that drains keeps its sheet; both are one worker's, and the next one goes on where one of them ended."""
    counters = Counters()
    old = counters.take(0)
    WorkerCounts(old, counters.places(["one.example"])).sites[0].ended(200)
    places = counters.places(["two.example", "one.example"])
    new = counters.take(0)
    assert new is not old
    WorkerCounts(new, places).sites[1].ended(200)
    assert of(counters).requests == {"2xx": 2}
    assert set(counters.totals().workers) == {0}
    counters.give_back(old)
    assert of(counters).requests == {"2xx": 2}
    assert counters.take(0) is old
    assert counters.take(1) is not old


def test_reloads_in_a_row_take_no_further_memory():
    """A sheet that is free again is taken again."""
    counters = Counters()
    taken = counters.take(0)
    for _ in range(50):
        counters.places(["one.example"])
        following = counters.take(0)
        counters.give_back(taken)
        taken = following
    assert "2 sheets" in repr(counters)


def test_a_slot_that_is_too_small_keeps_its_counts():
    """With more sites than it was made for there is a new one, and the sum is of both."""
    counters = Counters()
    small = counters.take(0)
    WorkerCounts(small, counters.places(["one.example"])).sites[0].ended(200)
    counters.give_back(small)
    places = counters.places(["one.example", *(f"{number}.example" for number in range(100))])
    large = counters.take(0)
    assert large is not small
    counts = WorkerCounts(large, places)
    for site in counts.sites:
        site.ended(302)
    assert of(counters).requests == {"2xx": 1, "3xx": 1}
    assert of(counters, "99.example").requests == {"3xx": 1}


def test_names_of_former_sites_are_forgotten_when_there_are_very_many():
    """All counts begin again then: so the memory is bounded, whatever is loaded."""
    counters = Counters()
    for generation in range(100):
        names = [f"{generation}-{number}.example" for number in range(100)]
        counters = counters.following(names)
        places = counters.places(names)
        counts = WorkerCounts(counters.take(0), places)
        counts.sites[0].ended(200)
        assert of(counters, f"{generation}-0.example").requests == {"2xx": 1}
    assert len(counters.totals().sites) < 20


def test_two_sites_of_one_name_are_counted_as_one():
    """They may be at two addresses; who reads the metrics knows them by their name."""
    counters = Counters()
    places = counters.places(["one.example", "one.example"])
    assert places[0] == places[1]


def test_each_failure_is_explained():
    assert set(FAILED_BECAUSE) == set(Failure)


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        ("tlsv1 alert unknown ca", Failure.CLIENT_ALERT),
        ("ssl/tls alert bad certificate", Failure.CLIENT_ALERT),
        ("certificate verify failed", Failure.CLIENT_CERTIFICATE),
        ("peer did not return a certificate", Failure.CLIENT_CERTIFICATE),
        ("no shared cipher", Failure.PROTOCOL),
        ("wrong version number", Failure.PROTOCOL),
    ],
)
def test_openssls_words_are_sorted(why, expected):
    assert failure_of(why) is expected

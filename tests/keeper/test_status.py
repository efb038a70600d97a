"""The model behind the status page: every state, the query, the forecast, the responders, the traffic."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from urllib.parse import parse_qsl

from hypothesis import given
from hypothesis import strategies as st
from keeper.world import HOUR, NOW, ONE, TWO, key, sites_of, stapled
from ocsp.pki import CA, Answer, cert_id, issue, revoked, single

from proxy import counters_layout as layout
from proxy.cache.entries import Entry
from proxy.counters_totals import Totals, worker_totals
from proxy.forecast import forecasts
from proxy.keeper.admin_query import WrongQueryError, read_query, target
from proxy.keeper.responders import MAX_RESPONDERS, REMEMBERED, Responders, quantile
from proxy.keeper.status import URGENCY, Query, Sort, State
from proxy.keeper.status_judged import briefs, chosen, counted, forecast, plan_of
from proxy.keeper.status_look import site_told, told
from proxy.keeper.traffic import Meter
from proxy.keeper.watched import Trouble, Watched
from proxy.ocsp.response import Rules, verify

URL = "http://ocsp.example/"
TIMEOUT = Trouble(URL, "timeout", "no answer within 10 s")


def staple(leaf=ONE, hours=48, **more):
    der = Answer(singles=(single(cert_id(leaf), this_update=NOW, next_update=NOW + hours * HOUR, **more),)).der
    return verify(der, leaf=leaf.cert, issuer=CA.cert, now=NOW, rules=Rules())


def watched(*urls, leaf=ONE, must_staple=False, on_revoked="withhold", **state):
    state = {"due_s": (NOW + HOUR).timestamp(), **state}
    return Watched(stapled(leaf, *(urls or (URL,)), must_staple=must_staple, on_revoked=on_revoked), CA.cert, **state)


def look(*all_watched, now=NOW):
    """The sites of these certificates, one each, as they are judged."""
    sites, settings = sites_of(*(each.certificate for each in all_watched))
    held = {each.identity.cache_key: each for each in all_watched}
    return briefs(plan_of(sites, settings), held, now)


def state(each, now=NOW):
    (site,) = look(each, now=now)
    return site.state


def test_every_state_is_told_apart():
    good, bad = staple(), staple(status=revoked(NOW))
    silent = {"failures": 1, "troubles": (TIMEOUT,)}
    assert state(watched(newest=good)) is State.STAPLED
    assert state(watched(newest=good, **silent)) is State.FAILING
    assert state(watched(newest=good, told="expiring", **silent)) is State.EXPIRING
    assert state(watched(newest=good, told="expired"), now=NOW + 49 * HOUR) is State.MISSING
    assert state(watched()) is State.WAITING
    assert state(watched(**silent)) is State.MISSING
    assert state(watched(newest=bad)) is State.REVOKED
    assert state(watched(newest=bad, on_revoked="staple")) is State.REVOKED
    assert state(watched(newest=good), now=ONE.cert.not_valid_after_utc + HOUR) is State.EXPIRED


def plan(*certificates, **site):
    sites, settings = sites_of(*certificates)
    return plan_of([replace(each, **site) for each in sites], settings)


def test_what_is_not_meant_to_be_stapled_is_trouble_only_where_the_certificate_demands_it():
    for must_staple, expected in ((False, State.NOT_STAPLED), (True, State.MISSING)):
        (site,) = briefs(plan(stapled(ONE, must_staple=must_staple)), {}, NOW)
        assert (site.state, site.until_s) == (expected, None)
        assert "names no OCSP responder" in told(site.certificates[0], NOW).why


def test_where_clients_are_waited_for_the_cache_tells():
    """As in Apache nothing is fetched ahead, so that nothing held is no trouble."""
    found = plan(stapled(ONE, URL))
    (site,) = briefs(found, {}, NOW)
    assert site.state is State.ON_DEMAND
    entry = Entry(key(ONE), b"\1" + staple().der, (NOW + HOUR).timestamp(), NOW.timestamp(), None, 0, None)
    (site,) = briefs(found, {key(ONE): entry}, NOW)
    certificate = told(site.certificates[0], NOW)
    assert (certificate.state, certificate.status, certificate.stapled_until) == (State.STAPLED, "good", NOW + HOUR)
    (site,) = briefs(found, {key(ONE): entry}, NOW + 2 * HOUR)
    assert told(site.certificates[0], NOW + 2 * HOUR).stapled_until is None


def test_a_site_is_as_its_worst_certificate_and_lasts_as_its_first_to_end():
    one, two = watched(newest=staple()), watched(leaf=TWO, newest=staple(TWO, hours=24), failures=1)
    held = {each.identity.cache_key: each for each in (one, two)}
    (site,) = briefs(plan(one.certificate, identities=(one.identity, two.identity)), held, NOW)
    found = site_told(site, NOW)
    assert (found.state, found.stapled_until) == (State.FAILING, NOW + 24 * HOUR)
    assert [each.state for each in found.certificates] == [State.STAPLED, State.FAILING]


def test_the_forecast_is_that_of_the_command():
    """The same as `check` and the metrics reckon, site by site; and what ends first of all."""
    one, two = watched(newest=staple()), watched(leaf=TWO, newest=staple(TWO, hours=24))
    sites, settings = sites_of(one.certificate, two.certificate)
    for each in (one, two):
        ends = {each.identity.cache_key: each.newest.serve_until.timestamp()}
        expected = [found.until for found in forecasts(sites, settings, ends, NOW)]
        held = {each.identity.cache_key: each}
        assert [site_told(site, NOW).stapled_until for site in briefs(plan_of(sites, settings), held, NOW)] == expected
    assert forecast(look(one, two)).until == NOW + 24 * HOUR
    assert forecast(look(one, watched(leaf=TWO))).until is None
    assert forecast(briefs(plan(stapled(ONE)), {}, NOW)) == type(forecast([]))(None, "")


def test_each_certificate_counts_once():
    one = watched(newest=staple())
    sites, settings = sites_of(one.certificate, one.certificate)
    found = counted(briefs(plan_of(sites, settings), {key(ONE): one}, NOW))
    assert found == {**dict.fromkeys(State, 0), State.STAPLED: 1}


def names(found):
    return [site.names[0] for site in found]


def test_what_needs_somebody_comes_first():
    """And what demands a staple before what does not."""
    silent = {"failures": 1, "troubles": (TIMEOUT,)}
    all_watched = [
        watched(newest=staple()),
        watched(leaf=TWO, **silent),
        watched(leaf=issue("three.example", CA), must_staple=True, **silent),
    ]
    found = [replace(site, names=(name,)) for site, name in zip(look(*all_watched), "abc", strict=True)]
    assert names(chosen(found, Query())) == ["c", "b", "a"]
    assert names(chosen(found, Query(sort=Sort.NAME))) == ["a", "b", "c"]
    assert names(chosen(found, Query(sort=Sort.UNTIL))) == ["b", "c", "a"]
    assert names(chosen(found, Query(state=State.STAPLED))) == ["a"]
    for text in ("TIMEOUT", "two.example", key(TWO).hex()[:9], f"{TWO.cert.serial_number:x}"):
        assert "b" in names(chosen(found, Query(text)))
        assert "a" not in names(chosen(found, Query(text)))
    assert names(chosen(found, Query("ocsp.example"))) == ["c", "b", "a"]
    assert chosen(found, Query("nothing like it")) == []


def test_urgency_has_every_state():
    assert set(URGENCY) == set(State)


QUERIES = st.builds(
    Query,
    st.text(st.characters(exclude_categories=("Cs",)), max_size=200).map(str.strip),
    st.none() | st.sampled_from(State),
    st.sampled_from(Sort),
    st.integers(1, 1000),
)


@given(QUERIES)
def test_the_address_of_a_query_is_read_as_that_query(query):
    assert read_query(parse_qsl(target(query).partition("?")[2])) == query


@given(st.lists(st.tuples(st.sampled_from(["q", "state", "sort", "limit", "x"]), st.text())))
def test_no_query_is_more_than_wrong(pairs):
    with contextlib.suppress(WrongQueryError):
        assert 1 <= read_query(pairs).limit <= 1000


def test_responders_are_told_by_their_last_answers():
    """Half of the last hundred failed, all others are forgotten but for their count."""
    clock = [NOW.timestamp()]
    responders = Responders(lambda: clock[0])
    for _ in range(500):
        responders.asked("a:80", "fetched", 9.0)
    for number in range(REMEMBERED):
        responders.asked("a:80", "timeout" if number % 2 else "not-modified", number / 100)
    responders.asked("b:80", "fetched", 0.5)
    a, b = responders.told()
    assert (a.responder, a.asked, a.failed, a.recent, a.error_ratio) == ("a:80", 600, 50, 100, 0.5)
    assert (a.reasons, a.last_reason, a.p50_s, a.p90_s) == ({"timeout": 50}, "timeout", 0.49, 0.89)
    assert (b.error_ratio, b.last_reason, b.last_asked, b.p90_s) == (0, "", NOW, 0.5)


def test_responders_are_bounded():
    responders = Responders(lambda: 0.0)
    for number in range(MAX_RESPONDERS + 5):
        responders.asked("kept:80", "fetched", 0.1)
        responders.asked(f"{number}:80", "fetched", 0.1)
    found = {each.responder for each in responders.told()}
    assert len(found) == MAX_RESPONDERS
    assert "kept:80" in found
    assert "0:80" not in found


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_one_of_them_and_has_its_part_below(values, part):
    found = quantile(sorted(values), part)
    assert found in values
    assert sum(value <= found for value in values) >= part * len(values)


def totals(handshakes, statuses):
    words = [0] * layout.SITES_AT
    words[layout.HANDSHAKES_AT] = handshakes
    for status, count in statuses.items():
        words[layout.REQUESTS_AT + status] = count
    return Totals({0: worker_totals(words)}, {})


def test_rates_are_those_of_the_last_minute():
    meter = Meter()
    for number in range(100):
        meter.note(totals(10 * number * number, {200: 5 * number}), 5.0 * number)
    found = meter.traffic(totals(10 * 100 * 100, {200: 500}), 500.0)
    assert found.requests_per_s == 1
    assert found.handshakes_per_s == round(10 * (100**2 - 87**2) / 65, 2)
    assert found.handshakes == 100_000


def test_rates_when_all_counts_begin_again():
    meter = Meter()
    assert meter.traffic(totals(7, {}), 1.0).handshakes_per_s == 0
    meter.note(totals(1000, {}), 0.0)
    assert meter.traffic(totals(7, {}), 5.0).handshakes_per_s == 0

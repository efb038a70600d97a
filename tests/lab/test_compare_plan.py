"""What a comparison does when, and that what it writes is a configuration."""

import tomllib
from pathlib import Path

import pytest
from lab.compared import a_plan

from proxy.lab.compare_plan import (
    INTERVAL_S,
    Phase,
    agenda,
    default_trouble,
    default_validity_s,
    front_config,
    phases,
    scaled,
    server_name,
)
from proxy.lab.faults import BY_NAME
from proxy.lab.scenario import Step
from proxy.settings.build import build
from proxy.settings.model import Settings

SILENT, EXPIRED = BY_NAME["silent"], BY_NAME["expired"]


def settings(plan, profile):
    written = front_config(
        plan, profile, port=8443, chain=Path("/a b/chain.pem"), key=Path('/a"b/key.pem'), upstream="http://127.0.0.1:1"
    )
    return build(tomllib.loads(written), folder=Path("/"))


def test_a_run_is_healthy_then_in_trouble_then_healthy():
    assert phases(a_plan(75)) == (Phase(0, 15, None), Phase(15, 45, SILENT), Phase(45, 75, None))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([Step(0, SILENT, None)], [(0, 15, SILENT)]),
        ([Step(10, SILENT, 60)], [(0, 10, None), (10, 15, SILENT)]),
        ([Step(1, SILENT, 2), Step(3, EXPIRED, 2)], [(0, 1, None), (1, 3, SILENT), (3, 5, EXPIRED), (5, 15, None)]),
        ([Step(1, SILENT, None), Step(20, EXPIRED, None)], [(0, 1, None), (1, 15, SILENT)]),
    ],
)
def test_phases_fill_the_run_and_end_with_it(steps, expected):
    assert phases(a_plan(15, *steps)) == tuple(Phase(*each) for each in expected)


def test_the_agenda_has_each_client_and_each_change_in_order():
    """A change goes before the client of its moment, and what lies beyond the end is not done."""
    todo = agenda(a_plan(15, Step(1, SILENT, 2), Step(20, EXPIRED, None)))
    assert [at_s for at_s, _ in todo] == sorted(at_s for at_s, _ in todo)
    assert [at_s for at_s, change in todo if change is None] == [number * INTERVAL_S for number in range(60)]
    assert [(at_s, change.step is None) for at_s, change in todo if change] == [(1, False), (3, True)]
    assert [change is None for at_s, change in todo if at_s == 1] == [False, True]


def test_the_latest_trouble_is_what_a_staple_is_compared_with():
    plan = a_plan(15, Step(1, SILENT, 2), Step(5, EXPIRED, 1))
    assert [plan.trouble_since(at_s) for at_s in (0.5, 1, 4, 5, 14)] == [None, 1, 1, 5, 5]


@pytest.mark.parametrize("seconds", [10, 15, 75, 600, 3600])
def test_by_default_a_held_response_outlasts_the_trouble(seconds):
    """Whenever it was fetched: at most half of its validity is over when the trouble begins."""
    begin_s, length_s = default_trouble(seconds)
    assert default_validity_s(seconds) / 2 >= length_s + 1
    assert 0 < begin_s < begin_s + length_s < seconds


def test_times_are_scaled_as_the_page_says():
    values = {each.key.removeprefix("stapling."): each.value for each in scaled(a_plan(75))}
    assert values == {
        "fetch_timeout_s": 3,
        "refresh_min_interval_s": 1,
        "retry_min_interval_s": 1,
        "retry_max_interval_s": 12,
        "httpd.responder_timeout_s": 3,
        "httpd.standard_cache_timeout_s": 12,
        "httpd.error_cache_timeout_s": 2,
        "httpd.response_time_skew_s": 1,
    }


@pytest.mark.parametrize("seconds", [10, 75, 3600])
def test_fronts_differ_in_profile_and_name_only(seconds):
    """And each configuration is one that the program takes."""
    plan = a_plan(seconds)
    apache, prefetch = settings(plan, "httpd-2.4"), settings(plan, "prefetch")
    assert apache.stapling.profile == "httpd-2.4"
    assert apache.site[0].names == (server_name("httpd-2.4"),)
    assert apache.site[0].certificate[0].key == Path('/a"b/key.pem')
    alike = apache.stapling.model_copy(update={"profile": "prefetch"})
    assert (alike, apache.workers, apache.listen) == (prefetch.stapling, prefetch.workers, prefetch.listen)


def test_the_defaults_that_are_told_are_the_defaults():
    whole = Settings.model_fields["stapling"].default
    for each in scaled(a_plan()):
        value = whole
        for name in each.key.split(".")[1:]:
            value = getattr(value, name)
        assert value == each.default, each.key

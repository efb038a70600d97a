"""A scenario as data: what it does when, and every mistake in it at once."""

import tomllib
from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.lab.faults import BY_NAME
from proxy.lab.scenario import Change, Step, changes, read_duration, read_scenario

EXAMPLE = Path(__file__).parents[2] / "config" / "lab.toml"
EXPIRED, DNS = BY_NAME["expired"], BY_NAME["dns"]


def read(text):
    return read_scenario(tomllib.loads(text))


def mistakes(text):
    with pytest.raises(ConfigError) as error:
        read(text)
    return [str(problem) for problem in error.value.problems]


@pytest.mark.parametrize(("text", "expected_s"), [("30s", 30), ("0s", 0), ("5m", 300), ("1.5h", 5400), ("0.25s", 0.25)])
def test_durations_have_a_unit(text, expected_s):
    assert read_duration(text) == expected_s


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1d", "1 s", "1e3s", "0.0001s", "9999999s", "٣s", "1s\n"])
def test_what_is_no_duration_is_told(text):
    with pytest.raises(ValueError, match='such as "30s"'):
        read_duration(text)


def test_steps_come_in_the_order_of_time():
    steps = read('[[step]]\nat="2m"\nfault="dns"\n[[step]]\nat="30s"\nfault="expired"\nfor="10s"')
    assert steps == (Step(30, EXPIRED, 10), Step(120, DNS, None))


def test_a_fault_ends_where_it_is_said_or_where_the_next_begins():
    """A fault without an end lasts until the next, and nothing is right between two that touch."""
    steps = (Step(0, DNS, None), Step(10, EXPIRED, 5), Step(15, DNS, 5), Step(30, EXPIRED, 1))
    assert changes(steps) == (
        Change(0, DNS, steps[0]),
        Change(10, EXPIRED, steps[1]),
        Change(15, DNS, steps[2]),
        Change(20, DNS, None),
        Change(30, EXPIRED, steps[3]),
        Change(31, EXPIRED, None),
    )


def test_no_steps_no_changes():
    assert changes(()) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["step: is missing: add [[step]] with at and fault"]),
        ("step = 1", ["step: is a list of tables: write [[step]]"]),
        ("step = [1]", ["step[0]: must be a table: [[step]]"]),
        (
            'x = 1\n[[step]]\nat = "1s"\nfault = "dns"',
            ["x: unknown key: a scenario has only [[step]]"],
        ),
        (
            '[[step]]\nfault = "expird"',
            [
                'step[0].at: is missing: when it begins, counted from the start, such as "30s"',
                "step[0].fault: no fault is named 'expird': did you mean expired?",
            ],
        ),
        (
            '[[step]]\nat = 30\nfault = 7\nfor = "0s"\nfrom = 1',
            [
                "step[0].from: unknown key: a step has at, fault, for",
                'step[0].at: must be a time with its unit, such as "30s", "5m" or "1h", found 30',
                'step[0].for: must be longer than nothing, found "0s"',
                "step[0].fault: must be text in quotes, found 7",
            ],
        ),
        (
            '[[step]]\nat = 2020-01-01\nfault = "what"',
            [
                'step[0].at: must be a time with its unit, such as "30s", "5m" or "1h", found "a date or a time"',
                "step[0].fault: no fault is named 'what': stapleproxy lab --list prints all that there are",
            ],
        ),
        (
            '[[step]]\nat = "1m"\nfault = "dns"\n[[step]]\nat = "30s"\nfault = "dns"\nfor = "31s"',
            ["step[0].at: 60 s is too soon after step[1], which begins at 30 s and ends at 61 s"],
        ),
        (
            '[[step]]\nat = "1m"\nfault = "dns"\n[[step]]\nat = "60s"\nfault = "tls"',
            ["step[1].at: 60 s is too soon after step[0], which begins at 60 s"],
        ),
    ],
)
def test_every_mistake_is_told_at_once(text, expected):
    """With the key and what is wrong with its value."""
    assert mistakes(text) == expected


def test_the_example_is_a_scenario_that_returns_to_right():
    steps = read(EXAMPLE.read_text())
    assert len(steps) >= 4
    assert changes(steps)[-1].step is None

"""The tables about limits and the access log: what their mistakes sound like."""

from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.settings.build import build

SITE = {"upstream": "http://127.0.0.1:8000", "certificate": [{"chain": "c.pem", "key": "k.pem"}]}
FOLDER = Path("/etc/stapleproxy")


def read(**tables):
    return build({"site": [SITE], **tables}, folder=FOLDER)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("log/access.log", FOLDER / "log/access.log"), ("/var/log/x", Path("/var/log/x")), ("-", Path("-"))],
)
def test_a_path_is_relative_to_the_file(path, expected):
    """And - is standard output, wherever the file is."""
    assert read(access_log={"path": path}).access_log.path == expected


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        (
            {"access_log": {"format": "$remote_addr $staple_agee"}},
            "access_log.format: unknown field $staple_agee: did you mean $staple_age?",
        ),
        ({"access_log": {"format": "%{X}y"}}, "access_log.format: unknown field %{X}y"),
        ({"access_log": {"format": 7}}, "access_log.format: must be text in quotes, found 7"),
        ({"access_log": {"path": ""}}, "access_log.path: must be the name of a file"),
        ({"limits": {"max_connections": 0}}, "limits.max_connections: must be from 1 to 1048576, found 0"),
        ({"http": {"client_min_bytes_per_second": -1}}, "http.client_min_bytes_per_second: must be from 0 to 1048576"),
    ],
)
def test_a_mistake_is_one_sentence(tables, told):
    """With the key, and what was meant."""
    with pytest.raises(ConfigError) as error:
        read(**tables)
    (problem,) = error.value.problems
    assert str(problem).startswith(told)

"""The blocks of docs/ that no test runs, by page: each block's first line."""

TESTED_ELSEWHERE = {
    "load-testing.md": "tests/integration/test_load_testing_page.py",
}
"""Pages with a test of their own."""

RIGHTS = (
    "user stapleproxy on >PASSWORD resetchannels &stapleproxy:* ~stapleproxy:* -@all +@connection +@pubsu"
    "b +eval +evalsha +get +set +del +time +getrange +strlen +pttl +pexpire +pexpireat"
)
"""Of a user on a Redis server: tested in tests/keeper/fleet/test_servers.py."""

LIST: dict[str, list[str]] = {
    "fleet.md": [RIGHTS],
    "running.md": ["python3 -m venv /opt/stapleproxy && /opt/stapleproxy/bin/pip install ./stapleproxy"],
}

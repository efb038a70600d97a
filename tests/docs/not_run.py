"""The blocks of docs/ that no test runs, by page: each block's first line."""

TESTED_ELSEWHERE = {
    "load-testing.md": "tests/integration/test_load_testing_page.py",
}
"""Pages with a test of their own."""

LIST: dict[str, list[str]] = {
    "running.md": ["python3 -m venv /opt/stapleproxy && /opt/stapleproxy/bin/pip install ./stapleproxy"],
}

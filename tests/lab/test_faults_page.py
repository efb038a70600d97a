"""docs/faults.md is the table."""

from pathlib import Path

from proxy.lab.faults_page import page

PATH = Path(__file__).parents[2] / "docs" / "faults.md"


def test_the_page_is_written_from_the_table():
    assert PATH.read_text() == page(), "run: python -m proxy.lab.faults_page > docs/faults.md"

"""docs/settings.md is written from the models."""

from pathlib import Path

from proxy.settings.build import all_fields
from proxy.settings.page import page

PATH = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_written_from_the_models():
    assert PATH.read_text() == page(), "run: python -m proxy.settings.page > docs/settings.md"


def test_every_setting_is_in_its_table():
    tables = {}
    for part in page().split("\n## ")[1:]:
        title, _, rows = part.partition("\n")
        tables[title.strip("`[]")] = {row.split("`")[1] for row in rows.splitlines() if row.startswith("| `")}
    for path, _ in all_fields():
        table, _, name = path.rpartition(".")
        assert name in tables[table or "Before the first table"], path

"""The table of docs/compatibility.md says what the tests here do."""

from pathlib import Path

from backends import only
from table import table


@only("tensorflow", "other backends run some tests for other rows")
def test_the_page_has_the_table():
    page = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text("utf-8")
    assert table() in page, "it must hold what tests/compatibility/table.py prints"

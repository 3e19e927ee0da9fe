"""The README's table says what the tests here do."""

from pathlib import Path

from backends import only
from table import table


@only("tensorflow", "other backends run some tests for other rows")
def test_readme_has_the_table():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert table() in readme, "what tests/compatibility/table.py prints has to stand in README.md"

"""The generated parts of docs/statistics.md."""

from __future__ import annotations

from pathlib import Path

from tests.calibration import tables  # noqa: F401  (fills the list of tables)
from tests.calibration.harness import Row, markdown

PAGE = Path(__file__).resolve().parents[2] / "docs" / "statistics.md"


def section(title: str, rows: list[Row]) -> str:
    """One table under its title."""
    return f"### {title}\n\n{markdown(rows)}"


def fill(page: str, name: str, text: str) -> str:
    """The page with `text` between the markers of `name`.

    Raises:
        ValueError: the page does not have both markers in order.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"docs/statistics.md: needs the markers {begin} and {end}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"

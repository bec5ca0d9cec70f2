"""Tables on the terminal, in which nothing that was tracked is markup or an escape sequence."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.control import strip_control_codes
from rich.table import Table
from rich.text import Text

WIDE = 220
RIGHT = ("cells", "test acc", "errors", "train s", "epochs")


def console() -> Console:
    """As wide as the terminal; wide where there is none, so that no line is broken for a file or a pipe."""
    made = Console(soft_wrap=True, highlight=False)
    return made if made.is_terminal else Console(soft_wrap=True, highlight=False, width=WIDE)


def table(*titles: str) -> Table:
    """A plain table with these headings."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        made.add_column(title, justify="right" if title in RIGHT else "left", overflow="fold")
    return made


def texts(cells: Sequence[str]) -> list[Text]:
    """Cells to be shown as they are."""
    return [Text("".join(c if c.isprintable() else repr(c)[1:-1] for c in strip_control_codes(cell))) for cell in cells]

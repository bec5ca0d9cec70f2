"""The closing table of a sweep: what ran, was done already, failed, diverged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from lenet_lab.records import RunRecord
from lenet_lab.sweeps.plan import Plan, Planned
from lenet_lab.sweeps.printing import console, table, texts


@dataclass(frozen=True)
class Row:
    """One cell at the end of a sweep."""

    name: str
    outcome: str
    accuracy: float | None
    errors: float | None
    seconds: float | None
    run_id: str
    note: str


def closing(plan: Plan, records: Mapping[str, RunRecord]) -> list[Row]:
    """The rows, printed as a table on the way."""
    rows = [_row(plan, cell, records.get(cell.key)) for cell in plan.unique()]
    listing = table("outcome", "test acc", "errors", "train s", "run", "cell")
    for row in rows:
        numbers = (_number(row.accuracy, 100, 2, "%"), _number(row.errors, 1, 0), _number(row.seconds, 1, 1))
        name = row.name + (f"  ({row.note})" if row.note else "")
        style = "" if row.outcome in ("complete", "done") else "bold red"
        listing.add_row(*texts((row.outcome, *numbers, row.run_id[:8], name)), style=style)
    screen = console()
    screen.print(listing)
    count = Counter(row.outcome for row in rows)
    idle = ", nothing trained" if set(count) == {"done"} else ""
    screen.print(Text(", ".join(f"{n} {WORDS.get(state, state)}" for state, n in count.most_common()) + idle))
    return rows


WORDS = {"complete": "trained", "done": "done already"}


def markdown(rows: Sequence[Row]) -> str:
    """The same table for the sweep's page in MLflow."""
    lines = ["| cell | outcome | test accuracy | errors |", "|:--|:--|--:|--:|"]
    for row in sorted(rows, key=lambda r: (-(r.accuracy or 0.0), r.name)):
        name = row.name.replace("|", "\\|").replace("`", "'")
        lines.append(
            f"| `{name}` | {row.outcome} | {_number(row.accuracy, 100, 2, '%')} | {_number(row.errors, 1, 0)} |"
        )
    return "\n".join(lines)


def _row(plan: Plan, cell: Planned, record: RunRecord | None) -> Row:
    outcome = cell.finished or plan.outcomes.get(cell.key)
    state = outcome.state if outcome is not None else _state(record)
    metrics = {} if record is None else record.metrics
    complete = state in ("complete", "done")
    note = (
        ""
        if complete
        else (
            outcome.error if outcome and outcome.error else "" if record is None else record.tags.get("lenet.error", "")
        )
    )
    return Row(
        cell.name,
        state,
        metrics.get("test/acc") if complete else None,
        metrics.get("test/errors") if complete else None,
        metrics.get("time/train_s") if complete else None,
        "" if record is None else record.run_id,
        note,
    )


def _state(record: RunRecord | None) -> str:
    """Where the launcher is not ours, the store says how a job ended."""
    if record is None:
        return "not started"
    return record.state


def _number(value: float | None, scale: float, digits: int, unit: str = "") -> str:
    return "" if value is None else f"{scale * value:.{digits}f}{unit}"

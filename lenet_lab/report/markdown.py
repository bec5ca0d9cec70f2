"""The report as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lenet_lab.report.facts import Facts, Run
from lenet_lab.report.figures import ALT
from lenet_lab.report.numbers import NONE, percent
from lenet_lab.report.table import CAPTION, COLUMNS
from lenet_lab.report.words import made_of, summary, timing_note, warnings


def render(facts: Facts, figures: Iterable[str] = ()) -> str:
    """The whole report; `figures` names those that lie beside it as `figures/<name>.png` and `.svg`."""
    parts = ["# Comparison of arms", "\n".join(f"- {escape(line)}" for line in summary(facts))]
    if found := warnings(facts):
        parts += ["**Take care:**", "\n".join(f"- {escape(line)}" for line in found)]
    if facts.arms:
        rows = [[escape(arm.label), *(escape(c.text(arm)) for c in COLUMNS)] for arm in facts.arms]
        parts += ["## Arms", _table(["Arm", *(c.head for c in COLUMNS)], rows, numbers_from=1)]
        parts += [f"{CAPTION} {timing_note(facts.arms)}"]
    for name in figures:
        parts.append(f"![{ALT[name]}](figures/{name}.png)\n\n[{ALT[name]} (SVG)](figures/{name}.svg)")
    if facts.common:
        rows = [[escape(name), escape(value)] for name, value in facts.common]
        parts += ["## Settings common to all arms", _table(["Setting", "Value"], rows)]
    if facts.counted:
        parts += ["## Runs that this rests on", _table(_RUN_HEAD, [_counted(run) for run in facts.counted])]
        parts += ["What they were made of:", "\n".join(f"- {escape(line)}" for line in made_of(facts))]
    if facts.excluded:
        head = ["Run", "Seed", "State", "Why it does not count", "Run id"]
        parts += ["## Runs that do not count", _table(head, [_excluded(run) for run in facts.excluded])]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """`text` so that it reads as itself in a paragraph or a table cell: no markup, no link, no HTML."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~$#!])|(?<![^\W_])_|_(?![^\W_])", lambda m: "\\" + m[0], text)
    return re.sub(r"(?i)(?<=\bhttp)(?=:)|(?<=\bhttps)(?=:)|(?<=\bftp)(?=:)|(?<=\bwww)(?=\.)", r"\\", text)


_RUN_HEAD = ["Run", "Arm", "Seed", "State", "Test accuracy, %", "Timing", "Run id"]


def _counted(run: Run) -> list[str]:
    accuracy = run.metrics.get("test/acc")
    shown = NONE if accuracy is None else percent(accuracy)
    return [
        _name(run),
        escape(run.label),
        _seed(run),
        escape(run.state),
        shown,
        escape(run.timing),
        escape(run.run_id),
    ]


def _excluded(run: Run) -> list[str]:
    return [_name(run), _seed(run), escape(run.state), escape(run.excluded), escape(run.run_id)]


def _name(run: Run) -> str:
    text = escape(run.name) or "(no name)"
    return f"[{text}](<{run.link}>)" if run.link else text


def _seed(run: Run) -> str:
    return NONE if run.seed is None else str(run.seed)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int | None = None) -> str:
    rule = ["---:" if numbers_from is not None and i >= numbers_from else "---" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))

"""The report as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from lenet_lab.report import figures, tables
from lenet_lab.report.document import Document, Section, document
from lenet_lab.report.facts import Facts
from lenet_lab.report.table import Cell, Table


def render(facts: Facts) -> str:
    """The whole report; its figures lie beside it as `figures/<name>.png` and `.svg`."""
    return page(document(facts), figures.names(facts), figures.ALT)


def page(made: Document, drawn: Collection[str], alt: Mapping[str, str]) -> str:
    """A document; of its figures those that are `drawn`, with what they show for those who cannot see."""
    parts = [f"# {escape(made.title)}", "\n".join(f"- {escape(line)}" for line in made.summary)]
    if made.warnings:
        parts += ["**Take care:**", "\n".join(f"- {escape(line)}" for line in made.warnings)]
    for section in made.sections:
        parts += _section(section, {name: alt[name] for name in section.figures if name in drawn})
    return "\n\n".join(parts) + "\n"


def attached(facts: Facts) -> tuple[str, dict[str, str]]:
    """What stands on a sweep's page in MLflow, summary and table of arms, and on that of each of its runs."""
    made = document(facts)
    lead = "\n".join(f"- {escape(line)}" for line in made.summary)
    table = tables.arms(facts)
    plain = replace(table, rows=tuple(tuple(replace(cell, arm=None) for cell in row) for row in table.rows))
    rows = {arm.number: _table(replace(plain, rows=(row,))) for arm, row in zip(facts.arms, plain.rows, strict=True)}
    own = {run.run_id: f"{escape(run.name)}\n\nIts arm:\n\n{rows[run.arm or 0]}" for run in facts.counted}
    return f"{lead}\n\n{_table(plain)}\n\n{escape(table.caption)}", own


def escape(text: str) -> str:
    """`text` so that it reads as itself in a paragraph or a table cell: no markup, no link, no HTML."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~$#!])|(?<![^\W_])_|_(?![^\W_])", lambda m: "\\" + m[0], text)
    return re.sub(r"(?i)(?<=\bhttp)(?=:)|(?<=\bhttps)(?=:)|(?<=\bftp)(?=:)|(?<=\bwww)(?=\.)", r"\\", text)


def _section(section: Section, drawn: Mapping[str, str]) -> list[str]:
    parts = []
    for table, arm in section.tables:
        if arm is not None:  # the heading is what `#a3` leads to
            parts += [f"### {arm.short}", escape(arm.label)]
        parts.append(_table(table))
        if table.caption:
            parts.append(escape(table.caption))
    for name, alt in drawn.items():
        parts.append(f"![{alt}](figures/{name}.png)\n\n[{alt} (SVG)](figures/{name}.svg)")
    if section.code:
        parts.append("\n".join(("```", *section.code, "```")))
    if section.notes:
        parts.append("\n".join(f"- {escape(line)}" for line in section.notes))
    return [f"## {escape(section.title)}", *parts] if parts else []


def _table(table: Table) -> str:
    head = [escape(text) for text in table.head]
    rule = ["---:" if number else "---" for number in table.numbers]
    rows = [[_cell(cell, table.numbers[i]) for i, cell in enumerate(row)] for row in table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def _cell(cell: Cell, number: bool) -> str:
    text = escape(cell.text)
    if cell.arm is not None:
        return f"[{text}](#a{cell.arm})" if number else f"[A{cell.arm}](#a{cell.arm}) {text}"
    return f"[{text}](<{cell.link}>)" if cell.link else text

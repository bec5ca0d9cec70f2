"""The tables of the report in LaTeX, set with booktabs: to be read in by `\\input`."""

from __future__ import annotations

from lenet_lab.report.document import document
from lenet_lab.report.facts import Facts
from lenet_lab.report.table import Table

_SHOWN = ("arms", "cells", "comparisons", "factors", "cost", "answers")
_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "{": r"\{", "}": r"\}",
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "−": r"$-$", "—": "---", "×": r"$\times$",
    "†": r"\dag{}", "…": r"\ldots{}", "²": r"$^2$",
}  # fmt: skip
_HEAD = r"""% Written by `python -m lenet_lab report`. In the preamble:
%   \usepackage[T1]{fontenc}
%   \usepackage{booktabs,graphicx}
"""


def render(facts: Facts) -> str:
    """One `table` environment a table, with a caption and a label `tab:<name>`."""
    made = document(facts)
    several = [(s.title, table) for s in made.sections if s.id in _SHOWN for table, _ in s.tables]
    return "\n".join([_HEAD, *(_environment(title, table) for title, table in several)])


def escape(text: str) -> str:
    """`text` so that it prints as itself; a character that a plain T1 font lacks as its code point."""
    return "".join(_SPECIAL.get(c, c if ord(c) < 0x180 else rf"\texttt{{U+{ord(c):04X}}}") for c in text)


def _environment(title: str, table: Table) -> str:
    columns = "".join("r" if number else "l" for number in table.numbers)
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escape(title)}. {escape(table.caption)}}}",
        rf"  \label{{tab:{table.name}}}",
        r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"  \begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"    \toprule",
        f"    {_row(table.head)}",
        r"    \midrule",
        *(f"    {_row([cell.text for cell in row])}" for row in table.rows),
        r"    \bottomrule",
        r"  \end{tabular}}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _row(texts: list[str] | tuple[str, ...]) -> str:
    # a row that begins with a bracket would be taken for an argument of the rule above it
    return " & ".join(f"{{}}{escape(text)}" if text[:1] in "[*" else escape(text) for text in texts) + r" \\"

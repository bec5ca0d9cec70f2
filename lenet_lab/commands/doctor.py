"""`doctor`: what is wrong with this installation, store and machine, and what to do about it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_lab.commands.common import parser

if TYPE_CHECKING:
    from lenet_lab.commands.checks import Check, Finding


def main(words: Sequence[str]) -> int:
    """Print a line for every finding; exit status 1 where there is a problem."""
    args = parser("doctor", "What is wrong here, and what to do about it. Nothing is made or changed.")
    args.add_argument("--data", metavar="DIR", help="look for data sets here first, as data.root=DIR would")
    args.add_argument("--json", action="store_true", help="print the findings as JSON")
    chosen = args.parse_args(words)
    findings, begun = [], time.perf_counter()
    for finding in _findings(chosen.store, chosen.data):
        findings.append(finding)
        if not chosen.json:
            print(_line(finding), flush=True)
    problems = sum(finding.level == "problem" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    seconds = time.perf_counter() - begun
    if chosen.json:
        rows = [asdict(finding) for finding in findings]
        said = {"problems": problems, "warnings": warnings, "seconds": round(seconds, 1), "findings": rows}
        print(json.dumps(said, indent=1))
    else:
        print(f"{problems} problems, {warnings} warnings, after {seconds:.1f} s")
    return 1 if problems else 0


def _findings(uri: str | None, root: str | None) -> Iterator[Finding]:
    """Every check's findings; those that wait for imports come last."""
    from lenet_lab.commands.checks import examine, machine, sets, stores, versions
    from lenet_lab.commands.checks.probe import Probes

    probes = Probes()
    checks: list[tuple[str, Check]] = [
        ("python", versions.python),
        ("libraries", versions.requirements),
        ("torch pair", versions.pair),
        ("fit", versions.libraries),
        ("store", partial(stores.store, uri)),
        ("disk", lambda: machine.disk(_folder(uri))),
        ("threads", machine.threads),
        ("data", partial(sets.data, root)),
        ("port", machine.port),
        ("network", machine.network),
        ("imports", partial(versions.imports, probes)),
        ("gpu", partial(machine.gpu, probes)),
    ]
    try:
        for name, check in checks:
            yield from examine(name, check)
    finally:
        probes.stop()


def _folder(uri: str | None) -> Path:
    """Where the store lies, or would; this folder where that cannot be told."""
    from lenet_lab.records import LabError
    from lenet_lab.tracking.store import locate, state_folder

    try:
        return state_folder(locate(uri)).parent
    except LabError:
        return Path.cwd()


def _line(finding: Finding) -> str:
    do = f"  ->  {finding.do}" if finding.do else ""
    text = f"{finding.level:8} {finding.check:12} {finding.found}{do}"
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)

"""`rerun`: a tracked run trained again from its own record; did it come out the same?"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lenet_lab.commands.common import parser

EPILOG = """Exit status 0: every bit that both runs left is the same. 1: something differs; what is not the same of
data, code, libraries and machine is listed, the likeliest reason first. The new run counts for nothing: reports,
sweeps and exports leave it out."""


def main(words: Sequence[str]) -> int:
    """Train again and compare; the findings, a line each."""
    args = parser("rerun", "Rebuild a run from its own record, train it again, and compare bit for bit.", EPILOG)
    args.add_argument("run", metavar="RUN", help="a run's id, or its beginning")
    chosen = args.parse_args(words)
    from lenet_lab.commands.errors import hydra_errors
    from lenet_lab.records import LabError
    from lenet_lab.report.differences import differences, matters
    from lenet_lab.rerun import compare, rebuild, train_again
    from lenet_lab.signals import Stopped
    from lenet_lab.sweeps.printing import console, texts
    from lenet_lab.sweeps.screen import RunScreen
    from lenet_lab.tracking import open_store
    from lenet_lab.tracking.read import find_record

    store = open_store(chosen.store, create=False)
    before = find_record(store, chosen.run)
    with hydra_errors():
        rebuilt = rebuild(store, before)
    screen = console()
    screen.print(*texts((f"again: {before.run_id[:8]} {before.name}",)))
    for note in rebuilt.notes:
        screen.print(*texts((f"  {note}",)))
    try:
        with RunScreen(rebuilt.ready) as progress:
            outcome = train_again(rebuilt, before, progress.watch)
    except Stopped as stop:
        print(f"stopped by {stop}; nothing was compared", file=sys.stderr)
        return 128 + stop.number
    if outcome.state not in ("complete", "diverged") or not outcome.delivered or outcome.run_id is None:
        raise LabError(f"rerun: it {outcome.state}: {outcome.error or 'the store does not have all of it yet'}")
    after = find_record(store, outcome.run_id)
    findings = compare(store, before, after)
    if outcome.state != before.state:
        screen.print(f"different: {before.state} then, {outcome.state} now ({outcome.error or 'a finite loss'})")
    for finding in findings:
        verdict = "identical" if finding.differs is None else "different"
        screen.print(*texts((f"{verdict}: {finding.what}" + (f": {finding.differs}" if finding.differs else ""),)))
    same = outcome.state == before.state and all(finding.differs is None for finding in findings)
    reasons = matters(differences([before], [after]))
    if reasons:
        screen.print(
            "although these are not the same:" if same else "what is not the same, the likeliest reason first:"
        )
    elif not same:
        screen.print("nothing that was recorded is not the same")
    for row in reasons:
        screen.print(*texts((f"  {row.kind}: {row.key}: {row.left} then, {row.right} now",)))
    if any(row.kind == "code" for row in reasons):
        commit = before.tags.get("mlflow.source.git.commit")
        screen.print(
            f"  the code it was trained by: git checkout {commit}" if commit else "  its commit was not recorded"
        )
    screen.print(f"{'bit-identical' if same else 'not identical'}; run {after.run_id} counts for nothing")
    return 0 if same else 1

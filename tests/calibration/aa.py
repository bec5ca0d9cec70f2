"""The A/A study of docs/data/README.md: the deal that was fixed beforehand, and what came out."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from lenet_lab import stats

FILE = Path(__file__).resolve().parents[2] / "docs" / "data" / "aa_digits.csv"


def deal() -> tuple[list[int], list[int]]:
    """The seeds of arm A and of arm B; the k-th of A is paired with the k-th of B."""
    seeds = np.random.default_rng(1998).permutation(40).tolist()
    return seeds[:20], seeds[20:]


def accuracies() -> dict[int, float]:
    """Seed -> test accuracy, as committed."""
    with FILE.open(newline="") as file:
        return {int(row["seed"]): float(row["test_acc"]) for row in csv.DictReader(file)}


def arms() -> tuple[dict[int, float], dict[int, float]]:
    """Place in the deal -> test accuracy, of arm A and of arm B."""
    known = accuracies()
    a, b = ({place: known[seed] for place, seed in enumerate(seeds)} for seeds in deal())
    return a, b


def text() -> str:
    """What came out, as the page shows it."""
    a, b = arms()
    found = stats.compare(a, b)
    shown = {"A": a, "B": b}
    lines = ["| arm | n | mean | sd | 95% interval |", "|:--|--:|--:|--:|:--|"]
    for name, values in shown.items():
        low, high = stats.t_interval([*values.values()])
        mean, sd = stats.mean([*values.values()]), stats.sample_sd([*values.values()])
        lines.append(f"| {name} | {len(values)} | {mean:.3%} | {sd:.3%} | {low:.3%} to {high:.3%} |")
    assert found.interval is not None
    assert found.effect is not None
    lines += [
        "",
        f"A less B: {found.mean:+.3%} (95% interval {found.interval.low:+.3%} to {found.interval.high:+.3%});",
        f"paired t test p = {found.t_p:.3f}, sign-flip test p = {found.sign_flip_p:.3f};",
        f"effect size {found.effect:+.2f}; A is ahead in {found.improvement:.1%} of the pairs,",
        "equal ones counted half.",
    ]
    kept = stats.indistinguishable_from_best(shown)
    lines.append(f"Arms that cannot be told from the best: {' and '.join(sorted(kept))}.")
    return "\n".join(lines)

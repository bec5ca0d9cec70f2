"""Draws docs/images/paper.png, the 1998 paper's curves beside ours, and writes docs/data/paper.csv, the numbers in it.

python docs/paper.py, after `claims --write`: everything comes from docs/replication/F.zip and docs/data/noise.csv.
python docs/paper.py --noise [--store URI] writes that file first, from what the tracked
networks answer to test images with inverted pixels.
"""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lenet_lab import stats
from lenet_lab.claims import Evidence, load
from lenet_lab.commands.claims import digests
from lenet_lab.commands.evaluate import main as evaluate
from lenet_lab.records import LabError
from lenet_lab.tracking import open_store, read_runs
from lenet_lab.tracking.artifacts import read_artifact
from lenet_lab.tracking.exports import read_export

HERE = Path(__file__).resolve().parent
EXPORT, NOISE = HERE / "replication" / "F.zip", HERE / "data" / "noise.csv"
PICTURE, NUMBERS = HERE / "images" / "paper.png", HERE / "data" / "paper.csv"
PLAIN = {15_000: "images_15000", 30_000: "images_30000", 60_000: "paper"}
DISTORTED = {15_000: "distorted_15000", 30_000: "distorted_30000", 60_000: "distorted"}
# section III.B: test error in %, uncertain by about 0.1, as they are and distorted; the passes after which it is stable
THEIRS, THEIR_DISTORTED, UNCERTAIN, STABLE = 0.95, 0.8, 0.1, (10, 12)
INVERTED = (0, 0.02, 0.05, 0.1, 0.15, 0.2)  # shares of the pixels; theirs is 0.1
BESIDE = 1_200  # images, to tell intervals of one size apart
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "0.35"
SERIES = {"plain": (PLAIN, BLUE, "as they are"), "distorted": (DISTORTED, ORANGE, "distorted")}


@dataclass(frozen=True)
class Point:
    """A number of the figure: `x` is a pass, training images, or a share of pixels; `low` to `high` a 95% interval."""

    panel: str
    series: str
    x: float
    n: int
    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, panel: str, series: str, x: float, values: Sequence[float]) -> Point:
        """The mean over seeds; no interval of fewer than two."""
        if len(values) < 2:
            return cls(panel, series, x, len(values), values[0], values[0], values[0])
        interval = stats.t_interval(values)
        return cls(panel, series, x, len(values), stats.mean(values), interval.low, interval.high)


def evidence() -> Evidence:
    """The runs of the paper's own network."""
    source, export = load("F"), read_export(EXPORT)
    return Evidence.gather(digests("F"), {arm: source.aim(arm) for arm in source.arms}, export.records, export.curves)


def by_pass(runs: Evidence, arm: str, metric: str) -> dict[int, list[float]]:
    """Pass -> error in % of each seed."""
    found: dict[int, list[float]] = {}
    for record in runs.runs.get(arm, ()):
        if record.state == "complete":
            for epoch, value in runs.curves[record.run_id].get(metric, ()):
                found.setdefault(epoch, []).append(100 * (1 - value))
    return found


def points(runs: Evidence, noise: Mapping[float, Sequence[float]]) -> list[Point]:
    """All that is drawn of ours."""
    found = [
        Point.of("passes", series, epoch, values)
        for series, (arms, _, _) in SERIES.items()
        for epoch, values in sorted(by_pass(runs, arms[60_000], "test_curve/acc").items())
    ]
    for series, (arms, _, _) in SERIES.items():
        for images, arm in arms.items():
            errors = [100 * (1 - value) for value in runs.values(arm, "test/acc").values()]
            if errors:
                found.append(Point.of("images", series, images, errors))
    return found + [Point.of("noise", "plain", share, values) for share, values in sorted(noise.items())]


def table(several: Sequence[Point]) -> str:
    """The same as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["panel", "series", "x", "n", "mean", "low", "high"])
    for one in several:
        writer.writerow(
            [one.panel, one.series, f"{one.x:g}", one.n, *(f"{v:.4f}" for v in (one.mean, one.low, one.high))]
        )
    return out.getvalue()


def read_noise(file: Path) -> dict[float, list[float]]:
    """Share of inverted pixels -> test error in % of each seed; nothing where it was not measured."""
    found: dict[float, list[float]] = {}
    if file.exists():
        for row in csv.DictReader(file.read_text().splitlines()):
            found.setdefault(float(row["noise"]), []).append(100 * (1 - float(row["acc"])))
    return found


def ask_about_noise(uri: str | None) -> str:
    """The test accuracy of each seed's network of the paper at each share of inverted pixels, as CSV."""
    source, store = load("F"), open_store(uri, create=False)
    arms = {arm: source.aim(arm) for arm in source.arms}
    runs = Evidence.gather(digests("F"), arms, read_runs(store), {}).runs["paper"]
    lines = ["seed,noise,acc"]
    for record in (one for one in runs if one.state == "complete"):
        try:
            read_artifact(store, record.run_id, "config.yaml")
        except LabError:  # imported: its model stayed where it was trained
            continue
        for share in INVERTED:
            with tempfile.TemporaryDirectory() as folder:
                where = ["--store", uri] if uri else []
                evaluate([record.run_id, f"data.noise={share}", "--out", folder, *where])
                with np.load(Path(folder) / "predictions.npz") as answers:
                    lines.append(f"{record.seed},{share},{(answers['predicted'] == answers['label']).mean():.4f}")
    return "\n".join(lines) + "\n"


def draw(several: Sequence[Point], file: Path) -> None:
    """Three panels: error by pass, by the size of the training set, by the share of inverted pixels."""
    figure = Figure(figsize=(12.5, 4.2), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    passes, images, noise = figure.subplots(1, 3, width_ratios=[1.25, 1, 0.9])
    for series, (_, colour, name) in SERIES.items():
        _line(passes, [p for p in several if (p.panel, p.series) == ("passes", series)], colour, f"ours, images {name}")
        beside = [
            replace(p, x=p.x + (BESIDE if series == "distorted" else 0))
            for p in several
            if (p.panel, p.series) == ("images", series)
        ]
        _bars(images, beside, colour, f"ours, images {name}")
    passes.axhspan(THEIRS - UNCERTAIN, THEIRS + UNCERTAIN, color="0.9", zorder=0)
    passes.axhline(THEIRS, color=GREY, linestyle="--", linewidth=1, label="theirs: 0.95%, uncertain by 0.1")
    passes.axvspan(*STABLE, color="0.9", zorder=0)
    passes.text(sum(STABLE) / 2, 2.72, "theirs: stable\nfrom here", ha="center", va="top", fontsize=8, color=GREY)
    passes.set(title="Test error by pass", xlabel="pass over 60,000 images", ylabel="test error, %", xlim=(0.5, 20.5))
    passes.set(ylim=(0.4, 2.8), xticks=[1, 5, 10, 15, 20])
    for value, colour, word in ((THEIRS, BLUE, "as they are"), (THEIR_DISTORTED, ORANGE, "distorted")):
        images.errorbar(
            [64_000 + (BESIDE if word == "distorted" else 0)],
            [value],
            UNCERTAIN,
            color=colour,
            marker="D",
            mfc="white",
            capsize=3,
            label=f"theirs (60,000), images {word}",
        )
    images.set(title="Test error by training images", xlabel="training images", ylabel="test error, %")
    images.set(xticks=list(PLAIN), xticklabels=[f"{count:,}" for count in PLAIN], xlim=(8_000, 70_000))
    images.set_ylim(bottom=0)
    _bars(noise, [p for p in several if p.panel == "noise"], BLUE, "ours")
    noise.set(title="Test error by inverted pixels", xlabel="share of the pixels inverted, %", ylabel="test error, %")
    noise.set_visible(any(one.panel == "noise" for one in several))
    for axes in (passes, images, noise):
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, frameon=False)
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=110, metadata={"Software": None})


def seeds(several: Sequence[Point]) -> str:
    """How many seeds points rest on: one number, or from the fewest to the most."""
    counts = sorted({one.n for one in several})
    return f"n={counts[0]}" if len(counts) == 1 else f"n={counts[0]} to {counts[-1]}"


def _line(axes: Any, several: Sequence[Point], colour: str, label: str) -> None:
    if several:
        x = [one.x for one in several]
        axes.fill_between(x, [one.low for one in several], [one.high for one in several], color=colour, alpha=0.2, lw=0)
        axes.plot(x, [one.mean for one in several], color=colour, marker=".", label=f"{label} ({seeds(several)})")


def _bars(axes: Any, several: Sequence[Point], colour: str, label: str) -> None:
    if several:
        x, mean = [100 * one.x if one.panel == "noise" else one.x for one in several], [one.mean for one in several]
        spread = [[one.mean - one.low for one in several], [one.high - one.mean for one in several]]
        axes.errorbar(x, mean, spread, color=colour, marker="o", capsize=3, label=f"{label} ({seeds(several)})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The paper's curves beside ours.")
    parser.add_argument("--noise", action="store_true", help="ask the networks about inverted pixels first")
    parser.add_argument("--store", metavar="URI", help="where they are tracked; default: mlflow.db in this folder")
    asked = parser.parse_args()
    if asked.noise:
        NOISE.write_text(ask_about_noise(asked.store))
    shown = points(evidence(), read_noise(NOISE))
    NUMBERS.write_text(table(shown))
    draw(shown, PICTURE)

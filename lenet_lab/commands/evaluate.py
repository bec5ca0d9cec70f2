"""`evaluate`: a tracked model on another data set, or on its own again."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_lab.commands.common import parser
from lenet_lab.records import LabError

if TYPE_CHECKING:
    from lenet_lab.data import Arrays, Spec, Split
    from lenet_lab.engines import Evaluation
    from lenet_lab.tracked import Tracked

# what a network sees of an image: the run's own, unless it is asked for
PIXELS = ("size", "fit", "normalize", "invert")
EPILOG = """Overrides choose the data (data=kmnist, data.root=...). Images are then sized and normalised as the run's
own were, by the moments of its training images. Without overrides: the run's own test images, and how many answers
are those that it has kept. Nothing of the run is changed."""


def main(words: Sequence[str]) -> int:
    """Print the metrics; write predictions and the confusion matrix."""
    args = parser("evaluate", "A tracked model on the test images of a data set.", EPILOG)
    args.add_argument("run", metavar="RUN", help="a run's id, its beginning, or its name")
    args.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="of the group data")
    args.add_argument("--all", action="store_true", help="every image, those of the training part too; other data only")
    args.add_argument(
        "--force", action="store_true", help="class by number where the names of the classes are not the run's"
    )
    args.add_argument("--out", type=Path, metavar="DIR", help="default: evaluations/RUN/DATA, the run's id cut short")
    chosen = args.parse_intermixed_args(words)
    import torch

    from lenet_lab.tracked import open_tracked
    from lenet_lab.tracking import open_store

    store = open_store(chosen.store, create=False)
    run = open_tracked(store, chosen.run)
    data = _data(run, chosen.overrides)
    numbers = _numbers(data.classes, run.classes, chosen.force)
    arrays = data.load(run.moments)
    own = arrays.digest == run.record.tags.get("lenet.data_digest")
    if own and chosen.all:
        raise LabError("--all: these are the images that the run was trained on; allowed with other data")
    if not chosen.overrides and not own:
        raise LabError(f"data={data.name}: the files here are not those that the run was trained on")
    split = _whole(arrays) if chosen.all else arrays.test
    if not len(split):
        raise LabError(f"data={data.name}: has no test image; --all takes every image of it")
    split = replace(split, labels=torch.tensor(numbers)[split.labels])
    result = run.ask(split)
    _show(run, data, split, result)
    if not chosen.overrides:
        print(_agreement(run, split, result))
    out = chosen.out or Path("evaluations") / run.record.run_id[:8] / data.name
    _write(out, run, split, result, data.name)
    print(f"{out / 'predictions.npz'}, {out / 'confusion.png'}")
    return 0


def _data(run: Tracked, overrides: Sequence[str]) -> Spec:
    """The data meant: the run's own, or another set with the run's pixels.

    Raises:
        LabError: an override of anything else, or a mistake in one.
    """
    if not overrides:
        return run.config.data
    from lenet_lab.commands.errors import hydra_errors
    from lenet_lab.config.compose import compose_cell
    from lenet_lab.config.schema import parse

    names = [override.partition("=")[0] for override in overrides]
    for override, name in zip(overrides, names, strict=True):
        if name != "data" and not name.startswith("data."):
            raise LabError(f"{override}: evaluate changes the data alone; allowed: data=..., data.<key>=...")
    option = run.record.params.get("data", "mnist")
    with hydra_errors():
        composed = compose_cell([f"data={option}", *overrides]).resolved
    ours = run.resolved["data"]
    base = composed["data"] if "data" in names else ours
    said = {name.removeprefix("data.") for name in names}
    chosen = {key: composed["data"][key] for key in said if key in composed["data"]}
    composed["data"] = {**base, **{key: ours[key] for key in PIXELS}, **chosen}
    if "val_size" not in said and "data" in names:
        composed["data"]["val_size"] = 0
    return parse(composed).data


def _whole(arrays: Arrays) -> Split:
    import torch

    from lenet_lab.data import Split

    parts = [part for part in (arrays.train, arrays.val, arrays.test) if part is not None]
    return Split(*(torch.cat([getattr(part, key) for part in parts]) for key in ("images", "labels", "index")))


def _numbers(theirs: Sequence[str], ours: Sequence[str], force: bool) -> list[int]:
    """The run's number of each class of the data: that of the same name; with `force` the same number.

    Raises:
        LabError: a class that the run does not know.
    """
    if force:
        if len(theirs) > len(ours):
            raise LabError(f"--force: the data has {len(theirs)} classes, and the run knows {len(ours)}")
        return list(range(len(theirs)))
    strange = [name for name in theirs if name not in ours]
    if strange:
        raise LabError(
            f"classes that the run does not know: {', '.join(strange[:5])}{', ...' * (len(strange) > 5)}; its own: "
            f"{', '.join(ours[:12])}{', ...' * (len(ours) > 12)}; --force takes class 0 for class 0 and so on"
        )
    return [list(ours).index(name) for name in theirs]


def _summary(result: Evaluation) -> dict[str, float]:
    from lenet_lab.stats import classification

    arrays = (result.scores.float(), result.losses.float(), result.predicted, result.labels)
    return dict(classification.summary(*(array.numpy() for array in arrays)))


def _show(run: Tracked, data: Spec, split: Split, result: Evaluation) -> None:
    """The metrics, beside those of the run's own test."""
    from lenet_lab.sweeps.printing import console, table, texts

    screen = console()
    screen.print(*texts((f"{run.record.run_id[:8]} {run.record.name}",)))
    listing = table("metric", f"data={data.name}", "as tracked")
    for key, value in _summary(result).items():
        then = run.record.metrics.get(f"test/{key}")
        listing.add_row(*texts((f"test/{key}", _number(key, value), "" if then is None else _number(key, then))))
    screen.print(listing)


def _number(key: str, value: float) -> str:
    return f"{value:.0f}" if key in ("errors", "n") else f"{value:.4f}"


def _agreement(run: Tracked, split: Split, result: Evaluation) -> str:
    """How many answers are those that the run has kept.

    Raises:
        LabError: what it has kept cannot be read.
    """
    import numpy as np

    from lenet_lab.tracking.artifacts import read_artifact

    content = read_artifact(run.store, run.record.run_id, "predictions.npz")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as kept:
            index, label, predicted, scores = (kept[key] for key in ("index", "label", "predicted", "scores"))
    except (ValueError, KeyError, OSError) as error:
        raise LabError(f"run {run.record.run_id[:8]}: predictions.npz: cannot be read ({error})") from None
    n = len(split)
    if not (np.array_equal(index, split.index.numpy()) and np.array_equal(label, split.labels.numpy())):
        return "the predictions that the run has kept are of other images"
    same = int((predicted == result.predicted.numpy()).sum())
    away = float(np.abs(scores - result.scores.float().numpy()).max())
    return f"{same} of {n} answers are those that the run has kept; scores differ by {away:.1e} at most"


def _write(out: Path, run: Tracked, split: Split, result: Evaluation, name: str) -> None:
    import numpy as np

    from lenet_lab.report import run_figures
    from lenet_lab.stats import classification

    arrays: dict[str, Any] = {
        "index": split.index.numpy(),
        "label": result.labels.numpy(),
        "predicted": result.predicted.numpy(),
        "scores": result.scores.float().numpy(),
        "loss": result.losses.float().numpy(),
    }
    matrix = classification.confusion(arrays["label"], arrays["predicted"], len(run.classes))
    try:
        out.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(out / "predictions.npz", **arrays)
        run_figures.confusion(out / "confusion.png", f"{run.record.name}\non data={name}", matrix, run.classes)
    except OSError as error:
        raise LabError(f"--out {out}: {error.strerror}") from None

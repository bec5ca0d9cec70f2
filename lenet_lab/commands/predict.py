"""`predict`: images of one's own, as a tracked model sees them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lenet_lab.commands.common import parser
from lenet_lab.records import LabError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lenet_lab.tracked import Tracked

EPILOG = """Images are PNG or JPEG. They are made grey, turned round where their ground is brighter than their ink, and
boxed and centred as the run's training images were; an image of 28x28 is taken as it is. A label is read off the name
of a file (7.png, 7_mine.png, label-7.png) or of its folder (7/mine.png), where it is the name of a class."""


@dataclass(frozen=True)
class Picture:
    """One file: grey uint8 (h, w) as it was read, (28, 28) as it is given to the run, and whether it was inverted."""

    path: Path
    grey: NDArray[np.uint8]
    image: NDArray[np.uint8]
    inverted: bool


@dataclass(frozen=True)
class Answer:
    """What the model says: the two best classes with their probabilities, and the label where there is one."""

    picture: Picture
    best: str
    probability: float
    second: str
    second_probability: float
    label: str | None

    @property
    def verdict(self) -> str:
        """right, wrong, or nothing where nobody knows."""
        return "" if self.label is None else "right" if self.label == self.best else "wrong"


def main(words: Sequence[str]) -> int:
    """Print the answers; write them as a table and a picture."""
    args = parser("predict", "What a tracked model says about one's own images.", EPILOG)
    args.add_argument("run", metavar="RUN", help="a run's id, its beginning, or its name")
    args.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="an image, or a folder of images")
    args.add_argument("--labels", type=Path, metavar="FILE.csv", help="lines of file,label; then names are no labels")
    args.add_argument(
        "--invert",
        choices=("auto", "yes", "no"),
        default="auto",
        help="dark ink on bright ground: turned round (yes), left (no), or as each image looks; default: %(default)s",
    )
    args.add_argument("--out", type=Path, metavar="DIR", help="default: predictions/RUN, the run's id cut short")
    chosen = args.parse_args(words)
    from lenet_lab.tracked import open_tracked
    from lenet_lab.tracking import open_store

    store = open_store(chosen.store, create=False)
    files = _files(chosen.paths)
    run = open_tracked(store, chosen.run)
    labels = _labels_of(files, run.classes, chosen.labels)
    pictures = [_read(path, run, chosen.invert) for path in files]
    seen, answers = _ask(run, pictures, labels)
    _show(answers)
    out = chosen.out or Path("predictions") / run.record.run_id[:8]
    _write(out, run, seen, answers)
    print(f"\n{out / 'predictions.csv'}, {out / 'predictions.png'}")
    return 0


def _files(paths: Iterable[Path]) -> list[Path]:
    """Every image meant, once.

    Raises:
        LabError: a path that is not there, a folder without images.
    """
    from lenet_lab.data.folder import image_files

    files: list[Path] = []
    for path in paths:
        found = image_files(path) if path.is_dir() else [path]
        if not found:
            raise LabError(f"{path}: a folder without images; allowed are PNG and JPEG")
        files += found
    return list(dict.fromkeys(files))


def _read(path: Path, run: Tracked, invert: Literal["auto", "yes", "no"]) -> Picture:
    from lenet_lab.data.folder import fitted
    from lenet_lab.data.images import ground_is_bright, read_grey

    grey = read_grey(path)
    data = run.config.data
    by_look = data.dark_ink if data.dark_ink is not None else ground_is_bright(grey)
    inverted = by_look if invert == "auto" else invert == "yes"
    return Picture(path, grey, fitted(path, 255 - grey if inverted else grey, data.source.box), inverted)


def _ask(run: Tracked, pictures: Sequence[Picture], labels: Sequence[str | None]) -> tuple[Any, list[Answer]]:
    """What the model saw (n, H, W), and what it answered; the answer is the run's own decision."""
    import numpy as np

    seen, scores, predicted = run.answers(np.stack([picture.image for picture in pictures]))
    answers = []
    for picture, row, best, label in zip(pictures, scores, predicted, labels, strict=True):
        second = next(int(k) for k in np.argsort(-row, kind="stable") if k != best)
        names = run.classes[best], run.classes[second]
        answers.append(Answer(picture, names[0], float(row[best]), names[1], float(row[second]), label))
    return seen[:, 0].numpy(), answers


def _labels_of(files: Sequence[Path], classes: Sequence[str], given: Path | None) -> list[str | None]:
    if given is None:
        return [label_in_name(path, classes) for path in files]
    table = _table(given, classes)
    found = [table.get(str(path)) or table.get(path.name) for path in files]
    if not any(found):
        raise LabError(f"--labels {given}: names none of the images; allowed: lines of file,label")
    return found


def label_in_name(path: Path, classes: Sequence[str]) -> str | None:
    """The class that a file's name begins with, or its folder is named after, `label` in front of it or not."""
    by_length = sorted(classes, key=len, reverse=True)
    for text, end in ((path.stem, r"(?=$|[-_ .])"), (path.resolve().parent.name, "$")):
        for name in by_length:
            if re.match(rf"(label[-_ ]?)?{re.escape(name)}{end}", text, re.IGNORECASE):
                return name
    return None


def _table(path: Path, classes: Sequence[str]) -> Mapping[str, str]:
    """file -> label, of a CSV file with or without a line of column names."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise LabError(f"--labels {path}: {getattr(error, 'strerror', None) or 'is no text of file,label'}") from None
    rows = rows[1:] if rows and [cell.strip().lower() for cell in rows[0]] == ["file", "label"] else rows
    for number, row in enumerate(rows, 1):
        if len(row) != 2 or row[1].strip() not in classes:
            shown = ",".join(row)[:60]
            raise LabError(f"--labels {path}: line {number} is {shown!r}; allowed: file,label of {', '.join(classes)}")
    return {row[0].strip(): row[1].strip() for row in rows}


def _show(answers: Sequence[Answer]) -> None:
    from lenet_lab.sweeps.printing import console, table, texts

    screen = console()
    listing = table("file", "answer", "probability", "second best", "ground", "label", "")
    for answer in answers:
        ground = "bright: inverted" if answer.picture.inverted else "dark"
        best, second = f"{100 * answer.probability:.1f}%", f"{answer.second} ({100 * answer.second_probability:.1f}%)"
        row = (str(answer.picture.path), answer.best, best, second, ground, answer.label or "", answer.verdict)
        listing.add_row(*texts(row))
    screen.print(listing)
    known = [answer for answer in answers if answer.label is not None]
    if known:
        right = sum(answer.verdict == "right" for answer in known)
        share = f"{100 * right / len(known):.1f}%"
        screen.print(f"\n{right} of {len(known)} images with a label are right: accuracy {share}")


def _write(out: Path, run: Tracked, seen: Any, answers: Sequence[Answer]) -> None:
    from lenet_lab.report import predicted
    from lenet_lab.report.csv import inert

    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(
                ["file", "answer", "probability", "second", "second_probability", "inverted", "label", "verdict"]
            )
            for answer in answers:
                numbers = repr(answer.probability), repr(answer.second_probability)
                cells = [
                    inert(str(answer.picture.path)),
                    inert(answer.best),
                    numbers[0],
                    inert(answer.second),
                    numbers[1],
                ]
                writer.writerow(
                    [*cells, str(answer.picture.inverted).lower(), inert(answer.label or ""), answer.verdict]
                )
        entries = [
            predicted.Entry(
                answer.picture.path.name, answer.picture.grey, image, answer.best, answer.probability, answer.label
            )
            for answer, image in zip(answers, seen, strict=True)
        ]
        levels = run.config.data.levels(run.moments)
        predicted.sheet(out / "predictions.png", run.record.name, entries, sorted((levels.zero, levels.one)))
    except OSError as error:
        raise LabError(f"--out {out}: {error.strerror}") from None

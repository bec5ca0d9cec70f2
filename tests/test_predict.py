"""`predict`: drawn digits through a tracked network, from the command's words to its files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from lenet_lab.commands import predict
from lenet_lab.commands.predict import label_in_name
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.schema import parse
from lenet_lab.engines import Evaluation
from lenet_lab.records import LabError, RunRecord
from lenet_lab.tracked import Tracked

DIGITS = tuple("0123456789")


def record(state: str = "complete") -> RunRecord:
    return RunRecord("abcdef0123456789", "pool=max", "", "", 0, state, "", {}, {}, {}, None, None, "")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[torch.Tensor]:
    """A run whose model answers with the number of the tenth of the columns where the ink has its mass; what it saw."""
    seen: list[torch.Tensor] = []
    resolved = compose_cell(["data.size=32", "data.normalize=unit", "data.invert=true"]).resolved

    def ask(split):  # type: ignore[no-untyped-def]
        seen.append(split.images)
        ink = 1 - split.images[:, 0]
        predicted = (ink.sum(dim=1) @ torch.arange(32.0) / ink.sum(dim=(1, 2)) / 3.2).long()
        scores = torch.full((len(predicted), 10), 0.02)
        scores[torch.arange(len(predicted)), predicted] = 0.7
        scores[torch.arange(len(predicted)), (predicted + 1) % 10] = 0.14
        return Evaluation(scores, torch.zeros(len(predicted)), predicted, split.labels)

    tracked = Tracked(None, record(), resolved, parse(resolved), DIGITS, (0.1307, 0.3081), ask)  # type: ignore[arg-type]
    monkeypatch.setattr("lenet_lab.tracked.open_tracked", lambda store, word: tracked)
    monkeypatch.setattr("lenet_lab.tracking.open_store", lambda uri, create: None)
    monkeypatch.chdir(tmp_path)
    return seen


def draw(path: Path, dark: bool = True) -> Path:
    """A cross, whose middle is the middle: the model says 4."""
    page = Image.new("L", (300, 400), 230 if dark else 10)
    for line in ([(60, 80), (160, 180)], [(160, 80), (60, 180)]):
        ImageDraw.Draw(page).line(line, fill=30 if dark else 240, width=16)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path)
    return path


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("7.png", "7"),
        ("7_mine.png", "7"),
        ("7-mine.png", "7"),
        ("label-7.png", "7"),
        ("Label_7 again.png", "7"),
        ("3/photo.png", "3"),
        ("label-3/photo.png", "3"),
        ("3/5_photo.png", "5"),
        ("70.png", None),
        ("photo7.png", None),
        ("photo.png", None),
    ],
)
def test_labels_in_names(tmp_path: Path, name: str, label: str | None) -> None:
    assert label_in_name(tmp_path / name, DIGITS) == label


def test_longer_names_of_classes_win() -> None:
    assert label_in_name(Path("coat-hanger_1.png"), ("coat", "Coat-hanger")) == "Coat-hanger"


def test_answers_as_table_file_and_picture(run: list[torch.Tensor], capsys: pytest.CaptureFixture[str]) -> None:
    for path, dark in (("own/4_dark.png", True), ("own/4_bright.png", False), ("own/deep/9.jpg", True)):
        draw(Path(path), dark)
    draw(Path("=cmd.png"))
    assert predict.main(["abc", "own", "=cmd.png"]) == 0
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines()]
    assert ["own/4_bright.png", "4", "70.0%", "5", "(14.0%)", "dark", "4", "right"] in rows
    assert ["own/4_dark.png", "4", "70.0%", "5", "(14.0%)", "bright:", "inverted", "4", "right"] in rows
    assert ["own/deep/9.jpg", "4", "70.0%", "5", "(14.0%)", "bright:", "inverted", "9", "wrong"] in rows
    assert "2 of 3 images with a label are right: accuracy 66.7%" in said
    out = Path("predictions/abcdef01")
    with (out / "predictions.csv").open(newline="") as file:
        table = {row["file"]: row for row in csv.DictReader(file)}
    assert set(table) == {"own/4_bright.png", "own/4_dark.png", "own/deep/9.jpg", "'=cmd.png"}, "no cell is a formula"
    assert table["own/deep/9.jpg"] == {
        "file": "own/deep/9.jpg", "answer": "4", "probability": repr(float(np.float32(0.7))), "second": "5",
        "second_probability": repr(float(np.float32(0.14))), "inverted": "true", "label": "9", "verdict": "wrong",
    }  # fmt: skip
    with Image.open(out / "predictions.png") as figure:
        assert figure.size[0] > 500


def test_the_model_sees_the_runs_own_pixels(run: list[torch.Tensor]) -> None:
    """28x28 as it is, then the run's size, inversion and scale: computed here by hand."""
    image = np.random.RandomState(0).randint(0, 90, (28, 28)).astype(np.uint8)
    image[8:20, 8:20] = 250
    Image.fromarray(image).save("a.png")
    assert predict.main(["abc", "a.png", "--invert", "no"]) == 0
    assert predict.main(["abc", "a.png", "--invert", "yes"]) == 0
    for seen, expected in zip(run, (image, 255 - image), strict=True):
        padded = np.pad(expected, 2)
        assert np.allclose(seen[0, 0].numpy(), 1 - padded / 255, atol=1e-6)


def test_labels_of_a_file(run: list[torch.Tensor], capsys: pytest.CaptureFixture[str]) -> None:
    draw(Path("a/3.png"))
    draw(Path("b.png"))
    Path("labels.csv").write_text("file,label\na/3.png,4\nother.png,2\n")
    assert predict.main(["abc", "a", "b.png", "--labels", "labels.csv"]) == 0
    assert "1 of 1 images with a label are right: accuracy 100.0%" in capsys.readouterr().out
    for text, why in (
        ("a/3.png,ten\n", r"line 1 is 'a/3\.png,ten'; allowed: file,label of 0, 1"),
        ("gone.png,4\n", "names none of the images"),
    ):
        Path("labels.csv").write_text(text)
        with pytest.raises(LabError, match=why):
            predict.main(["abc", "a", "--labels", "labels.csv"])


def test_bad_images_are_one_line(run: list[torch.Tensor]) -> None:
    Path("text.png").write_text("x")
    Path("none").mkdir()
    Image.new("L", (50, 60), 200).save("blank.png")
    for words, why in (
        (["text.png"], "^text.png: is no PNG or JPEG image, or is damaged$"),
        (["none"], "^none: a folder without images; allowed are PNG and JPEG$"),
        (["blank.png"], "^blank.png: shows nothing: its ground and its ink are of the same grey$"),
        (["gone.png"], "^gone.png: No such file or directory$"),
    ):
        with pytest.raises(LabError, match=why.replace(".", r"\.")):
            predict.main(["abc", *words])
    assert not Path("predictions").exists()

"""Metrics and pictures of a run: scikit-learn and torchmetrics are the references, hard cases are drawn."""

import csv
import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics
from torchmetrics.functional.classification import multiclass_calibration_error

from lenet_lab.cell import build, load
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.schema import parse
from lenet_lab.data.augment import Levels
from lenet_lab.data.batches import order
from lenet_lab.engines import Evaluation, evaluate
from lenet_lab.outputs import _ink, write_outputs
from lenet_lab.report import per_class, run_figures
from lenet_lab.stats import classification

LONG = "activation=leaky_relu augment=rotate_shift_flip data=fashion_mnist early_stopping=10 " * 2 + "lr=$x^2$ seed=1"


def answers(seed, n=500, k=7, missing=None):
    """Scores (n, k) that sum to 1, labels; class `missing` is neither there nor predicted."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    logits = rng.normal(0, 2, (n, k))
    logits[np.arange(n), labels] += 2.5
    if missing is not None:
        labels[labels == missing] = (missing + 1) % k
        logits[:, missing] = -9
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return scores.astype(np.float32), labels


@pytest.mark.parametrize(("seed", "missing"), [(0, None), (1, None), (2, 3)])
def test_the_figures_are_scikit_learns(seed, missing):
    scores, labels = answers(seed, missing=missing)
    predicted = scores.argmax(1)
    losses = -np.log(scores[np.arange(len(labels)), labels])
    exact = scores / scores.sum(1, keepdims=True, dtype=float)
    ours = classification.summary(scores, losses, predicted, labels)
    macro = metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(7), average="macro", zero_division=0
    )
    assert [ours["precision"], ours["recall"], ours["f1"]] == pytest.approx(macro[:3])
    assert ours["acc"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert ours["errors"] == len(labels) - metrics.accuracy_score(labels, predicted, normalize=False)
    assert ours["n"] == len(labels)
    assert ours["loss"] == pytest.approx(metrics.log_loss(labels, exact, labels=range(7)), rel=1e-5)
    top3 = metrics.top_k_accuracy_score(labels, scores, k=3, labels=range(7))
    assert ours["top3"] == pytest.approx(top3)
    ece = multiclass_calibration_error(torch.from_numpy(scores), torch.from_numpy(labels), num_classes=7, n_bins=15)
    assert ours["ece"] == pytest.approx(float(ece), abs=1e-6)
    matrix = classification.confusion(labels, predicted, 7)
    assert np.array_equal(matrix, metrics.confusion_matrix(labels, predicted, labels=range(7)))


@pytest.mark.parametrize("missing", [None, 3])
def test_the_table_of_classes_is_scikit_learns(missing):
    scores, labels = answers(4, missing=missing)
    predicted = scores.argmax(1)
    matrix = classification.confusion(labels, predicted, 7)
    names = ["=1+1", *"bcdefg"]
    *rows, last = csv.DictReader(io.StringIO(per_class.table(matrix, names)))
    expected = metrics.precision_recall_fscore_support(labels, predicted, labels=range(7), zero_division=0)
    for k, row in enumerate(rows):
        figures = [float(row[key]) for key in ("precision", "recall", "f1", "images")]
        assert figures == pytest.approx([part[k] for part in expected], abs=1e-6)
        wrong = predicted[(labels == k) & (predicted != k)]
        assert int(row["errors"]) == len(wrong)
        counts = np.bincount(wrong, minlength=7)
        assert int(row["times"]) == counts.max()
        if len(wrong):
            assert row["most_taken_for"].lstrip("'") == names[counts.argmax()]
    assert rows[0]["class"] == "'=1+1", "no formula for a spreadsheet"
    assert float(last["f1"]) == pytest.approx(expected[2].mean(), abs=1e-6)
    assert int(last["errors"]) == (predicted != labels).sum()


def test_the_surest_mistakes_and_the_most_confusing_of_each_class():
    scores, labels = answers(5, n=300)
    scores[labels == 2] = np.eye(7, dtype=np.float32)[2] * 0.5 + 0.5 / 7  # class 2 is always right
    sure = np.flatnonzero(labels == 2)[3]
    scores[sure] = np.eye(7, dtype=np.float32)[2] * 0.3 + 0.7 / 7
    predicted = scores.argmax(1)
    wrong = [i for i in range(300) if predicted[i] != labels[i]]
    expected = sorted(wrong, key=lambda i: -scores[i].max())
    assert classification.surest_mistakes(scores, predicted, labels, 10).tolist() == expected[:10]
    assert classification.surest_mistakes(scores, labels, labels, 10).tolist() == []
    confusing = classification.most_confusing(scores, predicted, labels)
    for k, row in enumerate(confusing):
        own = [i for i in expected if labels[i] == k]
        assert row == (own[0] if own else sure)
    without = labels != 4
    assert labels[without][
        classification.most_confusing(scores[without], predicted[without], labels[without])
    ].tolist() == [0, 1, 2, 3, 5, 6]


@pytest.mark.parametrize("levels", [Levels(0, 1, 0), Levels(-0.4, 2.8, -0.4), Levels(-1, 1, 1)])
def test_ink_is_dark_whatever_the_normalisation(levels):
    images = torch.tensor([levels.zero, levels.one, levels.ground]).view(1, 1, 1, 3)
    full = 1.0 if levels.ground == levels.zero else 0.0
    assert _ink(images, levels).flatten().tolist() == pytest.approx([1 - full, full, 0.0], abs=1e-6)


def test_figures_of_hard_cases_can_be_drawn(tmp_path):
    """Nothing wrong, one picture, long names, many classes, one epoch, errors of 0: no warning, every file a PNG."""
    names = ["T-shirt/top", "Ankle boot $x$ very long", "<b>", "ж", "5"]
    ink = np.random.default_rng(0).random((5, 28, 20), dtype=np.float32)
    many = [f"class {i}" for i in range(90)]
    run_figures.confusion(tmp_path / "1.png", LONG, np.eye(5, dtype=np.int64), names)
    run_figures.confusion(tmp_path / "2.png", "many", np.ones((90, 90), dtype=np.int64), many)
    run_figures.mistakes(tmp_path / "3.png", LONG, ink[:0], [], [], [])
    run_figures.mistakes(tmp_path / "4.png", "", ink[:1], names[:1], names[1:2], [1.0])
    run_figures.confusing(tmp_path / "5.png", LONG, ink, names, names[::-1], [0.5] * 5)
    run_figures.inputs(tmp_path / "6.png", LONG, ink, None, names)
    one = {"epoch": 1, "train/loss": 0.3, "train/acc": 1.0}
    run_figures.curves(tmp_path / "7.png", LONG, [one])
    run_figures.curves(tmp_path / "8.png", "", [one, {**one, "epoch": 2, "train/loss": 1e-7}])
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            picture.verify()
            assert max(picture.size) < 2000


def test_a_sheet_shows_its_pictures_in_their_places(tmp_path):
    ink = np.zeros((3, 2, 30, 30), dtype=np.float32)
    ink[2, 1] = 1.0  # the lower picture of the third tile, alone in the second row
    tiles = [run_figures.Tile("", pair) for pair in ink]
    run_figures.sheet(tmp_path / "sheet.png", "", "", tiles, columns=2)
    grey = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    dark = np.argwhere(grey < 40)
    height, width = dark.max(0) - dark.min(0)
    assert dark.max(0)[1] < grey.shape[1] / 2
    assert dark.min(0)[0] > grey.shape[0] * 0.7
    assert abs(height - width) <= 2


class Trained:
    """What `write_outputs` asks of a fitted model."""

    log_book = ({"epoch": 1, "train/loss": 0.3, "train/acc": 0.9, "val/loss": 0.3, "val/acc": 0.9},)

    def __init__(self, learned):
        self.learned = learned

    def save_model(self, folder, example):
        folder.mkdir()

    def save_weights(self, folder):
        (folder / "weights.safetensors").touch()


@pytest.mark.parametrize("words", [("augment=affine", "data.invert=true"), ("tracking.artifacts=minimal",)])
def test_a_run_leaves_its_metrics_and_pictures(words, tmp_path, monkeypatch):
    config = parse(compose_cell(["data=digits", "data.train_size=64", *words]).resolved)
    data = load(config.data)
    test = evaluate(build(config), config.loss, data.test)
    seen = {}
    real = run_figures.inputs
    monkeypatch.setattr(run_figures, "inputs", lambda *rest: seen.update(enumerate(rest)) or real(*rest))
    figures = write_outputs(tmp_path, "a run", Trained(data.train), data, test, config)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"predictions.npz", "per_class.csv"} <= names
    assert figures["test/errors"] == (test.predicted != test.labels).sum()
    if "tracking.artifacts=minimal" in words:
        assert names == {"predictions.npz", "per_class.csv", "weights.safetensors"}
        return
    pictures = {"curves.png", "confusion.png", "misclassified.png", "confusing.png", "inputs.png"}
    assert names == {"predictions.npz", "per_class.csv", "model", *pictures}
    first = order(64, config.seed, 0)[:20]
    before, after = seen[2], seen[3]
    assert np.allclose(before, _ink(data.train.images[first], data.levels))
    assert before.shape == after.shape == (20, 28, 28)
    assert np.abs(before - after).max(axis=(1, 2)).min() > 0.1


def test_perfect_answers_are_no_trouble(tmp_path):
    config = parse(compose_cell(["data=digits", "data.train_size=64"]).resolved)
    data = load(config.data)
    labels = data.test.labels
    scores = torch.nn.functional.one_hot(labels).float()
    test = Evaluation(scores, torch.zeros(len(labels)), labels, labels)
    figures = write_outputs(tmp_path, "perfect", Trained(data.train), data, test, config)
    assert (figures["test/errors"], figures["test/f1"], figures["test/ece"]) == (0, 1, 0)

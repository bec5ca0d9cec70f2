"""`evaluate` and `predict` on a run that was really tracked."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import make_lab
from PIL import Image
from sklearn.datasets import load_digits

from lenet_lab import tracked
from lenet_lab.commands import evaluate, predict
from lenet_lab.records import LabError
from lenet_lab.tracking import Store, open_store, read_runs
from lenet_lab.tracking.artifacts import read_artifact

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One run on three digits of one's own, whose folder is gone afterwards."""
    folder = tmp_path_factory.mktemp("study")
    bunch = load_digits(n_class=3)
    for row, digit in enumerate(bunch.target[:150]):
        path = folder / "own" / ("zero", "one", "two")[digit] / f"{row:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((bunch.images[row] * 255 / 16).astype(np.uint8)).save(path)
    words = ["data=image_folder", "data.root=own", "data.test_share=0.3", "epochs=3", "name=mine"]
    done = make_lab(folder, {"LENET_LAB_THREADS": "1"})(*words)
    assert done.returncode == 0, done.stderr
    return open_store(f"sqlite:///{folder / 'mlflow.db'}", create=False)


def folder_of(store: Store) -> Path:
    return Path(store.uri.removeprefix("sqlite:///")).parent


def test_it_records_what_asking_it_needs(store: Store) -> None:
    (record,) = read_runs(store)
    about = json.loads(read_artifact(store, record.run_id, "data.json"))
    assert about["classes"] == ["one", "two", "zero"]
    assert about["digest"] == record.tags["lenet.data_digest"]
    assert record.metrics["test/n"] == 45
    assert "data.root" not in record.params
    assert tracked.find(store, record.name) == tracked.find(store, record.run_id[:6])


def test_its_own_test_images_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder_of(store))
    (record,) = read_runs(store)
    before = store.client.get_run(record.run_id).to_dictionary()
    assert evaluate.main([record.run_id[:8], "--store", store.uri]) == 0
    said = capsys.readouterr().out
    assert "45 of 45 answers are those that the run has kept; scores differ by" in said
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.startswith("test/")}
    assert all(now == then for now, then in rows.values())
    kept = np.load(io.BytesIO(read_artifact(store, record.run_id, "predictions.npz")))
    written = np.load(f"evaluations/{record.run_id[:8]}/image_folder/predictions.npz")
    assert np.array_equal(kept["predicted"], written["predicted"])
    assert store.client.get_run(record.run_id).to_dictionary() == before, "nothing of the run has changed"


def test_other_data_by_the_names_of_its_classes(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of two of the classes, all of it: what the model says of each image, asked one by one, is counted."""
    monkeypatch.chdir(tmp_path)
    (record,) = read_runs(store)
    bunch = load_digits(n_class=3)
    for row in range(150, 170):
        name = ("zero", "one", "two")[bunch.target[row]]
        if name != "one":
            (tmp_path / "new" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray((bunch.images[row] * 255 / 16).astype(np.uint8)).save(
                tmp_path / "new" / name / f"{row}.png"
            )
    files = sorted((tmp_path / "new").rglob("*.png"))
    words = [record.run_id[:8], "data=image_folder", "data.root=new", "--all", "--store", store.uri, "--out", "o"]
    assert evaluate.main(words) == 0
    assert f"test/n {len(files)} 45".split() in [line.split() for line in capsys.readouterr().out.splitlines()]
    assert predict.main([record.run_id[:8], "new", "--store", store.uri, "--out", "p"]) == 0
    said = capsys.readouterr().out
    errors = int((np.load("o/predictions.npz")["predicted"] != np.load("o/predictions.npz")["label"]).sum())
    assert f"{len(files) - errors} of {len(files)} images with a label are right" in said
    assert {"confusion.png", "predictions.npz"} == {path.name for path in Path("o").iterdir()}


def test_refusals_are_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder_of(store))
    (record,) = read_runs(store)
    for words, why in (
        (["data=digits"], "classes that the run does not know: 0, 1, 2, 3, 4, ...; its own: one, two, zero; --force"),
        (["data=digits", "--force"], "--force: the data has 10 classes, and the run knows 3"),
        (["pool=max"], "pool=max: evaluate changes the data alone; allowed: data=..., data.<key>=..."),
        (["data=nothing"], "data=nothing: no such option; allowed: "),
        (["data.size=32"], "the network cannot be given images of 1x32x32"),
        (["--all"], "--all: these are the images that the run was trained on; allowed with other data"),
        (["data.root=gone"], "data.root=gone: is not there; allowed: a folder with one folder a class"),
    ):
        with pytest.raises(LabError) as caught:
            evaluate.main([record.run_id[:8], *words, "--store", store.uri])
        assert str(caught.value).startswith(why)
        assert "\n" not in str(caught.value)
    with pytest.raises(LabError, match="no runs begin so; there are: "):
        evaluate.main(["nothing", "--store", store.uri])


def test_predict_needs_no_data(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Elsewhere, where the folder it was trained on is not."""
    monkeypatch.chdir(tmp_path)
    (record,) = read_runs(store)
    Image.fromarray((load_digits().images[0] * 255 / 16).astype(np.uint8)).save("zero.png")
    assert predict.main([record.run_id[:8], "zero.png", "--store", store.uri]) == 0
    assert (tmp_path / "predictions" / record.run_id[:8] / "predictions.png").is_file()

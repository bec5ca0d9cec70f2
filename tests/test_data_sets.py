"""Whole data sets: what is loaded, from which rows, under which digest."""

import gzip
import hashlib
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_digits

from lenet_lab.data import Data
from lenet_lab.data.sources import MNIST, SOURCES
from lenet_lab.records import LabError

CONF = Path(__file__).parents[1] / "conf" / "data"


@pytest.mark.parametrize("option", ["mnist", "reduced_mnist", "fashion_mnist", "kmnist", "digits"])
def test_every_option_names_a_row_and_fits_the_schema(option):
    path = CONF / f"{option}.yaml"
    data = Data(**yaml.safe_load(path.read_text()))
    assert path.read_text().startswith("# ")
    assert data.name == option
    assert data.in_shape == (1, 28, 28)
    assert len(data.classes) == 10
    train, val, test = data.counts()
    assert (train + val, val, test) == {
        "reduced_mnist": (10000, 1000, 2000),
        "digits": (1437, 200, 360),
    }.get(option, (60000, 5000, 10000))


def test_every_row_has_an_option():
    assert {path.stem for path in CONF.glob("*.yaml")} >= set(SOURCES)


def test_pins_agree_with_torchvision():
    from torchvision import datasets

    for source in SOURCES.values():
        if source is not SOURCES["digits"]:
            published = getattr(datasets, source.folder)
            assert {name for name, _ in published.resources} == {f"{name}.gz" for name in source.shapes}
            assert set(source.sha256 or source.gz_sha256) == set(source.shapes)
            if source.folder != "MNIST":  # there, "0 - zero" stands for "0"
                assert tuple(published.classes) == source.classes


def test_digits_are_scikit_learns():
    arrays = Data(name="digits", val_size=200, normalize="unit").load()
    bunch = load_digits()
    whole = {"train": 1237, "val": 200, "test": 360}
    rows = []
    for part, size in whole.items():
        split = getattr(arrays, part)
        assert split.images.shape == (size, 1, 28, 28)
        assert split.images.dtype == torch.float32
        assert split.labels.dtype == split.index.dtype == torch.int64
        assert split.labels.tolist() == bunch.target[split.index].tolist()
        rows += split.index.tolist()
        means = split.images.mean((1, 2, 3)).numpy()
        assert np.allclose(means, bunch.images[split.index].mean((1, 2)) / 16, atol=0.03)
    assert sorted(rows) == list(range(1797))
    assert np.bincount(arrays.test.labels).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    assert arrays.classes == tuple("0123456789")


def test_digits_test_part_is_the_same_whatever_the_seeds():
    digest = {
        hashlib.sha256(Data(name="digits", val_size=n, split_seed=n).load().test.index.numpy().tobytes()).hexdigest()
        for n in (0, 100)
    }
    assert [value[:16] for value in digest] == ["391142dcd28e821c"]


def test_standard_is_standard_also_where_moments_are_computed():
    train = Data(name="digits", val_size=0).load().train.images
    assert train.mean().item() == pytest.approx(0, abs=1e-4)
    assert train.std().item() == pytest.approx(1, abs=1e-4)


def test_damaged_digits_are_refused(monkeypatch):
    read = np.loadtxt

    def changed(*args, **how):
        table = read(*args, **how)
        table[100, 27] += 1
        return table

    monkeypatch.setattr(np, "loadtxt", changed)
    with pytest.raises(LabError, match=r"^data=digits: scikit-learn's digits.csv.gz is damaged: the SHA-256"):
        Data(name="digits", val_size=0).load()


@pytest.mark.parametrize("content", [None, b"no gzip", gzip.compress(b"a,b\n")], ids=["absent", "cut", "no numbers"])
def test_digits_that_cannot_be_read_are_refused(content, tmp_path, monkeypatch):
    folder = tmp_path / "sklearn" / "datasets" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "sklearn" / "__init__.py").touch()
    if content is not None:
        (folder / "digits.csv.gz").write_bytes(content)
    spec = importlib.util.spec_from_file_location("sklearn", tmp_path / "sklearn" / "__init__.py")
    monkeypatch.setattr("lenet_lab.data.digits.find_spec", lambda name: spec)
    with pytest.raises(LabError, match=r"^data=digits: scikit-learn's digits.csv.gz: .*install scikit-learn again$"):
        Data(name="digits", val_size=0).load()


def test_no_validation_split():
    arrays = Data(name="digits", val_size=0).load()
    assert arrays.val is None
    assert len(arrays.train) == 1437


def test_loading_does_not_touch_the_global_generators():
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    Data(name="digits", val_size=100, train_size=300).load()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_a_split_moves_to_a_device():
    split = Data(name="digits", val_size=0).load().test
    moved = split.to("meta")
    assert moved.images.device.type == moved.labels.device.type == "meta"
    assert moved.index is split.index


@pytest.mark.mnist
def test_mnist_is_torchvisions(mnist_root):
    from torchvision.datasets import MNIST as TORCHVISION

    arrays = Data(name="mnist", root=str(mnist_root), val_size=5000, normalize="unit").load()
    published = TORCHVISION(mnist_root, train=True), TORCHVISION(mnist_root, train=False)
    for split, theirs in (
        (arrays.train, published[0]),
        (arrays.val, published[0]),
        (arrays.test, published[1]),
    ):
        assert torch.equal(split.images[:, 0], theirs.data[split.index].float() / 255)
        assert torch.equal(split.labels, theirs.targets[split.index])
    assert sorted([*arrays.train.index.tolist(), *arrays.val.index.tolist()]) == list(range(60000))
    assert arrays.test.index.tolist() == list(range(10000))
    proportional = np.array(MNIST.train_counts) * 5000 / 60000
    assert abs(np.bincount(arrays.val.labels) - proportional).max() <= 1


@pytest.mark.mnist
def test_mnist_digest_is_that_of_its_sums(mnist_root):
    """`sha256sum MNIST/raw/* | sha256sum` with bare names, known without the files and found with them."""
    raw = mnist_root / "MNIST" / "raw"
    lines = [f"{hashlib.sha256((raw / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(MNIST.shapes)]
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    data = Data(name="mnist", root=str(mnist_root), val_size=0, train_size=100)
    assert data.digest() == data.load().digest == expected
    assert Data(name="reduced_mnist", val_size=0, draw_seed=1, train_per_class=1, test_per_class=1).digest() == expected


@pytest.mark.mnist
def test_reduced_mnist_is_the_published_draw(mnist_root):
    options = yaml.safe_load((CONF / "reduced_mnist.yaml").read_text())
    arrays = Data(**options | {"root": str(mnist_root), "val_size": 0}).load()
    for split, part, size in ((arrays.train, "train", 1000), (arrays.test, "t10k", 200)):
        labels = np.fromfile(mnist_root / "MNIST" / "raw" / f"{part}-labels-idx1-ubyte", np.uint8)[8:]
        rng, expected = np.random.RandomState(42), []
        for digit in range(10):
            expected.extend(rng.choice(np.where(labels == digit)[0], size=size, replace=False))
        assert split.index.tolist() == sorted(expected)
        assert split.labels.tolist() == labels[split.index].tolist()


@pytest.mark.mnist
def test_learning_curve_sizes_are_nested_and_leave_validation_and_test_alone(mnist_root):
    def load(size):
        return Data(name="mnist", root=str(mnist_root), val_size=5000, train_size=size).load()

    small, large = load(1000), load(15000)
    assert set(small.train.index.tolist()) < set(large.train.index.tolist())
    assert torch.equal(small.val.index, large.val.index)
    assert not set(large.train.index.tolist()) & set(large.val.index.tolist())


@pytest.mark.slow
@pytest.mark.mnist
def test_mnist_loads_fast_and_without_the_heavy_libraries(mnist_root):
    code = (
        "import sys, time\n"
        "from lenet_lab.data import Data\n"
        "assert 'torch' not in sys.modules\n"
        "data = Data(name='mnist', val_size=5000)\n"
        "import torch\n"
        "start = time.perf_counter()\n"
        "data.load()\n"
        "assert not {'torchvision', 'sklearn'} & set(sys.modules)\n"
        "print(time.perf_counter() - start)\n"
    )
    start = time.perf_counter()
    environment = os.environ | {"LENET_LAB_DATA": str(mnist_root)}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert float(found.stdout) < max(2.0, 0.5 * (time.perf_counter() - start))  # 0.5 s on an idle machine

"""Classical models: those of scikit-learn called by hand, tracked as networks are, loaded without unpickling."""

import io
import json
import signal
import threading
import time
import zipfile
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import skops.io
import torch
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.linear_model import SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from lenet_lab.blocks.streams import derive
from lenet_lab.cell import build, load, make_ready
from lenet_lab.config.compose import compose_cell
from lenet_lab.engines.classical import ask, drawn_from, teach
from lenet_lab.models.classical import SVM, KMeans, RandomForest
from lenet_lab.records import LabError
from lenet_lab.run import run
from lenet_lab.signals import Signals, Stopped
from lenet_lab.tracking import estimators, open_store, sound
from lenet_lab.tracking.artifacts import read_artifact
from lenet_lab.tracking.models import load_classical, load_network

SMALL = {
    "svm": [],
    "kmeans": ["model.clusters=40"],
    "knn": [],
    "logreg": [],
    "random_forest": ["model.trees=12"],
}


@cache
def ready_of(name, *words):
    return make_ready(compose_cell(["data=digits", "data.train_size=600", f"model={name}", *SMALL[name], *words]))


def taught(name, seed=0):
    """The model, what it has learned of the digits, and the splits."""
    config = ready_of(name).config
    arrays = load(config.data)
    return config.model, teach(config.model, arrays.train, 10, seed, 1, lambda share: None), arrays


def table(split):
    return split.images.flatten(1).numpy(), split.labels.numpy()


# the same as scikit-learn by hand


def by_hand(name, train, seed):
    """The class of each test image by scikit-learn's own estimators."""
    pixels, labels = table(train)
    if name == "kmeans":
        clusters = SklearnKMeans(40, n_init=1, max_iter=100, random_state=seed).fit(pixels)
        votes = {c: np.bincount(labels[clusters.labels_ == c], minlength=10).argmax() for c in range(40)}
        return lambda x: np.array([votes[c] for c in clusters.predict(x)])
    estimator = {
        "svm": SVC(C=10, break_ties=True),
        "knn": KNeighborsClassifier(3, weights="distance", algorithm="brute"),
        "logreg": SklearnLogisticRegression(C=0.01, max_iter=200),
        "random_forest": RandomForestClassifier(12, random_state=seed),
    }[name]
    return estimator.fit(pixels, labels).predict


@pytest.mark.parametrize("name", SMALL)
def test_a_model_decides_as_scikit_learn_by_hand(name):
    model, found, arrays = taught(name)
    seen = ask(model, found.learned, arrays.test, 10, 1, lambda share: None)
    expected = by_hand(name, arrays.train, derive(0, "classical") % 2**32)(table(arrays.test)[0])
    assert (seen.predicted.numpy() == expected).all()
    assert (expected == arrays.test.labels.numpy()).mean() > 0.85, "else it compares noise"
    assert seen.scores.shape == (len(arrays.test), 10)
    torch.testing.assert_close(seen.scores.sum(dim=1), torch.ones(len(arrays.test)))
    assert torch.equal(seen.scores.argmax(dim=1), seen.predicted)
    right = seen.scores[torch.arange(len(arrays.test)), arrays.test.labels].clamp(min=1e-7)
    torch.testing.assert_close(seen.losses, -right.log(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_the_same_seed_gives_the_same_numbers(name):
    model, found, arrays = taught(name, seed=3)
    again = taught(name, seed=3)[1]
    one, two = (ask(model, t.learned, arrays.test, 10, 1, lambda share: None) for t in (found, again))
    assert torch.equal(one.scores, two.scores)


@pytest.mark.parametrize("name", ["kmeans", "random_forest"])
def test_another_seed_gives_others(name):
    model, found, arrays = taught(name)
    other = taught(name, seed=1)[1]
    one, two = (ask(model, t.learned, arrays.test, 10, 1, lambda share: None) for t in (found, other))
    assert not torch.equal(one.scores, two.scores)


def test_a_limit_draws_in_proportion_to_the_classes_by_the_seed():
    train = taught("knn")[2].train
    drawn = drawn_from(train, 10, 100, seed=0)
    assert len(drawn) == 100
    assert abs(torch.bincount(drawn.labels) - torch.bincount(train.labels) / 6).max() <= 1
    again, other = drawn_from(train, 10, 100, seed=0), drawn_from(train, 10, 100, seed=1)
    assert torch.equal(drawn.index, again.index)
    assert not torch.equal(drawn.index, other.index)
    assert set(drawn.index.tolist()) <= set(train.index.tolist())
    assert drawn_from(train, 10, 5000, seed=0) is train
    assert drawn_from(train, 10, None, seed=0) is train


def test_classes_that_were_not_seen_get_no_score():
    _, _, arrays = taught("svm")
    few = arrays.train.labels < 2
    split = replace(arrays.train, images=arrays.train.images[few], labels=arrays.train.labels[few])
    for model in (SVM(), RandomForest(trees=3)):
        learned = teach(model, split, 10, 0, 1, lambda share: None).learned
        seen = ask(model, learned, split, 10, 1, lambda share: None)
        assert (seen.predicted == split.labels).float().mean() > 0.95
        assert seen.scores[:, 2:].abs().max() == 0
        assert sound.sound(model.name, learned, 784, 10)


def test_more_clusters_than_images_are_refused():
    _, _, arrays = taught("knn")
    with pytest.raises(LabError, match=r"model\.clusters=700: more than images; allowed: 2 to 600"):
        teach(KMeans(clusters=700), arrays.train, 10, 0, 1, lambda share: None)


class Slow(SVM):
    """Sleeps in one long call."""

    def fit(self, *_):
        time.sleep(3)


def test_a_signal_is_heard_while_a_library_works():
    _, _, arrays = taught("svm")
    timer = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGTERM))
    started = time.perf_counter()
    timer.start()
    with pytest.raises(Stopped), Signals():
        teach(Slow(), arrays.train, 10, 0, 1, lambda share: None)
    assert time.perf_counter() - started < 2


# what it has no use for


@pytest.mark.parametrize(
    "word",
    [
        "pool=max", "norm=bn", "optimizer=sgd", "lr=0.1", "batch_size=8", "epochs=9", "schedule=cosine",
        "loss.label_smoothing=0.1",
        "order=fixed", "checkpoint=last", "test_curve=true", "trainer.precision=64-true", "trainer.devices=2",
        "trainer.strategy=ddp",
    ],
)  # fmt: skip
def test_what_trains_networks_is_refused(word):
    with pytest.raises(LabError, match="model=knn has no use for it; leave it at ") as refusal:
        ready_of("knn", word)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(word.partition("=")[0].partition(".")[0])


def test_a_record_from_before_a_key_is_taken_as_it_is():
    """What a model has no use for may have come later than the run."""
    cell = compose_cell(["data=digits", "model=knn"])
    trainer = {key: value for key, value in cell.resolved["trainer"].items() if key != "strategy"}
    older = replace(cell, resolved={**cell.resolved, "trainer": trainer})
    assert make_ready(older).key == make_ready(cell).key


def test_a_classical_model_has_no_layers():
    with pytest.raises(LabError, match="model=svm: is no network, so it has no layers"):
        build(ready_of("svm").config)


# tracked


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A run of every model in one store: name -> (ready, outcome)."""
    folder = tmp_path_factory.mktemp("classical")
    uri, seen = f"sqlite:///{folder}/mlflow.db", []
    outcomes = {}
    for name in SMALL:
        ready = ready_of(name, "model.max_train=500", f"tracking.uri={uri}")
        outcomes[name] = (ready, run(ready, lambda *what: seen.append(what)))
    assert all(0 <= fraction <= 1 for _, fraction, _ in seen)
    return open_store(uri), outcomes, folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_run_is_tracked_as_a_networks_is(name, tracked):
    store, outcomes, _ = tracked
    _, outcome = outcomes[name]
    assert outcome.state == "complete", outcome.error
    data = store.client.get_run(outcome.run_id).data
    assert data.tags["lenet.state"] == "complete"
    assert data.params["model"] == name
    assert data.params["model.max_train"] == "500"
    assert data.tags["lenet.remark"] == f"model={name} has learned from 500 of 600 training images (model.max_train)"
    execution = json.loads(data.tags["lenet.execution"])
    assert (execution["engine"], execution["device"]) == ("classical", "cpu")
    assert "scikit-learn" in execution["versions"]
    expected = {
        "val/acc",
        "train_eval/acc",
        "test/acc",
        "test/top3",
        "test/ece",
        "test/f1",
        "time/train_s",
        "fit/images",
    }
    assert expected <= set(data.metrics)
    assert data.metrics["fit/images"] == 500
    assert data.metrics["test/acc"] > 0.8
    assert not {"epochs", "images_per_s", "lr"} & set(data.metrics)
    assert ("params/total" in data.metrics) == (name in ("kmeans", "logreg"))
    files = set(json.loads(data.tags["lenet.sha256"]))
    assert {"config.yaml", "confusion.png", "predictions.npz"} <= files
    assert {name for name in files if name.startswith("model/")} == {"model/estimator.skops"}
    assert "curves.png" not in files, "there are no epochs to draw"


def test_logistic_regression_has_a_weight_a_pixel_and_class(tracked):
    store, outcomes, _ = tracked
    assert store.client.get_run(outcomes["logreg"][1].run_id).data.metrics["params/total"] == 7850


def test_a_run_that_is_complete_is_not_fitted_again(tracked):
    ready, outcome = tracked[1]["knn"]
    again = run(ready)
    assert (again.state, again.run_id) == ("done", outcome.run_id)


def test_minimal_artifacts_keep_the_estimator(tracked):
    store, _, folder = tracked
    ready = ready_of("logreg", "tracking.artifacts=minimal", f"tracking.uri=sqlite:///{folder}/mlflow.db")
    outcome = run(ready)
    learned = load_classical(store, outcome.run_id, ready.config.model, 784, 10)
    assert learned.estimator.coef_.shape == (10, 784)


@pytest.mark.parametrize("name", SMALL)
def test_a_model_comes_back_and_says_what_it_said(name, tracked):
    store, outcomes, _ = tracked
    ready, outcome = outcomes[name]
    learned = load_classical(store, outcome.run_id, ready.config.model, 784, 10)
    test = load(ready.config.data).test
    seen = ask(ready.config.model, learned, test, 10, 1, lambda share: None)
    with np.load(io.BytesIO(read_artifact(store, outcome.run_id, "predictions.npz"))) as held:
        assert (seen.predicted.numpy() == held["predicted"]).all()
        np.testing.assert_allclose(seen.scores.numpy(), held["scores"], atol=1e-6)


def test_a_state_of_another_model_is_refused(tracked):
    store, outcomes, _ = tracked
    ready, outcome = outcomes["knn"][0], outcomes["svm"][1]
    with pytest.raises(LabError, match=r"model/estimator\.skops: is no state of model=knn"):
        load_classical(store, outcome.run_id, ready.config.model, 784, 10)
    with pytest.raises(LabError, match=r"is no state of model=svm"):
        load_classical(store, outcome.run_id, outcomes["svm"][0].config.model, 1024, 10)
    with pytest.raises(LabError, match="has no tracked network"):
        load_network(store, outcome.run_id)


# hostile files


def changed(content, change):
    """A skops file with another schema."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename == "schema.json":
                schema = json.loads(data)
                change(schema)
                data = json.dumps(schema).encode()
            new.writestr(info.filename, data)
    return out.getvalue()


def nodes(value, loader):
    """Every node of a schema that this loader builds."""
    if isinstance(value, dict):
        found = [value] if value.get("__loader__") == loader else []
        return found + [node for inner in value.values() for node in nodes(inner, loader)]
    return [node for inner in value for node in nodes(inner, loader)] if isinstance(value, list) else []


class Evil:
    """What a hostile pickle would do; as an object of skops it has a type of its own."""


@pytest.mark.filterwarnings("ignore")
def test_a_hostile_file_is_refused_in_one_line():
    _, found, _ = taught("random_forest")
    good = skops.io.dumps(vars(found.learned))
    assert estimators.load(good).estimator.n_estimators == 12

    def outputs(schema):
        nodes(schema, "TreeNode")[0]["__reduce__"]["args"]["content"][2]["content"] = "2000000000"

    def by_one_id(schema):
        arguments = nodes(schema, "TreeNode")[0]["__reduce__"]["args"]["content"]
        arguments[2]["__id__"] = arguments[0]["__id__"]

    def other_function(schema):
        nodes(schema, "ObjectNode")[0].update({"__module__": "os", "__class__": "system", "__loader__": "FunctionNode"})

    def other_type(schema):
        nodes(schema, "ObjectNode")[0].update({"__module__": "subprocess", "__class__": "Popen"})

    fitted = SGDClassifier(max_iter=5, tol=None).fit(np.eye(4), [0, 1, 0, 1])
    attacks = {
        "no zip": b"no zip",
        "a pickle": zipped({"schema.json": b"{}", "evil.pkl": b"cos\nsystem\n"}),
        "an estimator that is none of ours": skops.io.dumps({"estimator": fitted, "shares": None}),
        "a function": skops.io.dumps({"estimator": np.sqrt, "shares": None}),
        "a type of the file's own": skops.io.dumps({"estimator": Evil(), "shares": None}),
        "a command": changed(good, other_function),
        "a process": changed(good, other_type),
        "a tree too large to hold": changed(good, outputs),
        "two things by one id": changed(good, by_one_id),
        "cut short": good[: len(good) // 2],
    }
    for what, content in attacks.items():
        with pytest.raises(LabError) as refusal:
            estimators.load(content)
        assert "\n" not in str(refusal.value), what


def zipped(records):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return out.getvalue()


def spoilt(name, spoil):
    """The state of a model with wrong numbers in it, of the right types."""
    learned = estimators.load(skops.io.dumps(vars(taught(name)[1].learned)))
    spoil(learned)
    return sound.sound(name, learned, 784, 10)


def set_tree(field, place, value):
    def spoil(learned):
        tree = learned.estimator.estimators_[0].tree_
        state = tree.__getstate__()
        state["nodes"] = state["nodes"].copy()
        state["nodes"][field][place] = value
        tree.__setstate__(state)

    return spoil


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("random_forest", set_tree("left_child", 0, 10**9)),
        ("random_forest", set_tree("right_child", 0, 0)),
        ("random_forest", set_tree("feature", 0, 784)),
        ("svm", lambda learned: learned.estimator._n_support.__setitem__(0, 10**6)),
        ("svm", lambda learned: setattr(learned.estimator, "_dual_coef_", learned.estimator._dual_coef_[:, 1:])),
        ("knn", lambda learned: learned.estimator._y.__setitem__(0, 10)),
        ("logreg", lambda learned: setattr(learned.estimator, "intercept_", np.zeros(3))),
        ("kmeans", lambda learned: setattr(learned.estimator, "cluster_centers_", np.zeros((40, 3)))),
    ],
)
def test_numbers_that_compiled_code_would_trip_over_are_refused(name, spoil):
    assert spoilt(name, lambda learned: None)
    assert not spoilt(name, spoil)

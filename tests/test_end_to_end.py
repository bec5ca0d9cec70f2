"""The baseline on real MNIST, as the first command of a new user trains it."""

import mlflow
import pytest


@pytest.mark.mnist
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_baseline_learns_mnist(mnist_root, lab, tmp_path):
    """At least 97% of the 10,000 test images in two epochs."""
    words = ("epochs=2", "data.download=false", "trainer.threads=1")  # tests run side by side
    result = lab(*words, timeout=560, LENET_LAB_DATA=str(mnist_root))
    assert result.returncode == 0, result.stderr[-3000:]
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("lenet_lab").experiment_id])
    metrics = run.data.metrics
    assert (run.data.tags["lenet.state"], metrics["epochs"], metrics["test/n"]) == ("complete", 2, 10_000)
    assert run.data.params["data"] == "mnist"
    assert metrics["params/total"] == 44_426
    assert metrics["test/acc"] >= 0.97
    assert metrics["test/errors"] == round((1 - metrics["test/acc"]) * 10_000)

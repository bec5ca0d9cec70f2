"""The table of runs in MLflow's UI: the columns that a person wants, the best on top; seen in a real browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from lenet_lab.cli import main
from lenet_lab.tracking import open_store
from lenet_lab.tracking.view import METRICS, TAG, prepare_view, varied

STUDY = REPOSITORY / "docs" / "studies" / "pool_norm.zip"


def test_what_varies_is_shown_and_what_a_group_implies_is_not():
    runs = [
        {"pool": pool, "pool.name": pool, "lr": "0.001", "lr.value": rate, "seed": str(seed), "data": "mnist"}
        for pool in ("avg", "max")
        for rate, seed in (("0.001", 0), ("0.002", 1))
    ]
    assert varied(runs) == ["lr.value", "pool", "seed"]
    assert varied([]) == []
    many = [{f"p{i:02}": str(run) for i in range(20)} | {"seed": str(run)} for run in range(2)]
    assert varied(many) == [*(f"p{i:02}" for i in range(7)), "seed"]


@pytest.mark.slow
@pytest.mark.browser
def test_the_browser_shows_it(tmp_path, monkeypatch, chromium):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(SystemExit) as end:
        main(["import", str(STUDY)])
    assert not end.value.code
    store = open_store(create=False)
    assert prepare_view(store) == "?viewStateShareKey=lenet_lab"
    state = json.loads(store.client.get_experiment(store.experiment_id).tags[TAG])
    assert state["selectedColumns"] == [f"params.`{key}`" for key in ("norm", "pool", "seed")] + [
        f"metrics.`{name}`" for name in METRICS
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")} | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "lenet_lab", "ui", "--port", str(_free_port())]
    with (tmp_path / "ui.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[0]
            _wait(address, server)
            words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=2400,900"]
            page = subprocess.run(
                [
                    chromium,
                    *words,
                    "--virtual-time-budget=30000",
                    f"--user-data-dir={tmp_path / 'c'}",
                    "--dump-dom",
                    address,
                ],
                capture_output=True,
                text=True,
                timeout=150,
            ).stdout
        finally:
            server.terminate()
            server.wait(30)
            server.stdout.close()
    text = re.sub(r"<[^>]+>", " ", page)
    for word in ("Sort: test/acc", "norm", "pool", "test/errors", "61 "):
        assert word in text, word
    best = max(
        run.data.metrics["test/acc"] for run in store.client.search_runs([store.experiment_id]) if run.data.metrics
    )
    shown = [float(found) for found in re.findall(r"\b0\.9\d{1,3}\b", text)]
    assert shown, "the figures are there"
    assert max(shown) == pytest.approx(best, abs=1e-3)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(address: str, server: subprocess.Popen[str]) -> None:
    import time
    import urllib.request

    end = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(address.partition("#")[0], timeout=5):
                return
        except OSError:
            assert server.poll() is None
            assert time.monotonic() < end
            time.sleep(0.3)

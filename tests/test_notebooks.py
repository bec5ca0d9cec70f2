"""The notebooks run as they stand, in a folder with a small store, and carry no outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, make_lab

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


def _cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path):
    """A committed notebook is source."""
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in _cells(path))


def _run(name: str) -> dict:
    """Cell after cell in one namespace, as a kernel does."""
    space: dict = {}
    for index, cell in enumerate(_cells(REPOSITORY / "notebooks" / name)):
        exec(compile("".join(cell["source"]), f"{name}[{index}]", "exec"), space)
    return space


@pytest.mark.slow
def test_explore_runs_from_top_to_bottom(tmp_path, monkeypatch):
    swept = make_lab(tmp_path)(
        "-m", "data=digits", "data.train_size=200", "epochs=1", "pool=avg,max", "sweep.threads=1"
    )
    assert swept.returncode == 0, swept.stderr
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    space = _run("explore.ipynb")
    assert len(space["complete"]) == 2
    assert {name.rpartition(".")[2] for name in space["figures"]} == {"svg", "png"}


@pytest.mark.slow
def test_lenet5_1998_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = _run("lenet5_1998.ipynb")
    assert [tuple(space["seen"][name].shape[1:]) for name in ("c1", "s2", "c3", "s4", "c5")] == [
        (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120, 1, 1),
    ]  # fmt: skip
    assert all(picture[:8] == b"\x89PNG\r\n\x1a\n" for picture in space["figures"].values())
    assert space["accuracy"] > 0.5, "ten classes: it has learned something"
    assert not list(tmp_path.iterdir()), "nothing is left behind"

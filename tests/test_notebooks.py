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


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    """Cell after cell in one namespace, as a kernel does."""
    swept = make_lab(tmp_path)(
        "-m", "data=digits", "data.train_size=200", "epochs=1", "pool=avg,max", "sweep.threads=1"
    )
    assert swept.returncode == 0, swept.stderr
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    space: dict[str, object] = {}
    for index, cell in enumerate(_cells(path)):
        exec(compile("".join(cell["source"]), f"{path.name}[{index}]", "exec"), space)
    assert len(space["complete"]) == 2
    assert {name.rpartition(".")[2] for name in space["figures"]} == {"svg", "png"}

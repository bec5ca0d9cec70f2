"""The pages under docs/ say what is there: nothing missing, nothing that is no more."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import REPOSITORY, make_lab

from lenet_lab.commands.report import main as report

DOCS = REPOSITORY / "docs"


def generator() -> ModuleType:
    """docs/configuration.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("docs_configuration", DOCS / "configuration.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_configuration_page_is_what_the_configuration_says() -> None:
    assert (DOCS / "configuration.md").read_text() == generator().page(), "`make docs` writes the page anew"


def test_configuration_page_has_every_option_and_key() -> None:
    text = (DOCS / "configuration.md").read_text()
    for file in sorted((REPOSITORY / "conf").glob("*/*.yaml")):
        section = text.split(f"\n## {file.parent.name}\n")[1].split("\n## ")[0]
        assert f"| `{file.stem}`" in section, f"{file.parent.name}={file.stem} is not on the page"
        if file.parent.name == "experiment":
            continue
        own = generator().own_part(file.parent.name, file.read_text())
        for key in re.findall(r"^(\w+):", own, re.MULTILINE):
            if key not in ("_target_", "name"):
                assert f"`{file.parent.name}.{key}`" in section


def test_allowed_in_words() -> None:
    from typing import Annotated, Literal

    from annotated_types import Ge, Lt

    words = generator().allowed
    assert words(Annotated[float, Ge(0), Lt(1)] | None) == "number ≥ 0 < 1 or null"
    assert words(Literal["a", 2]) == "a, 2"
    assert words(tuple[float, float]) == "list of number (2)"


# on a run of this kind only
SOMETIMES = {
    "lenet.changed_code",
    "lenet.dirty",
    "lenet.error",
    "lenet.kind",
    "lenet.purged",
    "lenet.cells",
    "system/...",
    "lenet.note",
    "lenet.rerun_of",
    "lenet.remark",
    "lenet.run_id",
    "sdlm/rate_min",
    "sdlm/rate_median",
    "sdlm/rate_max",
    "sdlm/negative",
    "sdlm/noise",
    "test_curve/loss",
    "test_curve/acc",
    "mlflow.source.git.commit",
    "git.diff",
    "weights.safetensors",
    "estimator.skops",
    "fit/images",
    "error.txt",
    "job.log",
}


@pytest.mark.slow
def test_tracking_page_names_what_a_run_leaves(tmp_path: Path) -> None:
    """Both ways: what is tracked is on the page, and what is on the page is tracked."""
    done = make_lab(tmp_path)("-m", "data=digits", "epochs=1", "sweep.workers=1")
    assert done.returncode == 0, done.stderr
    from lenet_lab.tracking import open_store, read_runs

    store = open_store(f"sqlite:///{tmp_path / 'mlflow.db'}", create=False)
    (record,) = read_runs(store)
    run = store.client.get_run(record.run_id)
    artifacts = {file.path + "/" * file.is_dir for file in store.client.list_artifacts(record.run_id)}
    page = (DOCS / "tracking.md").read_text()
    tables = page.split("## Tags of a run")[1].split("## Where it lies")[0]
    cells = [line.split("|")[1] for line in tables.splitlines() if line.startswith("| `")]
    named = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    tracked = {tag for tag in run.data.tags if tag.startswith("lenet.")} | set(run.data.metrics) | artifacts
    assert tracked - named == set(), "tracked and not on the page"
    shown_by_mlflow = {"mlflow.parentRunId"}
    assert named - tracked - SOMETIMES - shown_by_mlflow == set(), "on the page and not tracked"
    assert "mlflow.parentRunId" in run.data.tags
    assert {"pool", "lr.value", "optimizer.betas", "seed", "epochs"} <= set(run.data.params)
    (parent,) = store.client.search_runs([store.experiment_id], "tags.`lenet.kind` = 'sweep'")
    assert set(parent.data.tags) >= {"lenet.kind", "lenet.sweep", "lenet.cells", "mlflow.note.content"}
    assert "lenet.key" not in parent.data.tags


def test_committed_reports_are_what_their_exports_say(capsys: pytest.CaptureFixture[str]) -> None:
    """Each export under docs/studies has its report beside it, and `--check` finds nothing stale."""
    exports = sorted((DOCS / "studies").glob("*.zip"))
    assert exports
    for export in exports:
        words = [export.stem, "--from", str(export), "--out", str(export.with_suffix("")), "--check"]
        assert report(words) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_the_papers_curves_are_drawn_from_its_export(tmp_path: Path) -> None:
    """Every pass of the paper's network, and what is measured of the others."""
    spec = importlib.util.spec_from_file_location("docs_paper", DOCS / "paper.py")
    assert spec is not None
    assert spec.loader is not None
    paper = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = paper  # where dataclasses look their module up
    spec.loader.exec_module(paper)
    shown = paper.points(paper.evidence(), {0.1: [20.0, 30.0]})
    passes = [point for point in shown if (point.panel, point.series) == ("passes", "plain")]
    assert [point.x for point in passes] == list(range(1, 21))
    (last,) = (point for point in shown if (point.panel, point.series, point.x) == ("images", "plain", 60_000))
    assert passes[-1].mean == pytest.approx(last.mean), "the curve ends at the error that is judged"
    assert 0.5 < last.mean < 1.5
    (noisy,) = (point for point in shown if point.panel == "noise")
    assert (noisy.n, noisy.mean) == (2, 25.0)
    assert (noisy.low, noisy.high) == pytest.approx((25 - 63.531, 25 + 63.531), abs=1e-3), "t of one degree of freedom"
    rows = paper.table(shown).splitlines()
    assert len(rows) == len(shown) + 1
    paper.draw(shown, tmp_path / "paper.png")
    assert (tmp_path / "paper.png").stat().st_size > 20_000
    assert not paper.read_noise(tmp_path / "none.csv")
    committed = paper.points(paper.evidence(), paper.read_noise(paper.NOISE))
    assert (DOCS / "data" / "paper.csv").read_text() == paper.table(committed), "python docs/paper.py writes it anew"
    text = (DOCS / "lenet5_1998.md").read_text()
    for series, head in (("plain", "| as they are |"), ("distorted", "| distorted (`augment=affine`) |")):
        points = [one for one in committed if (one.panel, one.series) == ("images", series)]
        cells = [f"{one.mean:.2f} ({one.low:.2f} to {one.high:.2f}, n={one.n})" for one in points]
        assert f"{head} {' | '.join(cells)} |" in text, "the table beside the figure is typed by hand"

"""The wheel carries all it needs: installed outside the repository, it sweeps from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import REPOSITORY
from processes import Elsewhere

NEEDED = (
    "lenet_lab/conf/config.yaml",
    "lenet_lab/plugins/hydra_plugins/lenet_lab_hydra/launcher.py",
    "lenet_lab/report/page.html.j2",
    "lenet_lab/report/page.css",
    "lenet_lab/report/page.js",
)


def call(words: list[str], cwd: Path, **extra: str) -> str:
    """Run and return what was printed; a failure shows everything."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "HYDRA_", "LENET_LAB_", "PYTHON"))}
    env = {**clean, "LENET_LAB_THREADS": "1", **extra}
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with the hatchling of this environment: without network."""
    out = tmp_path_factory.mktemp("wheel")
    call([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(REPOSITORY)], out)
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
def test_wheel_is_whole(wheel: Path) -> None:
    """Every file of the package and of conf/, and nothing else but its own metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = call(["git", "ls-files", "--cached", "--others", "--exclude-standard", "lenet_lab", "conf"], REPOSITORY)
    there = [name for name in tracked.splitlines() if (REPOSITORY / name).exists()]
    assert names == {f"lenet_lab/{name}" if name.startswith("conf/") else name for name in there}
    assert names.issuperset(NEEDED)


def lab(python: Elsewhere, folder: Path, site: Path, *words: str) -> str:
    """The command line of the package that lies in `site`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "HYDRA_", "LENET_LAB_", "PYTHON"))}
    env = {**clean, "LENET_LAB_THREADS": "1", "PYTHONPATH": str(site)}
    done = python.call(["-m", "lenet_lab", *words], folder, env)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_wheel_sweeps_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    site, folder = tmp_path / "site", tmp_path / "elsewhere"
    folder.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    call([*pip, "--target", str(site), str(wheel)], folder)
    (tmp_path / "where.py").write_text("import lenet_lab; print(lenet_lab.__file__)")
    with Elsewhere(site) as python:
        where = python.call([str(tmp_path / "where.py")], folder, {}).stdout
        assert Path(where.strip()).is_relative_to(site)
        assert "2 trained" in lab(python, folder, site, "-m", "data=digits", "epochs=1", "pool=avg,max")
        assert "report on 2 runs" in lab(python, folder, site, "report")
    assert (folder / "reports" / "all" / "report.html").stat().st_size > 10_000
    assert (site / "bin" / "lenet-lab").exists()
    assert call([str(site / "bin" / "lenet-lab"), "--version"], folder, PYTHONPATH=str(site)).startswith("lenet_lab ")

"""docs/variants.md, followed to the letter in a copy of the repository."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY
from processes import Elsewhere

from lenet_lab import provenance
from lenet_lab.config.schema import BASES

PAGE = (REPOSITORY / "docs" / "variants.md").read_text()
FENCE = re.compile(r"(?:<!-- test: ([^>]*) -->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file that git knows, or would take."""
    folder = tmp_path_factory.mktemp("copy")
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    (folder / "lenet_lab" / "blocks" / "unfinished.py").write_text("class")  # and what somebody is in the middle of
    return folder


@pytest.fixture(scope="module")
def python(copy: Path) -> Iterator[Elsewhere]:
    """Python with the package of that copy."""
    with Elsewhere(copy) as server:
        yield server


def call(python: Elsewhere, words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """As somebody in that folder would."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "HYDRA_", "LENET_LAB_", "PYTHONPATH"))}
    env = {**clean, "LENET_LAB_THREADS": "1", "XDG_CACHE_HOME": str(folder / ".cache"), "COLUMNS": "200"}
    env["PYTHONPATH"] = str(folder)  # `make setup` there would have installed it
    assert words[0] == "python"
    if words[:3] == ["python", "-m", "pytest"]:  # wants to see modules imported
        command = [sys.executable, *words[1:]]
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return python.call(words[1:], folder, env)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_to_the_letter(copy: Path, python: Elsewhere) -> None:
    said = follow(python, copy)
    assert re.search(r"^1 passed", "".join(said), re.MULTILINE), "the tests have found the new file"
    assert (
        "| `sloped` | Leaky ReLU whose slope below zero is a factor |" in (copy / "docs/configuration.md").read_text()
    )
    table = (copy / "reports/all/arms.csv").read_text()
    for label in ("0.01", "0.3"):
        assert label in table
    assert not (REPOSITORY / "lenet_lab/blocks/sloped.py").exists()


def follow(python: Elsewhere, copy: Path) -> list[str]:
    """What the page's commands say, after they have ended as the page says."""
    said: list[str] = []
    for match in FENCE.finditer(PAGE):
        note, language, text = match.groups()
        if language in ("python", "yaml"):
            file = copy / re.findall(r"`((?:lenet_lab|conf)/[^`]+)`", PAGE[: match.start()])[-1]
            assert not file.exists(), "a new file"
            file.write_text(text)
        elif language == "text":
            assert text in said
        else:
            assert language == "bash"
            for line in text.splitlines():
                appended = re.fullmatch(r"with (.+) appended", note or "")
                done = call(python, shlex.split(f"{line} {appended[1]}" if appended else line), copy)
                assert done.returncode == (2 if note == "refused" else 0), f"{line}\n{done.stdout}\n{done.stderr}"
                said.append(done.stderr if note == "refused" else done.stdout)
    return said


CODE = """
import sys
from importlib import import_module
from lenet_lab import provenance
edited = [name for name in sys.argv[1:] if hasattr(import_module(name), "EDITED")]
print(provenance.code_digest(), *edited)
"""


@pytest.mark.slow
def test_a_job_states_the_code_that_it_trains_with(copy: Path, python: Elsewhere) -> None:
    """That which its sweep's server has imported: every module that decides a number is edited under its eyes."""
    (copy / "code.py").write_text(CODE)
    before = call(python, ["python", str(copy / "code.py")], copy).stdout.split()
    edited = []
    for part in provenance.TRAINING:
        found = copy / "lenet_lab" / part
        for path in sorted(found.rglob("*.py")) if found.is_dir() else [found]:
            if path.name not in ("sloped.py", "unfinished.py"):  # the page's test has put the first there since
                path.write_text(path.read_text() + "\nEDITED = True\n")
                edited.append(
                    path.relative_to(copy).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
                )
    after = call(python, ["python", str(copy / "code.py"), *edited], copy).stdout.split()
    assert len(edited) > 50
    assert len(after) == 1, f"imported after they were edited: {after[1:]}"
    assert after[0] == before[0]
    asked = [sys.executable, "-c", "from lenet_lab import provenance; print(provenance.code_digest())"]
    now = subprocess.run(asked, cwd=copy, env={"PYTHONPATH": str(copy)}, capture_output=True, text=True, check=True)
    assert now.stdout.strip() != before[0], "a sweep that starts now states another code"


def test_the_table_of_base_classes_is_that_of_the_schema() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([\w.]+)` \|", PAGE, re.MULTILINE)
    assert dict(rows) == {group: f"{base.__module__}.{base.__name__}" for group, base in BASES.items()}

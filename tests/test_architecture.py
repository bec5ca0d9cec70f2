"""Imports point one way, heavy libraries stay in their rooms, and `--help` loads none of them."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "lenet_lab"

# each layer may import itself and what stands above it here
LAYERS = (
    ("records", "study", "outcome", "signals", "blocks", "stats"),
    ("data", "models", "objectives", "optim"),
    ("engines",),
    ("tracking", "provenance"),
    ("claims", "report"),
    (
        "config",
        "run",
        "cell",
        "fitted",
        "train",
        "packs",
        "outputs",
        "distributed",
        "rank",
        "rerun",
        "tracked",
        "bench",
        "sweeps",
        "plugins",
    ),
    ("commands",),
    ("cli", "__main__"),
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

# library -> the parts that may import it
ROOMS = {
    "mlflow": ("tracking",),
    "hydra": ("config", "run", "sweeps", "plugins", "commands", "cli"),
    "omegaconf": ("config", "run", "sweeps", "plugins", "commands", "cli"),
    "pytorch_lightning": ("engines", "data/module.py", "run", "bench/contenders.py"),
    "matplotlib": ("report",),
}
# the server that jobs are forked from imports what they need, and does nothing else
EXEMPT = ("sweeps/preload.py",)

FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def part_of(file):
    """`engines/fit.py` -> `engines`, `run.py` -> `run`."""
    return file.split("/")[0].removesuffix(".py")


def imports(file):
    """Every module that a file imports, inside functions too, with the line that does it."""
    for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            yield str(node.module), node.lineno
            if node.module == "lenet_lab":
                yield from ((f"lenet_lab.{alias.name}", node.lineno) for alias in node.names)


def test_every_part_has_its_place():
    """A new part of the package must say where it stands."""
    parts = {part_of(file) for file in FILES} - {"__init__"}
    assert parts <= set(LEVEL), f"not in LAYERS: {sorted(parts - set(LEVEL))}"


@pytest.mark.parametrize("file", FILES)
def test_imports_point_one_way(file):
    wrong = []
    for module, line in imports(file):
        other = module.split(".")[1] if module.startswith("lenet_lab.") else None
        if other in LEVEL and LEVEL[other] > LEVEL.get(part_of(file), 0):
            wrong.append(f"lenet_lab/{file}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("file", [file for file in FILES if file not in EXEMPT])
def test_libraries_stay_in_their_rooms(file):
    wrong = []
    for module, line in imports(file):
        rooms = ROOMS.get(module.split(".")[0])
        if rooms is not None and part_of(file) not in rooms and file not in rooms:
            wrong.append(f"lenet_lab/{file}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


HEAVY = {"torch", "pytorch_lightning", "mlflow", "matplotlib", "sklearn", "pandas", "scipy"}


@pytest.mark.parametrize(
    ("words", "environment", "shown"),
    [
        (["--help"], {}, "norm: bn, gn, in, ln, none"),
        (["plan", "--help"], {}, "What the same command without `plan` would do"),
        (["status", "--help"], {}, "--store"),
        (["--version"], {}, "lenet_lab "),
        (["-sc", "query=bash"], {"COMP_LINE": "lenet-lab norm=", "COMP_POINT": "15"}, "norm=gn"),
    ],
    ids=["help", "plan-help", "status-help", "version", "completion"],
)
def test_help_and_completion_are_quick(words, environment, shown, tmp_path):
    """None of them imports a heavy library, seen in Python's own log of imports."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "lenet_lab", *words],
        cwd=tmp_path,
        env={**os.environ, **environment, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert shown in result.stdout
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in result.stderr.splitlines() if "|" in line}
    assert "lenet_lab" in loaded
    assert not loaded & HEAVY
    assert not list(tmp_path.iterdir()), "asking for help leaves nothing behind"

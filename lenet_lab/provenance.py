"""What a run's numbers rest on: code, libraries, machine, and how it was executed."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
TRAINING = ("blocks", "data", "models", "objectives.py", "optim", "engines")
LIBRARIES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "hydra-core",
    "omegaconf",
    "mlflow",
    "numpy",
    "scikit-learn",
)
SECRET = re.compile(r"(pass(word|wd)?|secret|token|api[-_]?key|access[-_]?key|credential|auth)", re.IGNORECASE)


def training_files() -> Iterator[Path]:
    """The modules that decide a run's numbers."""
    for part in TRAINING:
        root = PACKAGE / part
        yield from sorted(root.rglob("*.py")) if root.is_dir() else [root]


@cache
def code_digest() -> str:
    """SHA-256 (hex) of the modules that decide a run's numbers, by name and content."""
    digest = hashlib.sha256()
    for path in training_files():
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def git() -> tuple[str, str]:
    """The commit that the package lies in and what differs from it; empty strings outside a repository."""
    repository = PACKAGE.parent
    if not (repository / ".git").exists():
        return "", ""
    try:
        commit = _git(repository, "rev-parse", "HEAD").strip()
        return commit, _git(repository, "diff", "HEAD", "--", "lenet_lab", "conf")
    except (OSError, subprocess.SubprocessError):
        return "", ""


def _git(repository: Path, *words: str) -> str:
    command = ["git", "-C", str(repository), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


@cache
def _compiler() -> str:
    """What the compiler that torch asks calls itself, empty where it says nothing."""
    try:
        words = [os.environ.get("CXX") or "g++", "--version"]
        said = subprocess.run(words, check=True, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.partition("\n")[0].strip()


@cache
def versions() -> Mapping[str, str]:
    """The libraries that training rests on, and Python."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


@cache
def environment() -> str:
    """Every installed distribution, `name==version`, a line each.

    Read off the names of the `.dist-info` folders on the path: parsing every metadata file costs a second.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        for path in Path(folder or ".").glob("*.dist-info"):
            name, _, version = path.name.removesuffix(".dist-info").partition("-")
            found.setdefault(name.lower().replace("_", "-"), version)
    return "".join(f"{name}=={version}\n" for name, version in sorted(found.items()))


def execution(how: Mapping[str, Any], device: str, engine: str = "single") -> dict[str, Any]:
    """How a run was executed. Equal records: equal numbers, bit for bit; otherwise to float tolerance."""
    compiler = {"compiler": _compiler()} if how.get("compiled") and device == "cpu" else {}
    return {
        **how,
        **compiler,
        "engine": engine,
        "device": device,
        "code": code_digest(),
        "versions": dict(versions()),
        "machine": platform.machine(),
    }


def redact(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same with every value whose key names a secret, and every password inside a URI, taken out."""
    return {key: "[redacted]" if SECRET.search(key) else redact_text(value) for key, value in values.items()}


def redact_text(value: Any) -> Any:
    """A text without the passwords of the URIs in it."""
    return re.sub(r"(\w+://)[^/\s@]+@", r"\1[redacted]@", value) if isinstance(value, str) else value

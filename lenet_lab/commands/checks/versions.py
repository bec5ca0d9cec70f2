"""Python, the libraries, and whether they fit each other."""

from __future__ import annotations

import platform
import shlex
import tomllib
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING

from lenet_lab.commands.checks import Finding
from lenet_lab.commands.checks.probe import GROUPS, Probes
from lenet_lab.provenance import PACKAGE

if TYPE_CHECKING:
    from packaging.requirements import Requirement

NAME = "lenet_lab"
# whose own requirements are looked at, besides this package's
LIBRARIES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "omegaconf", "mlflow")
SHOWN = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "mlflow")
DISTRIBUTION = {"hydra": "hydra-core", "pytorch_lightning": "pytorch-lightning", "sklearn": "scikit-learn"}


def python() -> Iterator[Finding]:
    """Whether this Python is one that the package is made for."""
    from packaging.specifiers import SpecifierSet

    allowed, found = SpecifierSet(_own()[0]), platform.python_version()
    if allowed.contains(found, prereleases=True):
        yield Finding("python", "ok", found)
    else:
        yield Finding("python", "problem", f"{found}; needed: {allowed}", "make PYTHON=python3.11 setup")


def requirements() -> Iterator[Finding]:
    """What this package requires, against what is installed."""
    wrong = 0
    for need in _needs(_own()[1]):
        found = _version(need.name)
        if found is None or not need.specifier.contains(found, prereleases=True):
            wrong += 1
            state = "is missing" if found is None else f"is {found}"
            needed = f"; needed: {need.specifier}" if need.specifier else ""
            yield Finding("libraries", "problem", f"{need.name} {state}{needed}", _pip(_plain(need)))
    if not wrong:
        yield Finding("libraries", "ok", ", ".join(f"{name} {_version(name)}" for name in SHOWN))


def pair() -> Iterator[Finding]:
    """Whether torch and torchvision, whose operators are built for one torch, fit: by torchvision's own word."""
    torch, vision = _version("torch"), _version("torchvision")
    if torch is None or vision is None:
        return
    need = next((need for need in _needs(metadata.requires("torchvision") or []) if need.name == "torch"), None)
    if need is None or need.specifier.contains(torch, prereleases=True):
        yield Finding("torch pair", "ok", f"torchvision {vision} takes torch{need.specifier if need else ''}")
    else:
        found = f"torchvision {vision} needs torch{need.specifier}, and torch is {torch}"
        yield Finding("torch pair", "problem", found, mend_pair())


def libraries() -> Iterator[Finding]:
    """What the libraries require of each other."""
    wrong = 0
    for library in LIBRARIES:
        for need in _needs(_requires(library)):
            found = _version(need.name)
            if (library, need.name) == ("torchvision", "torch"):
                continue
            if found is None or not need.specifier.contains(found, prereleases=True):
                wrong += 1
                state = "is missing" if found is None else f"is {found}"
                text = f"{library} needs {_plain(need)}, which {state}"
                yield Finding("fit", "warning", text, _pip(library, _plain(need)))
    if not wrong:
        yield Finding("fit", "ok", "the libraries fit each other, by their own requirements")


def imports(probes: Probes) -> Iterator[Finding]:
    """Whether the libraries can be imported, torchvision's compiled operators among them."""
    answers, wrong = probes.answers, 0
    for module in (module for group in GROUPS for module in group):
        error = answers.get(module, {}).get("error", "was not tried, for the import before it did not end")
        if error is not None:
            wrong += 1
            top = module.split(".")[0]
            name = DISTRIBUTION.get(top, top)
            mend = mend_pair(force=True) if name in ("torch", "torchvision") else _pip("--force-reinstall", name)
            yield Finding("imports", "problem", f"{module}: {error}", mend)
    if not wrong:
        yield Finding("imports", "ok", "every library can be imported, torchvision's operators work")


def mend_pair(force: bool = False) -> str:
    """The command that gives torch a torchvision that fits: pip chooses it, by torchvision's own requirement."""
    torch = _version("torch") or ""
    own = next((need for need in _needs(_own()[1]) if need.name == "torch"), None)
    public = torch.partition("+")[0]
    keep = own is None or (torch and own.specifier.contains(torch, prereleases=True))
    wanted = f"torch=={public}" if keep and torch else _plain(own) if own else "torch"
    return _pip("--force-reinstall" if force else "--upgrade", wanted, "torchvision")


def _own() -> tuple[str, list[str]]:
    """The Pythons that this package takes and what it requires: installed, or run from its repository."""
    try:
        found = metadata.metadata(NAME)
        return found["Requires-Python"] or "", metadata.requires(NAME) or []
    except metadata.PackageNotFoundError:
        project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
        return project["requires-python"], project["dependencies"]


def _requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def _needs(lines: list[str]) -> list[Requirement]:
    """The requirements that hold here, those of extras left out."""
    from packaging.requirements import Requirement

    parsed = [Requirement(line) for line in lines]
    return [need for need in parsed if need.marker is None or need.marker.evaluate({"extra": ""})]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _plain(need: Requirement) -> str:
    return f"{need.name}{need.specifier}"


def _pip(*words: str) -> str:
    return shlex.join(["pip", "install", *words])

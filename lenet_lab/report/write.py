"""Put a report into a folder: all of it or nothing, and never over anybody else's files."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from lenet_lab.records import LabError
from lenet_lab.report import csv, figures, html, latex, markdown
from lenet_lab.report.facts import Facts, as_json
from lenet_lab.report.figures import Images

MARKER = ".lenet_lab_report"
_MARKER_TEXT = b"Written by lenet_lab report, which replaces this folder as a whole.\n"
_TEXTS = ("report.md", "report.tex", "arms.csv", "comparisons.csv", "effects.csv", "runs.csv", "facts.json")
_STALE_S = 3600.0


def render(facts: Facts, images: Images | None = None) -> dict[str, bytes]:
    """Every file of the report, by its path inside the folder; the same facts give the same bytes."""
    drawn = figures.render(facts, images)
    return {
        MARKER: _MARKER_TEXT,
        **texts(facts),
        "report.html": html.render(facts, drawn).encode(),
        **{f"figures/{name}": content for name, content in drawn.items()},
    }


def texts(facts: Facts) -> dict[str, bytes]:
    """The files that the runs alone decide, on any machine."""
    made = {
        "report.md": markdown.render(facts),
        "report.tex": latex.render(facts),
        "arms.csv": csv.arms(facts),
        "comparisons.csv": csv.comparisons(facts),
        "effects.csv": csv.effects(facts),
        "runs.csv": csv.runs(facts),
        "facts.json": as_json(facts),
    }
    return {name: text.encode() for name, text in made.items()}


def stale(facts: Facts, folder: Path) -> list[str]:
    """The files of a report that are not what these facts make: figures aside, which differ between machines."""
    wrong = [name for name, content in texts(facts).items() if _content(folder / name) != content]
    page = _content(folder / "report.html") or b""
    return wrong if html.seal(facts).encode() in page else [*wrong, "report.html"]


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def write(facts: Facts, out_dir: Path | str, images: Images | None = None) -> Path:
    """Write the report to `out_dir`; returns the folder.

    The files are written to a folder beside it, which then takes its place in one step: whoever stops this,
    or reads meanwhile, finds the old report whole or the new one. Raises LabError, with nothing changed,
    where the folder holds anything but an earlier report, or cannot be written.
    """
    target = Path(out_dir).resolve()
    _check(target)
    content = render(facts, images)
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        _fill(fresh, content)
        _put(fresh, target)
    except OSError as error:
        raise LabError(f"report: cannot write {out_dir}: {error.strerror or error}") from error
    finally:
        _remove(fresh)
    return target


def _known() -> set[str]:
    drawings = {f"figures/{name}.{kind}" for name in figures.ALT for kind in ("svg", "png")}
    return {MARKER, "report.html", "figures", *_TEXTS} | drawings


def _check(target: Path) -> None:
    """Refuse a folder with files that are no part of a report; an empty or missing one is fine."""
    try:
        if not target.exists():
            return
        if not target.is_dir():
            raise LabError(f"report: {target} is a file; name a folder")
        held = sorted(path.relative_to(target).as_posix() for path in target.rglob("*"))
    except OSError as error:
        raise LabError(f"report: cannot read {target}: {error.strerror or error}") from error
    ours = (target / MARKER).is_file()
    foreign = [name for name in held if not ours or name not in _known()]
    if foreign:
        raise LabError(
            f"report: {target} holds {foreign[0]!r}, which is no part of a report; nothing was written; "
            "name an empty or a new folder"
        )


def _fill(folder: Path, content: Mapping[str, bytes]) -> None:
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _put(fresh: Path, target: Path) -> None:
    """Give `fresh` the place of `target`; what was there is then at `fresh`."""
    if not target.exists():
        fresh.rename(target)
        return
    shutil.copymode(target, fresh)
    if _exchange(fresh, target):
        return
    # No exchange on this system: for an instant neither is in place, but both are whole.
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old")
    target.rename(aside)
    try:
        fresh.rename(target)
    except OSError:
        aside.rename(target)
        raise
    aside.rename(fresh)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step where the system can (Linux: renameat2 with RENAME_EXCHANGE)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    at_cwd, exchange = -100, 2
    return renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), ctypes.c_uint(exchange)) == 0


def _sweep(target: Path) -> None:
    """Remove what a killed write left beside the target; a recent one may still be at work."""
    for path in target.parent.glob(f".{target.name}.????????.partial"):
        if time.time() - path.stat().st_mtime > _STALE_S:
            _remove(path)


def _remove(folder: Path) -> None:
    """Remove a report's files, then the folder; what somebody else put there stays, with the folder."""
    for name in sorted(_known(), reverse=True):
        path = folder / name
        try:
            path.rmdir() if path.is_dir() else path.unlink()
        except OSError:
            continue
    try:
        folder.rmdir()
    except OSError:
        return

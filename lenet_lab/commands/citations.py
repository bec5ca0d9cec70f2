"""Which runs are cited: their ids stand in a report, an export, or whatever else the user names."""

from __future__ import annotations

import argparse
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from lenet_lab.records import LabError

REPORTS = Path("reports")
TEXTS = {".csv", ".html", ".ipynb", ".json", ".jsonl", ".md", ".rst", ".tex", ".txt", ".yaml"}
_RUN_ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_CHUNK = 1 << 20


def add_cited(parser: argparse.ArgumentParser) -> None:
    """The option `--cited`."""
    parser.add_argument(
        "--cited",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder or file whose reports, exports and texts cite runs, besides ./reports; may be repeated",
    )


def cited(more: Sequence[Path]) -> dict[str, str]:
    """Run id -> the first file that names it, in ./reports and in what `--cited` gave.

    Raises:
        LabError: something there cannot be read, so that what it cites is not known.
    """
    found: dict[str, str] = {}
    for path in more:
        if not path.exists():
            raise LabError(f"--cited={path}: not there; name a folder or a file")
    for root in [*([REPORTS] if REPORTS.is_dir() else []), *more]:
        for path in _files(root):
            try:
                for run_id in _ids(path):
                    found.setdefault(run_id, str(path))
            except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
                raise LabError(f"{path}: cannot be read ({error}), so which runs it cites is not known") from None
    return found


def _files(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise LabError(f"{error.filename}: cannot be read ({error.strerror}), so which runs it cites is not known")

    if root.is_file():
        yield root
        return
    for folder, names, files in os.walk(root, onerror=refuse):
        names.sort()
        yield from (Path(folder) / name for name in sorted(files) if Path(name).suffix.lower() in {*TEXTS, ".zip"})


def _ids(path: Path) -> Iterator[str]:
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if Path(member.filename).suffix.lower() in TEXTS:
                    with archive.open(member) as content:
                        yield from _in(content)
    else:
        with path.open("rb") as content:
            yield from _in(content)


def _in(content: IO[bytes]) -> Iterator[str]:
    """The ids in a stream of any length; chunks overlap, so that none is cut in two."""
    tail, last = b"", False
    while not last:
        chunk = content.read(_CHUNK)
        last = not chunk
        text = tail + chunk.lower()
        tail = b"" if last else text[-64:]
        end = len(text) if last else len(text) - 33
        for match in _RUN_ID.finditer(text):
            if match.start() < end or last:
                yield match[0].decode()

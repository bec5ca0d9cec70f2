"""The data sets: found, and what they must be."""

from __future__ import annotations

from collections.abc import Iterator

from lenet_lab.commands.checks import Finding
from lenet_lab.records import LabError


def data(root: str | None) -> Iterator[Finding]:
    """Look for every set that is files, where a run would, and verify those that are there."""
    from lenet_lab.data.files import IdxSource, Where
    from lenet_lab.data.sources import SOURCES

    yield Finding("data", "ok", "digits: part of scikit-learn, no files needed")
    for name, source in SOURCES.items():
        if not isinstance(source, IdxSource) or source.drawn:
            continue
        where = Where(name, root, download=False)
        looked = [raw for _, folder in where.roots() if (raw := folder / source.folder / "raw").is_dir()]
        if not looked and all(folder.is_dir() for key, folder in where.roots() if key != "the cache"):
            if name == "mnist":
                do = f"without a network: set LENET_LAB_DATA (or data.root) to a folder with {source.folder}/raw"
                yield Finding("data", "warning", f"{name}: not here; the first run downloads it", do)
            else:
                yield Finding("data", "ok", f"{name}: not here; a run that wants it downloads it")
            continue
        try:
            raw = source.locate(where)
            source.read(where)
        except LabError as error:
            do = "mend or remove what it names; what is removed is downloaded again"
            yield Finding("data", "problem", f"{name}: {error}", do)
        else:
            yield Finding("data", "ok", f"{name}: {raw}, verified")

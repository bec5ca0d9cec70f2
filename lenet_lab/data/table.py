"""`data=table`: one's own images as rows of pixels, in Parquet or CSV."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lenet_lab.data.own import Found, Own, OwnSource, Part, check_same, square
from lenet_lab.records import LabError

MAX_ROWS = 1_000_000
MAX_SIDE = 256


@dataclass(frozen=True, kw_only=True)
class Table(Own):
    """A column of labels and n*n columns of grey values 0..255, row by row of an image; 784 of them as in MNIST.

    Classes are the labels that occur: sorted as numbers where they all are whole numbers, else as text.

    Attributes:
        train: the file: .parquet, .csv or .csv.gz, the last two with a line of column names.
        test: another of the same classes; null: a test part is held out.
        label: the name of the labels' column; all other columns are pixels, in the file's order.
    """

    name: Literal["table"] = "table"
    train: str | None = None
    test: str | None = None
    label: str = "label"

    @property
    def source(self) -> TableSource:
        return TableSource(self.test_share, self.test_seed, self._given("train"), self.test, self.label)


@dataclass(frozen=True)
class TableSource(OwnSource):
    """The files behind it."""

    train: str
    test: str | None
    label: str

    def find(self) -> Found:
        train = _part("data.train", Path(self.train).expanduser(), self.label)
        test = None if self.test is None else _part("data.test", Path(self.test).expanduser(), self.label)
        if test is not None:
            check_same(train.names, test.names, f"data.test: {self.test}")
        names = set(train.names)
        numeric = all(name.removeprefix("-").isdecimal() for name in names)
        return Found(tuple(sorted(names, key=int if numeric else None)), train, test)


def _part(key: str, path: Path, label: str) -> Part:
    frame = _frame(key, path)
    if label not in frame.columns:
        first = ", ".join(str(name)[:20] for name in frame.columns[:3])
        raise LabError(f"{key}: {path} has no column {label!r} (data.label); its columns: {first}, ...")
    names = _names(key, path, frame.pop(label))
    side = math.isqrt(frame.shape[1])
    if side * side != frame.shape[1] or not 2 <= side <= MAX_SIDE:
        raise LabError(f"{key}: {path} has {frame.shape[1]} columns of pixels; allowed: n*n, as 784 for 28x28")
    if not names:
        raise LabError(f"{key}: {path} has no rows")
    return Part(square(_pixels(key, path, frame).reshape(-1, side, side)), names)


def _frame(key: str, path: Path) -> Any:
    """The whole file by pandas."""
    read = _reader(path.name.lower())
    if read is None:
        raise LabError(f"{key}={path}: is no table; allowed: .parquet, .csv, .csv.gz")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = read(path)
    except OSError as error:
        raise LabError(f"{key}: cannot read {path} ({error.strerror or 'damaged'})") from None
    except Exception as error:  # whatever damage makes of a table
        raise LabError(f"{key}: {path}: {' '.join(str(error).split())[:120] or 'is damaged'}") from None
    if len(frame) > MAX_ROWS:
        raise LabError(f"{key}: {path} has more than {MAX_ROWS:,} rows, the most that are read")
    return frame


def _reader(name: str) -> Callable[[Path], Any] | None:
    import pandas as pd

    if name.endswith((".csv", ".csv.gz")):
        return lambda path: pd.read_csv(path, nrows=MAX_ROWS + 1, low_memory=False)
    return _parquet if name.endswith(".parquet") else None


def _parquet(path: Path) -> Any:
    import pandas as pd
    from pyarrow.parquet import ParquetFile

    with path.open("rb") as file:
        rows = ParquetFile(file).metadata.num_rows
    if rows > MAX_ROWS:
        raise ValueError(f"has more than {MAX_ROWS:,} rows, the most that are read")
    return pd.read_parquet(path)


def _names(key: str, path: Path, column: Any) -> list[str]:
    """The label of each row as text; whole numbers without a point."""
    if column.isna().any():
        row = int(np.flatnonzero(column.isna())[0]) + 1
        raise LabError(f"{key}: {path}: row {row} has no label")
    if column.dtype.kind == "f" and (column == column.round()).all():
        column = column.astype(np.int64)
    return [str(value) for value in column]


def _pixels(key: str, path: Path, frame: Any) -> NDArray[np.uint8]:
    for name, dtype in frame.dtypes.items():
        if dtype.kind not in "biuf":
            raise LabError(f"{key}: {path}: column {str(name)[:40]!r} holds other values than numbers")
    values = frame.to_numpy()
    wrong = ~((values >= 0) & (values <= 255) & (values == np.floor(values)))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        value, name = values[row, column], str(frame.columns[column])[:40]
        raise LabError(
            f"{key}: {path}: row {row + 1}, column {name!r} holds {value:g}; allowed: whole numbers from 0 to 255"
        )
    return values.astype(np.uint8)

"""Factors of a study: which grid the arms fill, and how it is laid out as rows and columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from lenet_lab.records import LabError
from lenet_lab.report.facts import Arm, Pivot
from lenet_lab.report.labels import printable
from lenet_lab.report.question import Question

Params = Mapping[str, str]
MOST_FACTORS = 3


def factors_of(arms: Sequence[Arm]) -> tuple[str, ...]:
    """The settings of which the arms are a full grid, two or more; none where they are not one."""
    names = list(dict.fromkeys(name for arm in arms for name, _ in arm.settings))
    values = [dict(arm.settings) for arm in arms]
    if len(names) < 2 or any(set(one) != set(names) for one in values):
        return ()
    cells = {tuple(one[name] for name in names) for one in values}
    size = 1
    for name in names:
        size *= len({one[name] for one in values})
    return tuple(names) if size == len(cells) == len(arms) else ()


def pivot(
    arms: Sequence[Arm], factors: Sequence[str], base: int | None, fixed: Mapping[int, Params], question: Question
) -> Pivot | None:
    """The table of cells: as asked for, else the factors of a small full grid.

    Args:
        fixed: arm number -> the params that its runs share.

    Raises:
        LabError: a param that no arm has, or a cell that several arms share.
    """
    if not (question.rows or question.columns):
        if not 2 <= len(factors) <= MOST_FACTORS:
            return None
        rows, columns = tuple(factors[:-1]), tuple(factors[-1:])
    else:
        rows, columns = question.rows, question.columns
    value = {(arm.number, name): _value(arm, fixed[arm.number], name) for arm in arms for name in (*rows, *columns)}
    for name in (*rows, *columns):
        if all(value[arm.number, name] is None for arm in arms):
            known = sorted({key for arm in arms for key, _ in arm.settings})
            raise LabError(f"report: {name}: no arm has such a factor; what varies is: {', '.join(known) or 'nothing'}")
    place: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
    for arm in arms:
        where = tuple(tuple(value[arm.number, name] or "" for name in names) for names in (rows, columns))
        if where in place:
            apart = sorted(set(arm.settings) ^ set(arms[place[where[0], where[1]] - 1].settings))
            more = sorted({name for name, _ in apart} - {*rows, *columns})
            raise LabError(
                f"report: {' '.join((*where[0], *where[1]))!r}: several arms share this cell; "
                f"add {', '.join(more) or 'another factor'} to --rows or --columns"
            )
        place[where[0], where[1]] = arm.number
    down, across = (
        tuple(sorted({key[i] for key in place}, key=partial(sort_key, first=_first(value, base, names))))
        for i, names in enumerate((rows, columns))
    )
    return Pivot(rows, columns, down, across, tuple(tuple(place.get((r, c)) for c in across) for r in down))


def _first(value: Mapping[tuple[int, str], str | None], base: int | None, names: Sequence[str]) -> list[str]:
    return [value.get((base or 0, name)) or "" for name in names]


def _value(arm: Arm, params: Params, name: str) -> str | None:
    shown = dict(arm.settings)
    found = shown.get(name, params.get(f"{name}.value", params.get(name)))
    return None if found is None else printable(found, 80)


def sort_key(values: Sequence[str], first: Sequence[str] = ()) -> list[tuple[bool, bool, float, str]]:
    """The baseline's values before the others, then numbers by size, then words in their order."""
    keys = []
    for place, text in enumerate(values):
        later = place >= len(first) or text != first[place]
        try:
            keys.append((later, False, float(text), text))
        except ValueError:
            keys.append((later, True, 0.0, text))
    return keys

"""What is wrong with the design of a sweep, a line each with what to do about it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from lenet_lab.cell import Ready, build, params
from lenet_lab.config.compose import Cell, compose_cell
from lenet_lab.config.keys import identity
from lenet_lab.records import LabError, RunRecord
from lenet_lab.stats import least_seeds, seeds_needed
from lenet_lab.study import Study

LEVEL, POWER = 0.95, 0.8
MORE_WEIGHTS = 1.01  # from here on a comparison is one of size as well
# factors that are asked about size or budget on purpose
OF_SIZE, OF_BUDGET = ("model",), ("epochs", "data", "data.train_size", "data.per_class", "early_stopping")
Arms = Mapping[str, Ready]


def lints(
    cells: Sequence[Ready], study: Study | None, records: Sequence[RunRecord], difference: float | None = None
) -> list[str]:
    """The findings about these cells; empty where the design is sound.

    Args:
        records: tracked runs, for the spread of those on the same data.
        difference: in test accuracy (0 to 1) that one hopes to see; None: the study's.
    """
    arms = {ready.arm: ready for ready in cells}
    found = [*_twice(cells), *_idle(arms), *_confounded(arms)]
    if len(arms) > 1:
        compared, wrong = _comparisons(arms, study)
        hoped = difference or (study.difference if study else None)
        found += [*wrong, *_seeds(cells, compared), *_power(cells, records, hoped)]
    return found


def _twice(cells: Sequence[Ready]) -> Iterator[str]:
    names: dict[str, list[str]] = {}
    for ready in cells:
        names.setdefault(ready.key, []).append(ready.name)
    again = [several for several in names.values() if len(several) > 1]
    if again:
        first = " and ".join(dict.fromkeys(again[0]))
        count = sum(len(several) - 1 for several in again)
        what = "1 cell is" if count == 1 else f"{count} cells are"
        yield f"{what} spelled twice; each is trained once: drop what repeats it ({first})"


def _idle(arms: Arms) -> Iterator[str]:
    """Arms with another identity whose network, data and training are the same."""
    alike: dict[str, list[Ready]] = {}
    for ready in arms.values():
        alike.setdefault(_effect(ready), []).append(ready)
    twins = [(several[0], other) for several in alike.values() for other in several[1:]]
    told: set[str] = set()
    for keys, one, other in sorted(((_telling(*pair), *pair) for pair in twins), key=lambda found: len(found[0])):
        if set(keys) <= told:  # these keys together change nothing because each of them does
            continue
        told.update(keys)
        words = [_swept(ready.cell) for ready in (one, other)]
        sides = [" ".join(f"{key}={side.get(key, 'default')}" for key in keys) for side in words]
        yield f"changes nothing: {' and '.join(sides)} build and train the same network; drop one of them"


def _telling(one: Ready, other: Ready) -> list[str]:
    """The swept keys in which two arms differ."""
    words = [_swept(ready.cell) for ready in (one, other)]
    return sorted(key for key in {**words[0], **words[1]} if words[0].get(key) != words[1].get(key))


def _effect(ready: Ready) -> str:
    """A digest of all that a configuration does: two arms that share it are one arm with two names."""
    config = replace(ready.config, seed=0)
    if config.model.engine != "gradient":
        return ready.arm
    net = build(config)
    weights = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        weights.update(name.encode() + tensor.contiguous().numpy().tobytes())
    whole = identity(ready.cell.resolved)
    for group in ("model", "pool", "norm", "activation", "init", "dropout", "head", "seed"):
        whole.pop(group, None)
    whole |= {"net": repr(net), "weights": weights.hexdigest(), "data": _data(config.data, whole["data"])}
    whole |= {"optimizer": _optimizer(config), "schedule": _course(config), "lr": None}
    whole |= {"weight_decay": None if config.weight_decay.value == 0 else whole["weight_decay"]}
    patience = config.early_stopping.value
    if patience is None or patience >= config.epochs:
        whole["early_stopping"] = config.early_stopping.monitor if config.data.val_size else None
    if not config.data.val_size:
        whole["checkpoint"] = "last"
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=repr).encode()).hexdigest()


def _data(data: Any, node: Mapping[str, Any]) -> dict[str, Any]:
    kept = dict(node)
    if kept.get("size") == 28:
        kept.pop("fit", None)
    if kept.get("val_size") == 0 and kept.get("train_size") is None and kept.get("per_class") is None:
        kept.pop("split_seed", None)
    return kept


def _optimizer(config: Any) -> Any:
    """torch's optimizer and its settings; without decay AdamW is Adam."""
    rate, decay = config.lr.value, config.weight_decay
    coupled = decay.value if decay.penalty == "l2" else 0.0
    weight = torch.nn.Parameter(torch.zeros(1))
    try:
        made = config.optimizer.build([weight], rate, coupled)
    except Exception:  # one that wants a whole network
        return repr(config.optimizer)
    settings = {key: value for key, value in made.defaults.items() if key not in ("lr", "fused", "foreach")}
    kind = type(made).__name__
    if coupled == 0 and isinstance(made, torch.optim.Adam):
        kind, settings = (
            "Adam",
            {k: v for k, v in settings.items() if k not in ("decoupled_weight_decay", "weight_decay")},
        )
    return [kind, repr(config.optimizer) if kind not in vars(torch.optim) else "", sorted(map(str, settings.items()))]


def _course(config: Any) -> list[float]:
    """The learning rate at ten places of every epoch."""
    steps = math.ceil(config.data.counts()[0] / config.batch_size.value)
    places = sorted({epoch * steps + steps * part // 10 for epoch in range(config.epochs) for part in range(10)})
    return [config.lr.value * config.schedule.factor(step, steps, config.epochs) for step in places]


def _confounded(arms: Arms) -> Iterator[str]:
    """Arms that one swept key alone sets apart, and that differ in size or in budget as well."""
    weights = {arm: _weights(ready) for arm, ready in arms.items()}
    budgets = {arm: (ready.config.epochs, ready.config.data.counts()[0]) for arm, ready in arms.items()}
    for key in sorted({key for ready in arms.values() for key in _swept(ready.cell)}):
        families = list(_along(arms, key))
        if key.partition(".")[0] not in OF_SIZE:
            spans = [[weights[arm] for arm in family if weights[arm]] for family in families]
            worst = max((span for span in spans if span), key=lambda span: max(span) / min(span), default=[1])
            if max(worst) > MORE_WEIGHTS * min(worst):
                more = 100 * (max(worst) / min(worst) - 1)
                yield (
                    f"confounded by size: along {key} networks have {min(worst):,} to {max(worst):,} parameters "
                    f"(+{more:.0f}%); match them (model.maps, model.units), or say so beside the result"
                )
        if key not in OF_BUDGET:
            mixed = next((pair for family in families if len(pair := {budgets[arm] for arm in family}) > 1), None)
            if mixed:
                shown = ", ".join(f"{epochs} x {images:,}" for epochs, images in sorted(mixed))
                yield (
                    f"confounded by budget: along {key} arms train on {shown} (epochs x images); set epochs and "
                    "data.train_size for all"
                )


def _along(arms: Arms, key: str) -> Iterable[list[str]]:
    """Families of arms that only this key sets apart."""
    families: dict[str, list[str]] = {}
    for arm, ready in arms.items():
        rest = {name: value for name, value in _swept(ready.cell).items() if name != key}
        families.setdefault(json.dumps(rest, sort_keys=True), []).append(arm)
    return [family for family in families.values() if len(family) > 1]


def _weights(ready: Ready) -> int:
    if ready.config.model.engine != "gradient":
        return 0
    return sum(p.numel() for p in build(ready.config).parameters() if p.requires_grad)


def _comparisons(arms: Arms, study: Study | None) -> tuple[int, list[str]]:
    """How many comparisons the family has, and what is wrong with the baseline."""
    if study is not None:
        try:
            return len(study.comparisons({arm: params(ready) for arm, ready in arms.items()})), []
        except LabError as error:
            return len(arms) - 1, [f"study={study.name}: {error}; mend its baseline or family, or add the arm"]
    base = _flat(compose_cell().resolved)
    swept = [_swept(ready.cell) for ready in arms.values()]
    keys = sorted(key for key in {key for words in swept for key in words} if len({w.get(key) for w in swept}) > 1)
    for ready in arms.values():
        flat = _flat(ready.cell.resolved)
        names = [name for name in {*flat, *base} if any(name == key or name.startswith(f"{key}.") for key in keys)]
        if all(flat.get(name) == base.get(name) for name in names):
            return len(arms) - 1, []
    wanted = ", ".join(f"{key}={_default(key, base)}" for key in keys)
    return len(arms) - 1, [f"no baseline: no arm has what the default configuration has ({wanted}); add it"]


def _default(key: str, base: Mapping[str, Any]) -> Any:
    chosen = compose_cell().choices.get(key)
    return base.get(key) if chosen is None else chosen


def _seeds(cells: Sequence[Ready], comparisons: int) -> Iterator[str]:
    n, needed = seeds_per_arm(cells), least_seeds(LEVEL, comparisons)
    if n < needed:
        family = f" ({comparisons} comparisons, Holm)" if comparisons > 1 else ""
        alone = least_seeds(LEVEL)
        yield (
            f"too few seeds: with {n} an exact sign-flip test cannot reach p < {1 - LEVEL:.2g}; "
            f'{alone} can for one comparison, {needed} for the family{family}: seed="range({needed})"'
            if needed > alone
            else f"too few seeds: with {n} an exact sign-flip test cannot reach p < {1 - LEVEL:.2g}; {alone} can: "
            f'seed="range({alone})"'
        )


def seeds_per_arm(cells: Sequence[Ready]) -> int:
    """The seeds of the arm that has fewest."""
    seeds: dict[str, set[int]] = {}
    for ready in cells:
        seeds.setdefault(ready.arm, set()).add(ready.config.seed)
    return min(len(several) for several in seeds.values())


def _power(cells: Sequence[Ready], records: Sequence[RunRecord], difference: float | None) -> Iterator[str]:
    if difference is None:
        return
    sd, source = spread(cells[0], records)
    n, needed = seeds_per_arm(cells), seeds_needed(math.sqrt(2) * sd, difference, LEVEL, POWER)
    if n < needed:
        yield (
            f"too few seeds for a difference of {100 * difference:g} points: {needed} find it {POWER:.0%} of the time, "
            f"here are {n} (spread of a run {100 * sd:.2f} points, {source}); more seeds, or hope for more"
        )


def spread(ready: Ready, records: Sequence[RunRecord]) -> tuple[float, str]:
    """The standard deviation of one run's test accuracy over seeds, and where it comes from.

    Pooled over the finished arms on the same data set; else the binomial error of the test set at 98% right, to which
    the spread over seeds came close wherever it was measured.
    """
    by_arm: dict[str, dict[int | None, float]] = {}
    for record in records:
        same = record.state == "complete" and record.params.get("data.name") == ready.config.data.name
        if same and "test/acc" in record.metrics:
            by_arm.setdefault(record.arm, {})[record.seed] = record.metrics["test/acc"]
    groups = [list(values.values()) for values in by_arm.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in groups)
    if freedom >= 4:
        squares = sum((value - sum(values) / len(values)) ** 2 for values in groups for value in values)
        if squares > 0:
            return math.sqrt(squares / freedom), f"from {freedom + len(groups)} finished runs on this data"
    test = ready.config.data.counts()[2]
    return math.sqrt(0.98 * 0.02 / test), f"supposed: the binomial error of {test:,} test images at 98%"


def _swept(cell: Cell) -> dict[str, str]:
    """The overrides of a cell by key, without the seed and what names no variant."""
    words = (word.lstrip("+~").partition("=") for word in cell.overrides)
    plain = {key: value.strip("'\"") for key, _, value in words}
    dropped = ("seed", "experiment", "name", "study", "tracking", "sweep", "hydra")
    return {key: value for key, value in plain.items() if key.partition(".")[0].partition("@")[0] not in dropped}


def _flat(resolved: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in resolved.items():
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        flat.update({f"{key}.{name}" if name else key: item for name, item in inner})
    return flat

"""What sets the arms of a comparison apart, in words: `pool=max norm=gn norm.groups=3`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import quote, urlsplit

Settings = tuple[tuple[str, str], ...]
Params = Mapping[str, str]

# The order in which a person reads a network: data, model and its blocks, then how it was trained.
_READING_ORDER = (
    "data", "model", "pool", "norm", "activation", "init", "dropout", "head", "loss", "optimizer", "lr",
    "batch_size", "weight_decay", "schedule", "averaging", "early_stopping", "augment", "epochs", "trainer",
)  # fmt: skip
_WHERE = ("data.root", "data.download", "trainer.accelerator", "trainer.threads", "trainer.compile", "trainer.strategy")
_CLIP = 80


@lru_cache(maxsize=1 << 16)
def printable(text: str, clip: int | None = None) -> str:
    """`text` with control, bidirectional and other invisible characters spelled out, clipped if need be.

    Names and parameters come from a store that anybody may have written to: an escape sequence must not reach
    a terminal, nor a line break the middle of a table.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return shown if clip is None or len(shown) <= clip else shown[: clip - 1] + "…"


def web_link(link: str | None) -> str | None:
    """The address, percent-encoded, if it leads to a web page (http or https); None for anything else."""
    try:
        if link is None or urlsplit(link).scheme not in ("http", "https"):
            return None
    except ValueError:
        return None
    return quote(link, safe="/:?#@&=+,;%~", errors="replace")


def settings(runs: Mapping[str, Sequence[Params]]) -> tuple[dict[str, Settings], Settings]:
    """The settings that tell arms apart, for each arm, and those common to all arms.

    `runs` maps each arm to the parameters of its runs. A group is shown by its option (`pool=max`); where
    arms with the same option differ in `<group>.<key>`, those arms show the key as well; where that key is
    the group's number (`lr.value`), the number stands for the group. What differs inside an arm is no factor.
    """
    arms = constant_params(runs)
    names = sorted({key for params in arms.values() for key in params}, key=reading_key)
    kept = {arm: {k: v for k, v in params.items() if not hidden(k)} for arm, params in arms.items()}
    shown: dict[str, list[tuple[str, str]]] = {arm: [] for arm in arms}
    for group in dict.fromkeys(name.partition(".")[0] for name in names):
        for arm, pairs in _group(group, kept).items():
            shown[arm] += pairs
    factors = {key for pairs in shown.values() for key, _ in pairs}
    common = tuple(
        (printable(name, _CLIP), printable(values.pop(), _CLIP))
        for name in names
        if name not in factors and not hidden(name) and not name.startswith("trainer.") and "._" not in name
        if len(values := {params.get(name, "") for params in arms.values()}) == 1
    )
    return {arm: tuple((printable(k), printable(v, _CLIP)) for k, v in pairs) for arm, pairs in shown.items()}, common


def labels(shown: Mapping[str, Settings], runs: Mapping[str, Sequence[Params]]) -> dict[str, str]:
    """One label an arm, no two alike: its settings; where those do not do, one more parameter, or its id."""
    arms = constant_params(runs)
    texts = {
        arm: _text(pairs) or f"model={printable(arms[arm].get('model', '?'), _CLIP)}" for arm, pairs in shown.items()
    }
    for twins in _alike(texts):
        rest = sorted({k for arm in twins for k in arms[arm]} - {"seed"})
        telling = [k for k in rest if hidden(k) and len({arms[arm].get(k) for arm in twins}) > 1]
        for arm in twins:
            extra = [(printable(k), printable(arms[arm][k], _CLIP)) for k in telling[:1] if k in arms[arm]]
            texts[arm] = _text((*shown[arm], *extra)) or texts[arm]
    for twins in _alike(texts):
        for arm in twins:
            texts[arm] += f" [{printable(arm, 12)}]"
    for twins in _alike(texts):
        for number, arm in enumerate(sorted(twins), 1):
            texts[arm] += f" #{number}"
    return texts


def changes(texts: Mapping[str, str], shown: Mapping[str, Settings], base: str, name: str) -> dict[str, str]:
    """The labels of arms that each change something of one of them, `base`: what they change; its own is `name`.

    All keep their labels where that does not tell them apart.
    """
    own = set(shown[base])
    short = {
        arm: name if arm == base else _text(tuple(p for p in pairs if p not in own)) for arm, pairs in shown.items()
    }
    return short if all(short.values()) and not _alike(short) else dict(texts)


def constant_params(runs: Mapping[str, Sequence[Params]]) -> dict[str, dict[str, str]]:
    """Each arm's parameters, without those that differ between the runs of any one arm."""
    seen: dict[str, dict[str, set[str]]] = {}
    for arm, several in runs.items():
        values = seen[arm] = defaultdict(set)
        for params in several:
            for key, value in params.items():
                values[key].add(value)
    loose = {key for values in seen.values() for key, found in values.items() if len(found) > 1}
    return {
        arm: {key: next(iter(found)) for key, found in values.items() if key not in loose}
        for arm, values in seen.items()
    }


def _group(group: str, arms: Mapping[str, Params]) -> dict[str, list[tuple[str, str]]]:
    """What each arm shows of one group."""
    by_option: dict[str | None, list[str]] = defaultdict(list)
    for arm, params in arms.items():
        by_option[params.get(group)].append(arm)
    shown: dict[str, list[tuple[str, str]]] = {arm: [] for arm in arms}
    number = f"{group}.value"
    for twins in by_option.values():
        keys = sorted({k for arm in twins for k in arms[arm] if k.startswith(f"{group}.")})
        for key in keys:
            if len({arms[arm].get(key) for arm in twins}) > 1:
                for arm in twins:
                    shown[arm] += [(key, arms[arm][key])] if key in arms[arm] else []
    numeric = any(key == number for pairs in shown.values() for key, _ in pairs)
    for arm, params in arms.items():
        if numeric:
            value = params.get(number, params.get(group))
            others = [pair for pair in shown[arm] if pair[0] != number]
            shown[arm] = ([] if value is None else [(group, value)]) + others
        elif len(by_option) > 1 and group in params:
            shown[arm].insert(0, (group, params[group]))
    return shown


def same_value(one: str, other: str) -> bool:
    """Whether two texts say the same: `0.001` and `1e-3` do."""
    try:
        return one == other or float(one) == float(other)
    except ValueError:
        return False


def hidden(name: str) -> bool:
    """Whether a parameter only says where or how things are shown, read or scheduled."""
    group = name.partition(".")[0]
    return group in ("name", "seed", "tracking", "sweep") or name in _WHERE


def reading_key(name: str) -> tuple[int, str]:
    group = name.partition(".")[0]
    return (_READING_ORDER.index(group) if group in _READING_ORDER else len(_READING_ORDER), name)


def _text(pairs: Settings) -> str:
    return " ".join(f"{key}={value}" for key, value in pairs)


def _alike(texts: Mapping[str, str]) -> list[list[str]]:
    by_text: dict[str, list[str]] = defaultdict(list)
    for arm in sorted(texts):
        by_text[texts[arm]].append(arm)
    return [arms for arms in by_text.values() if len(arms) > 1]

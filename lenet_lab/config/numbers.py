"""Groups that stand for a number: `lr=0.001,0.0042` beside `lr=paper`.

Hydra takes an option's name as text and refuses a bare number ("Got float"), so a number is quoted before Hydra
parses it, and `numbers://` (see `plugins/hydra_plugins`) serves the quoted name as `{value: ...}` with the group's
other keys, so that `dropout=0.5 dropout.place=conv` works and `dropout=0` is the cell that `dropout=none` is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lenet_lab.config.paths import conf_dir
from lenet_lab.records import LabError

NO_VALUE = "no value at all; allowed: ranges and lists of one or more"
# group -> the keys beside the number, as the schema has them where nothing is said
NUMBER_GROUPS: dict[str, dict[str, Any]] = {
    "lr": {},
    "batch_size": {},
    "weight_decay": {"penalty": "l2"},
    "dropout": {"place": "fc"},
    "early_stopping": {"monitor": "val/loss", "min_delta": 0.0},
}


def number(text: str) -> int | float | None:
    """The number that an option's name spells, or None where it spells none."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return None


def quote(override: str) -> str:
    """One override as Hydra can read it: numbers of a number group quoted, lists and ranges of them too.

    Anything else comes back unchanged, mistakes included: Hydra words those itself.

    Raises:
        LabError: an `interval`, which no grid can visit; a glob; no key; null or a boolean where an option is meant.
    """
    key, _, text = override.partition("=")
    if not key.strip("+~ "):
        raise LabError(f"{override}: nothing before the equals sign; allowed: KEY=VALUE")
    if key.isidentifier() and text.lower() in ("null", "true", "false") and (conf_dir() / key).is_dir():
        names = sorted(file.stem for file in (conf_dir() / key).glob("*.yaml"))
        raise LabError(f"{override}: no such option; allowed: {', '.join(names)}")
    if key.lstrip("+") not in NUMBER_GROUPS:
        return override
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob, IntervalSweep
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return override
    if parsed.is_delete():
        return override
    value = parsed.value()
    if isinstance(value, IntervalSweep):
        raise LabError(f"{override}: a grid cannot visit an interval; list the values ({key}=0.001,0.01) or use range")
    if isinstance(value, Glob):
        raise LabError(
            f"{override}: a glob matches options by their names; list the values ({key}=0.001,0.01) or use range"
        )
    if parsed.is_sweep_override() and parsed.is_discrete_sweep():
        values: Iterable[Any] = [_unquoted(text) for text in parsed.sweep_string_iterator()]
    elif isinstance(value, list):
        values = value
    else:
        values = [value]
    options = [_option(item) for item in values]
    if not options:
        raise LabError(f"{override}: {NO_VALUE}")
    return f"{key}={','.join(options)}"


def quote_params(params: dict[str, Any]) -> dict[str, Any]:
    """The same for `hydra.sweeper.params` of an experiment file; a YAML list there is a sweep over its items."""
    quoted = {}
    for key, value in params.items():
        if isinstance(value, list | tuple):
            value = ",".join(str(item) for item in value)
        quoted[key] = quote(f"{key}={value}").split("=", 1)[1] if key in NUMBER_GROUPS else value
    return quoted


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _option(value: Any) -> str:
    text = str(value)
    spelled = number(text)
    return text if spelled is None or isinstance(value, bool) else f"'{spelled!r}'"

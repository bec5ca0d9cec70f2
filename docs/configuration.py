"""Writes docs/configuration.md from conf/ and the schema behind it: python docs/configuration.py."""

from __future__ import annotations

import re
import textwrap
import types
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from annotated_types import Ge, Gt, Le, Lt

from lenet_lab.config.numbers import NUMBER_GROUPS
from lenet_lab.config.paths import conf_dir
from lenet_lab.config.schema import DEFAULTS, GROUPS, PLAIN, Config, _target

PAGE = Path(__file__).with_suffix(".md")
ABOUT = {
    "data": "Which set, how it is split, what a network sees of it.",
    "model": "The network's shape.",
    "pool": "Subsampling.",
    "norm": "Normalisation, and where it sits.",
    "activation": "The non-linearity after convolutions and hidden layers.",
    "init": "Initial weights; each parameter draws from a stream of its own, so that a new layer changes no other.",
    "dropout": "A number is the rate, at the hidden fully connected layers.",
    "head": "What turns the last features into scores.",
    "loss": "What is minimised, and the decision rule that belongs to it.",
    "optimizer": "How gradients become updates.",
    "lr": "A number: the learning rate that the schedule multiplies.",
    "batch_size": "A number: images an update, over all devices together.",
    "weight_decay": "A number is coupled L2 on weights; decoupled decay is optimizer=adamw.",
    "schedule": "The course of the learning rate.",
    "averaging": "Averages of the weights along a run; such runs are not packed.",
    "early_stopping": "A number is the patience: epochs in a row without improvement after which training stops.",
    "augment": "Distortion of the training images; off at evaluation.",
    "trainer": "On what it trains.",
    "sweep": "How the jobs of a sweep run.",
    "tracking": "Where runs are tracked.",
}
HEAD = """# Configuration

Written by `make docs` from `conf/` and the schema that checks it; do not edit by hand.

A word on the command line is an override: `group=option` picks an option of a group, `group.key=value` sets a key of
the option in force, `key=value` a plain value. With `-m`, a comma makes a sweep: `pool=avg,max`, `lr=0.001,0.0042`,
`batch_size=8,32`, `seed="range(10)"`, `data.train_size=1000,5000`. `interval` is refused: a grid cannot visit it.

The groups {numbers} stand for a number: they
take numbers beside the options listed here, in overrides, lists, `choice` and `range`, and in the
`hydra.sweeper.params` of an experiment file. In a defaults list numbers are written quoted (`- lr: "0.01"`).

What is not listed here is refused before any work, in one line that names the key, the value and what is allowed.
`--cfg job` prints the configuration in force, `python -m lenet_lab plan ...` the cells that a command means.
"""
TAIL = """## experiment

Ready studies, `experiment=<name>`: a file of overrides and a grid in `hydra.sweeper.params`. Its header says the
command, the run time and what to expect.

| file | what |
|:--|:--|
{experiments}

## hydra/launcher

| option | what |
|:--|:--|
| `lab` (default) | Jobs side by side on this machine, each a clean process. |
| `joblib` | joblib's worker processes; extra `joblib`. Its keys: `hydra.launcher.n_jobs=4`, ... |
| `ray` | A Ray cluster; extra `ray`. Its keys: `hydra.launcher.ray.init.address=HOST:PORT`, ... |

## Environment

| variable | what |
|:--|:--|
| `LENET_LAB_DATA` | folder with the data sets' files, after `data.root` and before the user's cache |
| `LENET_LAB_THREADS` | torch's threads in a run, where `trainer.threads` says nothing |
| `MLFLOW_TRACKING_URI` | the store, where `tracking.uri` says nothing |
| `XDG_CACHE_HOME` | the user's cache: downloaded data sets, and this machine's state beside a tracking server |
"""


def page() -> str:
    """The whole page."""
    conf = conf_dir()
    base = (conf / "config.yaml").read_text()
    chosen = {}
    for entry in yaml.safe_load(base)["defaults"]:
        chosen.update({group: str(option) for group, option in entry.items()} if isinstance(entry, dict) else {})
    hints = get_type_hints(Config, include_extras=True)
    rows = [(key, [value], allowed(hints[key]), note) for key, value, note in _lines(base) if key in PLAIN]
    parts = [HEAD.format(numbers=", ".join(f"`{group}`" for group in NUMBER_GROUPS))]
    parts.append("## Plain values\n\n" + _table(rows))
    parts += [_group(conf / group, group, chosen[group]) for group in GROUPS]
    studies = sorted((conf / "experiment").glob("*.yaml"))
    listed = "\n".join(f"| `{file.stem}` | {_first(file.read_text())} |" for file in studies)
    return "\n".join(parts) + "\n" + TAIL.format(experiments=listed)


def _group(folder: Path, group: str, default: str) -> str:
    options: list[str] = []
    keys: dict[str, tuple[dict[str, list[str]], str, dict[str, list[str]]]] = {}
    if group in NUMBER_GROUPS:
        options.append(f"| a number{f' (default: `{default}`)' if _numeric(default) else ''} | sets `{group}.value` |")
    files = sorted(folder.glob("*.yaml"))
    for file in files:
        text = file.read_text()
        mark = " (default)" if file.stem == default else ""
        options.append(f"| `{file.stem}`{mark} | {_first(text)}{_brings(group, text)} |")
        text = own_part(group, text)
        target = yaml.safe_load(text).get("_target_")
        cls = DEFAULTS[group] if target is None else _target(group, target)
        hints = get_type_hints(cls, include_extras=True)
        for key, value, note in _lines(text):
            if key in ("_target_", "name"):
                continue
            row = keys.setdefault(key, ({}, allowed(hints[key]), {}))
            row[0].setdefault(_shown(value), []).append(file.stem)
            if note:
                row[2].setdefault(note, []).append(file.stem)
    if not files:
        cls = DEFAULTS[group]
        hint = get_type_hints(cls, include_extras=True)["value"]
        keys["value"] = ({default: []}, allowed(hint), {})
    rows = []
    for key, (values, may, notes) in keys.items():
        several = len(values) > 1 or len(next(iter(values.values()))) not in (0, len(files))
        shown = [f"{value}" + (f" ({', '.join(of)})" if several else "") for value, of in values.items()]
        rows.append((f"{group}.{key}", shown, may, _notes(notes)))
    text = f"## {group}\n\n{ABOUT[group]}\n\n| option | what |\n|:--|:--|\n" + "\n".join(options) + "\n"
    return text + ("\n" + _table(rows) if rows else "")


def own_part(group: str, text: str) -> str:
    """What an option's file sets of its own group: all of it, or the block of the group's name in a global one."""
    if "@package _global_" not in text:
        return text
    block = re.search(rf"^{group}:\n((?: +.*\n|\n)+)", text, re.MULTILINE)
    assert block is not None
    return textwrap.dedent(block[1])


def _brings(group: str, text: str) -> str:
    """What a global file sets beside its own group, as overrides."""
    if "@package _global_" not in text:
        return ""
    node = yaml.safe_load(text)
    pairs = [pair for entry in node.pop("defaults", []) for pair in entry.items() if isinstance(entry, dict)]
    words = [f"{key.removeprefix('override /')}={option}" for key, option in pairs]
    for key, value in node.items():
        if key != group:
            inner = value.items() if isinstance(value, dict) else [(None, value)]
            words += [f"{key}.{k}={_shown(v)}" if k else f"{key}={_shown(v)}" for k, v in inner]
    return f" Brings {', '.join(f'`{word}`' for word in words)}."


def _notes(notes: dict[str, list[str]]) -> str:
    """The note most options have; what the others say, with their names."""
    most, *others = sorted(notes, key=lambda note: -len(notes[note])) or [""]
    return "; ".join([most, *(f"({', '.join(notes[note])}: {note})" for note in others if len(others) < 3)])


def _table(rows: list[tuple[str, list[Any], str, str]]) -> str:
    lines = ["| key | default | allowed | what |", "|:--|:--|:--|:--|"]
    for key, values, may, note in rows:
        lines.append(f"| `{key}` | {'; '.join(_shown(v) for v in values)} | {may} | {note} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def _lines(text: str) -> list[tuple[str, Any, str]]:
    """The top-level `key: value  # note` lines of a YAML file."""
    values = yaml.safe_load(text)
    found = re.findall(r"^(\w+):[^#\n]*(?:#\s*(.*))?$", text, re.MULTILINE)
    return [(key, values[key], note.strip()) for key, note in found if key in values]


def _first(text: str) -> str:
    """The first comment line that says something."""
    comment = next(line for line in text.splitlines() if line.startswith("#") and "@package" not in line)
    return comment.lstrip("# ").strip()


def allowed(hint: Any) -> str:
    """A type in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        words = allowed(args[0])
        for bound in args[1:]:
            for kind, sign in ((Ge, "≥"), (Gt, ">"), (Le, "≤"), (Lt, "<")):
                if isinstance(bound, kind):
                    words += f" {sign} {getattr(bound, kind.__name__.lower())}"
        return words
    if origin is Literal:
        return ", ".join(_shown(value) for value in args)
    if origin in (Union, types.UnionType):
        return " or ".join(allowed(arg) for arg in args)
    if origin is tuple:
        inner = [arg for arg in args if arg is not Ellipsis]
        return "list of " + allowed(inner[0]) + (f" ({len(inner)})" if Ellipsis not in args else "")
    names = {int: "integer", float: "number", str: "text", bool: "true, false", type(None): "null"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value}"


def _numeric(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


assert set(ABOUT) == set(GROUPS) == {f.name for f in fields(Config)} - set(PLAIN)

if __name__ == "__main__":
    PAGE.write_text(page())

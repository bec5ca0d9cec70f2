"""Hydra's mistakes in one line each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from lenet_lab.config.numbers import NUMBER_GROUPS
from lenet_lab.config.paths import conf_dir

JARGON = "Lexer|mismatched input|no viable alternative|extraneous input|token recognition|missing EQUAL"
FORM = "KEY=VALUE, several values as a,b without spaces, every bracket closed, other text in quotes inside quotes"


def one_line(error: BaseException) -> str:
    """Hydra's message on one line; for an unknown option, the options there are; for an unknown key, the nearest."""
    options, missing = getattr(error, "options", None), getattr(error, "missing_cfg_file", None)
    if missing:
        group, _, option = str(missing).rpartition("/")
        allowed = [*sorted(options or []), *(["any number"] if group in NUMBER_GROUPS else [])]
        return f"{group}={option}: no such option; allowed: {', '.join(allowed) or 'none'}"
    text = re.sub(r" See https://hydra\.cc\S+ for details$", "", " ".join(str(error).split()))
    override = getattr(error, "override", None) or _quoted(text)
    if override is not None and re.search(JARGON, text):
        return f"{override}: cannot be read; allowed: {FORM}"
    if call := re.match(r"Error parsing override '(.*)' \w+ while evaluating '(.*?)'", text):
        return f"{call[1]}: {call[2]} cannot be worked out; allowed: range(STOP), range(START,STOP,STEP), choice(A,B)"
    if unknown := re.match(r"Could not override '([^']+)'\. To append to your config use \+(\S+)", text):
        known = known_keys()
        if unknown[1] in known and "." in unknown[1]:
            return f"{unknown[2]}: not a key of the chosen option but of another; +{unknown[2]} adds it where it fits"
        if unknown[1] in known:
            return f"{unknown[2]}: no option's name; allowed: an option, or {unknown[1]}.KEY=VALUE for its keys"
        near = get_close_matches(unknown[1], known, 1, cutoff=0.75)
        meant = f"did you mean {near[0]}? " if near else ""
        return f"{unknown[2]}: no such key; {meant}`python -m lenet_lab --cfg job` shows those there are"
    if several := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'(?: 1\.| requires)", text):
        return f"{several[1]}: several values are a sweep: `python -m lenet_lab -m ...`; a list is written [a,b]"
    return text


def _quoted(text: str) -> str | None:
    """The override that one of Hydra's messages is about."""
    found = re.match(r"Error parsing override '(.*?)'(?: \w|$)", text) or re.match(r"Lexer\w+: (.*?) \^?$", text)
    return None if found is None else found[1]


def known_keys() -> list[str]:
    """Every key that can be set, from the files in conf/: `pool`, `pool.name`, ..."""
    conf, found = conf_dir(), set(NUMBER_GROUPS)
    found.update(f"{group}.{key}" for group, others in NUMBER_GROUPS.items() for key in ("value", *others))
    for file in conf.glob("*/*.yaml"):
        if file.parent.name not in ("experiment", "hydra"):
            whole = file.read_text("utf-8").startswith("# @package _global_")
            content = _content(file)
            found.update([file.parent.name], _dotted(content if whole else {file.parent.name: content}))
    return sorted(found | set(_dotted(_content(conf / "config.yaml"))))


def _content(file: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(file)))


def _dotted(content: dict[str, Any]) -> Iterator[str]:
    for key, value in content.items():
        if key not in ("defaults", "hydra"):
            yield key
            yield from (f"{key}.{one}" for one in value if one[0] != "_") if isinstance(value, dict) else ()

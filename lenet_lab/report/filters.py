"""MLflow's filter syntax on plain records: `params.pool = 'max' and metrics.test/acc > 0.9`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lenet_lab.records import LabError, RunRecord

_ENTITIES = {
    **dict.fromkeys(("param", "params", "parameter", "parameters"), "params"),
    **dict.fromkeys(("metric", "metrics"), "metrics"),
    **dict.fromkeys(("tag", "tags"), "tags"),
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), "attributes"),
}
_ATTRIBUTES = ("run_id", "run_name", "start_time", "end_time", "artifact_uri", "state")
_ORDER = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<quoted>'[^']*'|"[^"]*"|`[^`]*`)
    |(?P<op><=|>=|!=|=|<|>|\(|\)|,)
    |(?P<word>[^\s'"`=<>!(),]+\.(?:"[^"]*"|`[^`]*`)|[^\s'"`=<>!(),]+)
    )""",
    re.VERBOSE,
)
EXAMPLE = "params.pool = 'max' and metrics.test/acc > 0.9"
Keep = Callable[[RunRecord], bool]


class _Word(NamedTuple):
    kind: str
    text: str


def is_filter(text: str) -> bool:
    """Whether a word of the command line is a filter rather than a name."""
    return re.search(r"[=<>]|\s(like|ilike|in|not|is)\s", f"{text} ", re.IGNORECASE) is not None


def parse(text: str) -> Keep:
    """The filter as a function of a record.

    Comparisons joined by `and`, as MLflow has them (it has no `or`): = and != for all, > >= < <= for metrics and
    times, LIKE, ILIKE (% and _), IN, NOT IN, IS NULL, IS NOT NULL. A run that lacks what is compared does not match.

    Raises:
        LabError: it cannot be read.
    """
    words = list(_words(text))
    if not words:
        raise _wrong(text, "is empty")
    parts: list[list[_Word]] = [[]]
    for word in words:
        if word == ("word", word.text) and word.text.lower() == "and":
            parts.append([])
        else:
            parts[-1].append(word)
    kept = [_comparison(text, part) for part in parts]
    return lambda record: all(keep(record) for keep in kept)


def _words(text: str) -> Iterator[_Word]:
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _wrong(text, f"not understood from {text[at:].strip()[:30]!r} on")
        at = found.end()
        yield _Word(str(found.lastgroup), found[str(found.lastgroup)])


def _comparison(text: str, words: list[_Word]) -> Keep:
    if len(words) < 3 or words[0].kind != "word":
        raise _wrong(text, "wants comparisons joined by `and`; there is no `or`")
    entity, name = _key(text, words[0].text)
    rest = [word.text.upper() if word.kind == "word" else word.text for word in words[1:]]
    if rest in (["IS", "NULL"], ["IS", "NOT", "NULL"]):
        return lambda record: (_value(record, entity, name) is None) == (len(rest) == 2)
    if rest[0] in ("IN", "NOT") and "(" in rest:
        return _one_of(text, entity, name, words[1:])
    if len(words) != 3:
        raise _wrong(text, "wants comparisons joined by `and`; there is no `or`")
    sign, given = rest[0], words[2]
    numeric = entity == "metrics" or name in ("start_time", "end_time")
    if sign in ("LIKE", "ILIKE") and not numeric and given.kind == "quoted":
        flags = re.IGNORECASE if sign == "ILIKE" else 0
        like = re.compile(_pattern(given.text[1:-1]), re.DOTALL | flags)
        return lambda record: (found := _value(record, entity, name)) is not None and bool(like.fullmatch(str(found)))
    if sign not in ("=", "!=") and not (numeric and sign in _ORDER):
        raise _wrong(text, f"{sign} does not go with {words[0].text}")
    wanted = _number(text, given) if numeric else _text(text, given)
    compare = {"=": operator.eq, "!=": operator.ne, **_ORDER}[sign]
    return lambda record: (found := _value(record, entity, name)) is not None and bool(compare(found, wanted))


def _one_of(text: str, entity: str, name: str, words: list[_Word]) -> Keep:
    inside = words[words.index(_Word("op", "(")) + 1 : -1]
    values = {_text(text, word) for word in inside[::2]}
    commas = all(word.text == "," for word in inside[1::2])
    if words[-1].text != ")" or not inside or len(inside) % 2 == 0 or not commas or entity == "metrics":
        raise _wrong(text, "wants a list of texts: ('a', 'b')")
    within = words[0].text.upper() == "IN"
    return lambda record: (found := _value(record, entity, name)) is not None and (found in values) == within


def _key(text: str, word: str) -> tuple[str, str]:
    entity, dot, name = word.partition(".")
    if not dot:
        entity, name = "attributes", word
    known = _ENTITIES.get(entity.lower())
    name = name[1:-1] if name[:1] in '"`' else name
    if known is None or not name:
        raise _wrong(text, f"{word!r} is no key; allowed: params.NAME, metrics.NAME, tags.NAME, attributes.NAME")
    if known == "attributes" and name not in _ATTRIBUTES:
        raise _wrong(text, f"{word!r} is no key; attributes are {', '.join(_ATTRIBUTES)}")
    return known, name


def _value(record: RunRecord, entity: str, name: str) -> str | float | None:
    if entity == "attributes":
        plain = {"run_name": "name", "start_time": "start_ms", "end_time": "end_ms"}
        found: str | float | None = getattr(record, plain.get(name, name))
        return found
    values: dict[str, str | float] = dict(getattr(record, entity))
    return values.get(name)


def _text(text: str, word: _Word) -> str:
    if word.kind != "quoted" or word.text[0] == "`":
        raise _wrong(text, f"{word.text} is no text; write '{word.text}'")
    return word.text[1:-1]


def _number(text: str, word: _Word) -> float:
    try:
        return float(word.text)
    except ValueError:
        raise _wrong(text, f"{word.text} is no number") from None


def _pattern(like: str) -> str:
    return "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in like)


def _wrong(text: str, why: str) -> LabError:
    return LabError(f"report: filter {text!r}: {why}; for example: {EXAMPLE}")

"""The report as one self-contained page: no request leaves it, and nothing tracked can run in it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from lenet_lab.report.facts import Facts
from lenet_lab.report.figures import ALT, INK
from lenet_lab.report.numbers import NONE, percent
from lenet_lab.report.table import CAPTION, COLUMNS
from lenet_lab.report.words import made_of, summary, timing_note, warnings

if TYPE_CHECKING:
    from jinja2 import Template

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_LEFT_OUT = [f"{{{_SVG}}}{tag}" for tag in ("metadata", "style", "title")]


def render(facts: Facts, figures: Mapping[str, bytes]) -> str:
    """The whole page; of `figures` (file name -> bytes) the SVG ones become part of it."""
    style, script = _part("page.css"), _part("page.js")
    drawn = [
        (ALT[name], _inline(figures[f"{name}.svg"], f"fig{number}", ALT[name]))
        for number, name in enumerate(ALT)
        if f"{name}.svg" in figures
    ]
    return _template().render(
        facts=facts,
        summary=summary(facts),
        warnings=warnings(facts),
        made_of=made_of(facts),
        columns=COLUMNS,
        caption=CAPTION,
        timing_note=timing_note(facts.arms),
        figures=drawn,
        percent=lambda value: NONE if value is None else percent(value),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


@lru_cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return environment.from_string(_part("page.html.j2"))


def _part(name: str) -> str:
    return (files("lenet_lab.report") / name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    """The digest by which a content security policy allows an inline block."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _inline(svg: bytes, prefix: str, title: str) -> str:
    """A figure as part of the page: ids of its own, the ink of the page, a name for those who cannot see.

    Parsed and written anew rather than pasted, so that what reaches the page is well-formed SVG and no more.
    """
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            # matplotlib's own style block would apply to the whole page; patch_1 is the white paper.
            if child.tag in _LEFT_OUT or child.get("id") == "patch_1":
                parent.remove(child)
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, f"{prefix}-{value}")
            elif key == f"{{{_XLINK}}}href":
                element.set(key, value.replace("#", f"#{prefix}-", 1))
            else:
                element.set(key, re.sub(r"url\(#", f"url(#{prefix}-", value).replace(INK, "currentColor"))
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", title)
    return ElementTree.tostring(root, encoding="unicode")

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

from lenet_lab.report.document import Document, document
from lenet_lab.report.facts import Facts, as_json
from lenet_lab.report.figures import ALT
from lenet_lab.report.plots import INK

if TYPE_CHECKING:
    from jinja2 import Template

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_LEFT_OUT = [f"{{{_SVG}}}{tag}" for tag in ("metadata", "style", "title")]


def render(facts: Facts, figures: Mapping[str, bytes]) -> str:
    """The whole page; of `figures` (file name -> bytes) the SVG ones become part of it."""
    return page(document(facts), seal(facts), figures, ALT)


def page(made: Document, seal: str, figures: Mapping[str, bytes], alt: Mapping[str, str]) -> str:
    """A document as a page: `seal` ties it to its facts, `alt` names the figures that may be drawn, by file name."""
    style, script = _part("page.css"), _part("page.js")
    drawn = {
        name: (alt[name], _inline(figures[f"{name}.svg"], f"fig{number}", alt[name]))
        for number, name in enumerate(alt)
        if f"{name}.svg" in figures
    }
    return _template().render(
        made=made,
        seal=seal,
        figures=drawn,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def seal(facts: Facts) -> str:
    """What ties a page to its facts: their SHA-256 (hex)."""
    return hashlib.sha256(as_json(facts).encode()).hexdigest()


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
    points = float(root.attrib.pop("width", "720pt").removesuffix("pt"))
    root.attrib.pop("height", None)
    # text stays near the size it was drawn with: a small figure is not blown up, a large one scrolls on a phone
    root.set("style", f"max-width: {1.3 * points:.0f}pt; min-width: {0.82 * points:.0f}pt")
    root.set("role", "img")
    root.set("aria-label", title)
    return ElementTree.tostring(root, encoding="unicode")

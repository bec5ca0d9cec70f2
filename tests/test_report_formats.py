"""Every format shows the facts, the same bytes for the same runs, and nothing tracked can act in it."""

import csv
import dataclasses
import io
import random
import struct
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from report_study import run, study

from lenet_lab.report import Question, build
from lenet_lab.report import csv as as_csv
from lenet_lab.report.facts import MOST_CURVES
from lenet_lab.report.figures import render as as_figures
from lenet_lab.report.html import render as as_html
from lenet_lab.report.markdown import escape
from lenet_lab.report.markdown import render as as_markdown
from lenet_lab.report.write import render

ASKED = Question(defaults={"pool": "avg", "norm": "none"})
DRAWN = ("differences", "learning_curves", "interactions", "pareto")
HOSTILE = [
    "<script>alert(1)</script>",
    "</title></style><img src=x onerror=alert(2)>",
    "a | b || c",
    "`code` ``more`` *bold* _it_ ~~no~~ [text](http://evil.example/) ![i](http://evil.example/i.png)",
    "two\nlines\r\n# heading\n- item",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    '=cmd|"/C calc"!A0',
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "＝1+1",
    "$\\frac{1}{$ ^_{}",
    "\"><svg onload=alert(3)> &lt;b&gt; &#x3c;",
    "{{ 7*7 }} {% raw %} url(#x) ]]> --> <!--",
    "\u202egnp.exe \ud800 \u2028 \x00",
    "www.evil.example http://evil.example",
]  # fmt: skip


@pytest.fixture(scope="module")
def clean():
    return build(*study(), ASKED)


@pytest.fixture(scope="module")
def hostile():
    """A study in which every text that a stranger can choose is hostile."""
    records, curves = [], {}
    for i, text in enumerate(HOSTILE):
        state = ("complete", "complete", "diverged", "failed")[i % 4]
        tags = {"lenet.timing": text, "lenet.data_digest": text, "lenet.code": text}
        params = {"pool": text, text: text, "norm": f"{text}{i}", "model": text}
        over = {"name": text, "sweep": text, "run_id": f"{text}{i}", "link": f"http://127.0.0.1/{text}"}
        row = run(text, i, params, state=state, tags=tags, **over)
        metrics = {**row.metrics, text: 1.0}
        records.append(dataclasses.replace(row, metrics=metrics))
        curves[row.run_id] = {"val/acc": ((1, 0.9), (2, 0.95))}
    return build(records, curves, Question(title=HOSTILE[1], mixed=True))


@pytest.fixture(scope="module")
def pictures(clean, hostile):
    """The figures of both, drawn once."""
    return {"clean": as_figures(clean), "hostile": as_figures(hostile)}


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self.ids = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.slow
def test_the_same_runs_give_the_same_bytes_in_any_order():
    records, curves = study()
    expected = render(build(records, curves, ASKED))
    drawn = {f"figures/{name}.{kind}" for name in ("accuracy", *DRAWN) for kind in ("svg", "png")}
    assert set(expected) == {
        ".lenet_lab_report", "report.md", "report.html", "report.tex", "arms.csv", "comparisons.csv", "effects.csv",
        "runs.csv", "facts.json", *drawn,
    }  # fmt: skip
    random.Random(3).shuffle(records)
    assert render(build(records, dict(reversed(curves.items())), ASKED)) == expected


@pytest.mark.slow
def test_a_changed_number_changes_every_table():
    records, curves = study()
    before = render(build(records, curves, ASKED))
    records[0] = dataclasses.replace(records[0], metrics={**records[0].metrics, "test/acc": 0.5})
    after = render(build(records, curves, ASKED))
    assert [name for name in before if before[name] == after[name] and "learning" not in name] == [".lenet_lab_report"]


def cells(rendered):
    """The cells of each table that an independent reader of Markdown finds."""
    tables, row = [], []
    for token in MarkdownIt("commonmark").enable("table").parse(rendered):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            row = []
            tables[-1].append(row)
        elif token.type == "inline" and token.level > 3:
            row.append("".join(child.content for child in token.children))
    return tables


def test_markdown_shows_the_arms(clean):
    text = as_markdown(clean)
    arms, grid, compared, tests, effects, cost, common, *runs = cells(text)
    assert arms[0][:5] == ["Arm", "Runs (n)", "Test accuracy, %", "95% interval", "May be the best"]
    assert [row[0] for row in arms[1:]] == [f"{arm.short} {arm.label}" for arm in clean.arms]
    best = clean.arms[0].metrics["test/acc"]
    assert arms[1][1:3] == ["3", f"{100 * best.mean:.2f} ± {100 * best.sd:.2f}"]
    assert arms[1][4:] == ["yes", "113.0 ± 5.2", "0.0362 ± 0.0017", "99.47 ± 0.05"]
    assert grid[0] == ["pool", "norm=none", "norm=bn", "norm=gn"]
    assert [row[0] for row in grid[1:]] == ["pool=avg", "pool=max"]
    assert grid[2][2] == f"{100 * best.mean:.2f} ± {100 * best.sd:.2f} *"
    assert len(compared) == len(tests) + 2 == 6
    assert len(effects) == 1 + 2 + 3 + 6
    assert cost[1][1:] == ["44,470", "287,400", "41.0 ± 1.0", "6,501 ± 1", "5", "4.0 ± 0.0"]
    assert ["epochs", "5"] in common
    assert [len(table) for table in runs] == [4] * 6
    assert "](figures/accuracy.png)" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_text_reads_as_itself(text):
    shown = "".join(c if c.isprintable() else "?" for c in text)
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    table = f"| a | b |\n| --- | --- |\n| {escape(shown)} | x |\n"
    tokens = reader.parse(table)
    inline = [token for token in tokens if token.type == "inline"]
    assert len(inline) == 4
    assert {child.type for child in inline[2].children} <= {"text", "text_special"}
    assert "".join(child.content for child in inline[2].children) == shown.strip()


def test_hostile_markdown_has_no_markup_of_its_own(hostile):
    text = as_markdown(hostile)
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tokens = reader.parse(text)
    kinds = {token.type for token in tokens} | {c.type for t in tokens for c in t.children or ()}
    assert not kinds & {"html_block", "html_inline", "code_inline", "fence", "code_block", "em", "s_open"}
    images = [c.attrs["src"] for t in tokens for c in t.children or () if c.type == "image"]
    assert all(source in ("figures/accuracy.png", "figures/learning_curves.png") for source in images)
    links = [c.attrs["href"] for t in tokens for c in t.children or () if c.type == "link_open"]
    assert any(link.startswith("http://127.0.0.1/") for link in links)
    assert all(link.startswith(("http://127.0.0.1/", "#a", "figures/")) for link in links)
    assert all(c.isprintable() or c == "\n" for c in text)
    widths = [{len(row) for row in table} for table in cells(text)]
    assert [len(width) for width in widths] == [1] * len(widths)


def test_html_shows_the_arms_accessibly(clean, pictures):
    text = as_html(clean, pictures["clean"])
    page = Page(text)
    words = "".join(page.texts)
    for arm in clean.arms:
        assert arm.label in words
        assert f"{100 * arm.metrics['test/acc'].mean:.2f} ± " in words
    scopes = [value for tag, name, value in page.attributes if (tag, name) == ("th", "scope")]
    assert len(scopes) == page.tags.count("th")
    assert set(scopes) == {"col", "row"}
    assert ("html", "lang", "en") in page.attributes
    assert "caption" in page.tags
    assert page.tags.count("figcaption") == page.tags.count("figure") == 5
    labels = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(labels) == 5
    assert len(page.ids) == len(set(page.ids))
    wanted = [value[1:] for _, name, value in page.attributes if name in ("href", "xlink:href") and value[0] == "#"]
    assert wanted
    assert set(wanted) <= set(page.ids)


def test_html_asks_for_nothing_from_outside(clean, hostile, pictures):
    for facts, drawn in ((clean, pictures["clean"]), (hostile, pictures["hostile"])):
        text = as_html(facts, drawn)
        page = Page(text)
        fetched = {"src", "srcset", "data", "poster", "action", "background", "ping"}
        assert not [a for a in page.attributes if a[1] in fetched]
        assert {"link", "img", "iframe", "object", "base", "form"}.isdisjoint(page.tags)
        assert all(value.startswith(("#", "http://127.0.0.1")) for _, name, value in page.attributes if name == "href")
        style = text[text.index("<style>") : text.index("</style>")]
        assert "url(" not in style
        assert "@import" not in style
        [policy] = [value for _, name, value in page.attributes if name == "content" and "default-src" in value]
        assert policy.startswith("default-src 'none'; style-src-elem 'sha256-")
        assert "script-src 'sha256-" in policy
        assert "unsafe-eval" not in policy


def test_hostile_html_has_no_elements_of_its_own(clean, hostile, pictures):
    page, plain = Page(as_html(hostile, pictures["hostile"])), Page(as_html(clean, pictures["clean"]))
    assert set(page.tags) <= set(plain.tags) | {"section", "h2", "ul", "nav"}
    assert page.tags.count("script") == page.tags.count("style") == page.tags.count("title") == 1
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    words = "".join(page.texts)
    for text in ("<script>alert(1)</script>", "{{ 7*7 }} {% raw %}", "&lt;b&gt; &#x3c;", "\\x1b[31mred"):
        assert text in words
    assert all(c.isprintable() or c == "\n" for c in words)


def test_csv_holds_every_number_in_full(clean):
    rows = list(csv.DictReader(io.StringIO(as_csv.arms(clean))))
    [first, *_] = csv.DictReader(io.StringIO(as_csv.comparisons(clean)))
    assert float(first["mean"]) == clean.contrasts[0].mean
    assert (first["label"], first["reading"]) == (clean.arms[0].label, "too few seeds")
    for row, arm in zip(rows, clean.arms, strict=True):
        assert (row["arm"], row["label"], row["n"], row["seeds"]) == (arm.arm, arm.label, "3", "0 1 2")
        assert dict(arm.settings) == {"pool": row["params.pool"], "norm": row["params.norm"]}
        assert float(row["test/acc.mean"]) == arm.metrics["test/acc"].mean
        assert float(row["test/acc.low"]) == arm.metrics["test/acc"].low
    runs = list(csv.DictReader(io.StringIO(as_csv.runs(clean))))
    assert len(runs) == 18
    assert {row["counts"] for row in runs} == {"true"}
    assert runs[0]["metrics.params/total"] == "44470.0"


def test_no_cell_is_a_formula(hostile):
    for text in (as_csv.arms(hostile), as_csv.runs(hostile)):
        rows = list(csv.reader(io.StringIO(text)))
        assert {len(row) for row in rows} == {len(rows[0])}
        found = [cell for row in rows for cell in row]
        assert not [c for c in found if c[:1] in ("=", "+", "-", "@", "\t", "\r", "\n", "＝")]
        assert any(cell.startswith("'-2+3") for cell in found)
        assert "\x1b" not in text
    assert as_csv.inert("\t=1") == "'\t=1"
    assert as_csv.inert(" =1") == "' =1"
    assert as_csv.inert("pool=max") == "pool=max"


def test_a_negative_number_stays_a_number():
    facts = build([run("a", 0, {}, metrics={"test/loss": -0.25})], {})
    [row] = csv.DictReader(io.StringIO(as_csv.arms(facts)))
    assert row["test/loss.mean"] == "-0.25"
    assert row["test/loss.sd"] == ""


def test_figures_are_whole_pictures_with_plain_labels(clean, pictures):
    assert {name[:-4] for name in pictures["clean"]} == {"accuracy", *DRAWN}
    for figures in pictures.values():
        assert {name[:-4] for name in figures if name.endswith(".svg")} == {name[:-4] for name in figures}
        assert {"accuracy.svg", "learning_curves.png"} <= set(figures)
        for name, data in figures.items():
            if name.endswith(".png"):
                assert data[:8] == b"\x89PNG\r\n\x1a\n"
                width, height = struct.unpack(">II", data[16:24])
                assert min(width, height) > 200
            else:
                root = ElementTree.fromstring(data)
                tags = {element.tag.rpartition("}")[2] for element in root.iter()}
                assert {"script", "image", "a", "foreignObject"}.isdisjoint(tags)
                assert b"<dc:date>" not in data
    drawn = "".join(ElementTree.fromstring(pictures["clean"]["accuracy.svg"]).itertext())
    assert all(arm.label in drawn for arm in clean.arms)


@pytest.mark.slow
def test_figures_are_the_same_whatever_the_user_has_set(clean, pictures):
    import matplotlib

    with matplotlib.rc_context({"font.size": 20, "axes.grid": True, "svg.hashsalt": "x", "lines.linewidth": 9}):
        assert as_figures(clean) == pictures["clean"]
        assert matplotlib.rcParams["font.size"] == 20


@pytest.mark.slow
def test_more_arms_than_a_picture_holds_are_said_to_be_left_out():
    records = [run(f"arm{i:02}", 0, {"pool": f"p{i:02}"}, accuracy=0.9 + i / 1000) for i in range(50)]
    curves = {row.run_id: {"val/acc": ((1, 0.5),)} for row in records}
    figures = as_figures(build(records, curves))
    assert f"the first {MOST_CURVES} of 50 arms" in figures["learning_curves.svg"].decode()
    assert len(figures) == 4
    assert "the first 40 of 50 arms" in figures["accuracy.svg"].decode()


def test_a_report_of_nothing_can_be_rendered():
    for records in ([], [run("a", 0, {}, state="running", name="lost")]):
        files = render(build(records, {}))
        assert not [name for name in files if name.startswith("figures/")]
        assert "no complete runs" in files["report.md"].decode()
        assert ("lost" in files["report.html"].decode()) == bool(records)

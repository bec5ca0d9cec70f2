"""The report's page in a real browser: tables sort, hostile names stay text, nothing is requested."""

import http.server
import json
import subprocess
import threading
from functools import partial
from html.parser import HTMLParser

import pytest
from report_study import run

from lenet_lab.report import build
from lenet_lab.report.figures import render as figures
from lenet_lab.report.html import render as page

# The report allows no script but its own, so a page beside it looks into it, clicks, and notes what it sees.
WATCHER = """<!DOCTYPE html><pre id="seen"></pre>
<iframe src="report.html" width="1000" height="800"></iframe>
<script>
document.querySelector("iframe").addEventListener("load", (event) => {
  const frame = event.target.contentWindow, inside = event.target.contentDocument, seen = {};
  const all = (selector) => [...inside.querySelectorAll(selector)];
  const button = (name) => all(".arms th button").find((b) => b.textContent.startsWith(name));
  const column = (i) => all(".arms tbody tr").map((row) => row.cells[i].textContent.trim().replace(/^A\\d+\\s+/, ""));
  const sorted = (name, i) => {
    button(name).click();
    return [column(i), button(name).closest("th").getAttribute("aria-sort")];
  };
  seen.before = column(0);
  seen.up = sorted("Test errors", 5);
  seen.down = sorted("Test errors", 5);
  seen.names = sorted("Arm", 0);
  seen.marked = all(".arms th[aria-sort]").length;
  seen.title = inside.title;
  seen.text = inside.body.innerText;
  seen.foreign = all("img, iframe, object, link, svg script, svg a, [onload], [onerror]").length;
  seen.hacked = frame.hacked ?? null;
  seen.requests = frame.performance.getEntriesByType("resource").map((entry) => entry.name);
  seen.wide = inside.documentElement.scrollWidth > inside.documentElement.clientWidth;
  document.getElementById("seen").textContent = JSON.stringify(seen);
});
</script>"""

HOSTILE = '"><script>window.hacked=1</script><img src=x onerror="window.hacked=2">'


class Seen(HTMLParser):
    """The text of the element in which the watching page writes."""

    def __init__(self, dom):
        super().__init__()
        self.inside, self.text = False, ""
        self.feed(dom)

    def handle_starttag(self, tag, attrs):
        self.inside = tag == "pre" and ("id", "seen") in attrs

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        self.text += data if self.inside else ""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        self.server.asked.append(self.path)


@pytest.fixture
def served(tmp_path):
    """A folder on a local port, and the paths that were asked for."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_port}", server.asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_sorts_and_stays_inert_in_a_browser(chromium, served, tmp_path_factory):
    folder, address, asked = served
    records = [
        run("a", 0, {"pool": "max"}, accuracy=0.99),
        run("b", 0, {"pool": HOSTILE}, accuracy=0.90, name=HOSTILE),
        run("c", 0, {"pool": "avg"}, accuracy=0.98),
        run("d", 0, {"pool": "conv"}, state="diverged"),
    ]
    curves = {row.run_id: {"val/acc": ((1, 0.8), (2, 0.9))} for row in records}
    facts = build(records, curves)
    (folder / "report.html").write_text(page(facts, figures(facts)), encoding="utf-8")
    (folder / "watcher.html").write_text(WATCHER, encoding="utf-8")
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--virtual-time-budget=5000",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--dump-dom", f"{address}/watcher.html",
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout.decode()
    seen = json.loads(Seen(dom).text)

    assert seen["before"] == ["pool=max", "pool=avg", f"pool={HOSTILE}", "pool=conv"]
    # The arm without a number stays last whichever way its column is sorted.
    assert seen["up"] == [["100.0", "200.0", "1,000.0", "—"], "ascending"]
    assert seen["down"] == [["1,000.0", "200.0", "100.0", "—"], "descending"]
    assert seen["names"][1] == "ascending"
    assert seen["names"][0][-3:] == ["pool=avg", "pool=conv", "pool=max"]
    assert seen["marked"] == 1
    assert seen["title"] == "Comparison of arms"
    assert HOSTILE in seen["text"]
    assert (seen["foreign"], seen["hacked"], seen["requests"]) == (0, None, [])
    assert not seen["wide"]
    assert set(asked) <= {"/watcher.html", "/report.html", "/favicon.ico"}

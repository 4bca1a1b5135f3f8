"""report: the page, its escaping, its file, and how a browser shows it."""

import html.parser
import os
import re
import stat
import threading

import pytest

from harness import browser
from harness.record_calls import Delivery, at, record
from harness.responder_database import WRITER

OK, UNAVAILABLE, CANT_CREATE, NO_PERMISSION, CONFIG = 0, 69, 73, 77, 78
HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a'b\"c&d`</title>",
           "evil\u202etxt.exe", "x" * 190, "line\nbreak\ttab\x1b[31m", "http://evil.example/?a=b",
           "</svg></style><style>*{display:none}", "\U0001f600 Ünïcödé 漢字"]
SHOWN = {"evil\u202etxt.exe": "evil\\u202etxt.exe",
         "line\nbreak\ttab\x1b[31m": "line\\u000abreak\\u0009tab\\u001b[31m"}
VOID = {"meta", "br", "link", "img", "input", "hr"}
SVG_EMPTY = {"rect", "line", "circle"}
TAGS = {"html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section",
        "article", "h1", "h2", "h3", "p", "ul", "li", "a", "b", "span", "bdi", "code", "time", "br",
        "table", "thead", "tbody", "tr", "th", "td", "div", "figure", "figcaption", "details",
        "summary", "svg", "text", *SVG_EMPTY}
ATTRIBUTES = {"lang", "charset", "http-equiv", "content", "name", "class", "id", "href", "scope",
              "data-label", "role", "aria-label", "aria-hidden", "x", "y", "x1", "x2", "y1", "y2",
              "dx", "cx", "cy", "r", "rx", "width", "height", "text-anchor"}


class Page(html.parser.HTMLParser):
    """Reads a page strictly: each element is known and closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.texts, self.ids, self.links, self.labels = [], [], [], [], []
        self.css = ""
        self.feed(text)
        self.close()
        assert not self.open, self.open
        assert len(set(self.ids)) == len(self.ids)
        assert all(link[0] == "#" and link[1:] in self.ids for link in self.links), self.links

    def handle_starttag(self, tag, attrs):
        assert tag in TAGS, tag
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names) and ATTRIBUTES.issuperset(names), (tag, names)
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if "href" in values else []
        self.labels += [values["aria-label"]] if "aria-label" in values else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in SVG_EMPTY, tag
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, (tag, self.open)

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.css += data
        elif data.strip():
            self.texts.append(data)

    def handle_decl(self, decl):
        assert decl == "DOCTYPE html" and not self.open

    def handle_comment(self, data):
        raise AssertionError(data)

    unknown_decl = handle_pi = handle_comment

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def read(text):
    """Returns a Page, after a look at what no page may have."""
    assert text.startswith("<!DOCTYPE html>\n")
    page = Page(text)
    assert not re.search(r"url\(|@import|expression|</", page.css)
    assert not re.search(r"[^\S\n ]|[\u200b-\u200f\u202a-\u202e\u2066-\u2069\x00-\x09\x0b-\x1f]", text)
    return page


@pytest.fixture
def report(cli, database, tmp_path):
    """Returns a function that runs report on the database."""
    def run(*arguments, **settings):
        return cli("report", *arguments,
                   **{"DATABASE": database.dsn(), "SPOOL": tmp_path / "spool",
                      "SECRET": "whsec_report_0123456789abcdef", **settings})
    return run


def fill(database):
    """Records something of each kind, and hostile names everywhere."""
    connection = database.connect()
    try:
        record(connection, [
            Delivery("t_open", "ESTIMATE_PENDING", "PENDING", at(0)),
            Delivery("t_open", "ACCEPTED", "ESTIMATE_PENDING", at(3600)),
            Delivery("t_gap", "ESTIMATE_PENDING", "PENDING", at(0)),
            Delivery("t_gap", "SUBMITTED", "IN_PROGRESS", at(7200)),
            Delivery("t_done", "VERIFIED", None, at(0)),
            Delivery("t_done", "VERIFIED", None, at(60)),
            Delivery("t_done", "COMPLETED", "VERIFIED", at(120)),
            Delivery("task_test_1", "SUBMITTED", "X", at(0)),
            *(Delivery(name, name, "ACCEPTED", at(n), secret_name=name)
              for n, name in enumerate(HOSTILE))])
    finally:
        connection.close()
    # received_at of the harness is old, and the plots are of two weeks.
    database.execute("UPDATE humcli.events SET received_at = recorded_at - interval '20 ms'")
    database.execute("SELECT humcli.subscribe('agent', 'beginning')")
    database.execute("SELECT humcli.subscribe('pool', 'now', ARRAY['<i>'])")
    database.execute("INSERT INTO humcli.dead (subscription, event_id, attempts)"
                     " SELECT 'pool', id, 3 FROM humcli.events LIMIT 2")
    for signature in ("aa", "ab"):
        database.execute("INSERT INTO humcli.quarantine"
                         " (received_at, reason, secret_name, signature, body, seen) VALUES"
                         f" (now(), '<u>the field\nstatus</u>', 'main', '{signature}', 'x', 2)")


def test_page(report, database, tmp_path):
    fill(database)
    spool = tmp_path / "spool"
    for name in ("", "tmp", "new", "failed"):
        (spool / name).mkdir(mode=0o700)
    (spool / "failed" / ("0" * 64)).write_bytes(b"x" * 2048)
    done = report()
    assert (done.returncode, done.err) == (OK, "")
    page = read(done.out)
    for name in HOSTILE:
        assert SHOWN.get(name, name) in page.texts, name
    for text in ("Something needs you", "Open tasks", "Last tasks", "Two weeks", "Events an hour",
                 "<i>", "<u>the field\\u000astatus</u>", "2 events are dead letters",
                 "A file of the spool can't be recorded", "2.0 KiB", "missing before it: IN_PROGRESS",
                 "2 events, 1 gap", "2 events, 1 repeat", "delivered again", "in the busiest hour",
                 "2 signed bodies of the last 7 days are not events", "test"):
        assert text in page.text, text
    assert "ESTIMATE_PENDING, missing IN_PROGRESS, SUBMITTED" in page.labels
    # The task that ended and the test are not open; every other one is.
    assert f"{len(HOSTILE) + 2} open tasks" in page.text
    open_tasks = done.out.split('id="open"')[1].split('id="tasks"')[0]
    assert "t_open" in open_tasks and "t_done" not in open_tasks and "task_test_" not in open_tasks
    # doctor's findings on the set-up, and none that the events tell
    assert "PostgreSQL" in done.out.split('id="doctor"')[1]
    assert "silence" not in page.texts


def test_page_without_events(report):
    done = report(SPOOL="")
    assert (done.returncode, done.err) == (OK, "")
    page = read(done.out)
    for text in ("No task is open.", "No event is recorded yet.", "No event came in these 14 days.",
                 "No history misses an event.", "There is none.", "It is empty.", "None is set up.",
                 "never since the last event"):
        assert text in page.text, text


def test_a_task_with_many_steps_and_odd_times(report, database):
    connection = database.connect()
    record(connection, [Delivery("t", "AB"[n % 2], "BA"[n % 2], at(n)) for n in range(90)])
    record(connection, [Delivery("once", status, None, at(5)) for status in "ABC"])
    record(connection, [Delivery("later", "A", None, at(4e8))])
    connection.close()
    page = read(report().out)
    assert "60 events, 30 older steps are not shown" in page.text
    assert "3 events" in page.text


def test_without_a_database(report, cli, cluster, tmp_path):
    file = tmp_path / "report.html"
    done = report("--output", file, DATABASE="host=/nowhere")
    assert done.returncode == UNAVAILABLE and "can't connect to the database" in done.err
    page = read(file.read_text())
    assert "The database does not answer" in page.text and "Open tasks" not in page.text
    assert "/nowhere" in page.text and "fails" in page.texts
    bare = cluster.create_database()
    done = report(DATABASE=cluster.dsn(bare))
    cluster.drop_database(bare)
    assert done.returncode == CONFIG and "The schema humcli is not in this" in read(done.out).text
    done = cli("report", SPOOLS="x")
    assert done.returncode == CONFIG and "The settings are invalid" in read(done.out).text
    assert "HUMCLI_WEBHOOK_SPOOLS" in done.out


def test_without_the_right_to_read(report, store):
    done = report(DATABASE=store.conninfo)
    assert done.returncode == NO_PERMISSION and "humcli_reader" in done.err
    assert "The database did not answer all questions" in read(done.out).text
    assert WRITER in done.out


def test_output_replaces_the_file(report, tmp_path):
    folder = tmp_path / "private"
    folder.mkdir()
    file = folder / "report.html"
    file.write_text("old")
    file.chmod(0o666)
    with open(file, encoding="utf-8") as before:
        done = report("--output", file)
        assert (done.returncode, done.out, done.err) == (OK, "", "")
        assert before.read() == "old"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    read(file.read_text())
    done = report("--output", folder / "none" / "report.html")
    assert done.returncode == CANT_CREATE and "can't write" in done.err
    (folder / "busy").mkdir()
    assert report("--output", folder / "busy").returncode == CANT_CREATE
    assert sorted(each.name for each in folder.iterdir()) == ["busy", "report.html"]


def test_output_is_never_half(report, tmp_path):
    """A reader sees whole pages while others replace them."""
    file = tmp_path / "report.html"
    assert report("--output", file).returncode == OK
    ended = threading.Event()
    wrong = []

    def look():
        while not ended.is_set():
            if not file.read_text().endswith("</html>\n"):
                wrong.append(file.read_text())

    reader = threading.Thread(target=look)
    reader.start()
    codes = [report("--output", file).returncode for _ in range(3)]
    ended.set()
    reader.join()
    assert (codes, wrong) == ([OK] * 3, [])


def test_output_on_a_full_disk(report, tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    done = report("--output", "/dev/full/x")
    assert done.returncode == CANT_CREATE and not list(tmp_path.glob("*.html*"))


@pytest.fixture(scope="module")
def chromium():
    """A Browser."""
    if not browser.program():
        pytest.skip("there is no chromium")
    it = browser.Browser()
    yield it
    it.close()


COLORS = """
(() => { const seen = e => getComputedStyle(document.querySelector(e));
return [seen("body").backgroundColor, seen("body").color, seen(".box").backgroundColor] })()
"""
# The elements that are wider than the page, and text that is cut off.
TOO_WIDE = """
[...document.body.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right
    > document.documentElement.clientWidth + 1 && e.tagName != "circle" && !e.closest("thead"))
    .map(e => e.outerHTML.slice(0, 200))
"""


def test_in_a_browser(chromium, report, database, tmp_path):
    fill(database)
    file = tmp_path / "report.html"
    assert report("--output", file).returncode == OK
    colors = {}
    for width in (390, 1280):
        for scheme in ("light", "dark"):
            chromium.open(file, width, scheme)
            assert chromium.complaints() == []
            assert chromium.evaluate("document.title") == "HumCLI webhook report"
            assert chromium.evaluate("document.documentElement.scrollWidth") == width
            assert chromium.evaluate(TOO_WIDE) == []
            assert chromium.evaluate("document.scripts.length + document.images.length") == 0
            # An element is there exactly where this program made one.
            assert chromium.evaluate("document.querySelectorAll('b, i, u, img').length") \
                == chromium.evaluate("document.querySelectorAll('.tiles b, figcaption b').length")
            shown = chromium.evaluate("document.body.innerText")
            for name in HOSTILE:
                assert SHOWN.get(name, name) in shown, name
            colors[scheme] = chromium.evaluate(COLORS)
    assert not set(colors["light"]) & set(colors["dark"])


def test_on_paper(chromium, report, database, tmp_path):
    fill(database)
    file = tmp_path / "report.html"
    assert report("--output", file).returncode == OK
    chromium.open(file, 1280, "dark")
    chromium.ask("Emulation.setEmulatedMedia", media="print")
    assert chromium.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert chromium.evaluate("getComputedStyle(document.querySelector('details')).display") == "none"

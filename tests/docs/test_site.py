"""The built site as a reader has it: links, contrast, size, and no call outside."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import open_browser

SITE = Path(__file__).resolve().parents[2] / "build" / "site"
pytestmark = [
    pytest.mark.backend_independent,
    pytest.mark.skipif(
        not (SITE / "index.html").is_file(), reason="needs the site: make docs"
    ),
]
# Of a kind with many pages that are made alike, one or two.
EXAMPLES = {
    "reference": {"index.html", "layers.html"},
    "evidence": {"index.html", "linear.html"},
    "source": set(),
    "404.html": set(),  # A server alone can show it: its addresses begin with "/".
}


def shown_pages():
    """Every page but those that are made like another, as paths within the site."""
    pages = {path.relative_to(SITE) for path in SITE.rglob("*.html")}
    return sorted(
        page.as_posix()
        for page in pages
        if page.name in EXAMPLES.get(page.parts[0], {page.name})
    )


class Page(HTMLParser):
    """The addresses and anchors of a page.

    Attributes:
        links: list of str. Where a click leads.
        loads: list of str. What the page loads by itself.
        anchors: set of str.
    """

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values[k] for k in ("id", "name") if values.get(k)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        elif tag == "link":
            loaded = {"stylesheet", "icon", "preload", "preconnect", "manifest"}
            if loaded & set((values.get("rel") or "").split()):
                self.loads.append(values["href"])
        elif values.get("src"):
            self.loads.append(values["src"])


@pytest.fixture(scope="module")
def site():
    return {path: Page(path) for path in sorted(SITE.rglob("*.html"))}


@pytest.fixture(scope="module")
def browser():
    with open_browser() as found:
        yield found


def test_every_link_and_anchor_resolves(site):
    broken = []
    for path, page in site.items():
        if path.name == "404.html":
            continue  # Its addresses begin at the root of a server.
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            goal = goal / "index.html" if goal.is_dir() else goal
            known = site[goal].anchors if goal in site else set()
            if not goal.is_file() or (
                parts.fragment and unquote(parts.fragment) not in known | {"__skip"}
            ):
                broken.append((path.relative_to(SITE).as_posix(), link))
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site):
    outside = re.compile(r"^(https?:)?//")
    assert [
        (path.name, address)
        for path, page in site.items()
        for address in page.loads
        if outside.match(address)
    ] == []
    for path in SITE.rglob("*.css"):
        assert not re.search(r"(url\(|@import)[\"' ]*(https?:)?//", path.read_text())


def test_all_tutorials_are_among_the_pages_that_are_looked_at():
    written = (Path(__file__).parents[2] / "docs" / "tutorials").glob("*.py")
    pages = {f"tutorials/{path.stem}.html" for path in written}
    assert pages and pages <= {*shown_pages()}


WIDE = """
return [document.documentElement.scrollWidth, innerWidth,
  [...document.querySelectorAll('article *')].filter(e =>
    e.getBoundingClientRect().right > innerWidth + 1 &&
    !e.closest('pre, .md-typeset__scrollwrap, .scroll, .formula, svg'))
    .map(e => e.outerHTML.slice(0, 80))]
"""


@pytest.mark.parametrize("name", shown_pages())
def test_a_page_fits_is_legible_and_asks_for_nothing(browser, name):
    for scheme in ("light", "dark"):
        browser.open(SITE / name, 1280, scheme=scheme)
        browser.run("document.querySelectorAll('details').forEach(d => d.open = 1)")
        browser.wait("return document.readyState === 'complete'")
        for width in (1280, 390):
            browser.resize(width)
            page, view, outside = browser.run(WIDE)
            assert page <= view and outside == [], (width, page, outside)
            low = [found for found in browser.contrasts() if found[0] < 4.5]
            assert low == [], (width, scheme)
        assert browser.errors() == []
        within = ("file:", "data:", "blob:")
        asked = [url for url in browser.requests() if not url.startswith(within)]
        assert asked == []


def test_search_finds_a_name_without_a_server(browser):
    browser.open(SITE / "index.html")
    browser.press("input.md-search__input", "TokenQK")
    found = (
        "return [...document.querySelectorAll('.md-search-result__link')]"
        ".map(e => e.getAttribute('href')).join(' ')"
    )
    browser.wait(f"{found[:7]} ({found[7:]}).includes('reference/layers.html')", 20)
    assert browser.errors() == []

"""The report as a reader has it: in a browser, on a phone, by keyboard, in the dark."""

import pytest
from browser import open_browser
from report_example import make_inside, make_record

from keras_qkformer.analysis.report.gallery import gallery
from keras_qkformer.analysis.report.write import comparison_page, report_page

pytestmark = pytest.mark.backend_independent

ENTER, RIGHT, END = "\ue007", "\ue014", "\ue010"
LONG = "a_class_with_a_name_that_does_not_break_anywhere_at_all" * 2


@pytest.fixture(scope="module")
def browser():
    with open_browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of one model, of events without labels, and of several models."""
    names = [LONG, *(f"class {i}" for i in range(9))]
    texts = {
        "model": report_page(
            make_record(class_names=names), gallery(make_inside(), names)
        ),
        "events": report_page(
            make_record(LONG, labelled=False, steps=16),
            gallery(make_inside(3, 16, events=True, labelled=False), names),
        ),
        "large": report_page(make_record(layers=100, classes=1000)),
        "several": comparison_page([make_record(), make_record("max", layers=30)]),
    }
    folder = tmp_path_factory.mktemp("pages")
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text)
    return folder


@pytest.mark.parametrize("name", ["model", "events", "large", "several"])
def test_a_page_fits_is_legible_and_asks_for_nothing(browser, pages, name):
    path = pages / f"{name}.html"
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            browser.open(path, width, scheme=scheme)
            browser.run("document.querySelectorAll('details').forEach(d => d.open = 1)")
            assert browser.outside() == [], (width, scheme)
            assert browser.contrasts()[0][0] >= 4.5, (scheme, browser.contrasts())
            assert browser.errors() == []
            asked = [url for url in browser.requests() if not url.startswith("data:")]
            assert asked == [path.as_uri()]


def test_contrast_and_boxes_are_measured(browser, tmp_path):
    """What the test above relies on finds what is wrong."""
    path = tmp_path / "wrong.html"
    path.write_text(
        "<body style='margin: 0; color: #777; background: #fff'>grey"
        "<p style='color: #767676'>darker<figure style='width: 2000px'>wide</figure>"
    )
    browser.open(path)
    (low, _, text), (high, *_), *_ = browser.contrasts()
    assert (round(low, 2), text.strip()[:4]) == (4.48, "grey")
    assert round(high, 2) == 4.48  # The figure inherits the grey of the body.
    assert ["FIGURE", "", 40, 2040] in browser.outside()


def test_the_slider_moves_all_frames_by_keyboard(browser, pages):
    browser.open(pages / "events.html")
    place = (
        "return document.querySelector('.frame use[data-cell=xy]').getAttribute('x')"
    )
    assert browser.run(place) == "0"
    browser.press("#step", RIGHT, RIGHT)
    assert browser.text("#step-now") == "3"
    assert browser.run(place) == "-64"  # Two steps of 32 pixels.
    shown = "return document.querySelector('.answers .current').dataset.answer"
    assert browser.run(shown) == "3"
    marks = "return [...document.querySelector('.strips').querySelectorAll('.now')]"
    marks += ".map(mark => mark.getAttribute('x'))"
    assert browser.run(marks) == ["64", "-192"]  # The second row starts at step 9.
    browser.press("#step", END)
    assert browser.run(marks) == ["480", "224"]


def test_heads_tokens_and_examples_are_chosen_by_keyboard(browser, pages):
    browser.open(pages / "model.html")
    place = "return document.querySelector('.frame [data-row={}]').getAttribute('y')"
    browser.press("#head", "2")
    assert float(browser.run(place.format("head"))) == -16  # The third row of 8 pixels.
    before = float(browser.run(place.format("token")))
    browser.press(".token-slider", RIGHT)
    assert float(browser.run(place.format("token"))) == before - 8
    mark = "const mark = document.querySelector('.token'); return [mark.x, mark.y]"
    assert browser.run(f"{mark}.map(side => side.baseVal.value)") == [6, 4]
    browser.press("button[data-example='1']", ENTER)
    hidden = "return [...document.querySelectorAll('.example')].map(e => e.hidden)"
    assert browser.run(hidden) == [True, False]


def test_a_table_sorts_by_keyboard_and_goes_back(browser, pages):
    browser.open(pages / "model.html")
    rates = "return [...document.querySelector('table.sortable').tBodies[0].rows]"
    rates += ".map(row => Number(row.cells[1].dataset.value))"
    before = browser.run(rates)
    button = "table.sortable th:nth-child(2) button"
    kinds = []
    for wanted in (sorted(before)[::-1], sorted(before), before):
        browser.press(button, ENTER)
        assert browser.run(rates) == wanted
        kinds.append(
            browser.run(
                "return document.querySelector(arguments[0]).parentElement"
                ".getAttribute('aria-sort')",
                button,
            )
        )
    assert kinds == ["descending", "ascending", None]


def test_everything_is_reached_by_the_tab_key(browser, pages):
    browser.open(pages / "model.html")
    unreached = browser.run(
        "const kinds = 'button, input, select, summary, .scroll';"
        "return [...document.querySelectorAll(kinds)].filter(e => e.tabIndex !== 0)"
        ".map(e => e.outerHTML)"
    )
    assert unreached == []
    scrolling = browser.run(
        "return [...document.querySelectorAll('body *')].filter(e => e.tabIndex !== 0"
        " && /auto|scroll/.test(getComputedStyle(e).overflowY)"
        " && e.scrollHeight > e.clientHeight + 1).map(e => e.className)"
    )
    assert scrolling == []


def test_the_animation_plays_and_pauses(browser, pages):
    browser.open(pages / "events.html")
    browser.press("#play", ENTER)
    assert browser.text("#play") == "Pause"
    browser.wait("return document.querySelector('#step').value > 3")
    browser.press("#play", ENTER)
    assert browser.text("#play") == "Play"


def test_who_asks_for_less_motion_moves_step_by_step(browser, pages):
    browser.open(pages / "events.html", motion="reduce")
    assert browser.text("#play") == "Next step"
    browser.press("#play", ENTER, ENTER)
    assert browser.text("#step-now") == "3"
    assert browser.text("#play") == "Next step"
    assert browser.run("return document.getAnimations().length") == 0


def test_the_reader_chooses_light_or_dark(browser, pages):
    browser.open(pages / "several.html", scheme="dark")
    colour = "return getComputedStyle(document.body).backgroundColor"
    dark = browser.run(colour)
    assert browser.text("#theme") == "Light"
    browser.press("#theme", ENTER)
    assert browser.text("#theme") == "Dark"
    assert browser.run(colour) != dark


def test_markup_that_got_in_by_mistake_would_not_act(browser, pages, tmp_path):
    text = (pages / "model.html").read_text()
    hostile = (
        "<script>document.title = 'taken'</script><img src='data:,' onerror="
        "\"document.title = 'taken'\"><img src='https://example.org/a.png'>"
        "<iframe src='https://example.org'></iframe><base href='https://example.org'>"
    )
    path = tmp_path / "hostile.html"
    path.write_text(text.replace("<main>", f"<main>{hostile}"))
    browser.open(path)
    assert browser.run("return document.title") == "digits \N{MIDDLE DOT} analysis"
    assert sum("Content Security Policy" in error for error in browser.errors()) >= 4
    assert not [url for url in browser.requests() if url.startswith("http")]

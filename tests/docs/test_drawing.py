"""The page "Draw a digit" answers a pointer and keys as the model does."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from browser import open_browser

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build" / "site"
PAGE = SITE / "draw.html"
pytestmark = [
    pytest.mark.backend_independent,
    pytest.mark.skipif(
        not (SITE / "assets" / "draw" / "facts.js").is_file(),
        reason="needs the site with its drawing page: make docs, and npm",
    ),
]
SEVEN = [[(0.3, 0.2), (0.7, 0.2), (0.45, 0.85)]]
ANSWER = "return document.querySelector('#drawing').answer"
VERDICT = "#drawing .verdict"


@pytest.fixture(scope="module")
def browser():
    with open_browser() as found:
        yield found


def opened(browser, **options):
    """Open the page, and wait for the first answer, to a digit of the test data."""
    browser.open(PAGE, motion="reduce", **options)
    browser.wait(ANSWER, 60)


def drawn(browser, strokes):
    """Draw strokes with a pointer, and wait for the answer to the last."""
    forget = "delete document.querySelector('#drawing').answer"
    box = browser.run(
        "const b = document.querySelector('.pad').getBoundingClientRect();"
        "return [b.left, b.top, b.width, b.height]"
    )

    def event(kind, point):
        x, y = (box[i] + point[i] * box[2 + i] for i in (0, 1))
        pressed = {"button": "left", "buttons": 1, "clickCount": 1}
        browser.driver.execute_cdp_cmd(
            "Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **pressed}
        )

    for stroke in strokes:
        event("mousePressed", stroke[0])
        for (x1, y1), (x2, y2) in itertools.pairwise(stroke):
            for part in np.linspace(0, 1, 8):
                event("mouseMoved", (x1 + part * (x2 - x1), y1 + part * (y2 - y1)))
        browser.run(forget)
        event("mouseReleased", stroke[-1])
    browser.wait(ANSWER, 20)
    return settled(browser)


def settled(browser):
    """Wait until nothing is answered any more, and return the answer."""
    told = "return document.querySelector('#drawing .told').textContent"
    browser.wait(f"{told}.startsWith('The model answers')", 20)
    return browser.run(ANSWER)


def check_quiet(browser):
    assert browser.errors() == []
    asked = [x for x in browser.requests() if not x.startswith(("data:", "blob:"))]
    assert all(url.startswith("file:") for url in asked), asked


@pytest.fixture(scope="module")
def trained():
    from keras_qkformer.trained import load_trained

    return load_trained(ROOT / "weights" / "digits")


def check_energy(answer, trained, inputs):
    """Compare the energy of all steps with that of the analysis."""
    from keras_qkformer.analysis.activity import ActivityMeter
    from keras_qkformer.analysis.energy import energy

    meter = ActivityMeter(trained.model)
    meter.update(inputs)
    spent = sum(step["microjoules"] for step in answer["steps"])
    by_analysis = 1000 * energy(meter.activities(), "qkformer").total_mj
    assert math.isclose(spent, by_analysis, rel_tol=1e-5)


def check_answer(answer, trained):
    """Compare logits and energy with those of the model and the analysis."""
    pixels = np.array(answer["pixels"], "float32").reshape(1, 8, 8, 1)
    assert pixels.max() > 100 and pixels.min() == 0
    logits = trained.logits(pixels)[0]
    np.testing.assert_allclose(answer["logits"], logits, atol=1e-4)
    np.testing.assert_allclose(answer["steps"][-1]["logits"], logits, atol=1e-4)
    check_energy(answer, trained, trained.prepared(pixels))


def test_a_drawn_seven_is_a_seven(browser, trained):
    opened(browser)
    answer = drawn(browser, SEVEN)
    assert browser.text(VERDICT).startswith("7")
    assert np.argmax(answer["logits"]) == 7
    check_answer(answer, trained)
    # Small and in a corner, it gives nearly the same pixels.
    browser.run("document.querySelector('[data-edit=clear]').click()")
    small = [[(x / 3, y / 3) for x, y in stroke] for stroke in SEVEN]
    again = drawn(browser, small)
    assert np.argmax(again["logits"]) == 7
    assert np.abs(np.subtract(answer["pixels"], again["pixels"])).mean() < 12
    check_quiet(browser)


def test_the_keyboard_draws_a_one(browser, trained):
    from selenium.webdriver.common.keys import Keys

    opened(browser)
    browser.press(".pad", Keys.ESCAPE)
    assert browser.text(VERDICT) == "Draw a digit"
    browser.press(".pad", Keys.SPACE, *[Keys.ARROW_DOWN] * 9, Keys.SPACE)
    answer = settled(browser)
    assert browser.text(VERDICT).startswith("1")
    check_answer(answer, trained)
    browser.press(".pad", Keys.BACKSPACE)
    assert browser.text(VERDICT) == "Draw a digit"
    browser.press(".pad", "4")
    browser.wait(f"return document.querySelector('{VERDICT}').textContent[0] === '4'")
    assert browser.text("#drawing .told").startswith("The model answers 4")
    check_quiet(browser)


def test_a_step_can_be_held(browser):
    opened(browser)
    now = "return document.querySelector('#drawing .steps .now button').textContent"
    assert browser.run(now) == "t = 4"
    spent = "return parseFloat(document.querySelector('.microjoules').textContent)"
    whole = browser.run(spent)
    browser.run("document.querySelector('#drawing .steps button').click()")
    assert browser.run(now) == "t = 1"
    assert 0 < browser.run(spent) < whole


def test_a_recording_is_answered_frame_by_frame(browser, tmp_path):
    from keras_qkformer.data.recordings.moving_digits import write_moving_digits
    from keras_qkformer.trained import load_trained

    opened(browser)
    browser.run("document.querySelector('#camera').scrollIntoView()")
    answer = "return document.querySelector('#camera').answer"
    browser.wait(answer, 60)
    digit = browser.run(answer)["recording"]
    write_moving_digits(tmp_path / "moving", most=60)
    path = sorted((tmp_path / "moving" / "test" / str(digit)).iterdir())[0]
    trained = load_trained(ROOT / "weights" / "dvs_digits")
    frames = trained.read(path)[None]
    found, logits = browser.run(answer), trained.logits(frames)[0]
    np.testing.assert_allclose(found["logits"], logits, atol=1e-4)
    check_energy(found, trained, trained.prepared(frames))
    shown = browser.text("#camera .microjoules")
    spent = sum(step["microjoules"] for step in found["steps"])
    assert shown == f"{spent:.2f} µJ"
    check_quiet(browser)


def test_the_page_fits_and_is_legible(browser):
    for width, scheme in ((1280, "light"), (1280, "dark"), (390, "light")):
        opened(browser, width=width, scheme=scheme)
        wide = browser.run(
            "return [document.documentElement.scrollWidth, innerWidth, "
            "[...document.querySelectorAll('.spiking *')].filter(e => "
            "e.getBoundingClientRect().right > innerWidth + 1)"
            ".map(e => e.outerHTML.slice(0, 80))]"
        )
        assert wide[0] <= wide[1] and wide[2] == [], (width, wide)
        low = [found for found in browser.contrasts() if found[0] < 4.5]
        assert low == [], (width, scheme)

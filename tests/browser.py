"""Opens a page in headless Chromium, and tells what a reader would stumble over."""

import contextlib
import json
import shutil
import tempfile
import time

import pytest

ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)
OUTSIDE = """
// Figures that leave their box, or the page, unless a box around them scrolls.
const wide = document.documentElement.clientWidth, found = [];
const scrolls = (e) => e && (/auto|scroll/.test(getComputedStyle(e).overflowX)
  ? e : scrolls(e.parentElement));
for (const e of document.querySelectorAll(
    "figure, svg:not(.sheets), table, dl, pre, button, input, select")) {
  const box = e.getBoundingClientRect();
  if (!box.width) continue;
  const around = (scrolls(e.parentElement) || e.parentElement).getBoundingClientRect();
  const inScroll = Boolean(scrolls(e.parentElement));
  const parent = e.parentElement.getBoundingClientRect();
  const leaves = inScroll ? box.left < around.left - 1 + 0 * around.width
    : box.right > parent.right + 1 || box.left < parent.left - 1;
  if (leaves || (!inScroll && (box.right > wide + 1 || box.left < -1))) {
    found.push([e.tagName, e.className.baseVal ?? e.className, box.left, box.right]);
  }
}
if (document.documentElement.scrollWidth > wide) {
  found.push(["page", "", 0, document.documentElement.scrollWidth]);
}
return found;
"""
CONTRASTS = """
// The contrast of every text with what lies behind it, by WCAG 2.
const canvas = document.createElement("canvas")
  .getContext("2d", {willReadFrequently: true});
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = (c) => c.slice(0, 3).map((x) => x / 255)
  .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4))
  .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (e) => {
  for (; e; e = e.parentElement) {
    const colour = rgba(getComputedStyle(e).backgroundColor);
    if (colour[3] > 250) return colour;
  }
  return [255, 255, 255, 255];
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !e.checkVisibility()
      || e.closest("svg, script, option")) continue;
  const [a, b] = [light(rgba(getComputedStyle(e).color)), light(behind(e))];
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  found.push([contrast, e.tagName + "." + e.className, e.textContent.slice(0, 40)]);
}
return found.sort((x, y) => x[0] - y[0]).slice(0, 5);
"""


class Browser:
    """A page in Chromium.

    Args:
        driver: `selenium.webdriver.Chrome`.
    """

    def __init__(self, driver):
        self.driver = driver

    def open(
        self, path, width=1280, height=900, scheme="light", motion="no-preference"
    ):
        """Open a file at a size and with the reader's preferences."""
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {
                "features": [
                    {"name": "prefers-color-scheme", "value": scheme},
                    {"name": "prefers-reduced-motion", "value": motion},
                ]
            },
        )
        self.resize(width, height)
        self.driver.get("about:blank")  # Ends what the page before was loading.
        self.errors(), self.requests()
        self.driver.get(path.resolve().as_uri())

    def resize(self, width, height=900):
        """Set the size of the page's view, in pixels."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def run(self, script, *arguments):
        """Run a script in the page and return its value."""
        return self.driver.execute_script(script, *arguments)

    def press(self, selector, *keys):
        """Focus an element and press keys."""
        element = self.driver.find_element("css selector", selector)
        self.run("arguments[0].focus()", element)
        element.send_keys(*keys)

    def text(self, selector):
        """Return the text of an element, also if it is hidden."""
        return self.run(
            "return document.querySelector(arguments[0]).textContent", selector
        )

    def errors(self):
        """Return what the console has said since `open`."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        """Return the addresses that were asked for since `open` and not blocked."""
        asked = {}
        for entry in self.driver.get_log("performance"):
            event = json.loads(entry["message"])["message"]
            values = event["params"]
            if event["method"] == "Network.requestWillBeSent":
                asked[values["requestId"]] = values["request"]["url"]
            elif values.get("blockedReason") == "csp":
                asked.pop(values["requestId"], None)
        return [*asked.values()]

    def outside(self):
        """Return the figures that leave their box."""
        return self.run(OUTSIDE)

    def contrasts(self):
        """Return the five lowest contrasts of texts: (contrast, element, text)."""
        return self.run(CONTRASTS)

    def wait(self, script, seconds=5):
        """Wait until a script returns a true value."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, script
            time.sleep(0.02)

    def picture(self, path):
        """Save a picture of the whole page."""
        size = self.run(
            "const r = document.documentElement; return [r.clientWidth, r.scrollHeight]"
        )
        before = self.run("return [innerWidth, innerHeight]")
        self.resize(*size)
        self.driver.save_screenshot(str(path))
        self.resize(*before)


@contextlib.contextmanager
def open_browser():
    """Start Chromium; the test is skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    from selenium.webdriver.chrome.service import Service

    binary, driver = (shutil.which(x) for x in ("chromium", "chromedriver"))
    if binary is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability(
        "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
    )
    with tempfile.TemporaryDirectory() as folder:
        for argument in (*ARGUMENTS, f"--user-data-dir={folder}"):
            options.add_argument(argument)
        chrome = webdriver.Chrome(options, Service(driver))
        try:
            yield Browser(chrome)
        finally:
            chrome.quit()

"""HTML that escapes by default, and the page that holds it."""

import base64
import functools
import hashlib
import html
import string
from pathlib import Path

_TEMPLATES = Path(__file__).with_name("templates")


class Markup(str):
    """HTML that `tag` has made: it is not escaped again."""


def tag(name, *contents, **attributes):
    """Make an element.

    Everything that is not `Markup` is escaped, so a text from outside (the name of a
    class, a path) stays text wherever it ends up.

    Args:
        name: str. Name of the element.
        *contents: `Markup`, other values that `str` turns into text, `None` for
            nothing, or lists of these.
        **attributes: values of the attributes; `None` and `False` leave one out, `True`
            gives one without value. Underscores become hyphens, and a final one is
            dropped: `class_`, `data_step`.

    Returns:
        `Markup`.

    Example:
    >>> tag("td", "a < b", class_="number", hidden=False)
    '<td class="number">a &lt; b</td>'
    """
    opening = name
    for key, value in attributes.items():
        if value is not None and value is not False:
            opening += f" {key.rstrip('_').replace('_', '-')}"
            if value is not True:
                opening += f'="{html.escape(str(value))}"'
    if name in ("input", "image", "rect", "use", "path", "circle", "line"):
        return Markup(f"<{opening}></{name}>" if name != "input" else f"<{opening}>")
    return Markup(f"<{opening}>{join(contents)}</{name}>")


def join(contents):
    """Join what `tag` takes as contents.

    Args:
        contents: iterable, see `tag`.

    Returns:
        `Markup`.
    """
    return Markup(
        "".join(
            x
            if isinstance(x, Markup)
            else join(x)
            if isinstance(x, (list, tuple))
            else ""
            if x is None
            else html.escape(str(x))
            for x in contents
        )
    )


def section(title, *contents):
    """Make a section with its heading; its anchor is the heading in small letters.

    Args:
        title: str.
        *contents: see `tag`.
    """
    anchor = title.lower().replace(" ", "-")
    return tag(
        "section", tag("h2", title, id=anchor), *contents, aria_labelledby=anchor
    )


def page(title, body):
    """Make the whole page: nothing in it is loaded, and no script runs but ours.

    The policy in its head forbids every connection, and names our style and script by
    their SHA-256, so that markup which got into the page by mistake could not run.

    Args:
        title: str.
        body: `Markup`.

    Returns:
        str, an HTML document.
    """
    style, script = _template("report.css"), _template("report.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src "
        f"{_digest(script)}; base-uri 'none'; form-action 'none'"
    )
    return string.Template(_template("report.html")).substitute(
        title=html.escape(title), policy=policy, style=style, script=script, body=body
    )


@functools.cache
def _template(name):
    return (_TEMPLATES / name).read_text("utf-8")


def _digest(text):
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"

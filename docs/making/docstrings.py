"""Reads the docstrings as this house writes them.

Google's style, with sections of Keras (`Input shape:`) and examples that are not
indented.
"""

import re
import textwrap

import griffe

EXAMPLE = re.compile(r"^Example:\n(?P<code>(?:(?!\w[\w ]*:\n).*\n?)*)", re.MULTILINE)
PROSE = re.compile(
    r"^(?P<title>Call arguments|Input shape|Output shape|Returns|Yields|References?):\n"
    r"(?P<body>(?:(?: {4}.*)?(?:\n|\Z))+)",
    re.MULTILINE,
)
ITEM = re.compile(r"^(\w+): ", re.MULTILINE)


class HouseStyle(griffe.Extension):
    """Turn such sections into what Markdown shows."""

    def on_object(self, *, obj, **kwargs):
        """Change the docstring of an object before it is read."""
        if obj.docstring is not None:
            text = EXAMPLE.sub(_as_code, obj.docstring.value)
            obj.docstring.value = PROSE.sub(_as_prose, text)

    def on_function(self, *, func, **kwargs):
        """Drop type hints: docstrings say types too, with shapes, ranges and units."""
        func.returns = None
        for parameter in func.parameters:
            parameter.annotation = None


def _as_code(match):
    lines = match["code"].rstrip().split("\n")
    return "Examples:\n" + "\n".join(f"    {x}" if x else "" for x in lines) + "\n\n"


def _as_prose(match):
    body = textwrap.dedent(match["body"]).strip()
    title = match["title"]
    if title == "Call arguments":
        items = re.sub(r"\n +", " ", body)
        return f"**{title}:**\n\n" + ITEM.sub(r"- **`\1`**: ", items) + "\n\n"
    return f"**{title}:** {body}\n\n"

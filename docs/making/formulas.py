r"""Formulas as MathML, which browsers draw without a script or a font of ours.

A page writes `$x$` within a line and `$$x$$` on lines of its own, in LaTeX.
"""

import html
import re

from latex2mathml.converter import convert

FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>',
    re.DOTALL,
)


def with_mathml(text):
    """Replace the formulas of a page's HTML."""

    def made(match):
        block = match["tag"] == "div"
        latex = html.unescape(match["latex"]).strip()
        mathml = convert(latex, display="block" if block else "inline")
        return f'<div class="formula" tabindex="0">{mathml}</div>' if block else mathml

    return FORMULA.sub(made, text)

"""MkDocs calls these functions: pages from elsewhere, code from the source, formulas.

What needs Keras is made before, by `python docs/making`, and lies in `build/docs`.
"""

import re
from pathlib import Path

from adopted import PAGES, add_adopted, rewrite_links
from directives import with_directives
from formulas import with_mathml
from measured import measured_pages
from mkdocs.structure.files import File
from reference import reference_pages
from tutorial_pages import tutorial_pages

ROOT = Path(__file__).parents[2]
MADE = ROOT / "build" / "docs"
# Code of a few words is not broken: a browser would break "--out" behind a dash.
SHORT = re.compile(r"<code>(?=[^<]{1,32}</code>)")


def on_config(config):
    """Fill the parts of the navigation that are made."""
    for section in config.nav:
        if "Reference" in section:
            section["Reference"] = [*reference_pages()]
        if "Tutorials" in section:
            section["Tutorials"] += tutorial_pages()
    return config


def on_files(files, config):
    """Add the pages that are not in `docs`."""
    for path in sorted(MADE.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            name = path.relative_to(MADE).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    for name, text in {**reference_pages(), **measured_pages()}.items():
        files.append(File.generated(config, name, content=text))
    return add_adopted(files, config)


def on_page_markdown(markdown, page, config, files):
    """Resolve links, and put in what is taken from the source."""
    origin = PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    markdown = rewrite_links(markdown, origin, page.file.src_uri)
    return with_directives(markdown)


def on_page_content(html, page, config, files):
    """Turn formulas into MathML, and keep short code on one line."""
    return with_mathml(SHORT.sub('<code class="short">', html))

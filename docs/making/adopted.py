"""Pages whose text lies elsewhere in the checkout, and links between all of them."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Page -> the file that it shows.
PAGES = {
    "recipes.md": "recipes/README.md",
    "serving.md": "saved_models/README.md",
    "weights.md": "weights/README.md",
    "benchmarks.md": "benchmarks/README.md",
    "studies.md": "studies/README.md",
    "speed_notes.md": "benchmarks/NOTES.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
# What links to these folders and files means here.
STAND_INS = {
    "README.md": "index.md",
    "benchmarks/results": "measured.md",
    "recipes": "recipes.md",
    "weights": "weights.md",
    **{
        path.relative_to(ROOT).as_posix(): f"tutorials/{path.stem}.md"
        for path in (ROOT / "docs" / "tutorials").glob("*.py")
    },
}
LINK = re.compile(
    r"(?<!!)(\[(?:[^\[\]]|\[[^\]]*\])*\])\((?!https?:)([^)#\s]+)(#[^)]*)?\)"
)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
KINDS = {".py": "python", ".sh": "bash", ".yaml": "yaml", ".json": "json"}


def add_adopted(files, config):
    """Add these pages, and one for each file of the checkout that a page links to.

    Args:
        files: `mkdocs.structure.files.Files`.
        config: `MkDocsConfig`.
    """
    from mkdocs.structure.files import File

    for page, origin in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / origin)))
    linked = set()
    for file in files.documentation_pages():
        origin = PAGES.get(file.src_uri, f"docs/{file.src_uri}")
        linked |= {target for target in targets(file.content_string, origin)}
    for path in sorted(linked - set(PAGES.values()) - set(STAND_INS)):
        if not path.startswith("docs/") or path.endswith(tuple(KINDS)):
            files.append(File.generated(config, source_page(path), content=shown(path)))
    return files


def targets(markdown, origin):
    """Yield the existing files of the checkout that a text links to."""
    for match in LINK.finditer(FENCED.sub("", markdown)):
        path = os.path.normpath(Path(origin).parent / match[2])
        if (ROOT / path).exists():
            yield path


def source_page(path):
    """Return the page that shows a file of the checkout."""
    return f"source/{path}.md"


def shown(path):
    """Return the Markdown of that page."""
    text = (ROOT / path).read_text().rstrip()
    kind = KINDS.get(Path(path).suffix, "text")
    head = f"---\nsearch:\n  exclude: true\n---\n# `{path}`\n\n"
    return f"{head}``````{kind}\n{text}\n``````\n"


def rewrite_links(markdown, origin, page):
    """Turn links between files of the checkout into links between pages.

    Args:
        markdown: str. Text of a page.
        origin: str. Path of the file with this text in the checkout.
        page: str. Path of the page in the site.
    """
    pages = {file: name for name, file in PAGES.items()} | STAND_INS

    def rewritten(match):
        path = os.path.normpath(Path(origin).parent / match[2])
        if path in pages:
            goal = pages[path]
        elif path.startswith("docs/") and not path.endswith(tuple(KINDS)):
            goal = path.removeprefix("docs/")
        elif (ROOT / path).is_file():
            goal = source_page(path)
        else:
            return match[0]  # Strict mode tells whether this is a page.
        return f"{match[1]}({os.path.relpath(goal, Path(page).parent)}{match[3] or ''})"

    parts, end = [], 0
    for fence in FENCED.finditer(markdown):
        parts += [LINK.sub(rewritten, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(rewritten, markdown[end:])])

"""What package indexes show of README; all else is in pyproject.toml.

With REPOSITORY=https://host/owner/name in the environment, README's links lead to the
files there. Without it, an index could follow none of them, so that only their words
stay, and the picture is left out.
"""

import os
import re
from pathlib import Path

from setuptools import setup

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:)([^)]+)\)")


def description(readme, repository):
    """Return README as an index shows it.

    Args:
        readme: str. Markdown.
        repository: str. Address, or empty.
    """

    def rewritten(match):
        picture, words, path = match.groups()
        if not repository:
            return "" if picture else words
        place = "raw" if picture else "blob"
        return f"{picture}[{words}]({repository.rstrip('/')}/{place}/HEAD/{path})"

    return LINK.sub(rewritten, readme)


if __name__ == "__main__":
    readme = Path(__file__).with_name("README.md").read_text("utf-8")
    repository = os.environ.get("REPOSITORY", "")
    setup(
        long_description=description(readme, repository),
        long_description_content_type="text/markdown",
        project_urls={"Repository": repository} if repository else {},
    )

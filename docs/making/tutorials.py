"""Runs the tutorials, and writes each as a page and as a notebook.

A tutorial is a Python file in the percent format of jupytext: `# %%` begins a cell, and
`# %% [markdown]` one of text, in triple quotes. `# %% alt="..."` describes the figure
that a cell draws. A cell `# %% language="bash"` holds commands, each line behind `# `;
one that fails ends the build.
"""

import base64
import hashlib
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"
# JAX compiles faster so, as in the tests: what is compiled runs a few times alone.
XLA_FLAGS = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
AT_ONCE = 2
LIMIT_S = 900  # On a busy machine; on a quiet one a tutorial takes below two minutes.


def write_tutorials(folder):
    """Write `<name>.md`, `<name>.ipynb` and the figures of each tutorial.

    One that was written before is left, if neither it nor the package has changed.

    Args:
        folder: `Path`. Made if needed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # So that commands are those of this environment, activated or not.
    commands = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([commands, os.environ["PATH"]])
    os.environ.setdefault("XLA_FLAGS", XLA_FLAGS)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        paths = sorted(TUTORIALS.glob("*.py"))
        for _ in pool.map(lambda path: write_tutorial(path, folder), paths):
            pass  # Raises the first error, and starts no other tutorial.


def write_tutorial(path, folder):
    """Write page, notebook and figures of one tutorial, if it has changed."""
    stamp, state = folder / f".{path.stem}", fingerprint(path)
    if stamp.is_file() and stamp.read_text() == state:
        return
    print(f"running {path.relative_to(ROOT)}", flush=True)
    notebook = executed(jupytext.read(path, fmt="py:percent"))
    page = as_page(notebook, path.stem, folder)
    nbformat.write(notebook, folder / f"{path.stem}.ipynb")
    (folder / f"{path.stem}.md").write_text(page)
    stamp.write_text(state)


def fingerprint(path):
    """Return a hash of a tutorial, the package and this module."""
    sources = [path, Path(__file__), *sorted((ROOT / "keras_qkformer").rglob("*.py"))]
    found = hashlib.sha256()
    for source in sources:
        found.update(source.read_bytes())
    return found.hexdigest()


def executed(notebook):
    """Run a notebook in a folder of its own; an error of a cell ends the build."""
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    with tempfile.TemporaryDirectory() as place:
        NotebookClient(
            notebook,
            timeout=LIMIT_S,
            resources={"metadata": {"path": place}},
            startup_timeout=LIMIT_S,
            extra_arguments=["--log-level=ERROR"],
        ).execute()
    return notebook


def as_code(source):
    """Return a cell of Python or of commands as a fenced block."""
    first, _, rest = source.partition("\n")
    if first.startswith("%%bash"):
        return f"```bash\n{rest}\n```"
    return f"```python\n{source}\n```"


def as_page(notebook, name, folder):
    """Return a notebook as Markdown, and write its figures to the folder."""
    parts, figures = [], 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(as_code(cell.source))
        printed = ""
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                figures += 1
                file = f"{name}_{figures}.png"
                (folder / file).write_bytes(base64.b64decode(data["image/png"]))
                alt = cell.metadata["alt"]  # Every figure needs one.
                parts.append(f"![{alt}]({file}){{ .figure }}")
            elif output.get("name") == "stdout":
                printed += output["text"]
            elif data and "alt" not in cell.metadata:  # There it is an axis or so.
                printed += data["text/plain"] + "\n"
        if printed:
            parts.append(f"``` {{ .text .output }}\n{printed.rstrip()}\n```")
    parts.append(
        f"[Download this page as a notebook]({name}.ipynb){{ .button .quiet }}"
    )
    return "\n\n".join(parts) + "\n"
